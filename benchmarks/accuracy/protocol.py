# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Input of every method: images of three public data sets, fixed splits, and shares of the training labels.

The splits are files in ``splits/``, made once by :func:`make_split`. In ``<data set>.json`` all images of one lesion
and all near-duplicates are in the same part. ``<data set>_random.json`` ignores lesions and near-duplicates, to measure
how much too good the results would look.
"""

from __future__ import annotations

import csv
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from monai_fgssl.data import (
    APTOS2019_CLASSES,
    ISIC2017_CLASSES,
    ISIC2018_CLASSES,
    CachedImages,
    DuplicatePair,
    ImageTable,
    PreparedData,
    SplitPlan,
    join_duplicates,
    limit_labels,
    load_images,
    prepare_data,
    read_split,
    read_table,
    split_table,
    write_split,
)
from monai_fgssl.data.layouts.table import PARTS
from monai_fgssl.utils.files import atomic_write

__all__ = ["BUDGETS", "DATA_SETS", "DataSet", "label_budget", "load_data", "make_split", "read_parts", "repeated"]

SPLITS = Path(__file__).parent / "splits"
FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
"""Split of a data set without parts. ISIC 2017 keeps its validation part, and tests on 20 % of its training part."""
BUDGETS = (0.01, 0.05, 0.1, 0.25, 1.0)
"""Shares of the training labels."""


@dataclass(frozen=True)
class DataSet:
    """Classes and metrics of a data set.

    Attributes:
        class_names: names of the classes, one for each label from 0 up.
        metrics: metrics that are usual for the data set; the first one decides; see :func:`scoring.measure`.
        selection: metric on the validation part that chooses the best epoch.
    """

    class_names: tuple[str, ...]
    metrics: tuple[str, ...]
    selection: str


DATA_SETS = {
    "isic2018": DataSet(ISIC2018_CLASSES, ("macro_f1", "balanced_accuracy", "macro_auc", "accuracy"), "macro_f1"),
    "isic2017": DataSet(ISIC2017_CLASSES, ("mean_auc", "auc_melanoma", "auc_seborrheic_keratosis"), "macro_auc"),
    "aptos2019": DataSet(APTOS2019_CLASSES, ("macro_f1", "kappa", "accuracy"), "macro_f1"),
}


def split_file(name: str, split: str, folder: Path = SPLITS) -> Path:
    """File of a split: ``"grouped"`` or ``"random"``."""
    return folder / (f"{name}.json" if split == "grouped" else f"{name}_{split}.json")


def make_split(data_dir: str | Path, name: str, folder: Path = SPLITS, image_size: int = 64, seed: int = 0) -> None:
    """Make both splits of a data set, and the list of its near-duplicates.

    Args:
        data_dir: folder that contains the folder ``name`` in the official layout.
        name: data set, a key of :data:`DATA_SETS`.
        folder: folder to write to.
        image_size: image size, in pixels, for the search for near-duplicates.
        seed: seed of the splits.
    """
    root = Path(data_dir) / name
    with TemporaryDirectory() as temporary:
        made = Path(temporary) / "split.json"
        prepare_data(root, image_size, SplitPlan(FRACTIONS, seed), made)
        for source, target in (
            (made, split_file(name, "grouped", folder)),
            (made.with_name("duplicates.csv"), folder / f"{name}_duplicates.csv"),
        ):
            with atomic_write(target) as partial_file:
                shutil.copyfile(source, partial_file)
    table = read_table(root)
    by_image = ImageTable(table.class_names, [{**item, "group": item["name"]} for item in table.items])
    write_split(split_file(name, "random", folder), split_table(by_image, FRACTIONS, seed), table)


def read_parts(
    data_dir: str | Path, name: str, split: str = "grouped", folder: Path = SPLITS
) -> dict[str, list[dict[str, Any]]]:
    """Read the items of each part, without pixels. Near-duplicates have the same group.

    Args:
        data_dir: see :func:`make_split`.
        name: see :func:`make_split`.
        split: ``"grouped"`` or ``"random"``.
        folder: folder of the split files.
    """
    table = read_table(Path(data_dir) / name)
    with (folder / f"{name}_duplicates.csv").open(newline="", encoding="utf-8") as file:
        pairs = [DuplicatePair(row["first"], row["second"], float(row["correlation"])) for row in csv.DictReader(file)]
    items = join_duplicates(table.items, pairs)
    return read_split(split_file(name, split, folder), ImageTable(table.class_names, items))


@lru_cache(maxsize=4)
def load_data(
    data_dir: str, name: str, split: str, image_size: int, cache_dir: str, folder: Path = SPLITS
) -> PreparedData:
    """Load the images of the three parts. They are decoded once, into ``cache_dir``; see also :func:`read_parts`."""
    parts = read_parts(data_dir, name, split, folder)
    items = sorted((item for part in PARTS for item in parts[part]), key=lambda item: item["name"])
    images = load_images(items, image_size, cache_dir=cache_dir)
    train, validation, test = (images.listed(parts[part]) for part in PARTS)
    return PreparedData(DATA_SETS[name].class_names, train, validation, test)


def label_budget(images: CachedImages, share: float, seed: int) -> CachedImages:
    """Choose the training images that keep their label: stratified, whole lesions, at least one image of each class.

    With the same seed, a larger budget contains all images of a smaller budget.
    """
    items = [
        {"name": name, "group": group, "label": label}
        for name, group, label in zip(images.names, images.groups, images.labels.tolist(), strict=True)
    ]
    return images.listed(limit_labels(items, float(share), seed)).labeled()


def repeated(images: CachedImages, size: int, seed: int = 0) -> CachedImages:
    """Repeat the images in a random order until there are ``size``, for an epoch over few labels."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    return images.select(order[torch.arange(size) % len(images)])
