# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Make the card of a model from the table of runs: its purpose, data and method, its quality, and subgroups.

    python -m benchmarks.accuracy model_card --data_dir DIR --data_set isic2018
    python -m benchmarks.accuracy model_card --data_dir DIR --data_set isic2018 --pretraining none --fine_tuning plain

The card describes one method with all its seeds. Every figure is measured on the own-test part, with an interval over
lesions and seeds. No figure is typed by hand: a run that is made again changes the card. The sections follow Mitchell
et al., "Model Cards for Model Reporting", FAT* 2019, https://arxiv.org/abs/1810.03993.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_fgssl.report.style import readable
from monai_fgssl.utils.files import atomic_write

from . import PACKAGE
from .methods import FINE_TUNINGS, PRETRAININGS, Run
from .protocol import DATA_SETS, SPLITS, read_parts
from .questions import SCALES, scaled
from .results import Results
from .run import parse_settings
from .scoring import interval, measure
from .store import TABLE, load_table
from .words import TITLES, cell, table

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "kappa", "calibration_error")
SUBGROUP_METRICS = ("accuracy", "balanced_accuracy", "macro_auc", "calibration_error")
SOURCES = {
    "isic2018": "dermoscopic photographs of ISIC 2018 Task 3 (HAM10000), from Vienna (Austria) and Queensland "
    "(Australia); CC BY-NC 4.0",
    "isic2017": "dermoscopic photographs of ISIC 2017 Part 3, from several centers; CC-0",
    "aptos2019": "retinal photographs of APTOS 2019 from Aravind Eye Hospital (India); terms of the competition",
}
CONFIRMED = {
    "histo": "by histopathology",
    "follow_up": "by follow-up",
    "consensus": "by consensus of experts",
    "confocal": "by confocal microscopy",
}
"""Ways to confirm a diagnosis: column ``diagnosis_confirm_type`` of ISIC 2018."""


def subgroups(data_dir: Path, name: str, items: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.bool_]]:
    """Masks of the test part, one for each way of confirming a diagnosis; empty if the data set has no such table."""
    file = data_dir / name / "ISIC2018_Task3_Training_LesionGroupings.csv"
    if name != "isic2018" or not file.is_file():
        return {}
    with file.open(newline="", encoding="utf-8") as rows:
        confirmed = {row["image"]: row.get("diagnosis_confirm_type") or "" for row in csv.DictReader(rows)}
    found = np.array([confirmed.get(item["name"], "") for item in items])
    return {f"diagnosis confirmed {words}": found == key for key, words in CONFIRMED.items() if (found == key).any()}


def quality(results: Results, run: Run) -> list[str]:
    """Section with the figures of the whole test part."""
    names = [name for name in METRICS if name != "kappa" or run.data_set == "aptos2019"]
    rows = [[readable(name), cell(results.interval(run, name))] for name in names]
    return ["## How good it is\n", *table(rows, ["metric", "own test part"]), ""]


def by_class(results: Results, run: Run, labels: Sequence[int]) -> list[str]:
    """Section with recall and AUC of every class."""
    rows = [
        [
            name,
            str(list(labels).count(k)),
            cell(results.interval(run, f"recall_{name}")),
            cell(results.interval(run, f"auc_{name}")),
        ]
        for k, name in enumerate(DATA_SETS[run.data_set].class_names)
    ]
    header = ["class", "test images", "recall", "AUC against the rest"]
    return ["## For each class\n", *table(rows, header), ""]


def by_subgroup(results: Results, run: Run, items: Sequence[Mapping[str, Any]], data_dir: Path) -> list[str]:
    """Section with the figures of each subgroup of the test part."""
    labels, weights = results.truth(run.data_set, run.split)
    truth, classes = np.array(labels), DATA_SETS[run.data_set].class_names
    probs = [results.table.probabilities(run.but(seed=seed).name()) for seed in results.seeds(run)]
    rows = []
    for name, inside in subgroups(data_dir, run.data_set, items).items():
        values = [measure(prob[inside], truth[inside], classes) for prob in probs]
        # Resamples without any image of the subgroup are left out.
        kept = weights[weights[:, inside].sum(1) > 0][:, inside]
        draws = [measure(prob[inside], truth[inside], classes, kept) for prob in probs]
        figures = [interval([v[m].item() for v in values], [d[m] for d in draws]) for m in SUBGROUP_METRICS]
        cells = [cell(figure) for figure in figures]
        rows.append([name, str(int(inside.sum())), *cells])
    lines = ["## For subgroups\n"]
    if rows:
        lines += [*table(rows, ["subgroup", "test images", *map(readable, SUBGROUP_METRICS)]), ""]
        lines += [
            "The classes are not equally frequent in these groups, so differences need not be differences of skill; an "
            "AUC needs two classes.\n"
        ]
    lines += [
        "The tables of this data set tell nothing of age, sex, skin tone, ethnicity, device or place for each image: "
        "how the model does for such groups is **not known**.\n"
    ]
    return lines


def made_from(results: Results, run: Run, contents: Sequence[Mapping[str, Any]], data_dir: Path) -> list[str]:
    """Section about data, method and machine."""
    parts = read_parts(data_dir, run.data_set, run.split, results.splits)
    sizes = ", ".join(f"{len(parts[part])} {part}" for part in ("train", "validation", "test"))
    first, pretrained = contents[0], run.pretraining != "none"
    labeled = sorted({content["details"]["labels"] for content in contents})
    minutes = np.mean([sum(content["seconds"].values()) for content in contents]) / 60
    settings = [
        f"- {phase}: `{json.dumps(first['settings'][phase])}`"
        for phase in ("pretrain", "fine-tune")
        if first["settings"][phase]
    ]
    machines = sorted({f"{content['machine']}, {content['date']}, commit {content['commit']}" for content in contents})
    return [
        "## What it was made from\n",
        f"- Images: {SOURCES[run.data_set]}. {sizes}; split by lesion and near-duplicate.",
        f"- Labels that it has seen: {' or '.join(map(str, labeled))}."
        + (" All training images were seen without labels." if pretrained else ""),
        f"- Method: {PRETRAININGS[run.pretraining].label}, then {FINE_TUNINGS[run.fine_tuning].label}.",
        *settings,
        f"- Seeds: {', '.join(str(content['run']['seed']) for content in contents)}; about {minutes:.0f} minutes each. "
        f"{'; '.join(machines)}.",
        *(f"- `{content['name']}`: `{Run.of(content['run']).command()}`" for content in contents),
        "",
    ]


def calibration(results: Results, run: Run, contents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Section about calibration: the difference between confidence and accuracy."""
    temperatures = ", ".join(f"{content['temperature']:.2f}" for content in contents)
    error = cell(results.interval(run, "calibration_error"))
    return [
        "## Whether its probabilities are to be believed\n",
        f"The logits are divided by a temperature ({temperatures}) that is fitted to the validation part. On the own "
        f"test part certainty and accuracy then differ by {error} on average (expected calibration error, 15 bins). "
        "That holds for images like those of the data set, with classes as frequent as there.\n",
    ]


def card(results: Results, run: Run, data_dir: Path, command: str) -> str:
    """Return the whole card in Markdown."""
    contents = [results.runs[run.but(seed=seed).name()] for seed in results.seeds(run)]
    items = read_parts(data_dir, run.data_set, run.split, results.splits)["test"]
    classes = ", ".join(DATA_SETS[run.data_set].class_names)
    rare = [
        name
        for k, name in enumerate(DATA_SETS[run.data_set].class_names)
        if sum(item["label"] == k for item in items) < 30
    ]
    few = f" {', '.join(rare)}: fewer than 30 test images, so nothing certain is known of them." if rare else ""
    lines = [
        f"# Model card: {TITLES[run.data_set]}, {PRETRAININGS[run.pretraining].label}, "
        f"{FINE_TUNINGS[run.fine_tuning].label}\n",
        f"Made by `{command}`; 95 % intervals in brackets, by bootstrap over lesions"
        + (" and seeds.\n" if len(contents) > 1 else " (one seed: its chance is not in them).\n"),
        "## What it is for\n",
        f"It sorts an image into {classes}. **Research on self-supervised learning only. It is not a medical device: "
        "its output must not be used for diagnosis, triage or treatment.** Out of scope are other kinds of images, "
        "other diseases (it has no class for anything else, and will name one of these) and images of bad quality.\n",
        *made_from(results, run, contents, data_dir),
        *quality(results, run),
        *by_class(results, run, [item["label"] for item in items]),
        *by_subgroup(results, run, items, data_dir),
        *calibration(results, run, contents),
        "## Limits\n",
        "- One data set: how the model does on another camera, clinic or population was not measured here.",
        f"- The own test part is small.{few}",
        "- Images were scaled to "
        f"{contents[0]['settings']['fine-tune'].get('image_size')} px: finer structure is lost.",
        "- Classes are as frequent as in the data set, not as in a clinic: precision there will be another.",
        "- Labels are taken as they are; mistakes in them are learned and are counted as right.",
        "",
    ]
    return "\n".join(lines)


def main(words: Sequence[str]) -> None:
    """Write the card."""
    parser = argparse.ArgumentParser(
        f"python -m {PACKAGE} model_card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", type=Path, required=True, help="has a folder for each data set")
    parser.add_argument("--data_set", choices=list(DATA_SETS), required=True)
    parser.add_argument("--pretraining", choices=list(PRETRAININGS), default="fgssl")
    parser.add_argument("--fine_tuning", choices=list(FINE_TUNINGS), default="progressive")
    parser.add_argument("--budget", type=float, default=1.0, help="share of the training labels")
    parser.add_argument("--scale", choices=list(SCALES), default="small", help="see questions.py")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the runs")
    parser.add_argument("--splits_dir", type=Path, default=SPLITS)
    parser.add_argument("--output_dir", type=Path, default=TABLE, help="has the table; the card is written to it")
    arguments = parser.parse_args(words)
    run = Run(arguments.data_set, arguments.pretraining, arguments.fine_tuning, budget=arguments.budget)
    run = scaled(run, arguments.scale)
    run = run.but(parse_settings(arguments.set))
    results = Results(arguments.data_dir, arguments.splits_dir, load_table(arguments.output_dir))
    if not results.seeds(run):
        sys.exit(f"error: no run of this model in the table in {arguments.output_dir}. Make it: {run.command()}")
    shown = ["DIR" if word == str(arguments.data_dir) else word for word in words]
    text = card(results, run, arguments.data_dir, f"python -m benchmarks.accuracy model_card {shlex.join(shown)}")
    with atomic_write(arguments.output_dir / f"model_card_{run.data_set}.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
