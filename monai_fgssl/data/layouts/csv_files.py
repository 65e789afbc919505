# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""CSV files of official data sets. Columns are found by name, and all problems are reported together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from monai_fgssl.utils.errors import DataError, first_names

from .columns import as_number
from .dialects import read_text_table
from .image_files import without_suffix
from .table import UNLABELED

__all__ = ["Row", "one_hot_label", "read_labels", "read_rows"]

Row = dict[str, str]


def read_rows(path: Path, needed: Sequence[str], problems: list[str]) -> tuple[list[str], list[Row]]:
    """Read a CSV file whose first row names the columns.

    Args:
        path: file in any dialect that :func:`~monai_fgssl.data.layouts.dialects.read_text_table` reads.
        needed: names of columns that must be there.
        problems: a sentence is added if the file can't be used.

    Returns:
        Names of the columns, and the rows by these names; neither when the file can't be used. Values that are missing
        at the end of a row are empty.
    """
    try:
        table = read_text_table(path)
    except DataError as error:
        problems.append(f"{path.name}: {error}")
        return [], []
    if lacking := [name for name in needed if name not in table.columns]:
        problems.append(
            f"{path.name}: no column {', '.join(lacking)}; its columns are: {', '.join(table.columns) or 'none'}."
        )
        return [], []
    return table.columns, table.rows


def read_labels(
    path: Path,
    rows: Sequence[Row],
    column: str,
    label_of: Callable[[Row], int | None],
    fault: tuple[str, str],
    problems: list[str],
) -> dict[str, int]:
    """Labels by the name of the image. The file may write names with or without a suffix.

    Args:
        path: file that the rows are from; the problems name it.
        rows: rows of :func:`read_rows`.
        column: name of the column with the image's name.
        label_of: label of a row; None when it has no valid one.
        fault: the mistake in rows without a valid label ("have ..."), and the fix ("correct them").
        problems: a sentence is added for every kind of problem.
    """
    labels: dict[str, int] = {}
    wrong: list[str] = []
    repeated: list[str] = []
    for row in rows:
        name = without_suffix(row[column])
        label = label_of(row)
        if label is None:
            wrong.append(name)
        if name in labels:
            repeated.append(name)
        labels[name] = UNLABELED if label is None else label
    if wrong:
        problems.append(f"{path.name}: {len(wrong)} rows {fault[0]} ({first_names(wrong)}): {fault[1]}.")
    if repeated:
        problems.append(
            f"{path.name}: {len(repeated)} rows repeat an image ({first_names(repeated)}): keep one row for each image."
        )
    return labels


def one_hot_label(row: Row, class_names: Sequence[str]) -> int | None:
    """Number of the column with the only 1 among zeros; None for any other row.

    Example:
        >>> one_hot_label({"image": "a", "MEL": "0.0", "NV": "1.0"}, ("MEL", "NV"))
        1
    """
    values = [as_number(row[name]) for name in class_names]
    return values.index(1.0) if sorted(values) == [0.0] * (len(values) - 1) + [1.0] else None
