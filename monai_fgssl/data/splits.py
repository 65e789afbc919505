# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Split a data set into parts. No lesion is in two parts, and each part has about the same share of every class."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state

from monai_fgssl.data.layouts.table import UNLABELED, ImageTable
from monai_fgssl.utils.errors import DataError, first_names
from monai_fgssl.utils.files import atomic_write

__all__ = [
    "SplitPlan",
    "draw_labels",
    "fold_table",
    "limit_labels",
    "missing_classes",
    "read_split",
    "split_table",
    "write_split",
]

Items = list[dict[str, Any]]

CHECKSUM = "sha256"
"""Key of a split file for the checksum of names and classes. All other keys are names of parts."""


@dataclass(frozen=True)
class SplitPlan:
    """Plan by which a run splits its data set.

    Attributes:
        fractions: share of the labeled images of ``train``, ``validation`` and ``test``, adding up to 1. Parts that
            the data set itself has are kept; see :func:`split_table`.
        seed: seed of the split.
        split_from: split file of an earlier run, whose split is used again. None: a new split is drawn.
        num_folds: number of folds for cross-validation instead of the fractions of ``train`` and ``test``; see
            :func:`fold_table`.
        fold: number of the fold that is the test part, from 0.
    """

    fractions: Mapping[str, float]
    seed: int = 0
    split_from: str | Path | None = None
    num_folds: int | None = None
    fold: int = 0

    def apply(self, table: ImageTable) -> dict[str, Items]:
        """Split a table, and return its items by part.

        Raises:
            DataError: when the table can't be split in this way.
        """
        if self.split_from is not None:
            return read_split(self.split_from, table)
        if self.num_folds is None:
            return split_table(table, self.fractions, self.seed)
        if not 0 <= self.fold < self.num_folds:
            raise DataError(f"fold must be in 0...{self.num_folds - 1} (num_folds {self.num_folds}), got {self.fold}.")
        share = self.fractions["validation"] / (self.fractions["train"] + self.fractions["validation"])
        return fold_table(table, self.num_folds, share, self.seed)[self.fold]

    @property
    def origin(self) -> str:
        """Origin of the split, in words."""
        return "by lesion" if self.split_from is None else f"as in {self.split_from}"


def _by_group(items: Sequence[dict[str, Any]]) -> dict[str, Items]:
    groups: dict[str, Items] = {}
    for item in items:
        groups.setdefault(item["group"], []).append(item)
    return groups


def split_table(
    table: ImageTable, fractions: Mapping[str, float] | None = None, seed: int = 0
) -> dict[str, list[dict[str, Any]]]:
    """Split a data set by groups, with about the same share of every class in each part.

    Images of one lesion are never in two parts. In HAM10000, a quarter of the 10,015 images repeat a lesion, so a split
    by image would test the network on lesions that it has seen.

    If the data set has its own parts (``"part"`` of its items), these stay as they are, so that results can be compared
    with those of others. Missing parts, and parts without labels, are split off from the training part: a fraction of
    0.2 is 20 % of it. Training images are left out if their group is also in another part, and validation images if
    their group is also in the test part.

    Unlabeled images belong to the first part. They are left out if their group is in another part, since pre-training
    on them would show the network the lesions that it is tested on. Unlabeled images of the data set's own test part
    are left out too.

    Args:
        table: the data set.
        fractions: share of the labeled images by part, adding up to 1; by default train 0.7, validation 0.15 and
            test 0.15.
        seed: another seed, another split.

    Returns:
        Items by part, in the table's order. In each part that is split off, each class has at least one group, and its
        number of images differs from the fraction by about the size of a group at most. Without classes, all images are
        in the first part.

    Raises:
        DataError: when the fractions do not add up to 1, or a class has fewer groups than there are parts.
    """
    fractions = {"train": 0.7, "validation": 0.15, "test": 0.15} if fractions is None else fractions
    if not np.isclose(sum(fractions.values()), 1) or min(fractions.values()) <= 0:
        raise DataError(f"the fractions of a split must be positive and add up to 1, got {dict(fractions)}.")
    parts = list(fractions)
    first = parts[0]
    own: dict[str, Items] = {}
    taken: set[str] = set()
    for part in reversed(parts[1:]):
        of_part = [item for item in _labeled(table.items) if item.get("part") == part]
        if of_part:
            own[part] = [item for item in of_part if item["group"] not in taken]
            taken |= {item["group"] for item in of_part}
    free = [item for item in table.items if item.get("part", "train") == "train" and item["group"] not in taken]
    if not free:
        raise DataError("the data set has no images to train on.")
    drawn = {part: fraction for part, fraction in fractions.items() if part not in own and part != first}
    if table.class_names and drawn:
        shares = {first: 1 - sum(drawn.values()), **drawn}
        own |= _draw_parts(ImageTable(table.class_names, free), shares, seed)
    else:
        own[first] = free
    return {part: own.get(part, []) for part in parts}


def fold_table(
    table: ImageTable, num_folds: int = 5, validation_fraction: float = 0.1, seed: int = 0
) -> list[dict[str, list[dict[str, Any]]]]:
    """Split a data set for cross-validation: every labeled image is in the test part of one fold.

    Folds are stratified, and no group is in two folds. If the data set has its own parts, the folds divide its training
    part, its validation part is used in every fold, and its test part is left out. Otherwise, the validation part of a
    fold is split off from the images that are not tested, as in :func:`split_table`.

    Args:
        table: the data set.
        num_folds: number of folds, at least 2.
        validation_fraction: share of the images that are not tested, in (0, 1).
        seed: another seed, other folds.

    Returns:
        For each fold, the items by part (train, validation, test), in the table's order. Every class is in every part.

    Raises:
        DataError: when there are not enough groups of a class, or an argument is out of range.
    """
    if num_folds < 2 or not 0 < validation_fraction < 1:
        raise DataError(
            f"folds need num_folds of at least 2 and a validation_fraction in (0, 1), got {num_folds} and "
            f"{validation_fraction}."
        )
    free = [item for item in table.items if item.get("part", "train") == "train"]
    labeled = _labeled(free)
    _check_groups(ImageTable(table.class_names, labeled), [f"fold {fold}" for fold in range(num_folds)])
    labels = np.array([item["label"] for item in labeled])
    # Shuffle here: before scikit-learn 1.8 (which needs Python 3.11) its own shuffling undoes the stratification.
    _, group_numbers = np.unique([item["group"] for item in labeled], return_inverse=True)
    places = np.argsort(check_random_state(seed).permutation(group_numbers.max() + 1))
    with warnings.catch_warnings():
        # The warning is about classes with fewer images than folds. These have been refused above.
        warnings.simplefilter("ignore", UserWarning)
        folds_of_labeled = StratifiedGroupKFold(num_folds).split(labels, labels, places[group_numbers])
        tested = [positions for _, positions in folds_of_labeled]
    rest = [item for item in table.items if item.get("part") != "test"]
    fractions = {"train": 1 - validation_fraction, "validation": validation_fraction}
    folds: list[dict[str, Items]] = []
    for fold, positions in enumerate(tested):
        if lacking := [name for label, name in enumerate(table.class_names) if label not in labels[positions]]:
            raise DataError(f"fold {fold} of {num_folds} has no {', '.join(lacking)}: use fewer folds or another seed.")
        test = [labeled[position] for position in positions]
        groups = {item["group"] for item in test}
        others = ImageTable(table.class_names, [item for item in rest if item["group"] not in groups])
        folds.append({**split_table(others, fractions, seed), "test": test})
    return folds


def missing_classes(split: Mapping[str, Sequence[dict[str, Any]]], class_names: Sequence[str]) -> list[str]:
    """Name the classes without an image in a part, in one sentence for each part. Parts without any label are left out.

    Example:
        >>> missing_classes({"train": [{"label": 0}, {"label": 1}], "test": [{"label": 1}]}, ["nevus", "melanoma"])
        ['test has no image of nevus']
    """
    sentences = []
    for part, items in split.items():
        there = {item["label"] for item in _labeled(items)}
        lacking = [name for label, name in enumerate(class_names) if label not in there]
        if there and lacking:
            sentences.append(f"{part} has no image of {first_names(lacking)}")
    return sentences


def _labeled(items: Sequence[dict[str, Any]]) -> Items:
    return [item for item in items if item["label"] != UNLABELED]


def _check_groups(table: ImageTable, parts: Sequence[str]) -> dict[str, np.ndarray]:
    """Count the images of each class by group, after checking that each class has as many groups as there are parts."""
    counts = {
        name: np.bincount([item["label"] for item in group], minlength=len(table.class_names))
        for name, group in _by_group(_labeled(table.items)).items()
    }
    groups_per_class = sum((count > 0 for count in counts.values()), np.zeros(len(table.class_names), dtype=int))
    if scarce := [label for label, count in enumerate(groups_per_class) if count < len(parts)]:
        raise DataError(
            f"a split into {len(parts)} parts ({', '.join(parts)}) needs as many lesions of each class, but there are "
            + ", ".join(f"{groups_per_class[label]} of {table.class_names[label]}" for label in scarce)
            + ". Add labeled images of them, or leave the class out of the ground truth."
        )
    return counts


def _draw_parts(table: ImageTable, fractions: Mapping[str, float], seed: int) -> dict[str, Items]:
    parts = list(fractions)
    counts = _check_groups(table, parts)
    groups_per_class = np.sum([count > 0 for count in counts.values()], axis=0)
    class_totals = np.sum(list(counts.values()), axis=0)
    # For each part: the number of images of each class that it still lacks, and of groups of each class that it has.
    lack = np.outer(list(fractions.values()), class_totals)
    has = np.zeros((len(parts), len(table.class_names)), dtype=int)
    left = groups_per_class.copy()
    names = list(counts)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    rarest = {name: min(np.flatnonzero(counts[name]), key=lambda label: class_totals[label]) for name in shuffled}
    part_of: dict[str, str] = {}
    # Rare classes and large groups come first: the groups after them can still balance the parts.
    for name in sorted(shuffled, key=lambda name: (class_totals[rarest[name]], rarest[name], -counts[name].sum())):
        label = rarest[name]
        without = np.flatnonzero(has[:, label] == 0)
        choices = without if left[label] <= len(without) else np.arange(len(parts))
        part = choices[np.argmax(lack[choices] @ counts[name])]
        part_of[name] = parts[part]
        lack[part] -= counts[name]
        has[part] += counts[name] > 0
        left -= counts[name] > 0
    if incomplete := [table.class_names[label] for label in np.flatnonzero((has == 0).any(0))]:
        raise DataError(
            f"{', '.join(incomplete)} can't be in every part ({', '.join(parts)}) without tearing a group apart: their "
            "images share groups with other classes. Use fewer parts or more images."
        )

    split: dict[str, Items] = {part: [] for part in parts}
    for item in table.items:
        part = part_of.get(item["group"], parts[0])
        if item["label"] != UNLABELED or part == parts[0]:
            split[part].append(item)
    return split


def draw_labels(
    items: Items, label_fraction: float | None = None, labels_per_class: int | None = None, seed: int = 0
) -> Items:
    """Limit the labels of the training part as the settings of a run say.

    Args:
        items: items of the training part.
        label_fraction: share of each class that keeps its label; None or 1: all.
        labels_per_class: number of images of each class that keep their label. It replaces ``label_fraction``.
        seed: see :func:`limit_labels`.
    """
    if labels_per_class is not None:
        return limit_labels(items, int(labels_per_class), seed)
    if label_fraction is not None and label_fraction < 1:
        return limit_labels(items, float(label_fraction), seed)
    return items


def limit_labels(items: Sequence[dict[str, Any]], amount: float | int, seed: int = 0) -> list[dict[str, Any]]:
    """Remove labels, as if fewer images had been annotated.

    Whole groups keep or lose their labels, in a random order that depends on the seed only. An image that is labeled at
    a smaller amount is also labeled at every larger amount, so that results at different amounts are comparable.

    Args:
        items: items of the training part.
        amount: a float is the share of each class that keeps its label, in (0, 1]; an int is the number of images of
            each class.
        seed: another seed, other images.

    Returns:
        The same items in the same order, with label -1 where it is removed. Each class keeps the smallest number of
        groups that reaches the amount, at least one. It keeps all if it has fewer images.

    Raises:
        DataError: when the amount is out of range.
    """
    if amount <= 0 or (isinstance(amount, float) and amount > 1):
        raise DataError(f"the amount of labels must be a share in (0, 1] or a count of 1 or more, got {amount!r}.")
    groups = _by_group([item for item in items if item["label"] != UNLABELED])
    names = list(groups)
    labels = [item["label"] for group in groups.values() for item in group]
    totals = np.bincount(labels)
    targets = np.maximum(1, np.round(amount * totals)) if isinstance(amount, float) else np.full(len(totals), amount)
    kept_counts = np.zeros(len(totals), dtype=int)
    kept: set[str] = set()
    for position in np.random.default_rng(seed).permutation(len(names)):
        group_labels = [item["label"] for item in groups[names[position]]]
        if any(kept_counts[label] < targets[label] for label in group_labels):
            kept.add(names[position])
            np.add.at(kept_counts, group_labels, 1)
    return [item if item["group"] in kept else {**item, "label": UNLABELED} for item in items]


def write_split(
    path: str | Path, split: Mapping[str, Sequence[dict[str, Any]]], table: ImageTable | None = None
) -> None:
    """Write a split as JSON: the names of the images by part. It has no paths, so it can be used on any machine.

    Args:
        path: the JSON file.
        split: items by part.
        table: table that was split. A checksum of its classes ties the file to the data set. None: the file fits any
            data set with images of these names.
    """
    names = {part: [item["name"] for item in items] for part, items in split.items()}
    with atomic_write(path) as temporary:
        content = names if table is None else {CHECKSUM: _checksum(names, table), **names}
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_split(path: str | Path, table: ImageTable) -> dict[str, list[dict[str, Any]]]:
    """Read a split that :func:`write_split` wrote.

    Args:
        path: the JSON file. Its checksum is checked, if it has one; a list made by hand has none.
        table: the data set to split. Images that the file doesn't name are left out.

    Raises:
        DataError: when the file is not a split, names images that the table lacks, or names one twice; or when its
            images have other classes in the table than in the data set that was split.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        names_by_part = {part: list(names) for part, names in content.items() if part != CHECKSUM}
        names = [name for part in names_by_part.values() for name in part]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path} can't be read as a split (parts with lists of image names): {error}.") from error
    by_name = {item["name"]: item for item in table.items}
    if unknown := [str(name) for name in names if name not in by_name]:
        raise DataError(f"{path}: {len(unknown)} images are not in the data set ({first_names(unknown)}).")
    if repeated := [str(name) for name, count in Counter(names).items() if count > 1]:
        raise DataError(f"{path}: {len(repeated)} images are named more than once ({first_names(repeated)}).")
    if content.get(CHECKSUM, expected := _checksum(names_by_part, table)) != expected:
        raise DataError(
            f"{path} is the split of another data set: it has images of these names, but of other classes. Use the "
            "data set that was split, or draw a new split."
        )
    return {part: [by_name[name] for name in part_names] for part, part_names in names_by_part.items()}


def _checksum(names_by_part: Mapping[str, Sequence[str]], table: ImageTable) -> str:
    """Compute the SHA-256 of names and classes of a split's images, independent of the order of images and classes."""
    class_of = dict(enumerate(table.class_names)) | {UNLABELED: ""}
    by_name = {item["name"]: class_of[item["label"]] for item in table.items}
    lines = sorted(json.dumps([name, by_name[name]]) for names in names_by_part.values() for name in names)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
