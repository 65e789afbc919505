# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Recognize the layout of a data set by its files, and read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from monai_fgssl.utils.errors import DataError, first_lines, first_names

from .aptos2019 import APTOS2019_PARTS, has_aptos2019, read_aptos2019
from .csv_lists import read_csv_list, read_csv_listing
from .data_lists import read_data_list
from .file_finder import FileFinder
from .find_lists import find_lists, is_list
from .folders import has_class_folders, has_images, read_class_folders, read_image_folder
from .image_files import is_ignored, is_image
from .isic2017 import ISIC2017_PARTS, has_isic2017, read_isic2017
from .isic2018 import ISIC2018_PARTS, has_isic2018, read_isic2018
from .lists import join_listings, make_table
from .official import contents
from .subgroups import add_subgroups
from .table import PARTS, ImageTable, join_parts, part_named

__all__ = ["LAYOUTS", "explain_missing_labels", "read_part", "read_table", "recognize_layout"]


@dataclass(frozen=True)
class Official:
    """Official data set in parts; each part has its own folder and CSV file."""

    read: Callable[[str | Path, str], ImageTable]
    has_part: Callable[[Path, str], bool]
    parts: Mapping[str, str]
    folder: str

    def has_folder(self, root: Path) -> bool:
        """True if the images of any part exist, with or without their ground truth."""
        return any((root / self.folder.format(part=name)).is_dir() for name in self.parts.values())

    def is_there(self, root: Path) -> bool:
        """True if any part exists with its images and ground truth."""
        return any(self.has_part(root, name) for name in self.parts.values())

    def read_all(self, root: Path) -> ImageTable:
        """Read all parts that exist."""
        found = {part: name for part, name in self.parts.items() if self.has_part(root, name)}
        if not found:
            return self.read(root, self.parts["train"])
        return join_parts({part: self.read(root, name) for part, name in found.items()}, root)


OFFICIAL = {
    "isic2018": Official(read_isic2018, has_isic2018, ISIC2018_PARTS, "ISIC2018_Task3_{part}_Input"),
    "isic2017": Official(read_isic2017, has_isic2017, ISIC2017_PARTS, "ISIC-2017_{part}_Data"),
    "aptos2019": Official(read_aptos2019, has_aptos2019, APTOS2019_PARTS, "{part}_images"),
}

LAYOUTS = {
    "isic2018": "ISIC2018_Task3_<part>_Input/ and ISIC2018_Task3_<part>_GroundTruth.csv",
    "isic2017": "ISIC-2017_<part>_Data/ and ISIC-2017_<part>_Part3_GroundTruth.csv",
    "aptos2019": "train_images/ and train.csv",
    "json": "a .json file with lists of images under 'training', 'validation' or 'test' (MONAI data list)",
    "csv": "a table (.csv, .tsv, .txt; any delimiter) with a column 'image'",
    "classes": "a folder with images for each of at least 2 classes, and no images beside these folders",
    "subclasses": "folders such as fold_0 and fold_1, in each of which there is a folder for each class",
    "images": "images of any kind, without labels: for pre-training only",
}
"""Layouts and the files by which they are recognized, in the order in which they are tried."""


def read_table(
    dataset_dir: str | Path,
    layout: str | None = None,
    subgroup_columns: str | Sequence[str] | None = None,
    subgroup_file: str | Path | None = None,
    task: str | None = None,
) -> ImageTable:
    """Read a data set in any layout.

    If the data set has its own parts, they are kept: every item then has a ``"part"``. An official part is read when
    both its images and its ground truth exist.

    Args:
        dataset_dir: folder of the data set, or the CSV or JSON file that lists the images. A folder may also hold one
            such file.
        layout: key of :data:`LAYOUTS`; None takes the first layout that fits, and raises an error if the choice is
            ambiguous.
        subgroup_columns: see :func:`~monai_fgssl.data.layouts.subgroups.add_subgroups`.
        subgroup_file: see :func:`~monai_fgssl.data.layouts.subgroups.add_subgroups`.
        task: for lists, see :func:`~monai_fgssl.data.read_csv_list`; other layouts have one class for each image.

    Returns:
        Images with their labels, groups and parts, and notes on how they were read. See
        :func:`~monai_fgssl.data.read_isic2018`, :func:`~monai_fgssl.data.read_isic2017`,
        :func:`~monai_fgssl.data.read_aptos2019`, :func:`~monai_fgssl.data.read_data_list`,
        :func:`~monai_fgssl.data.read_csv_list`, :func:`~monai_fgssl.data.read_class_folders` and
        :func:`~monai_fgssl.data.read_image_folder`.

    Raises:
        DataError: when no layout fits, or anything is missing or contradictory; the message explains it.

    Example:
        >>> table = read_table("my_images")
        >>> table.class_names
        ('melanoma', 'nevus')
    """
    root = Path(dataset_dir)
    return add_subgroups(_read_layout(root, layout, task), root, subgroup_columns, subgroup_file)


def _read_layout(root: Path, layout: str | None, task: str | None) -> ImageTable:
    recognized = layout is None
    layout = layout or recognize_layout(root)
    if layout not in LAYOUTS:
        raise DataError(f"there is no layout {layout!r} (layout): use {', '.join(LAYOUTS)}, or leave it out.")
    if not root.exists():
        raise DataError(f"{root} does not exist (dataset_dir): name the folder with {LAYOUTS[layout]}.")
    if layout in OFFICIAL:
        return OFFICIAL[layout].read_all(root)
    if layout in ("json", "csv"):
        return _read_lists(root, layout, task)
    if layout == "images":
        table = read_image_folder(root)
    else:
        # If the caller names a layout, other layouts are not considered.
        table = read_class_folders(root, None if recognized else layout == "subclasses")
    return replace(table, notes=(*table.notes, *find_lists(root).notes)) if recognized else table


def read_part(
    dataset_dir: str | Path,
    part: str,
    layout: str | None = None,
    subgroup_columns: str | Sequence[str] | None = None,
    subgroup_file: str | Path | None = None,
    task: str | None = None,
) -> ImageTable:
    """Read one part of a data set.

    Args:
        dataset_dir: see :func:`read_table`.
        part: ``"train"``, ``"validation"`` or ``"test"``, or the name of a part in the names of official folders. In a
            data set without parts, all images are ``"train"``.
        layout: see :func:`read_table`.
        subgroup_columns: see :func:`read_table`.
        subgroup_file: see :func:`read_table`.
        task: see :func:`read_table`.

    Raises:
        DataError: when the data set has no such part.
    """
    root = Path(dataset_dir)
    return add_subgroups(_read_part(root, part, layout, task), root, subgroup_columns, subgroup_file)


def _read_part(root: Path, part: str, layout: str | None, task: str | None) -> ImageTable:
    for official in OFFICIAL.values():
        # A user's own data in an official layout may have parts with other names.
        if official.has_part(root, part):
            return official.read(root, part)
    layout = layout or recognize_layout(root)
    wanted = part_named(part)
    if layout in OFFICIAL:
        official = OFFICIAL[layout]
        return official.read(root, part if wanted is None else official.parts.get(wanted, part))
    table = _read_layout(root, layout, task)
    items = [item for item in table.items if item.get("part", "train") == wanted]
    if not items:
        there = sorted({item.get("part", "train") for item in table.items}, key=PARTS.index)
        raise DataError(f"{root} has no part {part!r} (part): it has {', '.join(there)}.")
    return replace(table, items=items)


def explain_missing_labels(dataset_dir: str | Path) -> str:
    """Return advice for a data set without any label."""
    root = Path(dataset_dir)
    for official in OFFICIAL.values():
        if official.is_there(root.resolve().parent):
            return f"no image in {root} has a label, but {root.resolve().parent} has some: use that as dataset_dir."
    return (
        f"no image in {root} has a label, so it is good for pre-training only. To fine-tune, put the images into a "
        f"folder for each class, or list them in a CSV file with the columns image and label.{_hint_at_classes(root)}"
    )


def _hint_at_classes(root: Path) -> str:
    """Guess which labels a data set without labels was meant to have."""
    if not root.is_dir():
        return ""
    if has_class_folders(root):
        return " If the names of its folders are the classes: --layout classes."
    if beside := [path.name for path in sorted(root.iterdir()) if is_image(path)]:
        inside = any(has_images(path) for path in root.iterdir() if path.is_dir())
        hint = f" If its folders are classes, move away what lies beside them ({first_names(beside)})."
        return hint if inside else ""
    for folder in sorted(path for path in root.iterdir() if path.is_dir() and not is_ignored(path.name)):
        lists = find_lists(folder)
        if lists.csv or lists.json or has_class_folders(folder):
            return f" {folder} looks like a data set with labels: use that as dataset_dir."
    return ""


def recognize_layout(root: Path) -> str:
    """Return the first of :data:`LAYOUTS` that fits.

    Raises:
        DataError: when no layout fits; the message explains it.
    """
    if root.is_file():
        if layout := is_list(root):
            return layout
        raise DataError(f"{root} (dataset_dir) is neither {LAYOUTS['json']} nor {LAYOUTS['csv']}.")
    if not root.is_dir():
        raise DataError(f"the data set {root} does not exist (dataset_dir): name a folder, or a .csv or .json file.")
    for layout, official in OFFICIAL.items():
        if official.is_there(root):
            return layout
    lists = find_lists(root)
    if lists.json and lists.csv:
        _raise_several(root, [*lists.json, *lists.csv])
    if lists.json or lists.csv:
        return "json" if lists.json else "csv"
    if lists.problems and has_images(root):
        raise DataError(
            f"{root} has images, and what may be a list of them:{first_lines(lists.problems)}\nIf it is none, say "
            "what is there: layout 'classes' (the folders' names are the classes) or 'images' (no labels)."
        )
    # Official folders without ground truth, or side by side, look like folders of classes.
    for layout, official in OFFICIAL.items():
        if official.has_folder(root):
            return layout
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if official.is_there(folder):
                raise DataError(f"{LAYOUTS[layout]} are not in {root} but in {folder}: use that as dataset_dir.")
    if has_class_folders(root):
        return "classes"
    if has_images(root):
        return "images"
    raise DataError(
        "\n  - ".join([f"{root} (dataset_dir) has {contents(root)}. Looked for one of:", *LAYOUTS.values()])
    )


def _read_lists(root: Path, layout: str, task: str | None) -> ImageTable:
    """Read a list, or several lists of a folder that belong together."""
    if root.is_file():
        return read_data_list(root, task) if layout == "json" else read_csv_list(root, task)
    lists = find_lists(root)
    files = lists.json if layout == "json" else lists.csv
    if not files:
        raise DataError(f"{root} has not {LAYOUTS[layout]} (dataset_dir).{first_lines(lists.problems)}")
    if layout == "json":
        if len(files) > 1:
            _raise_several(root, files)
        table = read_data_list(files[0], task)
    else:
        finder = FileFinder(root)
        listings = [read_csv_listing(path, finder) for path in files]
        listing = listings[0] if len(listings) == 1 else join_listings(listings)
        if listing is None:
            _raise_several(root, files)
        table = make_table(listing, finder, task)
    return replace(table, notes=(*table.notes, *lists.notes, *lists.problems))


def _raise_several(root: Path, files: Sequence[Path]) -> NoReturn:
    names = ", ".join(path.name for path in files)
    raise DataError(f"{root} has {len(files)} files that list images ({names}): name the right one as dataset_dir.")
