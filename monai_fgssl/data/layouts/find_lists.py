# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find the lists of images in a folder. A list that can't be understood is an error; it is never ignored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_fgssl.utils.errors import DataError

from .columns import LABEL_COLUMNS, as_number, columns_named
from .csv_lists import SAMPLE_ROWS, find_image_column
from .data_lists import is_data_list, read_json
from .dialects import TABLE_SUFFIXES, TextTable, read_text_table
from .file_finder import FileFinder
from .image_files import image_files, is_ignored

__all__ = ["ListFiles", "find_lists", "is_list"]

UNREADABLE_SUFFIXES = (".xlsx", ".xls", ".ods", ".parquet", ".feather", ".jsonl", ".ndjson")
"""Suffixes of tables that are not read here."""


@dataclass(frozen=True)
class ListFiles:
    """Files that list images.

    Attributes:
        json: MONAI data lists.
        csv: tables of text.
        problems: files that may list the images but can't be understood, each with the fix.
        notes: files that name no image.
    """

    json: list[Path] = field(default_factory=list)
    csv: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_lists(root: Path) -> ListFiles:
    """Find the lists among the files of a folder; its subfolders are not searched."""
    finder = FileFinder(root)
    found = ListFiles()
    for path in sorted(path for path in root.iterdir() if path.is_file() and not is_ignored(path.name)):
        suffix = path.suffix.lower()
        if suffix in UNREADABLE_SUFFIXES:
            found.problems.append(f"{path.name} may list the images, but can't be read: save it as CSV.")
        elif suffix == ".json":
            _look_at_json(path, finder, found)
        elif suffix in TABLE_SUFFIXES:
            _look_at_table(path, finder, found)
    return found


def is_list(path: Path) -> str | None:
    """Return the kind of a file: ``"json"``, ``"csv"``, or None if it lists no images.

    Raises:
        DataError: when it has the suffix of a table and can't be read.
    """
    if path.suffix.lower() == ".json":
        return "json" if is_data_list(path) else None
    try:
        table = read_text_table(path, sample=True)
    except DataError as error:
        if path.suffix.lower() in TABLE_SUFFIXES:
            raise DataError(f"{path} {error}") from error
        return None
    finder = FileFinder(path.parent)
    problems: list[str] = []
    if find_image_column(path, table, finder, problems):
        return "csv"
    if problem := next(iter(problems), None) or _unclear(path, table, finder):
        raise DataError(f"{path.parent}: {problem}")
    return None


def _look_at_json(path: Path, finder: FileFinder, found: ListFiles) -> None:
    try:
        content = read_json(path)
    except DataError as error:
        found.problems.append(f"{path.name} {error}")
        return
    if is_data_list(path):
        found.json.append(path)
    # The name of a folder may be any word of a settings file.
    elif any(file is not None and file.is_file() for file in finder.find_all(list(_texts(content))).files):
        found.problems.append(
            f"{path.name} names images, but is not a MONAI data list: put them into a list under 'training', or save a "
            "CSV file with the columns image and label."
        )
    else:
        found.notes.append(f"{path.name} names no image: not used")


def _look_at_table(path: Path, finder: FileFinder, found: ListFiles) -> None:
    # Any text may end in .txt, so its content must clearly be a list.
    is_text = path.suffix.lower() == ".txt"
    try:
        table = read_text_table(path, sample=True)
    except DataError as error:
        if not is_text:
            found.problems.append(f"{path.name} {error}")
        return
    unclear: list[str] = []
    column = find_image_column(path, table, finder, unclear)
    names_files = column is not None and finder.find_all([row[column] for row in table.rows[:SAMPLE_ROWS]]).count
    if names_files or (column is not None and not is_text):
        found.csv.append(path)
    elif unclear:
        found.problems.extend(unclear)
    elif problem := _unclear(path, table, finder):
        found.problems.append(problem)
    elif not is_text and (column := _classes_of_images(path, table)):
        found.problems.append(
            f"{path.name}: has classes (column {column}) and as many rows as there are images, but no column that "
            "names them: give it a column 'image'."
        )
    elif not is_text:
        found.notes.append(f"{path.name} names no image: not used")


def _classes_of_images(path: Path, table: TextTable) -> str | None:
    """Return the column of classes in a table that has as many rows as there are images."""
    labels = columns_named(table.columns, LABEL_COLUMNS)
    different = [len({row[name] for row in table.rows}) for name in table.columns if name not in labels]
    if not labels or len(table.rows) not in different or len({row[labels[0]] for row in table.rows}) == len(table.rows):
        return None
    try:
        rows = len(read_text_table(path).rows)
    except DataError:
        return None
    return labels[0] if rows == sum(1 for _ in image_files(path.parent)) else None


def _unclear(path: Path, table: TextTable, finder: FileFinder) -> str | None:
    """Return why a table without a column of images may still be a list; None if it is not one."""
    if _count_files(table.columns, finder):
        return f"{path.name}: its first row names an image, not the columns: add a row image,label."
    # Numbers could be names of many files, unless there are classes beside them.
    numbers_too = bool(columns_named(table.columns, LABEL_COLUMNS))
    for name in table.columns:
        values = [row[name] for row in table.rows[:SAMPLE_ROWS]]
        if count := _count_files(values, finder, numbers_too and len(set(values)) == len(values)):
            return (
                f"{path.name}: names {count} images in the first {len(values)} rows of column {name!r}: call it "
                "'image' if it is the column of images."
            )
    return None


def _count_files(names: list[str], finder: FileFinder, numbers_too: bool = False) -> int:
    words = [
        word for text in names if numbers_too or as_number(text) == float("-inf") for word in {text, text.split(" ")[0]}
    ]
    return sum(file is not None and file.is_file() for file in finder.find_all(words).files)


def _texts(content: Any) -> Iterator[str]:
    """Yield all strings in a JSON file, keys included."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _texts(value)
    elif isinstance(content, list):
        for value in content:
            yield from _texts(value)
