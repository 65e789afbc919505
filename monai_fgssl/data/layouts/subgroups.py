# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Columns that divide the images into subgroups, such as sex or scanner, from the tables of a data set."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from monai_fgssl.utils.errors import DataError, first_lines, first_names

from .class_names import in_order, similar_names
from .columns import as_number, columns_named, group_value
from .csv_lists import find_image_column
from .data_lists import is_data_list, read_json
from .dialects import TABLE_SUFFIXES, read_text_table
from .file_finder import FileFinder
from .image_files import is_ignored
from .table import ImageTable, part_named

__all__ = ["add_subgroups", "names_of_columns", "subgroup_names"]

MOST_VALUES = 20
"""Largest number of different values of a column. More numbers are binned, and more texts are refused."""
NUM_BINS = 4


def names_of_columns(columns: str | Sequence[Any] | None) -> list[str]:
    """Names of columns from a setting, which may be text with commas.

    Example:
        >>> names_of_columns("sex, skin type")
        ['sex', 'skin type']
    """
    names = columns.split(",") if isinstance(columns, str) else list(columns or ())
    return list(dict.fromkeys(str(name).strip() for name in names if str(name).strip()))


def add_subgroups(
    table: ImageTable,
    dataset_dir: str | Path,
    columns: str | Sequence[str] | None,
    file: str | Path | None = None,
) -> ImageTable:
    """Add the values of some columns to the images of a table.

    Images are found by the column of images, as in :func:`~monai_fgssl.data.read_csv_list`. The table with the columns
    may name further images, and may lack some.

    Args:
        table: images of a data set in any layout.
        dataset_dir: folder of the data set, or the file that lists its images.
        columns: names of the columns, as a list or with commas between; None: nothing is added. Case, spaces and signs
            of a name do not matter.
        file: table (CSV and the like) or MONAI data list with these columns. None: the lists in ``dataset_dir``, not
            in its subfolders.

    Returns:
        The table; each item has ``"subgroups"``, a dictionary from the names of the columns to the image's subgroup
        (:func:`subgroup_names`).

    Raises:
        DataError: when a column is in no table, has no value for any image, or has too many values; or when an image
            has two values.
    """
    names = names_of_columns(columns)
    if not names:
        return table
    root = Path(dataset_dir)
    files = _tables_in(root) if file is None else [Path(file)]
    finder = FileFinder(root.parent if root.is_file() else root)
    values: dict[str, dict[str, str]] = {}
    there: list[str] = []
    unread: list[str] = []
    for path in files:
        try:
            columns_there, image, rows = _read(path, finder)
        except DataError as error:
            # Another text in the folder of the data set, such as a license, need not be a table.
            unread.append(f"{path} {error}")
            continue
        except OSError as error:
            raise DataError(f"{path} (--subgroup_file) can't be read: {error.strerror}.") from error
        if image is not None:
            there += columns_there
            columns_of = {name: columns_named(columns_there, [name]) for name in names}
            _add_values(path, finder, columns_of, image, rows, values)
    if lacking := [name for name in names if not columns_named(there, [name])]:
        where = ", ".join(str(path) for path in files) or f"{root}, which has no table that names its images,"
        raise DataError(
            f"no column {', '.join(lacking)} (--subgroup_columns) in {where}; columns are: "
            f"{first_names(list(dict.fromkeys(there)), 30) or 'none'}. Name a column of a table in the folder of the "
            f"data set, or the table that has it: --subgroup_file.{first_lines(unread)}"
        )
    of_image = [values.get(_key(Path(item["image"])), {}) for item in table.items]
    notes: list[str] = []
    subgroups: dict[str, list[str]] = {}
    for name in names:
        subgroups[name] = subgroup_names(name, [row.get(name, "") for row in of_image])
        if not any(subgroups[name]):
            raise DataError(
                f"the column {name} (--subgroup_columns) has no value for any image of {root}: its table must name the "
                "images as the data set does."
            )
        counts = Counter(filter(None, subgroups[name]))
        unknown = subgroups[name].count("")
        told = [*(f"{one} {counts[one]}" for one in in_order(counts)), *([f"not known {unknown}"] if unknown else [])]
        notes.append(f"subgroups of {name}: {', '.join(told)}")
        for alike in similar_names(counts):
            notes.append(f"different subgroups: {' and '.join(alike)}; write them alike if they are the same")
    items = [
        item | {"subgroups": {name: subgroups[name][number] for name in names}}
        for number, item in enumerate(table.items)
    ]
    return replace(table, items=items, notes=(*table.notes, *notes))


def subgroup_names(column: str, values: Sequence[str]) -> list[str]:
    """Subgroup of each image from the values of a column.

    If there are more than :data:`MOST_VALUES` different values and all are numbers, the subgroups are four ranges with
    about the same number of images.

    Args:
        column: name of the column, for the message.
        values: value of each image; empty where not known.

    Returns:
        A name for each image; empty where the value is not known.

    Raises:
        DataError: when there are more than :data:`MOST_VALUES` different texts.

    Example:
        >>> subgroup_names("age", [str(age) for age in range(20, 60)])[::13]
        ['20 to 29', '30 to 39', '40 to 49', '50 to 59']
    """
    different = in_order(values)
    if len(different) <= MOST_VALUES:
        return list(values)
    numbers = np.array([as_number(value) if value else np.nan for value in values])
    if (numbers == float("-inf")).any():
        raise DataError(
            f"the column {column} (--subgroup_columns) has {len(different)} different values "
            f"({first_names(different, 3)}): these are no subgroups. Add a column with at most {MOST_VALUES} values."
        )
    known = np.sort(numbers[~np.isnan(numbers)])
    # Whole values of the column as edges, so that equal values come into one range.
    edges = np.unique(np.quantile(known, np.arange(1, NUM_BINS) / NUM_BINS, method="higher"))
    bins = np.searchsorted(edges, numbers, side="right")
    names = {}
    for number in np.unique(bins[~np.isnan(numbers)]):
        inside = numbers[bins == number]
        names[number] = f"{np.nanmin(inside):g} to {np.nanmax(inside):g}"
    return ["" if np.isnan(value) else names[number] for value, number in zip(numbers, bins, strict=True)]


def _key(path: Path) -> str:
    return os.path.abspath(path)


def _tables_in(root: Path) -> list[Path]:
    if root.is_file():
        return [root]
    paths = sorted(path for path in root.iterdir() if path.is_file() and not is_ignored(path.name))
    return [
        path
        for path in paths
        if path.suffix.lower() in TABLE_SUFFIXES or (path.suffix.lower() == ".json" and is_data_list(path))
    ]


def _add_values(
    path: Path,
    finder: FileFinder,
    columns: Mapping[str, Sequence[str]],
    image: str,
    rows: Sequence[Mapping[str, str]],
    values: dict[str, dict[str, str]],
) -> None:
    """Add the values of a table by image and name; ``columns`` has the columns of each name, if there are any."""
    different: list[str] = []
    for row, file in zip(rows, finder.find_all([row[image] for row in rows]).files, strict=True):
        if file is None:
            continue
        of_image = values.setdefault(_key(file), {})
        for name, value in ((name, group_value(row.get(found[0], ""))) for name, found in columns.items() if found):
            if value and of_image.setdefault(name, value) != value:
                different.append(f"{row[image]}: {name} is {of_image[name]} and {value}")
    if different:
        raise DataError(f"{path}: images have two values of one column (--subgroup_columns):{first_lines(different)}")


def _read(path: Path, finder: FileFinder) -> tuple[list[str], str | None, list[dict[str, str]]]:
    """Columns of a table, the column of images (None: there is none), and the rows."""
    if path.suffix.lower() == ".json":
        rows = list(_rows_of(read_json(path)))
        return list(dict.fromkeys(name for row in rows for name in row)), "image", rows
    table = read_text_table(path)
    problems: list[str] = []
    image = find_image_column(path, table, finder, problems)
    if problems:
        raise DataError(problems[0])
    return table.columns, image, table.rows


def _rows_of(content: Any) -> Iterator[dict[str, str]]:
    """Items of a MONAI data list as rows."""
    for key, items in content.items() if isinstance(content, Mapping) else ():
        for item in items if part_named(key) and isinstance(items, list) else ():
            if isinstance(item, Mapping) and isinstance(item.get("image"), str):
                yield {str(name): "" if value is None else str(value) for name, value in item.items()}
