# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Data sets that are nothing but folders of images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_fgssl.utils.errors import DataError, first_names

from .image_files import image_files, is_image, without_suffix
from .table import UNLABELLED, ImageTable, join_parts, part_named

__all__ = ["has_class_folders", "has_images", "read_class_folders", "read_image_folder"]


def has_class_folders(root: Path) -> bool:
    """Whether a folder has at least two folders with images in them, and no image beside them."""
    return not any(is_image(path) for path in root.iterdir()) and len(_folders_with_images(root)) > 1


def has_images(root: Path) -> bool:
    """Whether there are images in a folder or the folders below it."""
    return any(True for _ in image_files(root))


def read_class_folders(dataset_dir: str | Path) -> ImageTable:
    """Read a folder for each class, named like the class.

    ::

        dataset_dir/nevus/a.jpg
        dataset_dir/nevus/more/b.dcm
        dataset_dir/melanoma/c.png

    Images have one of the suffixes in :data:`~monai_fgssl.data.layouts.image_files.IMAGE_SUFFIXES`. Hidden files and
    folders, and folders without images, are ignored. The folders of the classes may lie in folders named train,
    validation and test (or training, val, valid, testing).

    Args:
        dataset_dir: the folder that has these folders.

    Returns:
        Items sorted by path; the name is the path without suffix. Classes sorted by name. Every image is a group of
        its own.

    Raises:
        DataError: when there are no such folders, or two images differ in nothing but the suffix.
    """
    root = Path(dataset_dir)
    folders = _folders_with_images(root)
    if folders and all(part_named(folder.name) for folder in folders):
        class_names = sorted({inner.name for folder in folders for inner in _folders_with_images(folder)})
        tables: dict[str, ImageTable] = {}
        for folder in folders:
            part = part_named(folder.name)
            assert part is not None
            if part in tables:
                raise DataError(f"{root}: {folder.name} and another folder are both the part {part}: keep one.")
            tables[part] = _read_classes(root, folder, class_names)
        return join_parts(tables, root)
    return _read_classes(root, root, [folder.name for folder in folders])


def read_image_folder(dataset_dir: str | Path) -> ImageTable:
    """Read a folder of images without labels, for pre-training.

    Args:
        dataset_dir: the folder; those below it are read too. Hidden files and folders are ignored.

    Returns:
        Items sorted by path, all unlabelled; no classes. The name is the path within the folder, without suffix.

    Raises:
        DataError: when there are no images, or two differ in nothing but the suffix.
    """
    root = Path(dataset_dir)
    files = sorted(image_files(root))
    return ImageTable((), _make_items(root, files, [UNLABELLED] * len(files)))


def _folders_with_images(root: Path) -> list[Path]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [folder for folder in folders if has_images(folder)]


def _read_classes(root: Path, folder: Path, class_names: Sequence[str]) -> ImageTable:
    if beside := sorted(path.name for path in folder.iterdir() if is_image(path)):
        raise DataError(f"{folder}: {len(beside)} images ({first_names(beside)}) are in no class's folder: move them.")
    if len(class_names) < 2:
        raise DataError(f"{folder}: a folder with images for each of at least 2 classes is needed.")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = sorted(image_files(folder / name))
        files += found
        labels += [label] * len(found)
    return ImageTable(tuple(class_names), _make_items(root, files, labels))


def _make_items(root: Path, files: Sequence[Path], labels: Sequence[int]) -> list[dict[str, Any]]:
    names = [without_suffix(file.relative_to(root).as_posix()) for file in files]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"{root}: {len(repeated)} images have the name of another one but for the suffix "
            f"({first_names(repeated)}): keep one of each."
        )
    if not files:
        raise DataError(f"there are no images in {root} or the folders below it.")
    return [
        {"image": str(file), "name": name, "label": label, "group": name}
        for file, name, label in zip(files, names, labels, strict=True)
    ]
