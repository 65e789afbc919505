# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The questions of this benchmark. Each is a list of runs, and the most decisive runs come first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

from . import PACKAGE
from .methods import FINE_TUNINGS, HEADS_FIRST, PRETRAININGS, Run, default
from .protocol import BUDGETS

__all__ = [
    "FEW",
    "ONE_VIEW_LIGHT",
    "ONE_VIEW_LIGHT_NAME",
    "QUESTIONS",
    "SCALES",
    "Entry",
    "Question",
    "scaled",
    "settings_of",
]


SCALES: dict[str, dict[str, Any]] = {
    "small": {"pretrain_epochs": 20, "max_epochs": 15},
    "medium": {
        "image_size": 128,
        "pretrain_epochs": 80,
        "pretrain_batch_size": 64,
        "pretrain_learning_rate": 0.00141,
        "max_epochs": 15,
    },
    "large": {
        "image_size": 224,
        "backbone": "resnet50",
        "width": 256,
        "embedding_dim": 512,
        "pretrain_epochs": 100,
        "pretrain_batch_size": 128,
        "pretrain_learning_rate": 0.002,
        "max_epochs": 30,
        "batch_size": 64,
    },
}
"""Settings of all questions, before a question's own: for a CPU, for minutes on a GPU, and as published."""


PRETRAIN_SEED: dict[str, int | None] = {"small": 0, "medium": 0, "large": None}
"""Seed of the one pre-training that the fine-tunings of all seeds share; None: each seed has its own pre-training."""

CROPS: dict[str, dict[str, Any]] = {
    name: {"distorted_view#crop_scale": scale, "distorted_view#crop_ratio": ratio}
    for name, scale, ratio in (
        ("crop from 0.4", [0.4, 1.0], [0.8, 1.25]),
        ("crop from 0.85", [0.85, 1.0], [0.9, 1.1]),
        ("no crop", [1.0, 1.0], [1.0, 1.0]),
    )
}
# A lesion fills most of a skin photograph, so a crop still shows it. A crop of a fundus can miss most lesions.
# All methods use the same crops.
CROP_OF = {"isic2018": "crop from 0.4", "isic2017": "crop from 0.4", "aptos2019": "crop from 0.85"}


def settings_of(data_set: str, scale: str) -> dict[str, Any]:
    """Settings of all runs on a data set at a scale of :data:`SCALES`; a run's own settings override them."""
    return SCALES[scale] | CROPS[CROP_OF[data_set]]


def scaled(run: Run, scale: str, pretrain_seed: int | Literal["of the scale"] | None = "of the scale") -> Run:
    """Return a run with :func:`settings_of` its data set and a pre-training seed; None: the seed of the run."""
    pretrain_seed = PRETRAIN_SEED[scale] if pretrain_seed == "of the scale" else pretrain_seed
    return run.but(settings_of(run.data_set, scale) | run.changes(), pretrain_seed=pretrain_seed)


@dataclass(frozen=True)
class Entry:
    """A point of a question.

    Attributes:
        series: value of the second varied setting; each series is a line or a color of the plot.
        x: value of the varied setting: a number for a line, else a name.
        run: run with seed 0.
        reference: run that :attr:`run` is compared with, paired; None: no comparison.
    """

    series: str
    x: str | float
    run: Run
    reference: Run | None = None


@dataclass(frozen=True)
class Question:
    """A question with its runs.

    Attributes:
        slug: part of the name of its page.
        title: the question.
        text: description of what was done, in Markdown.
        x_name: name of the axis or column.
        reference_name: name of the entry that the others are compared with.
        data_sets: data sets that can answer the question.
        entries: function from a data set, and the settings that all entries share, to the entries.
        log_x: True if a line's axis is logarithmic.
        pretrain_seed: seed of the one pre-training that all seeds share; None: each seed has its own pre-training.
    """

    slug: str
    title: str
    text: str
    x_name: str
    reference_name: str
    entries: Callable[[str, dict[str, Any]], list[Entry]] = field(repr=False)
    data_sets: tuple[str, ...] = ("isic2018", "aptos2019", "isic2017")
    log_x: bool = False
    pretrain_seed: int | Literal["of the scale"] | None = "of the scale"

    def points(self, data_set: str, scale: str = "small") -> list[Entry]:
        """List the entries for a data set at a scale of :data:`SCALES`, except entries that equal their reference."""

        def at_scale(run: Run) -> Run:
            return scaled(run, scale, self.pretrain_seed)

        entries = [
            replace(entry, run=at_scale(entry.run), reference=entry.reference and at_scale(entry.reference))
            for entry in self.entries(data_set, settings_of(data_set, scale))
        ]
        # For example, settings of fine-tuning have no effect on a probe, so the run equals its reference.
        return [entry for entry in entries if not (entry.reference and entry.run.name() == entry.reference.name())]

    def runs(
        self, data_sets: Iterable[str], seeds: Iterable[int], scale: str = "small", former: bool = False
    ) -> list[Run]:
        """List all runs. They are ordered by seed, then by entry, then by data set.

        Args:
            data_sets: names of data sets.
            seeds: seeds of each run.
            scale: key of :data:`SCALES`.
            former: include runs that can't be made again, see :meth:`~benchmarks.accuracy.methods.Run.former_parts`.
        """
        by_data_set = [self.points(name, scale) for name in data_sets if name in self.data_sets]
        points = [entry for of_entry in zip(*by_data_set, strict=True) for entry in of_entry]
        runs: dict[str, Run] = {}
        for seed in seeds:
            for entry in points:
                for run in (entry.run, entry.reference):
                    if run is not None and (former or not run.former_parts()):
                        seeded = run.but(seed=seed)
                        runs.setdefault(seeded.name(), seeded)
        return list(runs.values())


FGSSL, PROGRESSIVE, PLAIN = "fgssl", "progressive", "plain"
# Variants of the method are compared with these fine-tunings: they are cheap, and pre-training should matter most here.
CHEAP = ("progressive", "linear")
FEW = 0.1
"""Share of the labels with which methods and variants are compared."""


def _value(settings: dict[str, Any], name: str) -> Any:
    return settings.get(name, default(name))


def _name(pretraining: str, fine_tuning: str) -> str:
    return f"{PRETRAININGS[pretraining].label}, {FINE_TUNINGS[fine_tuning].label}"


# A puzzle of one tile is a light view. FG-SSL, its puzzles alone and its hierarchy alone have a light view on one side.
# The other methods do not.
ONE_VIEW_LIGHT: dict[str, Any] = {"grids": [1]}
"""Settings that turn ``"jigsaw"`` into Barlow Twins with a light view on one side."""
ONE_VIEW_LIGHT_NAME = "Barlow Twins, one view light"


def _methods(data_set: str, _: dict[str, Any]) -> list[Entry]:
    reference = Run(data_set, FGSSL, PROGRESSIVE, budget=FEW)
    light = Run(data_set, "jigsaw", "linear", budget=FEW).but(ONE_VIEW_LIGHT)
    return [
        Entry(
            FINE_TUNINGS[fine_tuning].label,
            PRETRAININGS[pretraining].label,
            Run(data_set, pretraining, fine_tuning, budget=FEW),
            None if (pretraining, fine_tuning) == (FGSSL, PROGRESSIVE) else reference,
        )
        for pretraining in PRETRAININGS
        for fine_tuning in FINE_TUNINGS
    ] + [Entry(FINE_TUNINGS["linear"].label, ONE_VIEW_LIGHT_NAME, light, reference)]


def _budgets(data_set: str, _: dict[str, Any]) -> list[Entry]:
    # Probes of the frozen network are added, because they cost almost nothing.
    pairs = ((FGSSL, PROGRESSIVE), ("none", PLAIN), *((name, "linear") for name in (FGSSL, "barlow_twins", "none")))
    entries = []
    for pretraining, fine_tuning in pairs:
        # Supervised training also with three times the 10 %, for the reach of the issue.
        shares = sorted({*BUDGETS, 0.3}) if (pretraining, fine_tuning) == ("none", PLAIN) else BUDGETS
        for share in shares:
            supervised = Run(data_set, "none", PLAIN, budget=share)
            run = Run(data_set, pretraining, fine_tuning, budget=share)
            reference = None if run == supervised else supervised
            entries.append(Entry(_name(pretraining, fine_tuning), 100 * share, run, reference))
    return entries


def _variants(data_set: str, variants: dict[str, dict[str, Any]]) -> list[Entry]:
    """Compare settings with the bundle's default, for each of the cheap fine-tunings with few labels."""
    entries = []
    for fine_tuning in CHEAP:
        base = Run(data_set, FGSSL, fine_tuning, budget=FEW)
        series = FINE_TUNINGS[fine_tuning].label
        entries.append(Entry(series, "default", base))
        entries += [Entry(series, name, base.but(settings), base) for name, settings in variants.items()]
    return entries


def _batch_sizes(data_set: str, settings: dict[str, Any]) -> list[Entry]:
    entries = []
    usual, usual_rate = (_value(settings, name) for name in ("pretrain_batch_size", "pretrain_learning_rate"))
    # Pre-training is half as long as in (a), since there are many batch sizes. They are compared only with each other.
    epochs = _value(settings, "pretrain_epochs") // 2
    for pretraining, fine_tuning in ((FGSSL, PROGRESSIVE), (FGSSL, "linear"), ("barlow_twins", "linear")):
        base = Run(data_set, pretraining, fine_tuning, budget=FEW).but({"pretrain_epochs": epochs})

        def sized(size: int, base: Run = base) -> Run:
            # Adam's learning rate grows with the square root of the batch.
            rate = float(f"{usual_rate * math.sqrt(size / usual):.3g}")
            return base if size == usual else base.but({"pretrain_batch_size": size, "pretrain_learning_rate": rate})

        for size in (16, 32, 64, 128, 256):
            entries.append(
                Entry(_name(pretraining, fine_tuning), size, sized(size), None if size == usual else sized(usual))
            )
    return entries


def _grids(data_set: str, _: dict[str, Any]) -> list[Entry]:
    return _variants(
        data_set,
        {
            "grids 1, 1, 1 (no puzzles)": {"grids": [1, 1, 1]},
            "grids 2, 2, 1": {"grids": [2, 2, 1]},
            "grids 8, 4, 2": {"grids": [8, 4, 2]},
            "grids 16, 8, 4 (tiles finer than the stride)": {"grids": [16, 8, 4]},
            "cyclic": {"permutation": "cyclic"},
        },
    )


def _views(data_set: str, settings: dict[str, Any]) -> list[Entry]:
    view = "distorted_view#"
    light = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "grayscale_prob": 0.0}
    half = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
    return _variants(
        data_set,
        {
            "colors hardly distorted": {f"{view}{name}": value for name, value in light.items()},
            "half the colors distorted": {f"{view}{name}": value for name, value in half.items()},
            "no gray": {f"{view}grayscale_prob": 0.0},
            "every other image gray": {f"{view}grayscale_prob": 0.5},
            "no blur": {f"{view}blur_prob": 0.0},
            **{name: crop for name, crop in CROPS.items() if not crop.items() <= settings.items()},
            "solarised": {f"{view}solarize_prob": 0.2},
        },
    )


def _network(data_set: str, _: dict[str, Any]) -> list[Entry]:
    return _variants(
        data_set,
        {
            "width 64": {"width": 64},
            "width 256": {"width": 256},
            "features 512": {"embedding_dim": 512},
            "projection without norm and ELU": {"linear_projection": True},
            "lambda 0.0005": {"redundancy_weight": 0.0005},
            "lambda 0.05": {"redundancy_weight": 0.05},
        },
    )


def _schedules(data_set: str, settings: dict[str, Any]) -> list[Entry]:
    epochs = _value(settings, "pretrain_epochs")
    # Passes of images in an iteration of pre-training: alternating two, progressive eight, joint five. In an iteration
    # of fine-tuning: alternating and joint one, progressive four.
    return _variants(
        data_set,
        {
            "progressive pre-training, as many passes": {
                "pretrain_schedule": "progressive",
                "pretrain_epochs": round(epochs / 4),
            },
            "joint pre-training, as many passes": {
                "pretrain_schedule": "joint",
                "pretrain_epochs": round(epochs * 2 / 5),
            },
            "progressive fine-tuning with puzzles, as many passes": {
                "schedule": "progressive",
                "puzzles": True,
                "max_epochs": round(_value(settings, "max_epochs") / 4),
            },
            "alternating fine-tuning with puzzles": {"schedule": "alternating", "puzzles": True},
        },
    )


def _lengths(data_set: str, _: dict[str, Any]) -> list[Entry]:
    entries = []
    for pretraining, fine_tuning in ((FGSSL, PROGRESSIVE), (FGSSL, "linear"), ("barlow_twins", PLAIN)):
        base = Run(data_set, pretraining, fine_tuning, budget=FEW)
        supervised = Run(data_set, "none", PLAIN, budget=FEW)
        for epochs in (5, 10, 20, 40, 80):
            entries.append(
                Entry(_name(pretraining, fine_tuning), epochs, base.but({"pretrain_epochs": epochs}), supervised)
            )
    return entries


def _claims(data_set: str, _: dict[str, Any]) -> list[Entry]:
    entries = []
    for pretraining, fine_tuning in (("none", PLAIN), (FGSSL, PROGRESSIVE)):
        ours = Run(data_set, pretraining, fine_tuning)
        for name, run in {
            "grouped split, chosen on validation": ours,
            "grouped split, chosen on the test part": ours.but(select_on="test"),
            "random split, chosen on validation": ours.but(split="random"),
            "random split, chosen on the test part": ours.but(split="random", select_on="test"),
        }.items():
            # Another split has other test images, so runs can't be paired.
            paired = run.split == "grouped" and run != ours
            entries.append(Entry(_name(pretraining, fine_tuning), name, run, ours if paired else None))
    return entries


def _transfer(data_set: str, _: dict[str, Any]) -> list[Entry]:
    entries = []
    for fine_tuning in (PROGRESSIVE, PLAIN, "linear"):
        base = Run(data_set, FGSSL, fine_tuning)
        reference = base.but(pretraining="none")
        for name, run in {
            "no pre-training": reference,
            "pre-trained on ISIC 2017": base,
            "pre-trained on ISIC 2018": base.but(pretrain_on="isic2018"),
        }.items():
            compared = None if run == reference else reference
            entries.append(Entry(FINE_TUNINGS[fine_tuning].label, name, run, compared))
    return entries


def _imagenet(data_set: str, settings: dict[str, Any]) -> list[Entry]:
    entries = []
    random, imagenet = (
        {"backbone": {"_target_": f"{PACKAGE}.imagenet.efficientnet_lite0", "pretrained": pretrained}}
        for pretrained in (False, True)
    )
    # The largest size that takes about an hour of a CPU. A larger scale has a size of its own.
    larger = [] if "image_size" in settings else [imagenet | {"image_size": 96}]
    for at_size, share in product(larger, (0.01, FEW, 0.25, 1.0)):
        # Probes take a minute, so there are more of them.
        for fine_tuning in (PROGRESSIVE, PLAIN, "linear") if share in (FEW, 1.0) else ("linear",):
            reference = Run(data_set, "none", fine_tuning, budget=share).but(at_size)
            series = f"96 px, {100 * share:g} % of the labels, {FINE_TUNINGS[fine_tuning].label}"
            entries.append(Entry(series, "ImageNet", reference))
            entries.append(Entry(series, "ImageNet, then FG-SSL", reference.but(pretraining=FGSSL), reference))
    for fine_tuning in (PROGRESSIVE, PLAIN, "linear"):
        supervised, ours = (Run(data_set, name, fine_tuning, budget=FEW) for name in ("none", FGSSL))
        reference = supervised.but(imagenet)
        for name, run in {
            "random weights": supervised.but(random),
            "FG-SSL": ours.but(random),
            "ImageNet": reference,
            "ImageNet, then FG-SSL": ours.but(imagenet),
        }.items():
            compared = None if run == reference else reference
            entries.append(Entry(FINE_TUNINGS[fine_tuning].label, name, run, compared))
    return entries


SLOW_BACKBONE = "$@network_def.parameter_groups(0.1 * @learning_rate, @learning_rate, @weight_decay)"

# The distorted view that was the default when (l) was answered. It does not affect the question of precision and width.
VIEW_OF_THEN = {
    "distorted_view#crop_scale": [0.7, 1.0],
    "distorted_view#crop_ratio": [0.8, 1.25],
    "distorted_view#grayscale_prob": 0.5,
}


def _speed(data_set: str, _: dict[str, Any]) -> list[Entry]:
    entries = []
    for fine_tuning in (PLAIN, "linear", "knn"):
        ours = Run(data_set, FGSSL, fine_tuning, budget=FEW)
        ours = ours.but({"pretrain_epochs": 2, "pretrain_schedule": "progressive"} | VIEW_OF_THEN)
        # The authors' block has half as many channels as the last stage: 1024 for ResNet-50, 256 for ResNet-18.
        slow = ours.but({"width": 256, "pretrain#trainer#amp": False})
        for name, run in {
            "as the authors: float32, block 256 wide": slow,
            "bfloat16, block 128 wide": ours,
            "and joint": ours.but({"pretrain_schedule": "joint"}),
        }.items():
            entries.append(Entry(FINE_TUNINGS[fine_tuning].label, name, run, None if run == slow else slow))
    return entries


def _seeds(data_set: str, _: dict[str, Any]) -> list[Entry]:
    entries = []
    for fine_tuning in CHEAP:
        reference = Run(data_set, FGSSL, fine_tuning, budget=FEW)
        for pretraining in (FGSSL, "hierarchy", "barlow_twins", "none"):
            run = reference.but(pretraining=pretraining)
            compared = None if run == reference else reference
            entries.append(Entry(FINE_TUNINGS[fine_tuning].label, PRETRAININGS[pretraining].label, run, compared))
    return entries


def _fine_tunings(data_set: str, settings: dict[str, Any]) -> list[Entry]:
    both: dict[str, dict[str, Any]] = {
        "three times the learning rate": {"learning_rate": 3 * _value(settings, "learning_rate")},
        "three times as long": {"max_epochs": 3 * _value(settings, "max_epochs")},
        "classes drawn equally often": {"balance": "sampling"},
        "classes weighted in the loss": {"balance": "sqrt_weights"},
        "logits adjusted to the classes' shares": {
            "train#loss": {
                "_target_": f"{PACKAGE}.fine_tunings.LogitAdjustedLoss",
                "dataset": "@train#dataset",
                "num_classes": "$len(@class_names)",
                "device": "@device",
            }
        },
        "mixup 0.2": {"mixup": 0.2},
    }
    slow = {"train#optimizer#params": SLOW_BACKBONE}
    # These entries show runs that were made earlier. Question (o) has the runs of today.
    heads_first = {"train#lr_scheduler#_target_": HEADS_FIRST}
    of_features = {
        "backbone at a tenth of the learning rate": slow,
        "heads first, then all": heads_first,
        "heads first, then the backbone at a tenth": heads_first | slow,
    }
    entries = []
    for pretraining, fine_tuning in ((FGSSL, PROGRESSIVE), ("none", PLAIN)):
        base = Run(data_set, pretraining, fine_tuning, budget=FEW)
        series = _name(pretraining, fine_tuning)
        entries.append(Entry(series, "default", base))
        variants = both | of_features if pretraining == FGSSL else both
        entries += [Entry(series, name, base.but(changes), base) for name, changes in variants.items()]
    return entries


def _heads_first(data_set: str, _: dict[str, Any]) -> list[Entry]:
    start = Run(data_set, FGSSL, PROGRESSIVE, budget=FEW)
    ours, supervised = _name(FGSSL, PROGRESSIVE), _name("none", PLAIN)
    return [
        Entry(ours, "all from the start", start),
        Entry(ours, "heads first for a quarter of the time", start.but({"freeze_backbone": 0.25}), start),
        Entry(ours, "heads first for half the time", start.but({"freeze_backbone": 0.5}), start),
        Entry(supervised, "all from the start", Run(data_set, "none", PLAIN, budget=FEW), start),
    ]


QUESTIONS = {
    "a": Question(
        "baselines",
        "Does FG-SSL beat each baseline?",
        "Every pre-training with every fine-tuning, 10 % of the labels; (b) has more.",
        "pre-training",
        "FG-SSL with hierarchical fine-tuning",
        _methods,
    ),
    "b": Question(
        "label_budgets",
        "How many labels does it save?",
        "Fine-tuning with 1, 5, 10, 25 and 100 % of the training labels, beside linear probes; plain supervised "
        "training also with 30 %.",
        "% of the labels",
        "plain supervised training with as many labels",
        _budgets,
        log_x=True,
    ),
    "c": Question(
        "batch_size",
        "Does the batch size of pre-training matter?",
        "Equal images seen, half as many as in (a); the learning rate of AdamW grows with the square root of the batch "
        "size. Compared with 10 % of the labels.",
        "batch size",
        "the bundle's default batch size",
        _batch_sizes,
        log_x=True,
    ),
    "d": Question(
        "grids",
        "Which grids, and uniform or cyclic?",
        "In both phases, with 10 % of the labels. At 64 px the stages have strides of 8, 16 and 32 px: grids 16, 8, 4 "
        "are tiles of 4, 8 and 16 px.",
        "grids",
        "the default",
        _grids,
    ),
    "e": Question(
        "views",
        "Which views?",
        "Changes of the distorted view, with 10 % of the labels. The crop of the default is that of the data set.",
        "view",
        "the default",
        _views,
    ),
    "f": Question(
        "network",
        "Which block and which lambda?",
        "With 10 % of the labels.",
        "block and loss",
        "the default",
        _network,
    ),
    "g": Question(
        "schedules", "Joint or progressive steps?", "With 10 % of the labels.", "schedule", "the default", _schedules
    ),
    "h": Question(
        "pretraining_length",
        "Does longer pre-training help?",
        "With 10 % of the labels.",
        "epochs of pre-training",
        "plain supervised training",
        _lengths,
        log_x=True,
    ),
    "i": Question(
        "protocol_claims",
        "What would random splits and choosing on the test part have claimed?",
        "A random split ignores lesions and near-duplicates. Choosing on the test part takes the epoch that is best on "
        "it. All labels.",
        "protocol",
        "the same run chosen on validation",
        _claims,
    ),
    "j": Question(
        "transfer",
        "Does pre-training on ISIC 2018 help on ISIC 2017?",
        "All labels of ISIC 2017. No image of it is a near-duplicate of one of ISIC 2018 (`find_duplicates` at 64 px).",
        "pre-training",
        "no pre-training",
        _transfer,
        data_sets=("isic2017",),
    ),
    "k": Question(
        "imagenet",
        "Does it add to ImageNet weights?",
        "EfficientNet-Lite0, with 10 % of the labels where no other share is named.",
        "start",
        "ImageNet weights alone",
        _imagenet,
    ),
    "l": Question(
        "speed",
        "Does speed cost accuracy?",
        "The same short pre-training (2 epochs, with the distorted view that was the default when this was run) with "
        "what makes it fast, and without; then 10 % of the labels.",
        "pre-training step",
        "float32, block 256 wide",
        _speed,
        data_sets=("isic2018",),
    ),
    "m": Question(
        "pretraining_seed",
        "Does it depend on the seed of pre-training?",
        "Each seed has a pre-training of its own, so that the intervals hold its chance too. 10 % of the labels.",
        "pre-training",
        "FG-SSL with the same fine-tuning",
        _seeds,
        pretrain_seed=None,
    ),
    "n": Question(
        "fine_tuning",
        "How to fine-tune?",
        "10 % of the labels. Heads first: the learning rate of the backbone is 0 for the first half of the "
        "fine-tuning. The benchmark no longer has the schedule that did so. The setting `freeze_backbone`, which "
        "(o) asks about, does nearly the same: it takes whole epochs, and the frozen weights get no gradients.",
        "fine-tuning",
        "the default",
        _fine_tunings,
        # These runs are later than the others. A pre-training on another machine would not give the same reference.
        pretrain_seed=3,
    ),
    "o": Question(
        "heads_first",
        "Should the backbone rest at first?",
        "What looked best in (n), once more with another pre-training, as (n) took the best of nine. 10 % of the "
        "labels. Heads first: at the beginning of the fine-tuning only blocks and heads learn.",
        "fine-tuning",
        "FG-SSL, all from the start",
        _heads_first,
        pretrain_seed=4,
    ),
}
