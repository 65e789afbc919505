# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Lists whose images may have several findings at once, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from monai_fgssl.utils.errors import first_names

from .class_names import check_similar_names, check_vectors, in_order
from .columns import is_missing, label_value
from .table import UNLABELED

if TYPE_CHECKING:
    from .lists import Listing

__all__ = ["MULTILABEL", "resolve_findings"]

MULTILABEL = "multilabel"
"""Value of the setting ``task`` for such lists."""
NO_FINDING = ("no finding", "no findings")
"""Labels of an image without any finding, in lower case, as in NIH ChestX-ray14."""
SEPARATOR = "|"
ADVICE = "If an image may have several of these classes, or none, add --task multilabel."


def resolve_findings(listing: Listing, task: str | None) -> Listing:
    """Decide whether the images of a list have one class each, or any number of findings.

    They have findings if an image has several: two columns of 1, or names with a bar between them. That is certain, so
    no setting is needed. Columns of 0 and 1 with one 1 in each row are classes. If rows without a 1 are the only sign,
    the list could be either, and an error asks for the setting.

    Args:
        listing: content of a list.
        task: ``"multilabel"``: findings in any case; None: as the list shows; anything else: one class each.

    Returns:
        The list, either with a vector for each entry and ``multilabel``, or with a label for each entry.
    """
    if any(entry.vector is not None for entry in listing.entries):
        return _resolve_vectors(listing, task)
    several = any(SEPARATOR in entry.label for entry in listing.entries)
    if task == MULTILABEL or (task is None and several):
        return _split_names(listing)
    return listing


def _resolve_vectors(listing: Listing, task: str | None) -> Listing:
    counts = [(entry, sum(value == 1 for value in entry.vector or ())) for entry in listing.entries]
    if task == MULTILABEL or (task is None and any(count > 1 for _, count in counts)):
        problems = [*listing.problems, *_labels_beside_vectors(listing)]
        notes = [*listing.notes, *_findings_beside_none(listing)]
        return replace(listing, problems=problems, notes=notes, multilabel=True)
    problems = list(listing.problems)
    known = [(entry, count) for entry, count in counts if any(value != UNLABELED for value in entry.vector or ())]
    if wrong := [entry.image for entry, count in known if count != 1]:
        problems.append(
            f"{listing.path.name}: {len(wrong)} rows need exactly one 1 and else 0 in {', '.join(listing.class_names)} "
            f"({first_names(wrong)}): correct them, or call the column of the class 'label'. {ADVICE}"
        )
    names = listing.class_names
    entries = [
        entry if entry.vector is None else replace(entry, label=_only_name(entry.vector, names), vector=None)
        for entry in listing.entries
    ]
    return replace(listing, entries=entries, problems=problems)


def _labels_beside_vectors(listing: Listing) -> list[str]:
    others = [entry.image for entry in listing.entries if entry.vector is None and not is_missing(entry.label)]
    if not others:
        return []
    return [
        f"{listing.path.name}: {len(others)} images have a label where others have a 0 or 1 for each class "
        f"({first_names(others)}): write all in one way."
    ]


def _findings_beside_none(listing: Listing) -> list[str]:
    """A note about images with 'No Finding' and a finding. It may be right: CheXpert has it beside support devices."""
    none = {number for number, name in enumerate(listing.class_names) if name.casefold() in NO_FINDING}
    both = [
        entry.image
        for entry in listing.entries
        if len({number in none for number, value in enumerate(entry.vector or ()) if value == 1}) > 1
    ]
    if not both:
        return []
    told = first_names(both)
    return [f"{len(both)} images have 'No Finding' beside a finding ({told}): both are learned as they are"]


def _only_name(vector: tuple[int, ...], names: Sequence[str]) -> str:
    return names[vector.index(1)] if 1 in vector else ""


def _split_names(listing: Listing) -> Listing:
    """Turn names with bars between them into vectors."""
    split = [
        [] if is_missing(entry.label) else [label_value(name) for name in entry.label.split(SEPARATOR) if name.strip()]
        for entry in listing.entries
    ]
    names = in_order(name for pieces in split for name in pieces if name.casefold() not in NO_FINDING)
    counts = {name: sum(name in pieces for pieces in split) for name in names}
    problems = [f"{listing.path.name}: {problem}" for problem in (*check_vectors(names), *check_similar_names(counts))]
    contradictory = [
        entry.image
        for entry, pieces in zip(listing.entries, split, strict=True)
        if len(pieces) > 1 and any(name.casefold() in NO_FINDING for name in pieces)
    ]
    if contradictory:
        problems.append(
            f"{listing.path.name}: {len(contradictory)} images have 'No Finding' beside a finding "
            f"({first_names(contradictory)}): correct them."
        )
    unknown = [
        entry.image for entry, pieces in zip(listing.entries, split, strict=True) if any(map(is_missing, pieces))
    ]
    if unknown:
        problems.append(
            f"{listing.path.name}: {len(unknown)} images have a value that stands for not known beside a finding "
            f"({first_names(unknown)}): correct them."
        )
    entries = [
        replace(entry, vector=tuple(int(name in pieces) if pieces else UNLABELED for name in names))
        for entry, pieces in zip(listing.entries, split, strict=True)
    ]
    problems = [*listing.problems, *problems]
    return replace(listing, entries=entries, class_names=names, problems=problems, multilabel=True)
