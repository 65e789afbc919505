# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Make the pages of the accuracy benchmark from the table of finished runs.

    python -m benchmarks.accuracy report --data_dir DIR

DIR is needed for the labels and lesions of the test parts, because the runs do not contain them. No image is read.
``README.md`` explains how to read the figures, describes the protocol, and summarizes the results. ``answers`` has a
page for each question, and pages that cover all questions. Every row names the runs that it was made from.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from monai_fgssl.report.style import readable
from monai_fgssl.utils.files import atomic_write

from . import PACKAGE
from .answers import answer_file, question_page, summary
from .methods import default
from .overviews import ensembles, frozen, goals, others, recalls
from .protocol import BUDGETS, DATA_SETS, SPLITS, read_parts, split_file
from .questions import QUESTIONS, SCALES
from .results import Results
from .short import in_short
from .store import TABLE, load_table
from .words import TITLES, table

__all__ = ["main", "pages"]

OVERVIEWS: dict[str, tuple[str, Callable[[Results], list[str]]]] = {
    "goals": ("Goals that were set before, and whether they are reached", goals),
    "ensembles": ("Fine-tuned network and probe together, with every share of the labels", ensembles),
    "frozen_features": ("Linear probes of the frozen network, against all others", frozen),
    "recalls": ("Recall of each class", recalls),
    "other_runs": ("Runs that belong to no question", others),
}
"""Pages that cover all questions, each with its description and the function that makes it."""


def protocol(results: Results) -> list[str]:
    """Make the section about the protocol."""
    rows = []
    for name, data_set in DATA_SETS.items():
        if not split_file(name, "grouped", results.splits).is_file():
            continue
        parts = read_parts(results.data_dir, name, folder=results.splits)
        sizes = [str(len(parts[part])) for part in ("train", "validation", "test")]
        labels = [item["label"] for item in parts["test"]]
        counts = ", ".join(f"{c} {labels.count(k)}" for k, c in enumerate(data_set.class_names))
        rows.append([TITLES[name], *sizes, counts, ", ".join(map(readable, data_set.metrics))])
    shares = ", ".join(f"{100 * share:g}" for share in BUDGETS)
    small = SCALES["small"]
    return [
        "## Protocol\n",
        *table(rows, ["data set", "train", "validation", "own test", "classes of the test part", "metrics"]),
        "",
        "- Splits are the files in [splits/](splits/). Images of one lesion, and near-duplicates, are in one part. "
        "ISIC 2017 keeps its official validation part; its own test part is 20 % of the official training part. The "
        "official test parts are not used.",
        "- Settings and epochs are chosen on the validation part. The own-test part is scored once by each run.",
        f"- Label budgets: {shares} % of the training labels, stratified, by lesion, at least one of each class, "
        "nested for each seed. Pre-training sees all training images without labels. The validation part keeps all its "
        "labels, for all methods alike.",
        "- All methods run the bundle's `train.json` with other parts (`methods.py`): same backbone, image size, "
        "augmentation, optimizer and number of images seen. Pre-training sees every image once in each of "
        f"{small['pretrain_epochs']} epochs where unchanged; fine-tuning sees sqrt(share of the labels) times as "
        f"many images as with all labels in each of {small['max_epochs']} epochs. Pre-training passes "
        "an image twice through the network, FG-SSL too in its alternating schedule (8 times in the progressive, 5 "
        "times in the joint one); minutes are in the tables, from machines that also ran other work, or several "
        "runs at once.",
        "- Linear probe and kNN read the pooled features of all stages of the frozen backbone.",
        "- Probabilities are calibrated by a temperature that is fitted to the validation part.",
        "",
    ]


def how_to_read() -> list[str]:
    """Make the section about figures and names."""
    return [
        "## How to read\n",
        "- The metric that decides comes first in each table. It depends on where a class is called, and on the few "
        "images of rare classes; the AUC does not on the first, and less on the second.",
        "- In brackets: 95 % intervals by bootstrap, 1000 resamples of lesions and of seeds. They hold the chance of "
        "the test images and, with several seeds, that of the choice of labels and of the fine-tuning. One "
        "pre-training serves the fine-tunings of all seeds, and its chance is not in the intervals, but in (m) and "
        "with ResNet-50 each seed has its own. Differences are paired by image and seed; p is twice the share of "
        "resamples on the other side of 0, without correction for the number of comparisons.",
        "- Beyond chance: the interval of a difference lies on one side of 0. Without any effect 1 in 20 would.",
        f"- Rank: effective rank of the {default('embedding_dim')} features that the loss compares last, after "
        "pre-training. With few a method has collapsed: settings are the same for all, and were chosen with FG-SSL.",
        "- Runs have names, with `*` for the seed. `python -m benchmarks.accuracy show NAME` prints all that the table "
        "has of them: command, settings, metrics, history, machine, versions and commit.",
        "",
    ]


def more_runs() -> list[str]:
    """Make the section about commands."""
    return [
        "## How to make more\n",
        "`python -m benchmarks.accuracy run --help` says how; each question names the commands of the runs that it "
        "lacks. `--processes N --threads 1` shares the work: one for each core, or as many as keep a GPU busy. A "
        "stopped command goes on where it was. `python -m benchmarks.accuracy collect` folds the new runs into the "
        "table (`runs.csv.xz`, `predictions.npz`), and `python -m benchmarks.accuracy report --data_dir DIR` makes "
        "these pages from it.",
        "",
    ]


def question_list(results: Results) -> list[str]:
    """Make the section with links to the other pages."""
    lines = ["## Questions\n"]
    for key, question in QUESTIONS.items():
        lines += [f"### ({key}) [{question.title}](answers/{answer_file(key)})\n", *summary(results, key), ""]
    lines += ["### Over all questions\n"]
    return [*lines, *(f"- [{title}](answers/{name}.md)" for name, (title, _) in OVERVIEWS.items()), ""]


def readme(results: Results) -> list[str]:
    """Make the first page."""
    lines = [
        "# Accuracy\n",
        "FG-SSL and what it is compared with, on photographs of three public data sets. Made by "
        "`python -m benchmarks.accuracy report --data_dir DIR` from the table of runs; no figure is typed in.\n",
        *in_short(results),
        *how_to_read(),
        *protocol(results),
        *question_list(results),
        *more_runs(),
    ]
    return [*lines, "## Machines\n", *(f"- {name}" for name in results.machines), ""] if results.machines else lines


def pages(results: Results, seeds: Sequence[int], folder: Path) -> dict[str, str]:
    """Make the text of all pages by path, and draw the plots.

    Args:
        results: finished runs.
        seeds: number of planned seeds.
        folder: folder of the pages.
    """
    made = {"README.md": readme(results)}
    made |= {f"answers/{answer_file(key)}": question_page(results, key, seeds, folder) for key in QUESTIONS}
    made |= {f"answers/{name}.md": make(results) for name, (_, make) in OVERVIEWS.items()}
    return {path: "\n".join(lines) for path, lines in made.items()}


def main(words: Sequence[str]) -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(
        f"python -m {PACKAGE} report", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", type=Path, required=True, help="has a folder for each data set")
    parser.add_argument("--splits_dir", type=Path, default=SPLITS)
    parser.add_argument("--output_dir", type=Path, default=TABLE, help="has the table; pages are written to it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="that are planned")
    arguments = parser.parse_args(words)
    results = Results(arguments.data_dir, arguments.splits_dir, load_table(arguments.output_dir))
    for path, text in pages(results, arguments.seeds, arguments.output_dir).items():
        with atomic_write(arguments.output_dir / path) as temporary:
            temporary.write_text(text, encoding="utf-8")
