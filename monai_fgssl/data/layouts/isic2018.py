# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""ISIC 2018 Task 3 (HAM10000) in its official layout."""

from __future__ import annotations

from pathlib import Path

from monai_fgssl.utils.errors import first_names

from .csv_files import one_hot_label, read_labels, read_rows
from .image_files import without_suffix
from .official import find_csv, find_photos, make_table, raise_wrong_folder
from .table import ImageTable

__all__ = ["ISIC2018_CLASSES", "ISIC2018_PARTS", "has_isic2018", "read_isic2018"]

ISIC2018_CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
"""The seven classes in the official order."""

ISIC2018_PARTS = {"train": "Training", "validation": "Validation", "test": "Test"}
"""Official names of the parts."""


def has_isic2018(root: Path, part: str = "Training") -> bool:
    """True if a folder has the images and the ground truth of a part."""
    prefix = f"ISIC2018_Task3_{part}"
    return (root / f"{prefix}_Input").is_dir() and find_csv(root, f"{prefix}_GroundTruth") is not None


def read_isic2018(dataset_dir: str | Path, part: str = "Training") -> ImageTable:
    """Read a data set in the layout of ISIC 2018 Task 3.

    ::

        dataset_dir/
          ISIC2018_Task3_<part>_Input/               images, .jpg, .jpeg or .png
          ISIC2018_Task3_<part>_GroundTruth.csv      image, then one column per class: one 1, else 0
          ISIC2018_Task3_<part>_LesionGroupings.csv  image, lesion_id (optional)

    Columns are found by name. Own data in this layout may have other classes than the official seven, in the order of
    the columns. The CSV files may also lie in a folder of the same name, as the official archives unpack.

    Args:
        dataset_dir: folder with the layout above.
        part: ``"Training"``, ``"Validation"``, ``"Test"``, or another word in the same place of the names.

    Returns:
        Items sorted by name. An image without a row in the ground truth is unlabeled. Without lesion groupings every
        image is a group of its own.

    Raises:
        DataError: when anything is missing or contradictory; one message with all problems.

    Example:
        >>> table = read_isic2018("isic2018")  # doctest: +SKIP
        >>> table.class_names[table.items[0]["label"]]  # doctest: +SKIP
        'NV'

    Source:
        https://challenge.isic-archive.com/data/#2018
    """
    root = Path(dataset_dir)
    prefix = f"ISIC2018_Task3_{part}"
    input_dir = root / f"{prefix}_Input"
    truth_file = find_csv(root, f"{prefix}_GroundTruth")
    if not input_dir.is_dir() or truth_file is None:
        wanted = f"{prefix}_Input/ and {prefix}_GroundTruth.csv"
        raise_wrong_folder(root, wanted, lambda folder: has_isic2018(folder, part))

    problems: list[str] = []
    images = find_photos(input_dir, problems)
    class_names, labels = _read_truth(truth_file, problems)
    groups: dict[str, str] = {}
    if (group_file := find_csv(root, f"{prefix}_LesionGroupings")) is not None:
        groups = _read_groups(group_file, problems)
        if groups and (ungrouped := sorted(labels.keys() & images.keys() - groups.keys())):
            problems.append(
                f"{group_file.name}: {len(ungrouped)} labeled images have no row ({first_names(ungrouped)}): add "
                "their lesion_id, or remove the file if no two images show the same lesion."
            )
    return make_table(root, truth_file, input_dir, class_names, images, labels, problems, groups)


def _read_truth(path: Path, problems: list[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    columns, rows = read_rows(path, ("image",), problems)
    class_names = tuple(name for name in columns if name != "image")
    if set(class_names) == set(ISIC2018_CLASSES):
        class_names = ISIC2018_CLASSES
    if columns and len(class_names) < 2:
        problems.append(f"{path.name}: needs a column for each of at least 2 classes, has {len(class_names)}.")
        return class_names, {}
    if columns and not rows:
        problems.append(f"{path.name}: has no rows, so no image has a label.")
    fault = (
        f"need exactly one 1 and else 0 in {', '.join(class_names)}",
        "correct them, and delete columns that are not classes",
    )
    return class_names, read_labels(path, rows, "image", lambda row: one_hot_label(row, class_names), fault, problems)


def _read_groups(path: Path, problems: list[str]) -> dict[str, str]:
    _, rows = read_rows(path, ("image", "lesion_id"), problems)
    groups: dict[str, str] = {}
    nameless: list[str] = []
    contradictory: list[str] = []
    for row in rows:
        name, group = without_suffix(row["image"]), row["lesion_id"]
        if not group:
            nameless.append(name)
        if groups.setdefault(name, group) != group:
            contradictory.append(name)
    if nameless:
        problems.append(f"{path.name}: {len(nameless)} rows have no lesion_id ({first_names(nameless)}): fill it in.")
    if contradictory:
        problems.append(
            f"{path.name}: {len(contradictory)} images belong to two lesions ({first_names(contradictory)}): keep one."
        )
    return groups
