# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pages that cover all questions: goals, probes of the frozen network, recall of each class, and all other runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import chain

from monai_fgssl.report.style import readable

from .methods import FINE_TUNINGS, PRETRAININGS, Run, default
from .protocol import DATA_SETS
from .questions import FEW, ONE_VIEW_LIGHT, QUESTIONS, SCALES, scaled
from .results import Results, best_other
from .scoring import Interval
from .words import SCALE_TITLES, TITLES, cell, in_words, label, table

__all__ = ["Goal", "all_goals", "frozen", "goals", "others", "recalls"]

COMPARED = ["data set", "this", "minus", "metric", "difference", "macro AUC, difference", "seeds"]
"""Header of the table whose rows :func:`compared` returns."""


def compared(results: Results, run: Run, other: Run) -> tuple[list[str], Interval] | None:
    """Compare two runs; return the cells of a row, and the difference in the main metric."""
    metric = DATA_SETS[run.data_set].metrics[0]
    gain = results.difference(run, other, metric)
    if gain is None:
        return None
    seeds = len({*results.seeds(run)} & {*results.seeds(other)})
    sizes = [side.changes().get("image_size", default("image_size")) for side in (run, other)]
    both = [
        in_words(side) + f", {size} px" * (sizes[0] != sizes[1]) for side, size in zip((run, other), sizes, strict=True)
    ]
    names = [TITLES[run.data_set], *both, readable(metric)]
    ranking = cell(results.difference(run, other, "macro_auc"), signed=True)
    return [*names, cell(gain, signed=True), ranking, str(seeds)], gain


@dataclass(frozen=True)
class Goal:
    """A gain that was the goal, and the gain that was measured.

    Attributes:
        least: smallest gain that reaches the goal.
        gain: gain that was measured.
        cells: cells of the row of this goal.
    """

    least: float
    gain: Interval
    cells: list[str]

    @property
    def reached(self) -> bool:
        """True if the mean gain over seeds is at least :attr:`least`."""
        return self.gain["value"] >= self.least

    @property
    def beyond_chance(self) -> bool:
        """True if the whole interval is above 0."""
        return self.gain["low"] > 0


def all_goals(results: Results, scale: str) -> list[Goal]:
    """List the goals that were set before the first run, if a scale has runs for them."""
    found = []
    for name, data_set in DATA_SETS.items():
        run, supervised = (
            scaled(Run(name, *methods), scale) for methods in (("fgssl", "progressive"), ("none", "plain"))
        )
        smallest = scaled(Run(name, "none", "plain"), "small")
        least = 0.05 if data_set.metrics[0] == "macro_f1" else 0.03
        few = run.but(budget=FEW)
        pairs = [(run.but(budget=share), supervised.but(budget=share), least) for share in (1.0, FEW)]
        if best := best_other(results, few, ("progressive", "plain")):
            pairs.append((few, best, 0.0))
        pairs.append((few, supervised.but(budget=0.3), 0.0))
        if supervised != smallest:
            # Plain training may be better at the small scale.
            pairs.append((run, smallest, least))
        for ours, other, hoped in pairs:
            if compared_ones := compared(results, ours, other):
                cells, gain = compared_ones
                found.append(Goal(hoped, gain, cells))
    return found


def goals(results: Results) -> list[str]:
    """Make the page of the goals."""
    lines = [
        "# Goals\n",
        "Differences that were hoped for before the first run. The other pre-training is the best on the validation "
        "part. [How to read this](../README.md#how-to-read).\n",
    ]
    for scale, title in SCALE_TITLES.items():
        yes = {True: "yes", False: "no"}
        rows = [
            [*goal.cells, f"{goal.least:g}", yes[goal.reached], yes[goal.beyond_chance]]
            for goal in all_goals(results, scale)
        ]
        if rows:
            lines += [f"## {title}\n", *table(rows, [*COMPARED, "goal: at least", "reached", "above 0"]), ""]
    return lines


def frozen(results: Results) -> list[str]:
    """Make the page of linear probes, which show how good features are before any label has changed the network."""
    lines = [
        "# Frozen features\n",
        "A linear probe on the frozen network, as pre-trained. [How to read this](../README.md#how-to-read).\n",
    ]
    for scale, title in SCALE_TITLES.items():
        if rows := _frozen_rows(results, scale):
            lines += [f"## {title}\n", *table(rows, COMPARED), ""]
    return lines


def _frozen_rows(results: Results, scale: str) -> list[list[str]]:
    rows = []
    for name in DATA_SETS:
        run, plain = (scaled(Run(name, *methods), scale) for methods in (("fgssl", "linear"), ("none", "plain")))
        for share in (FEW, 1.0):
            ours = run.but(budget=share)
            probes = [ours.but(pretraining=pretraining) for pretraining in PRETRAININGS if pretraining != "fgssl"]
            light = ours.but(pretraining="jigsaw").but(ONE_VIEW_LIGHT)
            baselines = dict.fromkeys(
                (plain.but(budget=share), scaled(Run(name, "none", "plain", budget=share), "small"))
            )
            compared_with = [compared(results, ours, other) for other in (*probes, light, *baselines)]
            rows += [found[0] for found in compared_with if found]
    return rows


def recalls(results: Results) -> list[str]:
    """Make the page of the recall of every class, for the runs of question (a)."""
    sections = [_recall_rows(results, name) for name in DATA_SETS]
    lines = ["# Recall of each class\n", "Runs of question (a). [How to read this](../README.md#how-to-read).\n"]
    return [*lines, *chain.from_iterable(sections)]


def _recall_rows(results: Results, data_set: str) -> list[str]:
    classes = DATA_SETS[data_set].class_names
    rows = []
    for entry in QUESTIONS["a"].points(data_set):
        if results.seeds(entry.run):
            cells = (cell(results.interval(entry.run, f"recall_{name}")) for name in classes)
            rows.append([label(entry.x), entry.series, *cells])
    return [f"## {TITLES[data_set]}\n", *table(rows, ["pre-training", "", *classes]), ""] if rows else []


def others(results: Results) -> list[str]:
    """Make the page of runs that do not belong to a question: trials, and runs with earlier defaults."""
    seeds = sorted({content["run"]["seed"] for content in results.runs.values()})
    shown = {
        run.name()
        for scale in SCALES
        for question in QUESTIONS.values()
        for run in question.runs(DATA_SETS, seeds, scale, former=True)
    }
    rows = []
    for name, content in sorted(results.runs.items()):
        if name not in shown:
            fields, metric = content["run"], DATA_SETS[content["run"]["data_set"]].metrics[0]
            settings = json.dumps(fields["settings"]) if fields["settings"] else "the defaults of then"
            rows.append(
                [
                    f"`{name}`",
                    PRETRAININGS[fields["pretraining"]].label,
                    FINE_TUNINGS[fields["fine_tuning"]].label,
                    f"{100 * fields['budget']:g}",
                    settings.replace("|", "\\|"),
                    f"{readable(metric)} {content['metrics']['validation'][metric]:.3f}",
                ]
            )
    header = ["run", "pre-training", "fine-tuning", "% of the labels", "settings", "validation part"]
    return [
        "# Other runs\n",
        "Trials of settings, and runs with defaults that have changed since. Only the validation part is shown.\n",
        *table(rows, header),
        "",
    ]
