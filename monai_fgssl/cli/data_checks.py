# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Checks of a data set before anything is trained on it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

from monai_fgssl.data import (
    LAYOUTS,
    UNLABELED,
    DataError,
    ImageTable,
    missing_classes,
    read_image,
    read_table,
    split_table,
)
from monai_fgssl.data.layouts.registry import recognize_layout
from monai_fgssl.utils.errors import first_lines

from .doctor import Check

__all__ = ["check_data"]

# The same value as in the bundle.
FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
BATCH_SIZE = 32
IMAGE_SIZE = 224
READ_SIZE = 32


def check_data(dataset_dir: str | Path, spatial_dims: int = 2) -> list[Check]:
    """Check that a data set can be read and split: its layout, labels, groups, and every file.

    Args:
        dataset_dir: as in :func:`~monai_fgssl.data.read_table`.
        spatial_dims: 2 for pictures, 3 for volumes.
    """
    try:
        layout = recognize_layout(Path(dataset_dir))
        table = read_table(dataset_dir)
    except DataError as error:
        return [Check("data", "can't be understood", str(error), required=True)]
    checks = [Check("layout", "\n".join([f"{layout}: {LAYOUTS[layout]}", *table.notes])), check_labels(table)]
    if any(item["label"] != UNLABELED for item in table.items):
        checks.append(check_split(table))
    checks.append(check_files(table.items, spatial_dims))
    if spatial_dims == 2:
        checks.append(check_size(len(table.items), psutil.virtual_memory().available))
    return checks


def check_labels(table: ImageTable) -> Check:
    """Count images, classes and groups."""
    counts = Counter(item["label"] for item in table.items)
    num_groups = len({item["group"] for item in table.items})
    found = f"{len(table.items)} images in {num_groups} groups (lesion, patient)"
    if counts[UNLABELED] == len(table.items):
        return Check(
            "labels",
            f"{found}, no labels",
            "good for pre-training (configs/pretrain.json). To fine-tune, put the images into a folder for each class, "
            "or list them in a CSV file with the columns image and label.",
        )
    classes = ", ".join(f"{name} {counts[label]}" for label, name in enumerate(table.class_names))
    found = f"{found}\n{len(table.class_names)} classes: {classes}; without label {counts[UNLABELED]}"
    if num_groups == len(table.items):
        return Check(
            "labels",
            found,
            "every image is a group of its own. If a patient or lesion has several images, list them in a CSV file "
            "with a column patient_id or lesion_id: photos of one lesion in training and test make results too good.",
        )
    return Check("labels", found)


def check_split(table: ImageTable) -> Check:
    """Make the split of a run."""
    try:
        parts = split_table(table, FRACTIONS, 0)
    except DataError as error:
        return Check("split", "can't be split into train, validation and test", str(error), required=True)
    found = ", ".join(f"{part} {len(items)}" for part, items in parts.items())
    fixes = [f"{sentence}: figures say nothing of it there" for sentence in missing_classes(parts, table.class_names)]
    labeled = sum(item["label"] != UNLABELED for item in parts["train"])
    if labeled < BATCH_SIZE:
        fixes.append(f"{labeled} labeled images to train on are fewer than a batch of {BATCH_SIZE}: few to learn from")
    return Check("split", found, "\n".join(fixes))


def check_files(items: Sequence[dict[str, Any]], spatial_dims: int = 2) -> Check:
    """Read every file as a run does."""

    def problem(item: dict[str, Any]) -> str:
        try:
            read_image(item["image"], READ_SIZE, spatial_dims)
        except DataError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        problems = pool.map(problem, items)
        broken = [
            text for text in tqdm(problems, desc="read files", total=len(items), leave=False, disable=None) if text
        ]
    if broken:
        return Check(
            "files",
            f"{len(broken)} of {len(items)} can't be read",
            f"replace or remove them:{first_lines(broken)}",
            required=True,
        )
    return Check("files", f"all {len(items)} can be read")


def check_size(num_images: int, free: int) -> Check:
    """Check whether the decoded images fit into the memory, ``free`` bytes of it."""
    size = num_images * 3 * IMAGE_SIZE**2
    fix = "keep them on disk: --cache_dir FOLDER" if size > 0.8 * free else ""
    return Check("size", f"{size / 1e9:.1f} GB decoded at {IMAGE_SIZE} px", fix)
