# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""MONAI's data lists: JSON files with a list of images for each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_fgssl.utils.errors import DataError, first_names
from monai_fgssl.utils.files import from_json

from .columns import GROUP_COLUMNS, LABEL_COLUMNS, columns_named
from .dialects import decode
from .file_finder import FileFinder
from .findings import SEPARATOR
from .lists import Entry, Listing, make_table
from .table import ImageTable, part_named

__all__ = ["is_data_list", "read_data_list", "read_data_listing", "read_json"]


def is_data_list(path: Path) -> bool:
    """Tell whether a file is JSON with a list of images under the name of a part."""
    try:
        return path.suffix.lower() == ".json" and bool(_parts_of(read_json(path)))
    except DataError:
        return False


def read_data_list(path: str | Path, task: str | None = None) -> ImageTable:
    """Read a MONAI data list.

    ::

        {"training": [{"image": "a.dcm", "label": "nevus", "patient": "7"}, {"image": "b.png"}],
         "validation": [...],
         "test": [...]}

    At least one part must be there. Paths are relative to the file. ``label`` is the name or number of a class; or, for
    images with several findings, a list of names, or a list with 1, 0 or -1 (not known) for each finding. The entry
    ``"labels"`` of the file, a dictionary from numbers to names, then names the findings. Labels
    and groups such as ``patient`` may be missing, as in a table (:func:`~monai_fgssl.data.read_csv_list`). An item may
    be just a path, as for the test images of the Medical Segmentation Decathlon.

    Args:
        path: the file.
        task: see :func:`~monai_fgssl.data.read_csv_list`.

    Returns:
        Items in the order of the list. Classes in the order of their numbers or of their names.

    Raises:
        DataError: when anything is missing or contradictory; one message lists all problems.
    """
    finder = FileFinder(Path(path).parent)
    return make_table(read_data_listing(Path(path)), finder, task)


def read_data_listing(path: Path) -> Listing:
    """Read a data list as :func:`read_data_list` does, without finding the files of its images."""
    # Not MONAI's load_decathlon_datalist: it takes a label for a path if a file or folder has the label's name.
    try:
        parts = _parts_of(read_json(path))
    except DataError:
        parts = {}
    listing = Listing(path, [])
    if not parts:
        listing.problems.append(
            f"{path.name}: is not a JSON file with a list of images under 'training', 'validation' or 'test'."
        )
    fields_used = {name for items in parts.values() for item in items if isinstance(item, Mapping) for name in item}
    label, groups, note = _choose_fields(path, sorted(map(str, fields_used)), listing.problems)
    listing.notes.append(note)
    if others := [f"{key} {len(items)}" for key, items in _other_lists(path).items()]:
        listing.notes.append(
            f"{path.name}: lists under other keys than those of parts are not used ({first_names(others)})"
        )
    wrong: list[str] = []
    unclear: list[str] = []
    for key, items in parts.items():
        for number, item in enumerate(items):
            fields = {"image": item} if isinstance(item, str) else item
            if not isinstance(fields, Mapping) or not isinstance(fields.get("image"), str):
                wrong.append(f"{key} {number}")
                continue
            value = fields.get(label)
            vector = _vector(value)
            if isinstance(value, Mapping) or (isinstance(value, list) and not vector and not _are_names(value)):
                unclear.append(fields["image"])
            group_values = tuple(_text(fields.get(name)) for name in groups)
            listing.entries.append(Entry(fields["image"], "" if vector else _text(value), group_values, key, vector))
    _name_findings(path, listing)
    if wrong:
        listing.problems.append(
            f"{path.name}: {len(wrong)} items do not have exactly one path as their 'image' ({first_names(wrong)}): "
            "correct them."
        )
    if unclear:
        listing.problems.append(
            f"{path.name}: {len(unclear)} labels are neither a name nor a number ({first_names(unclear)}), nor a list "
            "of names, nor a list of 1, 0 and -1: correct them."
        )
    return listing


def _choose_fields(path: Path, names: Sequence[str], problems: list[str]) -> tuple[str, list[str], str]:
    """Return the field of the class, the fields of groups, and a note that names them."""
    labels = columns_named(names, LABEL_COLUMNS)
    if len(labels) > 1 and labels[0] != "label":
        problems.append(f"{path.name}: fields {', '.join(labels)} may all be the class: call the right one 'label'.")
    label = labels[0] if labels else "label"
    groups = columns_named(names, GROUP_COLUMNS)
    told = [f"classes from field {label}" if labels else "no classes"]
    if groups:
        told.append(f"groups from {' and '.join(groups)}")
    if unused := [name for name in names if name not in ("image", label, *groups)]:
        told.append(f"not used: {first_names(unused)}")
    return label, groups, f"{path.name}: {'; '.join(told)}"


def read_json(path: Path) -> Any:
    """Read a JSON file in any encoding of Unicode.

    Raises:
        DataError: when the file is not JSON. The message continues a sentence that begins with the file's name.
    """
    try:
        return from_json(decode(path.read_bytes())[0], object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"can't be read as JSON ({error}).") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse repeated keys, since the first of two lists would be lost."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return content


def _other_lists(path: Path) -> dict[str, list[Any]]:
    """Return the lists of images whose keys are not names of parts."""
    try:
        content = read_json(path)
    except DataError:
        return {}
    return {
        key: items
        for key, items in (content.items() if isinstance(content, Mapping) else ())
        if isinstance(items, list)
        and not part_named(key)
        and any(isinstance(x, Mapping) and "image" in x for x in items)
    }


def _parts_of(content: Any) -> dict[str, list[Any]]:
    if not isinstance(content, Mapping):
        return {}
    return {key: items for key, items in content.items() if part_named(key) and isinstance(items, list)}


def _vector(value: Any) -> tuple[int, ...] | None:
    """A list of at least two numbers, each 1, 0 or -1; None for anything else."""
    if not isinstance(value, list) or len(value) < 2:
        return None
    is_vector = all(type(one) in (int, float) and one in (-1, 0, 1) for one in value)
    return tuple(map(int, value)) if is_vector else None


def _are_names(value: list[Any]) -> bool:
    return len(value) == 1 or (len(value) > 1 and all(isinstance(one, str) for one in value))


def _name_findings(path: Path, listing: Listing) -> None:
    """Give names to the numbers of vectors, and check that all are of one length."""
    lengths = {len(entry.vector) for entry in listing.entries if entry.vector}
    if not lengths:
        return
    if len(lengths) > 1 or any(not entry.vector and entry.label for entry in listing.entries):
        listing.problems.append(
            f"{path.name}: labels are lists of different lengths, or lists beside single values: give each image a "
            "list of the same length."
        )
    try:
        named = read_json(path).get("labels")
    except DataError:
        named = None
    known = named if isinstance(named, Mapping) else {}
    listing.class_names.extend(str(known.get(str(number), number)) for number in range(max(lengths)))


def _text(value: Any) -> str:
    if isinstance(value, list) and len(value) > 1 and all(isinstance(one, str) for one in value):
        return SEPARATOR.join(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return "" if value is None else str(value)
