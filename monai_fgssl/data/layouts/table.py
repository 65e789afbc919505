# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Table of images, which every reader of a data set returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_fgssl.utils.errors import DataError, first_names

__all__ = [
    "PARTS",
    "UNLABELED",
    "ImageTable",
    "Label",
    "class_text",
    "count_classes",
    "join_parts",
    "label_tensor",
    "part_named",
]

Label = int | tuple[int, ...]
"""Number of the class of an image; or, where images may have several findings, for each finding 1 (there), 0 (not
there) or :data:`UNLABELED` (not known). An image of which nothing is known is :data:`UNLABELED`."""

UNLABELED = -1
"""Label of an image whose class is not known: used in pre-training only."""

PARTS = ("train", "validation", "test")
"""The parts of a data set."""

PART_NAMES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class ImageTable:
    """Images of a data set with their labels, as a MONAI data list.

    Attributes:
        class_names: names of the classes, one for each label from 0 up; empty where no image has a label.
        items: one dictionary per image: ``"image"`` (path), ``"name"`` (unique; the file name without suffix, with the
            folders where there are any), ``"label"`` (see :data:`Label`), ``"group"`` (the
            lesion or patient, which a split keeps together) and, where the data set itself is divided,
            ``"part"`` (one of :data:`PARTS`).
        notes: sentences for people on how the data set was read; comparisons ignore them.
        ordered: True if the classes are known to be grades, from the lowest to the highest.
        multilabel: True if an image may have several of the classes, or none.
    """

    class_names: tuple[str, ...]
    items: list[dict[str, Any]]
    notes: tuple[str, ...] = field(default=(), compare=False)
    ordered: bool = False
    multilabel: bool = False


def part_named(name: str) -> str | None:
    """The part that the name of a folder, a key or a column stands for, in any case; None for other names.

    Example:
        >>> part_named("Training"), part_named("val"), part_named("nevus")
        ('train', 'validation', None)
    """
    return PART_NAMES.get(name.strip().lower())


def count_classes(labels: Sequence[Label], num_classes: int) -> NDArray[np.int64]:
    """Count the images of each class; images whose label is not known do not count.

    Args:
        labels: label of each image.
        num_classes: number of classes.

    Example:
        >>> count_classes([0, 2, -1], 3).tolist(), count_classes([(1, 1, 0), (0, -1, 1), -1], 3).tolist()
        ([1, 0, 1], [1, 1, 1])
    """
    counts = np.zeros(num_classes, dtype=np.int64)
    for label in labels:
        if isinstance(label, tuple):
            counts += np.asarray(label) == 1
        elif label != UNLABELED:
            counts[label] += 1
    return counts


def class_text(label: Label, class_names: Sequence[str]) -> str:
    """Put the label of an image into words.

    Example:
        >>> names = ["mass", "edema"]
        >>> class_text(1, names), class_text(-1, names), class_text((1, 1), names), class_text((0, 0), names)
        ('edema', '', 'mass|edema', 'none')
    """
    if isinstance(label, tuple):
        return "|".join(name for name, value in zip(class_names, label, strict=True) if value == 1) or "none"
    return "" if label == UNLABELED else class_names[label]


def label_tensor(labels: Sequence[Label]) -> Tensor:
    """Labels as int64: ``(N,)``, or ``(N, num_classes)`` where images may have several findings."""
    width = next((len(label) for label in labels if isinstance(label, tuple)), None)
    if width is None:
        return torch.tensor(labels, dtype=torch.int64)
    rows = [label if isinstance(label, tuple) else (UNLABELED,) * width for label in labels]
    return torch.tensor(rows, dtype=torch.int64)


def join_parts(tables: Mapping[str, ImageTable], source: Path) -> ImageTable:
    """Join the tables of the parts into one, in which every image has its part.

    Args:
        tables: tables by part. Their classes may be in different orders. The order of the first table is kept.
        source: named in errors.

    Raises:
        DataError: when the parts have different classes, or one image is in two of them.
    """
    class_names = next(iter(tables.values())).class_names
    items: list[dict[str, Any]] = []
    for part, table in tables.items():
        if set(table.class_names) != set(class_names):
            raise DataError(
                f"{source}: the part {part} has the classes {', '.join(table.class_names)}, but another part has "
                f"{', '.join(class_names)}: give all parts the same."
            )
        label_of = {UNLABELED: UNLABELED} | {i: class_names.index(name) for i, name in enumerate(table.class_names)}
        items += [item | {"label": label_of[item["label"]], "part": part} for item in table.items]
    counts = Counter(item["name"] for item in items)
    if repeated := sorted(name for name, count in counts.items() if count > 1):
        raise DataError(
            f"{source}: {len(repeated)} images are in two parts ({first_names(repeated)}): keep one of each."
        )
    notes = tuple(note for table in tables.values() for note in table.notes)
    return ImageTable(class_names, items, notes, all(table.ordered for table in tables.values()))
