# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""DICOM files that are slices of one volume: their folder is the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from monai_fgssl.data.io.dicom_file import read_dicom_header
from monai_fgssl.utils.errors import DataError, first_names

from .image_files import holds_dicom, image_name
from .table import ImageTable

__all__ = ["find_series", "join_series"]


def find_series(files: Iterable[Path]) -> dict[Path, Path | None]:
    """Find the files that are part of a DICOM series, of which there are several files in one folder.

    Reports and other DICOM files without an image beside it, localizers, and single images of other series are no
    images: the reader of the folder leaves them out too, with a warning. A file that holds many frames is an image.

    Args:
        files: files to look at.

    Returns:
        The folder of each file that is a slice, damaged ones included; None for a file that is left out. All other
        files are images of their own, and not in the result.
    """
    images: dict[Path, tuple[Path, str]] = {}
    left_out: set[Path] = set()
    others: list[Path] = []
    for file in files:
        others.append(file)
        if not holds_dicom(file):
            continue
        try:
            header = read_dicom_header(file, ["SeriesInstanceUID", "Rows", "ImageType", "NumberOfFrames"])
            frames = int(header.get("NumberOfFrames") or 1)
        except Exception:
            # pydicom raises almost any error for a damaged file. The reader will report it.
            continue
        if "Rows" in header:
            images[file] = file.parent, str(header.get("SeriesInstanceUID", ""))
        if "Rows" not in header or frames == 1 or "LOCALIZER" in (header.get("ImageType") or ()):
            left_out.add(file)
    sizes = Counter(images.values())
    folders = {folder for (folder, _), size in sizes.items() if size > 1}
    found: dict[Path, Path | None] = {}
    for file in others:
        if file in images and sizes[images[file]] > 1:
            found[file] = file.parent
        elif file.parent in folders and file in left_out:
            found[file] = None
        elif file.parent in folders and file not in images and file.suffix.lower() == ".dcm":
            # A file that was cut off may not be DICOM any more; reading the folder reports it.
            found[file] = file.parent
    return found


def join_series(table: ImageTable) -> ImageTable:
    """Make one image of all slices of a series, as volumes need it.

    Args:
        table: table whose images may be slices, each with the label of its series.

    Raises:
        DataError: when slices of one folder have different labels, parts or subgroups, or a folder is called
            like another image.
    """
    series = find_series(Path(item["image"]) for item in table.items)
    items: dict[str, dict[str, Any]] = {}
    slices: Counter[str] = Counter()
    different: list[str] = []
    for item in table.items:
        folder = series.get(Path(item["image"]), Path())
        if folder is None:
            continue
        joined = item if folder == Path() else _as_folder(item, folder)
        first = items.setdefault(joined["image"], joined)
        slices[joined["image"]] += folder != Path()
        if any(first.get(key) != joined.get(key) for key in ("label", "part", "subgroups")):
            different.append(joined["image"])
    if different:
        raise DataError(
            "slices of one DICOM series have different labels, parts or subgroups "
            f"({first_names(sorted(set(different)))}): give each series one, or a folder of its own."
        )
    names = Counter(item["name"] for item in items.values())
    if repeated := [name for name, count in names.items() if count > 1]:
        raise DataError(f"a DICOM series has the name of another image ({first_names(repeated)}): rename its folder.")
    note = f"{sum(slices.values())} DICOM files are slices of {sum(map(bool, slices.values()))} series"
    return replace(table, items=list(items.values()), notes=(*table.notes, *([note] if any(slices.values()) else [])))


def _as_folder(item: dict[str, Any], folder: Path) -> dict[str, Any]:
    parent = PurePosixPath(item["name"]).parent.as_posix()
    name = image_name(folder.resolve().name if parent == "." else parent)
    # An image without a group is a group of its own, by its name.
    return {
        **item,
        "image": str(folder),
        "name": name,
        "group": name if item["group"] == item["name"] else item["group"],
    }
