# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Order of grades, which nothing but their numbers or the user can tell."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from monai_fgssl.utils.errors import DataError, first_names

from .columns import as_number
from .table import UNLABELED, ImageTable

__all__ = ["order_classes"]

EXAMPLE = """a list, such as --class_order "['lowest', 'middle', 'highest']\""""


def order_classes(table: ImageTable, class_order: Sequence[object] | None = None) -> ImageTable:
    """Number the classes of a data set from the lowest to the highest.

    Names alone do not tell an order: the alphabet puts "mild" before "none".

    Args:
        table: the data set.
        class_order: names of the classes, from the lowest to the highest. Names that no image has are left out, with a
            note. None: the order of the numbers, if all classes are numbers, or the order of a data set whose grades
            are known, see :class:`~monai_fgssl.data.ImageTable`.

    Raises:
        DataError: when nothing tells the order, or ``class_order`` lacks a class or names one twice.
    """
    names = table.class_names
    if class_order is None:
        numbers = [as_number(name) for name in names]
        if float("-inf") not in numbers:
            return _renumbered(table, [name for _, name in sorted(zip(numbers, names, strict=True))])
        if table.ordered:
            return table
        raise DataError(
            f"--task ordinal needs the order of the classes ({first_names(names)}), which their names do not tell: "
            f"give them as {EXAMPLE}."
        )
    if isinstance(class_order, str):
        raise DataError(f"--class_order must be {EXAMPLE}, got {class_order!r}.")
    # As the names of the classes are: a letter with an accent may be written as one sign or as two.
    order = [unicodedata.normalize("NFC", str(name)) for name in class_order]
    if len(set(order)) < len(order):
        raise DataError(f"--class_order names a class twice: {', '.join(order)}.")
    if lacking := [name for name in names if name not in order]:
        raise DataError(
            f"--class_order lacks classes of the data set ({first_names(lacking)}): add them in their place."
        )
    unused = [name for name in order if name not in names]
    notes = (*table.notes, f"no image has the grade {', '.join(unused)}: left out") if unused else table.notes
    return replace(_renumbered(table, [name for name in order if name in names]), notes=notes)


def _renumbered(table: ImageTable, order: Sequence[str]) -> ImageTable:
    new = {old: order.index(name) for old, name in enumerate(table.class_names)} | {UNLABELED: UNLABELED}
    items = [item | {"label": new[item["label"]]} for item in table.items]
    return replace(table, class_names=tuple(order), items=items, ordered=True)
