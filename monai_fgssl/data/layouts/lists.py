# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Common parts of all lists, which are files that name the images of a data set one by one."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from monai_fgssl.utils.errors import first_names

from .class_names import check_similar_names, check_vectors, in_order, similar_names
from .columns import MAYBE_MISSING, as_number, group_value, is_missing, label_value
from .file_finder import FileFinder
from .findings import resolve_findings
from .image_files import IMAGE_SUFFIXES, image_name
from .official import raise_problems
from .table import PARTS, UNLABELED, ImageTable, Label, part_named

__all__ = ["Entry", "Listing", "join_listings", "make_table"]

MANY_CLASSES = 20
"""Largest number of classes for which one image each is enough. More classes must have two images each on average;
measurements would not."""

ROUNDED_NUMBER = re.compile(r"\d([.,]\d+)?[eE]\+\d+")
"""A long number as spreadsheets write it."""

MONTH = "(jan|feb|m[aä]r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-z]*"
DATE = re.compile(
    r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T]\d.*)?"
    rf"|\d{{1,2}}[-. ]{MONTH}\.?([-. ]\d{{2,4}})?|{MONTH}\.?[- ]\d{{2,4}}",
    re.IGNORECASE,
)
"""A date as spreadsheets write it: 2026-01-02, 1/2/2026, 2-Jan or Jan-02."""

GRADES = frozenset(("mild", "minimal", "moderate", "severe", "slight"))
"""Names of grades. Beside these, ``none`` may be a grade too."""


@dataclass(frozen=True)
class Entry:
    """One image, as the list describes it.

    Attributes:
        image: path, relative to the list.
        label: name or number of the class, as it is written.
        groups: lesion, patient or the like, as they are written, the largest first.
        part: part, as it is written; None if the list has no parts.
        vector: for each class of the list 1 (there), 0 (not there) or -1 (not known), if the list says it so.
    """

    image: str
    label: str
    groups: tuple[str, ...] = ()
    part: str | None = None
    vector: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Listing:
    """Content of a list.

    Attributes:
        path: file of the list.
        entries: its images.
        class_names: the classes, if columns give their order; otherwise empty.
        problems: mistakes that make the list unusable, each with its fix.
        notes: sentences that name the columns or fields that were used.
        multilabel: True if each entry has a vector, and may have several of the classes.
    """

    path: Path
    entries: list[Entry]
    class_names: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    multilabel: bool = False

    @property
    def has_labels(self) -> bool:
        """True if any image has a label."""
        return any(not is_missing(entry.label) or _is_known(entry.vector) for entry in self.entries)


def _is_known(vector: tuple[int, ...] | None) -> bool:
    return vector is not None and any(value != UNLABELED for value in vector)


def join_listings(listings: Sequence[Listing]) -> Listing | None:
    """Join the lists of a folder; None if they don't belong together, or if there are several ways to join them.

    Either each list has the name of a part (``train.csv``, ``test.csv``), or only one has labels and the others add
    patients, lesions or parts of the same images.
    """
    parts = [part_named(listing.path.stem) for listing in listings]
    if all(parts) and len(set(parts)) == len(parts):
        return _join_parts(listings)
    labeled = [listing for listing in listings if listing.has_labels]
    return _add_groups(labeled[0], [one for one in listings if one is not labeled[0]]) if len(labeled) == 1 else None


def _join_parts(listings: Sequence[Listing]) -> Listing:
    orders = {tuple(listing.class_names) for listing in listings if listing.class_names}
    problems = [problem for listing in listings for problem in listing.problems]
    if len(orders) > 1:
        problems.append(f"{', '.join(one.path.name for one in listings)}: have different columns of classes.")
    entries = [
        replace(entry, part=entry.part or listing.path.stem) for listing in listings for entry in listing.entries
    ]
    notes = [note for listing in listings for note in listing.notes]
    return Listing(listings[0].path, entries, list(next(iter(orders), ())), problems, notes)


def _add_groups(main: Listing, others: Sequence[Listing]) -> Listing:
    """Take groups and parts from the other lists, for images with the same name."""
    entries, notes = list(main.entries), list(main.notes)
    for other in others:
        more = {image_name(entry.image): entry for entry in other.entries}
        shared = sum(image_name(entry.image) in more for entry in entries)
        says_more = any(any(map(group_value, entry.groups)) or entry.part for entry in other.entries)
        if not shared or not says_more or other.problems:
            notes.append(f"{other.path.name} has no labels: not used")
            continue
        notes += [*other.notes, f"{other.path.name} adds to {shared} of the {len(entries)} images"]
        for number, entry in enumerate(entries):
            found = more.get(image_name(entry.image))
            if found is not None:
                part = found.part if entry.part is None else entry.part
                entries[number] = replace(entry, groups=(*entry.groups, *found.groups), part=part)
    return replace(main, entries=entries, notes=notes)


def make_table(listing: Listing, finder: FileFinder, task: str | None = None) -> ImageTable:
    """Find the files, number the classes, and report all problems.

    Args:
        listing: content of the list.
        finder: finder of its files.
        task: see :func:`~monai_fgssl.data.layouts.findings.resolve_findings`.

    Raises:
        DataError: when anything is missing or contradictory; one message lists all problems.
    """
    listing = resolve_findings(listing, task)
    path, entries, problems = listing.path, listing.entries, list(listing.problems)
    notes = list(listing.notes)
    found = finder.find_all([entry.image for entry in entries])
    notes += found.notes

    def report(wrong: Sequence[str], fault: str, fix: str) -> None:
        if wrong:
            problems.append(f"{path.name}: {len(wrong)} {fault} ({first_names(wrong)}): {fix}.")

    if not entries and not problems:
        problems.append(f"{path.name}: lists no images.")
    report(
        found.missing, "files do not exist", "add them, or correct their paths, which start at the folder of the list"
    )
    report(found.ambiguous, "names may be several files", "write the path and the suffix, or keep one file of each")
    labels = ["" if is_missing(entry.label) else label_value(entry.label) for entry in entries]
    if not listing.multilabel:
        problems += [f"{path.name}: {problem}" for problem in _check_labels(entries, labels)]
    report(
        sorted({entry.part or "empty" for entry in entries if entry.part is not None and not part_named(entry.part)}),
        "parts have an unknown name",
        f"call them {', '.join(PARTS)}",
    )
    groups = _join_groups([entry.groups for entry in entries])
    items: dict[str, dict[str, Any]] = {}
    twice: list[str] = []
    alike: list[str] = []
    repeated = 0
    classes = listing.class_names or in_order(labels)
    numbers = {name: number for number, name in enumerate(classes)}
    encoded: list[Label] = [numbers.get(label, UNLABELED) for label in labels]
    if listing.multilabel:
        encoded = [entry.vector if entry.vector and _is_known(entry.vector) else UNLABELED for entry in entries]
    names = _names(
        finder.root, [file or finder.root / entry.image for file, entry in zip(found.files, entries, strict=True)]
    )
    for entry, file, name, code, group in zip(entries, found.files, names, encoded, groups, strict=True):
        item: dict[str, Any] = {"image": str(file), "name": name, "label": code, "group": group or name}
        if entry.part is not None:
            item["part"] = part_named(entry.part)
        first = items.setdefault(name, item)
        if first is item:
            continue
        repeated += first == item
        if first["image"] != item["image"]:
            alike.append(name)
        elif first != item:
            twice.append(name)
    report(twice, "images are listed twice", "keep one of each")
    report(
        alike, "images differ from another one only in the suffix, or in how an accent is stored", "keep one of each"
    )
    raise_problems(path, problems)
    if repeated:
        notes.append(f"{repeated} rows repeat another one")
    if others := finder.beside([file for file in found.files if file is not None]):
        told = first_names([file.name for file in others])
        notes.append(f"{len(others)} images beside the listed ones are not in {path.name} ({told}): not used")
    if any(groups) and not all(groups):
        notes.append(
            f"{groups.count('')} of {len(groups)} images have no patient or lesion, so each may be in another part "
            "than the rest of its patient"
        )
    # Patients may be written by their names, so messages name an image of each.
    image_of = dict(zip(reversed(groups), reversed(names), strict=True))
    if rounded := sorted(image_of[group] for group in set(groups) if ROUNDED_NUMBER.fullmatch(group)):
        notes.append(
            f"the patients or lesions of some images ({first_names(rounded)}) are written such as 1.23E+11, long "
            "numbers that a spreadsheet has rounded: different ones may have become the same, and are kept in one part"
        )
    if alike_groups := similar_names(sorted(set(groups) - {""})):
        told = first_names([" and ".join(image_of[group] for group in those) for those in alike_groups])
        notes.append(
            f"taken for different patients or lesions, though they are written nearly alike: those of {told}; write "
            "them alike if they are the same"
        )
    if listing.multilabel:
        return _with_findings(ImageTable(tuple(classes), list(items.values()), tuple(notes), multilabel=True))
    unknown = Counter(entry.label for entry, label in zip(entries, labels, strict=True) if not label)
    if unknown and len(unknown.keys() - {""}):
        told = ", ".join(f"{text or 'empty'} {count}" for text, count in unknown.most_common())
        notes.append(f"{unknown.total()} images have no label ({told})")
    known = Counter(label for label in labels if label.casefold() in MAYBE_MISSING)
    if known:
        told = ", ".join(f"{text} {count}" for text, count in known.most_common())
        notes.append(f"read as classes: {told}; if this means 'not known', leave it empty")
    if dates := [name for name in classes if DATE.fullmatch(name)]:
        notes.append(
            f"{len(dates)} classes are written as dates ({first_names(dates)}): spreadsheets make dates of grades such "
            "as 1-2, and a column of dates holds no classes; if this is not meant, correct the list"
        )
    if decimals := [name for name in classes if -1e15 < as_number(name) != round(as_number(name), 0)]:
        notes.append(
            f"{len(decimals)} classes are numbers with decimals ({first_names(decimals)}): if they are measurements, "
            "group them into classes"
        )
    table = ImageTable(tuple(classes), list(items.values()), tuple(notes))
    return _without_empty_classes(table)


def _with_findings(table: ImageTable) -> ImageTable:
    """Leave out findings that no image has, and say how many answers are not known."""
    vectors = np.array([item["label"] for item in table.items if item["label"] != UNLABELED])
    there = (vectors == 1).any(0) if len(vectors) else np.zeros(len(table.class_names), dtype=bool)
    notes = [*table.notes, "an image may have several of the classes, or none (multilabel)"]
    if empty := [name for name, found in zip(table.class_names, there, strict=True) if not found]:
        notes.append(f"no image has {', '.join(empty)}: left out")
    kept = np.flatnonzero(there)
    if len(kept) and (missing := int((vectors[:, kept] == UNLABELED).sum())):
        notes.append(f"{missing} of {len(vectors) * len(kept)} answers are not known (empty or -1): not learned from")
    items = [
        item if item["label"] == UNLABELED else item | {"label": _kept(item["label"], kept.tolist())}
        for item in table.items
    ]
    return replace(
        table, class_names=tuple(table.class_names[number] for number in kept), items=items, notes=tuple(notes)
    )


def _kept(vector: tuple[int, ...], positions: Sequence[int]) -> Label:
    values = tuple(vector[position] for position in positions)
    return values if _is_known(values) else UNLABELED


def _check_labels(entries: Sequence[Entry], labels: Sequence[str]) -> list[str]:
    problems = [*check_vectors(labels), *check_similar_names(Counter(filter(None, labels)))]
    if files := [label for label in labels if label.lower().endswith(IMAGE_SUFFIXES)]:
        problems.append(
            f"{len(files)} labels are files ({first_names(files)}): this is a list for segmentation; a label must be "
            "the name or number of a class."
        )
    num_known, num_different = sum(map(bool, labels)), len(set(labels) - {""})
    if num_different > max(MANY_CLASSES, num_known / 2):
        problems.append(
            f"there are {num_different} different labels for {num_known} images ({first_names(in_order(labels), 3)}): "
            "these are not classes. Use another column, or group the values into classes."
        )
    numbers = [as_number(label) for label in labels if label]
    has_decimals = any(number not in (float("-inf"), round(number, 0)) for number in numbers if abs(number) < 1e15)
    if has_decimals and num_different > num_known / 2:
        problems.append(
            f"its labels are measurements ({first_names(in_order(labels), 3)}), not classes: use another column, or "
            "group the values into classes."
        )
    classes_of: dict[str, set[str]] = {}
    for entry, label in zip(entries, labels, strict=True):
        if label and (part := part_named(entry.part or "")):
            classes_of.setdefault(part, set()).add(label)
    in_train = classes_of.get("train", set())
    for part, classes in classes_of.items():
        # If one part has numbers and the other has names, they usually stand for the same classes.
        kinds = [{as_number(name) > float("-inf") for name in names} for names in (classes, in_train)]
        if min(len(classes), len(in_train)) > 1 and kinds in ([{True}, {False}], [{False}, {True}]):
            problems.append(
                f"the part {part} has none of the classes of train ({first_names(in_order(classes), 3)} there, "
                f"{first_names(in_order(in_train), 3)} in train): use the same names."
            )
    written = {label_value(entry.label).casefold() for entry in entries}
    known = {label.casefold() for label in labels if label}
    if "-1" in written and len(known) == 1 and as_number(next(iter(known))) > float("-inf"):
        problems.append(
            f"its labels are -1 and {next(iter(known))}: -1 means 'not known'. If it is a class, write names."
        )
    if "none" in written and known & GRADES:
        problems.append(
            f"a label is 'none' beside {', '.join(sorted(known & GRADES))}: if it is a grade, call it 'absent'; if it "
            "is not known, leave it empty."
        )
    return problems


def _join_groups(rows: Sequence[Sequence[str]]) -> list[str]:
    """Join images that share a value in any column into one group; empty if no value is known."""
    names = [[(column, group_value(value)) for column, value in enumerate(row) if group_value(value)] for row in rows]
    leader: dict[tuple[int, str], tuple[int, str]] = {}

    def find(key: tuple[int, str]) -> tuple[int, str]:
        while leader.setdefault(key, key) != key:
            key = leader[key]
        return key

    for keys in names:
        for key in keys[1:]:
            first, second = sorted((find(keys[0]), find(key)))
            leader[second] = first
    first_column = min((keys[0][0] for keys in names if keys), default=0)
    # A patient and a lesion may have the same name.
    found = [find(keys[0]) if keys else None for keys in names]
    return ["" if key is None else key[1] if key[0] == first_column else f"{key[1]} ({key[0] + 1})" for key in found]


def _without_empty_classes(table: ImageTable) -> ImageTable:
    """Leave out classes without an image, such as the column UNK of ISIC 2019."""
    counts = Counter(item["label"] for item in table.items)
    kept = [number for number in range(len(table.class_names)) if counts[number]]
    if len(kept) == len(table.class_names):
        return table
    new = {old: number for number, old in enumerate(kept)} | {UNLABELED: UNLABELED}
    empty = ", ".join(name for number, name in enumerate(table.class_names) if not counts[number])
    return ImageTable(
        tuple(table.class_names[number] for number in kept),
        [item | {"label": new[item["label"]]} for item in table.items],
        (*table.notes, f"no image has the class {empty}: left out"),
    )


def _names(root: Path, files: Sequence[Path]) -> list[str]:
    """Return the paths without suffix, relative to the folder that holds all of them."""
    absolute = [os.path.abspath(file) for file in files]
    base = os.path.abspath(root)
    if not all(file.startswith(base + os.sep) for file in absolute):
        base = os.path.commonpath([os.path.dirname(file) for file in absolute])
    return [image_name(Path(file).relative_to(base).as_posix()) for file in absolute]
