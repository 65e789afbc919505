# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Data sets that consist of folders of images, without a list."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from monai_fgssl.utils.errors import DataError, first_names

from .class_names import check_similar_names
from .image_files import composed, describe_others, image_files, image_name, is_ignored, is_image, scan_folder
from .table import UNLABELED, ImageTable, join_parts, part_named

__all__ = ["has_class_folders", "has_images", "read_class_folders", "read_image_folder"]

PIECE = re.compile(
    r"(.*[ _-])?(annotations?|archive|batch|case|chunk|data|dataset|fold|group|images?|imgs?|labels?|masks?|part|"
    r"patient|photos?|pictures?|previews?|segmentations?|series|set|shard|split|study|subject|subset|thumbnails?)"
)
"""Pattern of the names, without numbers, of folders for pieces of a data set or for its other pictures."""

PART_FOLDER = re.compile(r"(train|training|val|valid|validation|test|testing)[ _-]?(data|images?|imgs?|set)?")
"""Pattern of the names of folders for parts of a data set, including parts that are not read."""

NUMBER = re.compile(r"[ _-]?(\d+|(?<=[ _-])[a-z])$")

UNLABELED_FOLDERS = ("unlabeled", "unlabelled")
"""Names of a folder, beside the folders of the classes, whose images have no label."""


def has_class_folders(root: Path) -> bool:
    """True if a folder has at least two subfolders with images, and no image beside them."""
    return not any(is_image(path) for path in root.iterdir()) and len(_folders_with_images(root)) > 1


def has_images(root: Path) -> bool:
    """True if a folder or its subfolders have images."""
    return any(True for _ in image_files(root))


def read_class_folders(dataset_dir: str | Path, inner: bool | None = None) -> ImageTable:
    """Read a folder for each class, named like the class.

    ::

        dataset_dir/nevus/a.jpg
        dataset_dir/nevus/more/b.dcm
        dataset_dir/melanoma/c.png

    Images are found as by :func:`~monai_fgssl.data.layouts.image_files.scan_folder`. Folders without images are
    ignored. The folders of the classes may be inside folders named train, validation and test (or training, val, valid,
    testing), or in pieces, such as ``fold_0`` and ``fold_1``. Images in a folder named unlabeled have no label.

    Args:
        dataset_dir: folder that contains these folders.
        inner: False: the subfolders of ``dataset_dir``, or of its folders for parts, are the classes. True: the folders
            inside these subfolders are the classes. None: the names decide, and an error is raised if they are
            ambiguous.

    Returns:
        Items sorted by path; the name is the path without suffix. Classes sorted by name. Every image is its own group.

    Raises:
        DataError: when there are no such folders, their names are those of pieces of a data set, an image is in two
            classes, or two images differ in nothing but the suffix.
    """
    root = Path(dataset_dir)
    folders = _folders_with_images(root)
    parts = [folder for folder in folders if part_named(folder.name)]
    if inner is None and 1 < len(parts) < len(folders):
        others = first_names([folder.name for folder in folders if folder not in parts])
        raise DataError(
            f"{root}: the folders {first_names([folder.name for folder in parts])} are named like parts, and {others} "
            "beside them is not: move that away, or say that all are classes: --layout classes."
        )
    if folders and len(parts) == len(folders):
        levels = {folder: _class_folders(folder, inner) for folder in folders}
        class_names = sorted({name for level in levels.values() for name in level})
        if problems := check_similar_names(Counter(name for level in levels.values() for name in level)):
            raise DataError(f"{root}: {' '.join(problems)}")
        tables: dict[str, ImageTable] = {}
        for folder, level in levels.items():
            part = part_named(folder.name)
            assert part is not None
            if part in tables:
                raise DataError(f"{root}: {folder.name} and another folder are both the part {part}: keep one.")
            tables[part] = _read_classes(root, folder, level, class_names)
        return join_parts(tables, root)
    level = _class_folders(root, inner)
    return _read_classes(root, root, level, sorted(level))


def read_image_folder(dataset_dir: str | Path) -> ImageTable:
    """Read a folder of images without labels, for pre-training.

    Args:
        dataset_dir: folder of the images; its subfolders are read too. Hidden files and folders are ignored.

    Returns:
        Items sorted by path, all unlabeled; no classes. The name is the path within the folder, without suffix.

    Raises:
        DataError: when there are no images, or two differ in nothing but the suffix.
    """
    root = Path(dataset_dir)
    files, others = scan_folder(root)
    return ImageTable((), _make_items(root, files, [UNLABELED] * len(files)), _as_notes(describe_others(others)))


def _folders_with_images(root: Path) -> list[Path]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not is_ignored(path.name))
    return [folder for folder in folders if has_images(folder)]


def _class_folders(root: Path, inner: bool | None) -> dict[str, list[Path]]:
    """Return the folders of each class.

    Raises:
        DataError: when the names do not tell which folders are the classes.
    """
    folders = _folders_with_images(root)
    if not folders:
        raise DataError(
            f"{root} has images, and no folder for each class: make these folders, list the images in a CSV file with "
            "the columns image and label, or say that there are no labels: --layout images."
        )
    outer_level: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        outer_level[composed(folder.name)].append(folder)
    if inner is False:
        return dict(outer_level)
    inner_level: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        for below in _folders_with_images(folder):
            inner_level[composed(below.name)].append(below)
    beside = any(is_image(path) for folder in folders for path in folder.iterdir())
    pieces = are_pieces([folder.name for folder in folders])
    holds_classes = not beside and len(inner_level) > 1
    if inner or (pieces and holds_classes):
        return dict(inner_level)
    named = first_names([*outer_level])
    if pieces:
        raise DataError(
            f"{root}: the folders {named} are named like pieces of a data set, not like classes. List the images in a "
            "CSV file with the columns image and label, or say what is there: --layout classes (they are the classes) "
            "or --layout images (no labels)."
        )
    both = holds_classes and len(folders) > 1 and not are_pieces([*inner_level])
    shared = sorted(name for name, found in inner_level.items() if len(found) > 1)
    if both and shared:
        raise DataError(
            f"{root}: several of the folders {named} hold folders of the same names ({first_names(shared)}), so either "
            "may be the classes. Say which: --layout classes (the first) or --layout subclasses (the second)."
        )
    return dict(outer_level)


def are_pieces(names: Sequence[str]) -> bool:
    """True if folders are named like pieces of a data set.

    Example:
        >>> are_pieces(["fold_0", "fold_1"]), are_pieces(["grade_1", "grade_2"])
        (True, False)
    """
    lower = [name.lower().strip() for name in names]
    if all(PART_FOLDER.fullmatch(name) for name in lower):
        return True
    pieces = [PIECE.fullmatch(stem) for stem in {NUMBER.sub("", name) for name in lower}]
    # "malignant images" is a class if another folder is called "benign images".
    return all(pieces) and (len(pieces) == 1 or not any(piece and piece[1] for piece in pieces))


def _read_classes(root: Path, folder: Path, level: dict[str, list[Path]], class_names: Sequence[str]) -> ImageTable:
    if beside := sorted(path.name for path in folder.iterdir() if is_image(path)):
        raise DataError(f"{folder}: {len(beside)} images ({first_names(beside)}) are in no class's folder: move them.")
    labeled = [name for name in class_names if name.lower() not in UNLABELED_FOLDERS]
    if len(labeled) < 2:
        raise DataError(f"{folder}: a folder with images for each of at least 2 classes is needed.")
    files: list[Path] = []
    others: list[Path] = []
    labels: list[int] = []
    for name, folders in sorted(level.items()):
        for one in folders:
            images, rest = scan_folder(one)
            files += images
            others += rest
            labels += [labeled.index(name) if name in labeled else UNLABELED] * len(images)
    _check_links(files, labels, labeled)
    counts = Counter(labels)
    if problems := check_similar_names({name: counts[label] for label, name in enumerate(labeled) if counts[label]}):
        raise DataError(f"{folder}: {' '.join(problems)}")
    notes = [describe_others(others)]
    if any(one.parent != folder for folders in level.values() for one in folders):
        pieces = sorted({composed(one.parent.name) for folders in level.values() for one in folders})
        notes.append(f"classes from the folders in {first_names(pieces)}")
    if counts[UNLABELED]:
        notes.append(f"{counts[UNLABELED]} images in folders called unlabeled have no label")
    return ImageTable(tuple(labeled), _make_items(root, files, labels), _as_notes(*notes))


def _check_links(files: Sequence[Path], labels: Sequence[int], class_names: Sequence[str]) -> None:
    """Raise an error if links put an image into two classes."""

    @cache
    def real_folder(folder: Path) -> str:
        return os.path.realpath(folder)

    found: dict[str, tuple[Path, int]] = {}
    wrong: list[str] = []
    for file, label in zip(files, labels, strict=True):
        real = os.path.realpath(file) if file.is_symlink() else os.path.join(real_folder(file.parent), file.name)
        first, first_label = found.setdefault(real, (file, label))
        if label != first_label:
            wrong.append(f"{first} and {file}")
    if wrong:
        raise DataError(f"links put {len(wrong)} images into two classes ({first_names(wrong, 2)}): keep one of each.")


def _as_notes(*notes: str) -> tuple[str, ...]:
    return tuple(note for note in notes if note)


def _make_items(root: Path, files: Sequence[Path], labels: Sequence[int]) -> list[dict[str, Any]]:
    names = [image_name(file.relative_to(root).as_posix()) for file in files]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"{root}: {len(repeated)} images differ from another one only in the suffix, or in how an accent is stored "
            f"({first_names(repeated)}): keep one of each."
        )
    if not files:
        raise DataError(f"there are no images in {root} or the folders below it.")
    return [
        {"image": str(file), "name": name, "label": label, "group": name}
        for file, name, label in zip(files, names, labels, strict=True)
    ]
