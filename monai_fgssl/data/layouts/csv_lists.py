# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read lists of images from tables of text. Columns are found by name or by content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_fgssl.utils.errors import DataError, first_names

from .columns import (
    GROUP_COLUMNS,
    IMAGE_COLUMNS,
    LABEL_COLUMNS,
    PART_COLUMNS,
    PERSON_COLUMNS,
    as_number,
    columns_named,
    is_missing,
    same_classes,
)
from .dialects import TextTable, read_text_table
from .file_finder import FileFinder
from .lists import Entry, Listing, make_table
from .table import UNLABELED, ImageTable, part_named

__all__ = ["find_image_column", "read_csv_list", "read_csv_listing"]

SAMPLE_ROWS = 200
"""Number of rows that are read to find the column of images, if the names of the columns do not tell."""


def read_csv_list(path: str | Path, task: str | None = None) -> ImageTable:
    """Read a table of text with a row for each image.

    Delimiter (comma, semicolon, tab or bar) and encoding are found from the content
    (:func:`~monai_fgssl.data.layouts.dialects.read_text_table`). Columns are found by name, whatever their case, spaces
    and signs; all names are in :mod:`~monai_fgssl.data.layouts.columns`:

    - the image: ``image``, or another name such as ``image_id``, ``img_id``, ``Image Index`` or ``filename``; or the
      column whose values are names of files. The path is relative to the table. The suffix may be missing, and the
      files may be in subfolders (:class:`~monai_fgssl.data.layouts.file_finder.FileFinder`). A folder is one image too,
      as a DICOM series is.
    - the label: ``label``, or another name such as ``class``, ``diagnosis`` or ``dx``; a name or a number. If it is not
      known, the cell is empty, nan, NA, None, null or -1. Names with a bar between them, as in NIH ChestX-ray14, are
      several findings of one image. Without such a column, the columns that hold nothing but 0 and 1 are classes, with
      one 1 in each row; or findings, if a row has several. Columns about the person, such as sex, are none of them
      unless there are no others. Without such columns either, no image has a label.
    - groups that a split must keep together (optional): ``patient_id``, ``lesion_id`` and the like, or several.
    - the part (optional): ``part`` or ``split``, with train, validation or test in each row.

    Args:
        path: file of the table.
        task: ``"multilabel"``: the classes are findings, of which an image may have several or none; None: recognized;
            anything else: an image has one class.

    Returns:
        Items in the order of the rows; a repeated row counts once. Classes in the order of their numbers,
        of their names, or of their columns. Notes name the columns that were used.

    Raises:
        DataError: when anything is missing, contradictory or ambiguous; one message lists all problems.
    """
    finder = FileFinder(Path(path).parent)
    return make_table(read_csv_listing(Path(path), finder), finder, task)


def read_csv_listing(path: Path, finder: FileFinder) -> Listing:
    """Read a table as :func:`read_csv_list` does, without finding the files of its images."""
    try:
        table = read_text_table(path)
    except (DataError, OSError) as error:
        return Listing(path, [], problems=[f"{path.name}: {error}"])
    listing = Listing(path, [])
    image = find_image_column(path, table, finder, listing.problems)
    if image is None:
        if not listing.problems:
            known = ", ".join(IMAGE_COLUMNS[:6])
            told = ", ".join(table.columns) or "none"
            listing.problems.append(
                f"{path.name}: no column of images ({known}, ...), and none names files beside it; its columns "
                f"are: {told}. Call the column of images 'image'."
            )
        return listing
    if titles := [row for row in table.rows[:SAMPLE_ROWS] if _names_columns(list(row.values()))]:
        listing.problems.append(
            f"{path.name}: its first row does not name the columns, but a later one does "
            f"({', '.join(titles[0].values())}): delete what is above that."
        )
        return listing
    groups = [name for name in columns_named(table.columns, GROUP_COLUMNS) if name != image]
    part = _part_column(table, image)
    label = _label_column(path, table, [image, *groups], listing.problems)
    used = [image, *groups, *filter(None, (part, label))]
    columns = [] if label else _class_columns(path, table, used, listing.problems)
    listing.class_names.extend(columns)
    for row in table.rows:
        vector = tuple(UNLABELED if is_missing(row[name]) else int(as_number(row[name])) for name in columns)
        group_values = tuple(row[name] for name in groups)
        text = row[label] if label else ""
        listing.entries.append(Entry(row[image], text, group_values, row[part] if part else None, vector or None))
    listing.notes.append(_describe(path, table, image, label, columns, groups, part))
    listing.notes.extend(f"{path.name}: {note}" for note in table.notes)
    return listing


def find_image_column(path: Path, table: TextTable, finder: FileFinder, problems: list[str]) -> str | None:
    """Find the column of images, by its name or by the files that its values name.

    Args:
        path: file of the table, which the problems name.
        table: the table, or the first rows of it.
        finder: finder of the folder that the table is in.
        problems: a sentence is added if two columns name different files.
    """
    named = columns_named(table.columns, IMAGE_COLUMNS)
    if len(named) == 1 or (named and named[0].casefold() == "image" != named[1].casefold()):
        return named[0]
    rows = table.rows[:SAMPLE_ROWS]
    # Numbers without a suffix could be the names of many files, so columns of numbers do not count.
    others = [name for name in table.columns if any(as_number(row[name]) == float("-inf") for row in rows)]
    for candidates in (named, [name for name in others if name not in named]):
        files = {name: _files_of([row[name] for row in rows], finder) for name in candidates}
        most = max((sum(map(bool, found)) for found in files.values()), default=0)
        if 2 * most < len(rows) or not most:
            continue
        best = [name for name in candidates if sum(map(bool, files[name])) == most]
        if any(files[name] != files[best[0]] for name in best):
            problems.append(f"{path.name}: columns {', '.join(best)} name different files: call the right one 'image'.")
            return None
        if any(_files_of([best[0]], finder)):
            problems.append(f"{path.name}: its first row names an image, not the columns: add a row image,label.")
            return None
        return best[0]
    return named[0] if named else None


def _names_columns(values: Sequence[str]) -> bool:
    return bool(columns_named(values, IMAGE_COLUMNS) and columns_named(values, LABEL_COLUMNS))


def _files_of(names: Sequence[str], finder: FileFinder) -> list[Path | None]:
    # Folders do not count: a class may have the name of a folder.
    return [None if file is None or file.is_dir() else file for file in finder.find_all(names).files]


def _label_column(path: Path, table: TextTable, used: Sequence[str], problems: list[str]) -> str | None:
    named = [name for name in columns_named(table.columns, LABEL_COLUMNS) if name not in used]
    if len(named) < 2 or named[0].casefold() == "label" != named[1].casefold():
        return named[0] if named else None
    if not all(same_classes(table.rows, named[0], name) for name in named[1:]):
        problems.append(
            f"{path.name}: columns {', '.join(named)} may all be the class, and differ: call the right one 'label'."
        )
    return named[0]


def _part_column(table: TextTable, image: str) -> str | None:
    for number, known in enumerate(PART_COLUMNS):
        for name in columns_named(table.columns, [known]):
            if name != image and (number < 2 or all(part_named(row[name]) for row in table.rows)):
                return name
    return None


def _class_columns(path: Path, table: TextTable, used: Sequence[str], problems: list[str]) -> list[str]:
    """Find the columns of 0 and 1, one for each class."""
    names = [
        name
        for name in table.columns
        if name not in used
        and any(row[name] for row in table.rows)
        and all(is_missing(row[name]) or as_number(row[name]) in (0, 1) for row in table.rows)
    ]
    of_person = columns_named(names, PERSON_COLUMNS)
    names = [name for name in names if name not in of_person] or names
    if not names:
        return []
    if len(names) == 1:
        problems.append(f"{path.name}: column {names[0]} has 0 and 1 only: call it 'label' if it is the class.")
        return []
    return names


def _describe(
    path: Path,
    table: TextTable,
    image: str,
    label: str | None,
    class_names: Sequence[str],
    groups: Sequence[str],
    part: str | None,
) -> str:
    """Return one line that names each column and its use."""
    classes = f"columns {first_names(class_names)}" if class_names else f"column {label}" if label else "none"
    told = [f"images from column {image}", f"classes from {classes}" if classes != "none" else "no classes"]
    if groups:
        told.append(f"groups from {' and '.join(groups)}")
    if part:
        told.append(f"parts from {part}")
    unused = [name for name in table.columns if name not in {image, label, part, *groups, *class_names}]
    if unused:
        told.append(f"not used: {first_names(unused)}")
    dialect = f" ({table.dialect})" if table.dialect else ""
    return f"{path.name}{dialect}: {'; '.join(told)}"
