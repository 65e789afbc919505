# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Table of all settings of a run: name, meaning and check of each, and the phases that depend on it.

These come from this table: the checks before a run, the tables of the bundles' READMEs and of the site, the list of
settings that the Label app may set, and the identity of checkpoints. Default values are in ``configs/train.json``.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_fgssl.metrics import DECISIONS, SET_SCORES
from monai_fgssl.tasks import TASKS
from monai_fgssl.utils.errors import SettingsError

__all__ = ["GROUPS", "SETTINGS", "Setting", "by_name", "default_of", "markdown_table"]

Check = Callable[[str, Any], None]
"""A check takes the name and the value of a setting. It raises a SettingsError that names the allowed values."""


def _number(name: str, value: Any, valid: bool, must_be: str) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not (is_number and valid):
        raise SettingsError(f"--{name} must be {must_be}, got {value!r}.")


def positive(name: str, value: Any) -> None:
    """Check a number above 0."""
    _number(name, value, isinstance(value, (int, float)) and value > 0, "a positive number")


def positive_or_none(name: str, value: Any) -> None:
    """Check a number above 0, or None."""
    if value is not None:
        positive(name, value)


def not_negative(name: str, value: Any) -> None:
    """Check a number from 0 up."""
    _number(name, value, isinstance(value, (int, float)) and value >= 0, "0 or more")


def share_of_epochs(name: str, value: Any) -> None:
    """Check a number in [0, 1)."""
    valid = isinstance(value, (int, float)) and 0 <= value < 1
    _number(name, value, valid, "from 0 to less than 1 (a share of the epochs)")


def share_below_one(name: str, value: Any) -> None:
    """Check a number in [0, 1)."""
    _number(name, value, isinstance(value, (int, float)) and 0 <= value < 1, "from 0 to less than 1")


def inner_share(name: str, value: Any) -> None:
    """Check a number in (0, 1)."""
    _number(name, value, isinstance(value, (int, float)) and 0 < value < 1, "more than 0 and less than 1")


def factor(name: str, value: Any) -> None:
    """Check a number in (0, 1]."""
    _number(name, value, isinstance(value, (int, float)) and 0 < value <= 1, "more than 0 and at most 1")


def whole(name: str, value: Any) -> None:
    """Check a whole number above 0."""
    _number(name, value, isinstance(value, int) and value > 0, "a whole number above 0")


def whole_or_zero(name: str, value: Any) -> None:
    """Check a whole number from 0 up."""
    _number(name, value, isinstance(value, int) and value >= 0, "a whole number, 0 or more")


def at_least_two(name: str, value: Any) -> None:
    """Check a batch size."""
    positive(name, value)
    if value < 2:
        raise SettingsError(f"--{name} must be at least 2: the cross-correlation and batch norm need a batch.")


LARGEST_SIZE = 2**16
"""Largest size of an image along an axis, in pixels, and largest number of tiles."""


def sizes(name: str, value: Any) -> None:
    """Check a whole number of pixels or tiles, or one for each axis."""
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    whole = all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)
    if not (numbers and whole and all(1 <= number <= LARGEST_SIZE for number in numbers)):
        raise SettingsError(
            f"--{name} must be a positive whole number up to {LARGEST_SIZE}, or one for each axis, got {value!r}."
        )


def lists_of_sizes(name: str, value: Any) -> None:
    """Check a list of :func:`sizes`."""
    if not isinstance(value, (list, tuple)):
        raise SettingsError(f"--{name} must be a list with an entry for each stage, got {value!r}.")
    for one in value:
        sizes(name, one)


def fold_number(name: str, value: Any) -> None:
    """Check a whole number from 0 up, or ``"all"``."""
    if value != "all":
        _number(name, value, isinstance(value, int) and value >= 0, "a whole number, 0 or more, or all")


PARTS = ("train", "validation", "test")


def shares_of_parts(name: str, value: Any) -> None:
    """Check the shares of the three parts of a split."""
    shares = [value.get(part) for part in PARTS] if isinstance(value, Mapping) and len(value) == len(PARTS) else []
    numbers = [share for share in shares if isinstance(share, (int, float)) and not isinstance(share, bool)]
    if len(numbers) != len(PARTS) or min(numbers) <= 0 or not math.isclose(sum(numbers), 1, abs_tol=1e-6):
        raise SettingsError(
            f"--{name} must be three shares above 0 that add up to 1, got {value!r}. An example: "
            f"--{name} \"{{'train': 0.7, 'validation': 0.1, 'test': 0.2}}\""
        )


def number_of_folds(name: str, value: Any) -> None:
    """Check a whole number from 2 up."""
    _number(name, value, isinstance(value, int) and value >= 2, "a whole number of at least 2")


def dimensions(name: str, value: Any) -> None:
    """Check the number of spatial dimensions."""
    _number(name, value, isinstance(value, int) and value in (2, 3), "2 or 3")


def number_or_indices(name: str, value: Any) -> None:
    """Check a whole number, or a list of whole numbers. The network checks which numbers it has."""
    numbers = list(value) if isinstance(value, (list, tuple)) else [value]
    if not (numbers and all(isinstance(number, int) and not isinstance(number, bool) for number in numbers)):
        raise SettingsError(f"--{name} must be a whole number, or a list of indices, got {value!r}.")


def text(name: str, value: Any) -> None:
    """Check a text that is not empty."""
    if not (isinstance(value, str) and value):
        raise SettingsError(f"--{name} must be text, got {value!r}.")


def columns(name: str, value: Any) -> None:
    """Check names of columns: text, or a list of text."""
    names = [value] if isinstance(value, (str, int)) else value
    if not (isinstance(names, (list, tuple)) and names and all(isinstance(one, (str, int)) for one in names)):
        raise SettingsError(f"--{name} must be names of columns with commas between, such as sex,age, got {value!r}.")


def optional(check: Check) -> Check:
    """Make a check that lets None pass."""

    def check_unless_none(name: str, value: Any) -> None:
        if value is not None:
            check(name, value)

    return check_unless_none


def one_of(*choices: Any) -> Check:
    """Make a check that allows the given values only."""

    def check(name: str, value: Any) -> None:
        if value not in choices:
            raise SettingsError(f"--{name} must be one of {', '.join(map(str, choices))}, got {value!r}.")

    return check


@dataclass(frozen=True)
class Setting:
    """An option of ``python -m monai.bundle run``.

    Attributes:
        name: name of the option, and of the id in the configs.
        group: key of :data:`GROUPS`.
        meaning: meaning in Markdown, with the unit and the meaning of ``none``.
        default: default in words, if the configs compute it.
        check: check of this value alone; :func:`~monai_fgssl.bundle.check_settings` compares settings with each other.
        label_app: True if a request to the Label app may set it. Settings that name a file are never allowed.
        identity: phases (``"pretrain"``, ``"train"``) whose checkpoints are valid for one value only. Fine-tuning
            continues from pre-training, so a setting of pre-training has both phases.
        hyperparameter: phase that may be resumed with another value; the run then prints the change.
        volumes: meaning for volumes, if it differs.
        volumes_default: ``default`` for volumes, if it differs.
    """

    name: str
    group: str
    meaning: str
    default: str | None = None
    check: Check | None = None
    label_app: bool = False
    identity: tuple[str, ...] = ()
    hyperparameter: str | None = None
    volumes: str | None = None
    volumes_default: str | None = None


GROUPS = {
    "data": "Data",
    "images": "Images",
    "network": "Network",
    "pretraining": "Pre-training",
    "fine-tuning": "Fine-tuning",
    "run": "Run and output",
    "inference": "Inference and evaluation",
    "features": "Features",
}
"""Titles of the groups, in the order of the table."""

BOTH, TRAIN = ("pretrain", "train"), ("train",)

SETTINGS = (
    Setting("dataset_dir", "data", "a data set (see below); none: synthetic lesions"),
    Setting(
        "layout",
        "data",
        "`isic2018`, `isic2017`, `aptos2019`, `classes`, `subclasses`, `csv`, `json` or `images`: see below",
        default="recognized",
    ),
    Setting(
        "task",
        "data",
        "`multiclass`: each image has one of several classes; `multilabel`: it may have several, or none; `ordinal`: "
        "the classes are grades, and a prediction that is wrong by two grades costs more than one that is wrong by one",
        default="`multilabel` if an image has several classes, else `multiclass`",
        check=one_of(None, *TASKS),
        label_app=True,
        identity=TRAIN,
    ),
    Setting(
        "class_order",
        "data",
        "with `--task ordinal`: the classes from the lowest to the highest, such as `\"['absent', 'mild', 'severe']\"`",
        default="the order of their numbers",
        label_app=True,
    ),
    Setting(
        "cache_dir",
        "data",
        "folder for the decoded images, for data sets larger than the memory and for several processes; none: memory",
    ),
    Setting(
        "fractions",
        "data",
        "shares of train, validation and test, split by lesion or patient",
        check=shares_of_parts,
        label_app=True,
    ),
    Setting("split_from", "data", "`split.json` of an earlier run, whose parts are used again; none: a new split"),
    Setting(
        "num_folds",
        "data",
        "cross-validation: number of folds; none: one split by `fractions`",
        check=optional(number_of_folds),
    ),
    Setting(
        "fold",
        "data",
        "cross-validation: number of the fold to test on, from 0. `all`: each fold in a run of its own, in "
        "`output_dir/fold_0` and so on, then a report on all images; the same command continues",
        check=fold_number,
    ),
    Setting(
        "subgroup_columns",
        "data",
        "columns of the list of images, with commas between, such as `sex,age`: the report scores each subgroup of the "
        "test images, and names the largest gap; none: no subgroups",
        check=optional(columns),
    ),
    Setting(
        "subgroup_file",
        "data",
        "table (CSV) or data list (JSON) that has the columns of subgroups and names the images",
        default="the lists in `dataset_dir`",
    ),
    Setting(
        "label_fraction",
        "data",
        "share of the training labels that fine-tuning may use",
        default="all; synthetic: see `labels_per_class`",
        check=optional(factor),
        volumes_default="all; synthetic: 0.3",
    ),
    Setting(
        "labels_per_class",
        "data",
        "number of training images of each class that keep their label, instead of `label_fraction`; a lesion keeps "
        "the labels of all its images, so there may be more",
        default="none; synthetic: 10",
        check=optional(whole),
        volumes_default="none",
    ),
    Setting("synthetic_images", "data", "number of synthetic lesions", volumes="number of synthetic volumes"),
    Setting("synthetic_dir", "data", "folder for the synthetic lesions", default="in `output_dir`"),
    Setting(
        "image_size",
        "images",
        "height and width in pixels, one number or a list of two; the grids must divide it",
        check=sizes,
        label_app=True,
        identity=BOTH,
        volumes="voxels along each axis, or one number for all",
    ),
    Setting(
        "window",
        "images",
        'window of gray images: `"[40, 400]"` (center, width); none or `dicom`: the window of the file, and if it has '
        "none, the whole range of its values",
        label_app=True,
        identity=BOTH,
        volumes='`"[40, 400]"`: center and width in the units of the modality; `dicom`: the window of the series; '
        "none: the range of each volume without its outer 0.5 %",
    ),
    Setting(
        "spatial_dims",
        "images",
        "2 for pictures, 3 for volumes: see the bundle `fgssl_volume`",
        check=dimensions,
        identity=BOTH,
    ),
    Setting(
        "spacing",
        "images",
        "spacing of volumes in mm: see the bundle `fgssl_volume`",
        label_app=True,
        identity=BOTH,
        volumes="size of a voxel in mm; `--spacing '$None'` scales the whole volume to `image_size` instead",
    ),
    Setting(
        "frame",
        "images",
        "number of the frame, page or slice to read, from 0, for files with several; `all`: each becomes an image of "
        "its own, with the label of its file and in the same part",
        label_app=True,
        identity=BOTH,
        volumes="for pictures only",
    ),
    Setting(
        "channel",
        "images",
        "number of the channel to read as gray, from 0: 1 is the green of a color picture; none: all colors",
        label_app=True,
        identity=BOTH,
        volumes="number of the channel, from 0, for files with several, such as the sequences of an MRI",
    ),
    Setting(
        "time",
        "images",
        "number of the point in time, from 0, for files with several",
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "max_pixels",
        "images",
        "largest size of an image, in pixels or voxels times channels; larger images are refused before they take "
        "memory",
        default="2^30",
        label_app=True,
    ),
    Setting(
        "untrusted",
        "images",
        "true: files are decoded in separate processes with limits of time and memory. A damaged or harmful file is "
        "reported, and the run continues. false: files are decoded in threads",
    ),
    Setting("decode_seconds", "images", "seconds that decoding a file may take, with `untrusted`", check=positive),
    Setting(
        "decode_gb",
        "images",
        "gigabytes of memory that all decoding processes together may take for images, with `untrusted`",
        default="half of what is free",
        check=positive_or_none,
    ),
    Setting(
        "regularized_view",
        "images",
        "small changes of the images that the puzzles are cut from; `help(monai_fgssl.transforms.RandView)` lists the "
        "strengths of all views, such as `--distorted_view#blur_prob 0.5`",
    ),
    Setting("distorted_view", "images", "strong changes of the copy that the puzzles are compared with"),
    Setting("augmentation", "images", "changes of the images in fine-tuning"),
    Setting(
        "backbone",
        "network",
        "`timm:NAME` (any model of timm, 2D), or of MONAI, 2D and 3D: `resnet10/18/34/50/101/152/200`, "
        "`efficientnet-b0` ... `b7`, `densenet121/169/201/264`, `seresnet50/101/152`, `swin-unetr-24/48`, "
        "`unet`, `segresnet-16/32`, `vit-tiny/small/base`; `tiny-cnn`: a network of four convolutions, for a first try "
        "on a CPU",
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "stem",
        "network",
        "`small`: the stem of a ResNet has no stride, which gives four times the resolution and takes about eight "
        "times as long",
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "weights",
        "network",
        "weights to start from: `pretrained` or `imagenet` (published by the network's authors), "
        "`hf-hub:OWNER/NAME`, or a file of this or any other training; none: random weights",
        check=optional(text),
        identity=BOTH,
    ),
    Setting(
        "inflate_weights",
        "network",
        "true: `weights` of a 2D network may be loaded into a 3D network",
        identity=BOTH,
    ),
    Setting(
        "drop_path",
        "network",
        "rate of stochastic depth in training, in [0, 1), for networks that have it; 0: none",
        check=share_below_one,
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "backbone_rate",
        "network",
        "learning rate of the backbone, as a multiple of that of blocks and heads, in pre-training and fine-tuning. "
        "0.1 keeps most of what published weights know, as in the code of FG-SSL's authors",
        default="1; with `weights` and without LoRA 0.1",
        check=positive,
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "freeze_stages",
        "network",
        "number of stages of the backbone, from the first, that are frozen in pre-training and fine-tuning, together "
        "with the stem; 0: none",
        check=whole_or_zero,
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "train_norms",
        "network",
        "true: the norms of the frozen stages are trained nevertheless",
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "lora_rank",
        "network",
        "rank of LoRA: the backbone is frozen except for adapters of this rank in its linear layers, in pre-training "
        "and fine-tuning. All weights that a run saves contain them. For transformers; needs `monai-fgssl[lora]`. "
        "none: no adapters",
        check=optional(whole),
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "stages",
        "network",
        "number of stages of the backbone, from the last, that get a block",
        check=number_or_indices,
        label_app=True,
        identity=BOTH,
    ),
    Setting("width", "network", "size of a block's pooled vector", check=positive, label_app=True, identity=BOTH),
    Setting(
        "embedding_dim",
        "network",
        "size of the vectors that the loss compares",
        check=positive,
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "linear_projection",
        "network",
        "false: pre-training compares the vectors that the classifiers read; true: it compares them before their norm "
        "and ELU",
        identity=BOTH,
    ),
    Setting(
        "grids",
        "pretraining",
        "tiles of the puzzles along each axis, one number for each stage, from fine to coarse. A tile should be at "
        "least 16 px, to hold a lesion's texture",
        check=lists_of_sizes,
        label_app=True,
        identity=BOTH,
        volumes="tiles of the puzzles along each axis, for each stage; they must divide `image_size`",
    ),
    Setting(
        "permutation",
        "pretraining",
        "order of the tiles: `uniform` (any), or `cyclic` as in the code of PMG and FG-SSL",
        identity=BOTH,
    ),
    Setting(
        "pretrain_schedule",
        "pretraining",
        "`progressive`: each batch is used for one optimizer step of each stage; `joint`: for one step of all stages; "
        "`alternating`: for one step of one stage",
        identity=BOTH,
    ),
    Setting(
        "pretrain_epochs",
        "pretraining",
        "epochs of pre-training; 0: no pre-training",
        default="40; synthetic: 16",
        check=not_negative,
        volumes_default="16",
        label_app=True,
        identity=TRAIN,
        hyperparameter="pretrain",
    ),
    Setting(
        "pretrain_batch_size",
        "pretraining",
        "images in a batch",
        check=at_least_two,
        label_app=True,
        identity=TRAIN,
        hyperparameter="pretrain",
    ),
    Setting(
        "pretrain_learning_rate",
        "pretraining",
        "learning rate of AdamW after the warm-up; it then falls to 0 as a cosine",
        check=positive,
        label_app=True,
        identity=TRAIN,
        hyperparameter="pretrain",
    ),
    Setting(
        "pretrain_warmup_epochs",
        "pretraining",
        "epochs in which the learning rate rises from 0",
        check=not_negative,
        label_app=True,
        identity=TRAIN,
        hyperparameter="pretrain",
    ),
    Setting(
        "pretrain_stage_lr_decay",
        "pretraining",
        "learning rate of each stage of the backbone, as a multiple of that of the next stage; 1: the same for all",
        check=factor,
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "pretrain_weight_decay",
        "pretraining",
        "weight decay of AdamW; norms and biases have none",
        check=not_negative,
        identity=TRAIN,
        hyperparameter="pretrain",
    ),
    Setting(
        "pretrain_ema_decay",
        "pretraining",
        "as `ema_decay`",
        check=optional(inner_share),
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "redundancy_weight",
        "pretraining",
        "lambda of the cross-correlation loss",
        check=not_negative,
        identity=TRAIN,
        hyperparameter="pretrain",
    ),
    Setting("probe_interval", "pretraining", "epochs between two measurements of the features", check=whole),
    Setting(
        "pretrained",
        "fine-tuning",
        "`pretrained.pt` of an earlier run to start from, usually with `--pretrain_epochs 0`",
        identity=BOTH,
    ),
    Setting("schedule", "fine-tuning", "as `pretrain_schedule`", identity=TRAIN),
    Setting(
        "puzzles", "fine-tuning", "true: fine-tuning cuts the images of each stage into puzzles too", identity=TRAIN
    ),
    Setting(
        "fine_tuning",
        "fine-tuning",
        "`ensemble`: `full` and `probe`, and the model predicts with the logits of both, weighed on the validation "
        "part; a prediction takes the time of two networks; `full`: the whole network is trained, with new "
        "classifiers; `probe`: the backbone is frozen, and one linear classifier on the means of all its stages is "
        "solved in seconds as a regularized logistic regression (`max_epochs` and the settings of the optimizer do "
        "nothing); `lp_ft`: first that classifier, then a gentle training of the whole network",
        default="`ensemble`; from random weights `full`",
        check=one_of("ensemble", "full", "probe", "lp_ft"),
        label_app=True,
        identity=TRAIN,
    ),
    Setting(
        "stage_lr_decay",
        "fine-tuning",
        "learning rate of each stage of the backbone, as a multiple of that of the next stage; 1: the same for all",
        default="1; with `lp_ft` 0.65",
        check=factor,
        label_app=True,
        identity=TRAIN,
    ),
    Setting(
        "freeze_backbone",
        "fine-tuning",
        "share of the epochs, in [0, 1), for which the pre-trained backbone is frozen at the beginning, while blocks "
        "and heads learn",
        default="0; with `lp_ft` 0.25",
        check=share_of_epochs,
        hyperparameter="train",
    ),
    Setting("mixup", "fine-tuning", "alpha of mixup; 0: none", check=not_negative, hyperparameter="train"),
    Setting(
        "balance",
        "fine-tuning",
        "`sampling`: an epoch has equally many images of each class; `weights`: the loss has a weight for each class, "
        "so that all classes count the same; `sqrt_weights`: halfway between. A linear probe treats `sampling` as "
        "`weights`",
        check=one_of(None, "sampling", "weights", "sqrt_weights"),
        label_app=True,
        hyperparameter="train",
    ),
    Setting(
        "max_epochs",
        "fine-tuning",
        "epochs of fine-tuning",
        default="60; synthetic: 15",
        check=positive,
        volumes_default="40",
        label_app=True,
        hyperparameter="train",
    ),
    Setting(
        "batch_size",
        "fine-tuning",
        "images in a batch",
        check=at_least_two,
        label_app=True,
        hyperparameter="train",
    ),
    Setting(
        "learning_rate",
        "fine-tuning",
        "learning rate of AdamW after the warm-up; it then falls to 0 as a cosine",
        check=positive,
        label_app=True,
        hyperparameter="train",
    ),
    Setting(
        "warmup_epochs",
        "fine-tuning",
        "epochs in which the learning rate rises from 0",
        check=not_negative,
        label_app=True,
        hyperparameter="train",
    ),
    Setting(
        "weight_decay",
        "fine-tuning",
        "weight decay of AdamW; norms and biases have none",
        check=not_negative,
        label_app=True,
        hyperparameter="train",
    ),
    Setting(
        "ema_decay",
        "fine-tuning",
        "decay of a moving average of the weights over the steps, such as 0.999; the average is validated and saved. "
        "none: no average",
        check=optional(inner_share),
        label_app=True,
        identity=TRAIN,
    ),
    Setting("val_interval", "fine-tuning", "epochs between two validations", default="1; synthetic: 3", check=whole),
    Setting(
        "compare",
        "fine-tuning",
        "true: fine-tune without the pre-training too, from `weights` or else from random weights, and report the "
        "difference",
    ),
    Setting(
        "linear_probe",
        "fine-tuning",
        "true: report a linear classifier of the frozen features too",
        default="as `compare`",
    ),
    Setting(
        "coverage",
        "fine-tuning",
        "share of images whose set of possible classes should contain the true class, fitted on the validation part. "
        "An image with several possible classes is referred to a person. Of findings, the share holds for both answers "
        "to each. none: no sets",
        check=optional(inner_share),
        label_app=True,
    ),
    Setting(
        "coverage_by_class",
        "fine-tuning",
        "true: `coverage` holds for the images of each class, and the sets are larger; false: it holds over all images",
        label_app=True,
    ),
    Setting(
        "set_score",
        "fine-tuning",
        "`raps`: larger sets for harder images; `threshold`: all classes above one probability, the smallest sets on "
        "average",
        check=one_of(*SET_SCORES),
        label_app=True,
    ),
    Setting(
        "refer_unlike",
        "fine-tuning",
        "share of the validation images that may be farther from the training images than the limit. An image beyond "
        "it is referred to a person, as unlike the training images. none: no distances",
        check=optional(inner_share),
        label_app=True,
    ),
    Setting(
        "decision",
        "fine-tuning",
        "which class is predicted. `likeliest`: the one with the highest probability; `balanced`: rarer classes get a "
        "bonus, and the validation part chooses its strength by macro F1. Probabilities do not change",
        check=one_of(*DECISIONS),
        label_app=True,
    ),
    Setting(
        "seeds",
        "fine-tuning",
        "number of fine-tunings after the one pre-training, with seeds from `fine_tuning_seed` up; the report has "
        "their means, and intervals over images and seeds",
        default="1; synthetic: 3",
        check=whole,
        volumes_default="1",
    ),
    Setting(
        "seed",
        "run",
        "seed of synthetic images, of the split, and of pre-training: weights, order, puzzles and views",
        check=whole_or_zero,
        label_app=True,
        identity=BOTH,
    ),
    Setting(
        "fine_tuning_seed",
        "fine-tuning",
        "seed of a fine-tuning: of the labels that `labels_per_class` or `label_fraction` keep, of the classifiers "
        "(without a pre-training, of the whole network), of order and augmentation",
        default="`seed`",
        check=whole_or_zero,
        identity=TRAIN,
    ),
    Setting("output_dir", "run", "folder for everything but the model", default="`output` in the bundle"),
    Setting("model_path", "run", "file of the trained model", default="`models/model.pt` in the bundle"),
    Setting(
        "resume",
        "run",
        "true: continue from the newest checkpoint in `output_dir/checkpoints`; without a checkpoint, start",
    ),
    Setting(
        "checkpoint_minutes",
        "run",
        "minutes between checkpoints; one more is written at SIGTERM, SIGINT (Ctrl-C) and the end of each phase",
        check=not_negative,
        label_app=True,
    ),
    Setting(
        "progress_seconds",
        "run",
        "seconds between two lines of progress, if the output is a file; a terminal shows bars",
        check=not_negative,
    ),
    Setting(
        "device",
        "run",
        "device to compute on",
        default="`cuda` if there is one",
        label_app=True,
    ),
    Setting(
        "amp",
        "run",
        "precision and memory format. `auto` times each choice that may be the fastest for about a second, and takes "
        "the fastest for the whole run. Fixed choices: `true` (bfloat16), `false` (float32), or `float32`, `tf32` or "
        "`bfloat16`, each with or without `_channels_last`. A run of few steps takes the usual choice of the device "
        "untimed; `inference.json` chooses only among those that give the same predictions",
        label_app=True,
        volumes="as for pictures; on a CPU torch's 3D convolutions have wrong gradients in bfloat16, so `auto` leaves "
        "it out",
    ),
    Setting(
        "orientations",
        "inference",
        "with `inference.json`: predict the mean over all flips and quarter turns, and how much they disagree",
    ),
    Setting("heat_maps", "inference", "with `inference.json`: Grad-CAM of each stage as a picture"),
    Setting(
        "heat_map_class",
        "inference",
        "with `heat_maps`: name of the class or finding that they explain",
        default="the predicted class; the likeliest finding",
    ),
    Setting(
        "dicom",
        "inference",
        "with `inference.json`: a structured report for every DICOM image, and its heat maps as DICOM",
    ),
    Setting(
        "trusted_networks",
        "inference",
        "with `inference.json` and `evaluate.json`: a network class of your own that `models/model.json` may name, "
        "such as `my_parts.SmallNet`; a model that somebody sends runs no code unless you name its class here",
    ),
    Setting("part", "inference", "with `evaluate.json`: official part to evaluate on"),
    Setting(
        "formats",
        "features",
        "with `embed.json`: formats to write, some of `npz,csv,parquet`",
        default="all; `parquet` needs `monai-fgssl[parquet]`",
    ),
    Setting("query", "features", "with `similar.json`: file of the image that the others are compared with"),
    Setting("neighbors", "features", "with `similar.json`: number of images to find", check=whole),
)

# Default values that a bundle may override in ``configs/defaults.json``.
OF_BUNDLE = re.compile(r"\$@defaults\.get\('(\w+)'(?:, (.+))?\)")


def by_name(settings: Iterable[Setting] = SETTINGS) -> dict[str, Setting]:
    """The settings by their names."""
    return {setting.name: setting for setting in settings}


def default_of(name: str, bundle_root: str | Path) -> str | None:
    """Default of a setting in the configs of a bundle, as Markdown; None if they have none or compute it.

    Args:
        name: name of the setting.
        bundle_root: the bundle's folder.
    """
    configs = Path(bundle_root) / "configs"
    file = configs / "defaults.json"
    of_bundle = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for config in ("train", "evaluate", "inference", "embed", "similar"):
        content = json.loads((configs / f"{config}.json").read_text(encoding="utf-8"))
        if name in content:
            value = content[name]
            break
    if isinstance(value, str) and value.startswith("$"):
        match = OF_BUNDLE.fullmatch(value)
        if match is None:
            return None
        value = of_bundle.get(match[1], json.loads(match[2] or "null"))
    return None if value is None or (isinstance(value, dict) and "_target_" in value) else _as_markdown(value)


def _as_markdown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(map(str, value.values()))
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`" if isinstance(value, str) else str(value)


def markdown_table(bundle_root: str | Path, other_than: str | Path | None = None) -> str:
    """The settings of a bundle as a Markdown table.

    Args:
        bundle_root: the bundle's folder.
        other_than: another bundle; the table then has only the settings that differ.
    """
    is_volume = other_than is not None

    def row(setting: Setting, root: str | Path, for_volumes: bool) -> str:
        words = setting.volumes_default if for_volumes and setting.volumes_default else setting.default
        meaning = setting.volumes if for_volumes and setting.volumes else setting.meaning
        is_view = setting.name in ("regularized_view", "distorted_view", "augmentation")
        default = "" if is_view else (words or default_of(setting.name, root) or "none")
        return f"| `{setting.name}` | {default} | {meaning} |"

    rows = ["| setting | default | meaning |", "| --- | --- | --- |"]
    for setting in SETTINGS:
        own = row(setting, bundle_root, is_volume)
        if other_than is None or own != row(setting, other_than, False):
            rows.append(own)
    return "\n".join(rows)
