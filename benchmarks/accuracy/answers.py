# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of a question: tables and plots of finished runs, and the commands for missing runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from monai_fgssl.report.style import readable

from .methods import Run
from .plots import draw
from .protocol import DATA_SETS
from .questions import QUESTIONS, SCALES
from .results import Results
from .scoring import Interval
from .words import SCALE_TITLES, TITLES, cell, chance, label, pixels, table

__all__ = ["all_gains", "answer_file", "beyond_chance", "question_page", "summary", "verdict"]


def answer_file(key: str) -> str:
    """Name of the page of a question."""
    return f"{key}_{QUESTIONS[key].slug}.md"


def run_names(results: Results, run: Run) -> str:
    """Names of the runs of all seeds, for ``python -m benchmarks.accuracy show``."""
    by_name: dict[str, list[int]] = {}
    for seed in results.seeds(run):
        start, _, checksum = run.but(seed=seed).name().rpartition("_")
        by_name.setdefault(f"{start.rpartition('_')[0]}_s*_{checksum}", []).append(seed)
    return ", ".join(f"`{name}` ({', '.join(map(str, seeds))})" for name, seeds in by_name.items())


def all_gains(results: Results, key: str, data_set: str, scale: str) -> dict[str, Interval]:
    """Differences between the entries of a question and their references in the main metric, by name of the row."""
    metric = DATA_SETS[data_set].metrics[0]
    found: dict[str, Interval] = {}
    for entry in QUESTIONS[key].points(data_set, scale):
        if gain := results.difference(entry.run, entry.reference, metric):
            found[", ".join(filter(None, (label(entry.x), entry.series)))] = gain
    return found


def answer(results: Results, key: str, data_set: str, scale: str, folder: Path) -> list[str]:
    """Make the table and the plot of a question on a data set; the list is empty if there is nothing to compare."""
    question = QUESTIONS[key]
    entries = [entry for entry in question.points(data_set, scale) if results.seeds(entry.run)]
    if len({entry.x for entry in entries}) < 2:
        return []
    metrics = DATA_SETS[data_set].metrics
    picture = f"{key}_{data_set}_{scale}.png"
    draw(results, question, entries, metrics[0], folder / "plots" / picture, TITLES[data_set])
    rows = []
    for entry in entries:
        gain = results.difference(entry.run, entry.reference, metrics[0])
        rows.append(
            [
                label(entry.x),
                entry.series,
                *(cell(results.interval(entry.run, metric)) for metric in metrics),
                cell(gain, signed=True) + (chance(gain["p"]) if gain else ""),
                cell(results.difference(entry.run, entry.reference, "macro_auc"), signed=True),
                f"{results.validation(entry.run, metrics[0]):.3f}",
                f"{results.interval(entry.run, 'calibration_error')['value']:.3f}",
                "-" if np.isnan(rank := results.rank(entry.run)) else f"{rank:.0f}",
                f"{results.mean(entry.run, 'images') / 1e3:.1f}",
                f"{results.mean(entry.run, 'seconds') / 60:.1f}",
                run_names(results, entry.run),
            ]
        )
    header = [
        question.x_name,
        "",
        *map(readable, metrics),
        f"{readable(metrics[0])}: this - {question.reference_name}",
        "macro AUC: the same",
        f"{readable(metrics[0])}, validation",
        "calibration error",
        "rank",
        "thousand images seen",
        "minutes",
        "runs (seeds)",
    ]
    first, *rest = (entry.run.changes() for entry in entries)
    common = {name: value for name, value in first.items() if all(name in r and r[name] == value for r in rest)}
    settings = f"Settings of all rows: `{json.dumps(common)}`.\n"
    plot = f"![{question.title}](../plots/{picture})\n"
    gains = all_gains(results, key, data_set, scale)
    return [f"### {TITLES[data_set]}\n", *verdict(gains), settings, plot, *table(rows, header), ""]


def beyond_chance(gains: Mapping[str, Interval]) -> list[str]:
    """Names of the differences whose interval does not contain 0."""
    return [name for name, gain in gains.items() if gain["low"] > 0 or gain["high"] < 0]


def verdict(gains: Mapping[str, Interval]) -> list[str]:
    """Describe the differences that are beyond chance in words."""
    if not gains:
        return []
    beyond = [f"{name} ({gains[name]['value']:+.3f})" for name in beyond_chance(gains)]
    of = f"{len(beyond)} of {len(gains)} differences are beyond chance (1 in 20 is expected without any effect)"
    return [of + (f": {'; '.join(beyond)}.\n" if beyond else ".\n")]


def summary(results: Results, key: str) -> list[str]:
    """Make a line for each data set and scale that have runs of a question."""
    lines = []
    for scale in SCALES:
        for name in QUESTIONS[key].data_sets:
            if gains := all_gains(results, key, name, scale):
                beyond = f"{len(beyond_chance(gains))} of {len(gains)} differences are beyond chance"
                lines.append(f"- {TITLES[name]}, {pixels(scale)}: {beyond}.")
    return lines or ["- Not run yet."]


def not_run_yet(results: Results, key: str, seeds: Sequence[int], scale: str) -> list[str]:
    """List the missing runs of a question, with the command that makes them."""
    question = QUESTIONS[key]
    planned = question.runs(DATA_SETS, seeds, scale)
    missing = [run for run in planned if run.name() not in results.runs]
    if not missing:
        return []
    data_sets = [name for name in DATA_SETS if any(run.data_set == name for run in missing)]
    size = "" if scale == "small" else f" --scale {scale}"
    return [
        f"- {SCALE_TITLES[scale]}: {len(missing)} of {len(planned)} runs: `python -m benchmarks.accuracy run "
        f"--data_dir DIR --question {key}{size} --data_sets {' '.join(data_sets)} --seeds {' '.join(map(str, seeds))}`"
    ]


def question_page(results: Results, key: str, seeds: Sequence[int], folder: Path) -> list[str]:
    """Make the whole page of a question, and draw its plots.

    Args:
        results: the finished runs.
        key: key of the question.
        seeds: number of planned seeds.
        folder: folder of the README; plots go into its subfolder ``plots``.
    """
    question = QUESTIONS[key]
    lines = [f"# ({key}) {question.title}\n", f"{question.text} [How to read this](../README.md#how-to-read).\n"]
    for scale, title in SCALE_TITLES.items():
        sections = [answer(results, key, name, scale, folder) for name in DATA_SETS if name in question.data_sets]
        if any(sections):
            lines += [f"## {title}\n", *chain.from_iterable(sections)]
    missing = list(chain.from_iterable(not_run_yet(results, key, seeds, scale) for scale in SCALES))
    return [*lines, "## Not run yet\n", *missing, ""] if missing else lines
