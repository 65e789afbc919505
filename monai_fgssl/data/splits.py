# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Split a data set into parts. No lesion is in two parts, and each part has about the same share of every class."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import check_random_state

from monai_fgssl.data.layouts.table import PARTS, UNLABELED, ImageTable, Label, class_text, count_classes
from monai_fgssl.utils.errors import DataError, first_names
from monai_fgssl.utils.files import atomic_write, from_json

__all__ = [
    "SplitPlan",
    "draw_labels",
    "fold_table",
    "limit_labels",
    "missing_classes",
    "read_split",
    "scarce_labels",
    "split_notes",
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
        if not isinstance(self.fold, int):
            raise DataError(f"one run tests on one fold: give its number (fold), got {self.fold!r}.")
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
        own |= _draw_parts(replace(table, items=free), shares, seed)
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
    tested = _tested_findings if table.multilabel else _tested_classes
    rest = [item for item in table.items if item.get("part") != "test"]
    fractions = {"train": 1 - validation_fraction, "validation": validation_fraction}
    folds: list[dict[str, Items]] = []
    for test in tested(replace(table, items=labeled), num_folds, seed):
        groups = {item["group"] for item in test}
        others = replace(table, items=[item for item in rest if item["group"] not in groups])
        folds.append({**split_table(others, fractions, seed), "test": test})
    return folds


def _tested_findings(table: ImageTable, num_folds: int, seed: int) -> list[Items]:
    """Test part of each fold, where images may have several findings: parts of equal size by iterative stratification.

    Raises:
        DataError: when there are not enough groups of a finding.
    """
    return list(_draw_parts(table, {f"fold {fold}": 1 / num_folds for fold in range(num_folds)}, seed).values())


def _tested_classes(table: ImageTable, num_folds: int, seed: int) -> list[Items]:
    """Test part of each fold, where each image has one class.

    Raises:
        DataError: when there are not enough groups of a class.
    """
    labeled = table.items
    _check_groups(table, [f"fold {fold}" for fold in range(num_folds)])
    labels = np.array([item["label"] for item in labeled])
    # Shuffle here: before scikit-learn 1.8 (which needs Python 3.11) its own shuffling undoes the stratification.
    _, group_numbers = np.unique([item["group"] for item in labeled], return_inverse=True)
    places = np.argsort(check_random_state(seed).permutation(group_numbers.max() + 1))
    with warnings.catch_warnings():
        # The warning is about classes with fewer images than folds. These have been refused above.
        warnings.simplefilter("ignore", UserWarning)
        folds_of_labeled = StratifiedGroupKFold(num_folds).split(labels, labels, places[group_numbers])
        tested = [positions for _, positions in folds_of_labeled]
    for fold, positions in enumerate(tested):
        if lacking := [name for label, name in enumerate(table.class_names) if label not in labels[positions]]:
            raise DataError(f"fold {fold} of {num_folds} has no {', '.join(lacking)}: use fewer folds or another seed.")
    return [[labeled[position] for position in positions] for positions in tested]


def missing_classes(split: Mapping[str, Sequence[dict[str, Any]]], class_names: Sequence[str]) -> list[str]:
    """Name the classes without an image in a part, in one sentence for each part. Parts without any label are left out.

    Example:
        >>> missing_classes({"train": [{"label": 0}, {"label": 1}], "test": [{"label": 1}]}, ["nevus", "melanoma"])
        ['test has no image of nevus']
    """
    sentences = []
    for part, items in split.items():
        counts = count_classes([item["label"] for item in items], len(class_names))
        lacking = [name for name, count in zip(class_names, counts, strict=True) if not count]
        if _labeled(items) and lacking:
            sentences.append(f"{part} has no image of {first_names(lacking)}")
    return sentences


def split_notes(split: Mapping[str, Sequence[dict[str, Any]]], table: ImageTable) -> list[str]:
    """Name what a split that was made elsewhere may have wrong, in one sentence each: torn groups, and images left out.

    Images are named, never the group itself: it may be a patient's name.

    Args:
        split: items by part.
        table: the data set that was split.
    """
    sentences = []
    image_of: dict[str, dict[str, str]] = {}
    for part, items in split.items():
        for item in items:
            image_of.setdefault(item["group"], {}).setdefault(part, item["name"])
    if torn := [" and ".join(images.values()) for images in image_of.values() if len(images) > 1]:
        sentences.append(
            f"{len(torn)} patients or lesions are in several parts (those of {first_names(torn)}), so the results will "
            "look better than they are"
        )
    there = {item["name"] for items in split.values() for item in items}
    if left_out := [item["name"] for item in table.items if item["name"] not in there]:
        sentences.append(f"{len(left_out)} images are in no part, or have no label there ({first_names(left_out)})")
    return sentences


def scarce_labels(items: Sequence[dict[str, Any]], class_names: Sequence[str], labels_per_class: int) -> list[str]:
    """Name the classes that have fewer labeled images than a number that was asked for, in one sentence.

    Args:
        items: items of the training part.
        class_names: names of the classes.
        labels_per_class: the number.

    Example:
        >>> scarce_labels([{"label": 0}, {"label": 0}, {"label": 1}], ["nevus", "melanoma"], 2)
        ['train has fewer than 2 labeled images of melanoma (1)']
    """
    counts = count_classes([item["label"] for item in items], len(class_names))
    few = [f"{name} ({count})" for name, count in zip(class_names, counts, strict=True) if count < labels_per_class]
    return [f"train has fewer than {labels_per_class} labeled images of {first_names(few)}"] if few else []


def _labeled(items: Sequence[dict[str, Any]]) -> Items:
    return [item for item in items if item["label"] != UNLABELED]


def _check_groups(table: ImageTable, parts: Sequence[str]) -> dict[str, np.ndarray]:
    """Count the images of each class by group, after checking that each class has as many groups as there are parts.

    Where images may have several findings, the last count is of images without any; these need not be in every part.
    """
    counts = {
        name: _counts([item["label"] for item in group], len(table.class_names), table.multilabel)
        for name, group in _by_group(_labeled(table.items)).items()
    }
    num_classes = len(table.class_names)
    groups_per_class = sum((count[:num_classes] > 0 for count in counts.values()), np.zeros(num_classes, dtype=int))
    if scarce := [label for label, count in enumerate(groups_per_class) if count < len(parts)]:
        raise DataError(
            f"a split into {len(parts)} parts ({', '.join(parts)}) needs as many lesions of each class, but there are "
            + ", ".join(f"{groups_per_class[label]} of {table.class_names[label]}" for label in scarce)
            + ". Add labeled images of them, or leave the class out of the ground truth."
        )
    return counts


def _counts(labels: Sequence[Label], num_classes: int, multilabel: bool) -> NDArray[np.int64]:
    """Count the images of each class, and after them, where images may have several findings, those without any."""
    counts = count_classes(labels, num_classes)
    without = sum(isinstance(label, tuple) and 1 not in label for label in labels)
    return np.append(counts, without) if multilabel else counts


def _in_order_of_need(
    counts: Mapping[str, NDArray[np.int64]], names: Sequence[str], class_totals: NDArray[np.int64], multilabel: bool
) -> Iterator[tuple[str, int]]:
    """Return the groups in the order in which they are given to parts, each with the class that decides its part.

    Rare classes and large groups come first: the groups after them can still balance the parts. Where images may have
    several findings, the rarest is found anew among the groups that remain, as in iterative stratification.

    Source:
        Sechidis et al., On the Stratification of Multi-Label Data, ECML PKDD 2011, algorithm 1.
    """
    if not multilabel:
        rarest = {name: min(np.flatnonzero(counts[name]), key=lambda label: class_totals[label]) for name in names}
        for name in sorted(names, key=lambda name: (class_totals[rarest[name]], rarest[name], -counts[name].sum())):
            yield name, int(rarest[name])
        return
    remaining, totals = list(names), class_totals.copy()
    while remaining:
        label = int(np.argmin(np.where(totals > 0, totals, totals.max() + 1)))
        chosen = sorted((name for name in remaining if counts[name][label]), key=lambda name: -counts[name][label])
        for name in chosen:
            totals -= counts[name]
            yield name, label
        taken = set(chosen)
        remaining = [name for name in remaining if name not in taken]


def _draw_parts(table: ImageTable, fractions: Mapping[str, float], seed: int) -> dict[str, Items]:
    parts = list(fractions)
    counts = _check_groups(table, parts)
    groups_per_class = np.sum([count > 0 for count in counts.values()], axis=0)
    class_totals = np.sum(list(counts.values()), axis=0)
    # For each part: the number of images of each class that it still lacks, and of groups of each class that it has.
    lack = np.outer(list(fractions.values()), class_totals)
    has = np.zeros((len(parts), len(class_totals)), dtype=int)
    left = groups_per_class.copy()
    names = list(counts)
    shuffled = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    part_of: dict[str, str] = {}
    for name, label in _in_order_of_need(counts, shuffled, class_totals, table.multilabel):
        without = np.flatnonzero(has[:, label] == 0)
        choices = without if left[label] <= len(without) else np.arange(len(parts))
        if table.multilabel:
            # The part that lacks this finding most; of equal ones, the part that lacks most answers.
            part = choices[np.lexsort((lack[choices].sum(1), lack[choices, label]))[-1]]
        else:
            part = choices[np.argmax(lack[choices] @ counts[name])]
        part_of[name] = parts[part]
        lack[part] -= counts[name]
        has[part] += counts[name] > 0
        left -= counts[name] > 0
    of_classes = has[:, : len(table.class_names)]
    if incomplete := [table.class_names[label] for label in np.flatnonzero((of_classes == 0).any(0))]:
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
    multilabel = any(isinstance(item["label"], tuple) for item in items)
    width = max((len(x) if isinstance(x := item["label"], tuple) else x + 1 for item in items), default=0)
    counts = {name: _counts([item["label"] for item in group], width, multilabel) for name, group in groups.items()}
    totals = np.sum(list(counts.values()), axis=0) if counts else np.zeros(width, dtype=int)
    targets = np.maximum(1, np.round(amount * totals)) if isinstance(amount, float) else np.full(len(totals), amount)
    kept_counts = np.zeros(len(totals), dtype=int)
    kept: set[str] = set()
    for position in np.random.default_rng(seed).permutation(len(names)):
        of_group = counts[names[position]]
        if (kept_counts < targets)[of_group > 0].any():
            kept.add(names[position])
            kept_counts += of_group
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
    """Read a split that :func:`write_split` wrote. :func:`split_notes` tells what may be wrong with one made by hand.

    Args:
        path: the JSON file. Its checksum is checked, if it has one; a list made by hand has none.
        table: the data set to split. Images that the file doesn't name are left out, and so are those of validation and
            test without a label.

    Raises:
        DataError: when the file is not a split, names images that the table lacks, or names one twice; or when its
            images have other classes in the table than in the data set that was split.
    """
    try:
        content = from_json(Path(path).read_text(encoding="utf-8"))
        names_by_part = {part: names for part, names in content.items() if part != CHECKSUM}
        if set(names_by_part) != set(PARTS) or not all(isinstance(names, list) for names in names_by_part.values()):
            raise ValueError(f"it must have the lists {', '.join(PARTS)}, and has {first_names(list(names_by_part))}")
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
    split = {part: [by_name[name] for name in part_names] for part, part_names in names_by_part.items()}
    # An image without a label can't be scored.
    return {part: items if part == PARTS[0] else _labeled(items) for part, items in split.items()}


def _label_by_name(label: Label, class_names: Sequence[str]) -> str:
    """Text of a label that does not depend on the order of the classes."""
    if isinstance(label, tuple):
        return json.dumps(dict(zip(class_names, label, strict=True)), sort_keys=True)
    return class_text(label, class_names)


def _checksum(names_by_part: Mapping[str, Sequence[str]], table: ImageTable) -> str:
    """Compute the SHA-256 of names and classes of a split's images, independent of the order of images and classes."""
    by_name = {item["name"]: _label_by_name(item["label"], table.class_names) for item in table.items}
    lines = sorted(json.dumps([name, by_name[name]]) for names in names_by_part.values() for name in names)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
