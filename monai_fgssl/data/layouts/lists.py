# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Data sets that a file lists image by image: CSV and MONAI's data lists."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_fgssl.utils.errors import first_names

from .csv_files import one_hot_label, read_rows
from .image_files import IMAGE_SUFFIXES, without_suffix
from .official import raise_problems
from .table import PARTS, UNLABELLED, ImageTable, part_named

__all__ = ["is_csv_list", "is_data_list", "read_csv_list", "read_data_list"]

IMAGE_COLUMNS = ("image", "image_id", "path", "file", "filename")
LABEL_COLUMNS = ("label", "class", "diagnosis", "dx")
GROUP_COLUMNS = ("group", "patient", "patient_id", "lesion", "lesion_id")
PART_COLUMNS = ("part", "split")


@dataclass(frozen=True)
class Entry:
    """One image as it is listed.

    Attributes:
        image: path, relative to the list.
        label: name or number of the class; empty where not known.
        group: lesion or patient; empty where not known.
        part: one of ``PARTS``; None where the list has no parts.
    """

    image: str
    label: str
    group: str
    part: str | None


def is_csv_list(path: Path) -> bool:
    """Whether a file is CSV with a column of images."""
    return path.suffix.lower() == ".csv" and _column(read_rows(path, (), [])[0], IMAGE_COLUMNS) is not None


def read_csv_list(path: str | Path) -> ImageTable:
    """Read a CSV file with a row for each image.

    Columns are found by name, whatever the case; the first that is there counts:

    - the image: ``image``, ``image_id``, ``path``, ``file`` or ``filename``, relative to the CSV file. The suffix may
      be missing. A folder is one image too, as a DICOM series is.
    - the label: ``label``, ``class``, ``diagnosis`` or ``dx``, a name or a number, empty where it is not known. Without
      such a column, all columns that are not named here are classes, with one 1 and else 0 in each row. Without those
      too, nothing is labelled.
    - what must not be torn apart by a split (optional): ``group``, ``patient``, ``patient_id``, ``lesion`` or
      ``lesion_id``.
    - the part (optional): ``part`` or ``split``, with train, validation or test in each row.

    Args:
        path: the file.

    Returns:
        Items in the order of the rows. Classes in the order of their numbers, of their names, or of their columns.

    Raises:
        DataError: when anything is missing or contradictory; one message with all problems.
    """
    path = Path(path)
    problems: list[str] = []
    columns, rows = read_rows(path, (), problems)
    image = _column(columns, IMAGE_COLUMNS)
    if columns and image is None:
        problems.append(
            f"{path.name}: no column of images ({', '.join(IMAGE_COLUMNS)}); its columns are: {', '.join(columns)}."
        )
    raise_problems(path, problems)
    assert image is not None
    label, group, part = (_column(columns, names) for names in (LABEL_COLUMNS, GROUP_COLUMNS, PART_COLUMNS))
    named = [name for name in columns if name.lower() in IMAGE_COLUMNS + GROUP_COLUMNS + PART_COLUMNS]
    class_names = [name for name in columns if name not in named] if label is None else []
    entries: list[Entry] = []
    wrong: list[str] = []
    for row in rows:
        text = row[label] if label else ""
        if class_names:
            hot = one_hot_label(row, class_names)
            if hot is None:
                wrong.append(row[image])
            text = "" if hot is None else class_names[hot]
        entries.append(Entry(row[image], text, row[group] if group else "", row[part] if part else None))
    if wrong:
        problems.append(
            f"{path.name}: {len(wrong)} rows have not exactly one 1 and else 0 in {', '.join(class_names)} "
            f"({first_names(wrong)}): correct them, or name the column of the classes 'label'."
        )
    return _make_table(path, entries, class_names, problems)


def is_data_list(path: Path) -> bool:
    """Whether a file is JSON with a list of images under the name of a part."""
    return path.suffix.lower() == ".json" and bool(_parts_of(_read_json(path)))


def read_data_list(path: str | Path) -> ImageTable:
    """Read a MONAI data list.

    ::

        {"training": [{"image": "a.dcm", "label": "nevus", "patient": "7"}, {"image": "b.png"}],
         "validation": [...],
         "test": [...]}

    Only one part must be there. Paths are relative to the file. ``label`` is a class's name or number and may be
    missing; for ``patient`` see :func:`read_csv_list`. An item may be a path alone, as the test images of the Medical
    Segmentation Decathlon are.

    Args:
        path: the file.

    Returns:
        Items in the order of the list. Classes in the order of their numbers or of their names.

    Raises:
        DataError: when anything is missing or contradictory; one message with all problems.
    """
    # MONAI's load_decathlon_datalist takes a label for a path when a file or folder of that name happens to exist.
    path = Path(path)
    problems: list[str] = []
    parts = _parts_of(_read_json(path))
    if not parts:
        problems.append(f"{path.name}: is no JSON file with a list of images under 'training', 'validation' or 'test'.")
    entries: list[Entry] = []
    wrong: list[str] = []
    for key, items in parts.items():
        for number, item in enumerate(items):
            fields = {"image": item} if isinstance(item, str) else item
            if not isinstance(fields, Mapping) or not isinstance(fields.get("image"), str):
                wrong.append(f"{key} {number}")
                continue
            group = next((fields[name] for name in GROUP_COLUMNS if fields.get(name) is not None), "")
            label = fields.get("label")
            entries.append(Entry(fields["image"], "" if label is None else str(label), str(group), key))
    if wrong:
        problems.append(
            f"{path.name}: {len(wrong)} items have not one path as their 'image' ({first_names(wrong)}): correct them."
        )
    return _make_table(path, entries, [], problems)


def _column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    by_name = {column.lower(): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return None


def _parts_of(content: Any) -> dict[str, list[Any]]:
    if not isinstance(content, Mapping):
        return {}
    return {key: items for key, items in content.items() if part_named(key) and isinstance(items, list)}


def _make_table(path: Path, entries: Sequence[Entry], class_names: Sequence[str], problems: list[str]) -> ImageTable:
    """Find the files, number the classes, and tell all problems."""
    root = path.parent
    files = [_find(root, entry.image) for entry in entries]
    names = _names(root, [file or root / entry.image for file, entry in zip(files, entries, strict=True)])

    def report(wrong: Sequence[str], fault: str, fix: str) -> None:
        if wrong:
            problems.append(f"{path.name}: {len(wrong)} {fault} ({first_names(wrong)}): {fix}.")

    if not entries and not problems:
        problems.append(f"{path.name}: lists no images.")
    missing = [entry.image for entry, file in zip(entries, files, strict=True) if file is None]
    report(missing, "files do not exist", "add them, or correct their paths, which start at the folder of the list")
    report([name for name, count in Counter(names).items() if count > 1], "images are listed twice", "keep one each")
    report(
        [entry.label for entry in entries if entry.label.lower().endswith(IMAGE_SUFFIXES)],
        "labels are files",
        "this is a list for segmentation; a label must be the name or number of a class",
    )
    report(
        sorted({entry.part for entry in entries if entry.part is not None and part_named(entry.part) is None}),
        "parts have an unknown name",
        f"call them {', '.join(PARTS)}",
    )
    raise_problems(path, problems)
    classes = list(class_names) or sorted({_class_name(entry.label) for entry in entries if entry.label}, key=_order)
    numbers = {name: number for number, name in enumerate(classes)}
    items: list[dict[str, Any]] = []
    for entry, file, name in zip(entries, files, names, strict=True):
        label = numbers[entry.label if class_names else _class_name(entry.label)] if entry.label else UNLABELLED
        item = {"image": str(file), "name": name, "label": label, "group": entry.group or name}
        items.append(item if entry.part is None else item | {"part": part_named(entry.part)})
    return ImageTable(tuple(classes), items)


def _find(root: Path, image: str) -> Path | None:
    path = root / image
    candidates = (path, *(path.with_name(path.name + suffix) for suffix in IMAGE_SUFFIXES)) if image else ()
    return next((candidate for candidate in candidates if candidate.exists()), None)


def _names(root: Path, files: Sequence[Path]) -> list[str]:
    """Paths without suffix, as seen from a folder that has all of them."""
    absolute = [os.path.abspath(file) for file in files]
    base = os.path.abspath(root)
    if not all(file.startswith(base + os.sep) for file in absolute):
        base = os.path.commonpath([os.path.dirname(file) for file in absolute])
    return [without_suffix(Path(file).relative_to(base).as_posix()) for file in absolute]


def _class_name(label: str) -> str:
    """Numbers as whole numbers: 1.0 is 1."""
    try:
        number = float(label)
    except ValueError:
        return label
    return str(int(number)) if number.is_integer() else label


def _order(class_name: str) -> tuple[bool, float, str]:
    """Numbers first, in their order."""
    try:
        return False, float(class_name), ""
    except ValueError:
        return True, 0.0, class_name
