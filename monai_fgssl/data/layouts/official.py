# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Common parts of the official layouts, which have a folder of images and a CSV file with a row for each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from monai_fgssl.utils.errors import DataError, first_names

from .image_files import PHOTO_SUFFIXES, is_image
from .table import UNLABELED, ImageTable

__all__ = [
    "contents",
    "find_csv",
    "find_photos",
    "make_table",
    "raise_problems",
    "raise_wrong_folder",
]


def find_csv(root: Path, stem: str) -> Path | None:
    """Find the CSV file. It may be in a folder of the same name, as when an official archive is unpacked."""
    candidates = (root / f"{stem}.csv", root / stem / f"{stem}.csv")
    return next((path for path in candidates if path.is_file()), None)


def find_photos(folder: Path, problems: list[str], ignored: str | None = None) -> dict[str, Path]:
    """Find the images of a folder, by their names without suffix.

    Args:
        folder: folder with the images; its subfolders are ignored.
        problems: a sentence is added if two images have the same name, or if there are no images.
        ignored: files are ignored if their names, without suffix, end in this text.
    """
    images: dict[str, Path] = {}
    repeated: list[str] = []
    for path in sorted(folder.iterdir()):
        if not is_image(path, PHOTO_SUFFIXES) or (ignored is not None and path.stem.endswith(ignored)):
            continue
        if path.stem in images:
            repeated.append(path.name)
        images[path.stem] = path
    if repeated:
        problems.append(
            f"{folder.name}/: {len(repeated)} images differ from another one in the suffix only "
            f"({first_names(repeated)}): keep one of each."
        )
    if not images:
        problems.append(f"{folder.name}/: there are no images ({', '.join(PHOTO_SUFFIXES)}) in this folder.")
    return images


def make_table(
    root: Path,
    truth_file: Path,
    folder: Path,
    class_names: Sequence[str],
    images: Mapping[str, Path],
    labels: Mapping[str, int],
    problems: Sequence[str],
    groups: Mapping[str, str] | None = None,
) -> ImageTable:
    """Put images, labels and groups together, sorted by name.

    Args:
        root: root of the data set.
        truth_file: the CSV file with the labels.
        folder: folder of the images.
        class_names: names in the order of the labels.
        images: files by name.
        labels: labels by image name; images without a label are unlabeled.
        problems: problems found so far.
        groups: groups by image name; an image without a group is a group of its own.

    Raises:
        DataError: when there are problems, or rows of the CSV file have no image in the folder.
    """
    if missing := sorted(labels.keys() - images.keys()):
        problems = [
            *problems,
            f"{truth_file.name}: {len(missing)} rows have no image in {folder.name}/ ({first_names(missing)}): "
            "add the images or delete the rows.",
        ]
    raise_problems(root, problems)
    groups = groups or {}
    items = [
        {
            "image": str(images[name]),
            "name": name,
            "label": labels.get(name, UNLABELED),
            "group": groups.get(name, name),
        }
        for name in sorted(images)
    ]
    return ImageTable(tuple(class_names), items)


def raise_problems(source: Path, problems: Sequence[str]) -> None:
    """Raise one error with all problems of a data set.

    Raises:
        DataError: when there are any.
    """
    if problems:
        raise DataError("\n  - ".join([f"{len(problems)} problem(s) in {source}:", *problems]))


def raise_wrong_folder(root: Path, wanted: str, fits: Callable[[Path], bool]) -> NoReturn:
    """Raise an error for a folder that lacks a layout, and name the folder that has it.

    Args:
        root: the folder.
        wanted: the missing files, in words.
        fits: function that tells whether a folder has them. It is called for the folder above and for those below.

    Raises:
        DataError: always.
    """
    if not root.is_dir():
        raise DataError(f"the data set folder {root} does not exist (dataset_dir): name the folder that has {wanted}.")
    near = (root.resolve().parent, *sorted(path for path in root.iterdir() if path.is_dir()))
    if (folder := next((folder for folder in near if fits(folder)), None)) is not None:
        raise DataError(f"{wanted} are not in {root} but in {folder}: use that as dataset_dir.")
    raise DataError(f"looked for {wanted} in {root} (dataset_dir), found {contents(root)}.")


def contents(root: Path) -> str:
    """List the files in a folder, for an error message."""
    return first_names([path.name + "/" * path.is_dir() for path in sorted(root.iterdir())]) or "an empty folder"
