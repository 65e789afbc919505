# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""APTOS 2019 blindness detection in its official layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .columns import as_number
from .csv_files import Row, read_labels, read_rows
from .official import find_photos, make_table, raise_wrong_folder
from .table import ImageTable

__all__ = ["APTOS2019_CLASSES", "APTOS2019_PARTS", "has_aptos2019", "read_aptos2019"]

APTOS2019_CLASSES = ("No DR", "Mild", "Moderate", "Severe", "Proliferative DR")
"""Names of the grades 0 to 4 of diabetic retinopathy."""

APTOS2019_PARTS = {"train": "train", "test": "test"}
"""Official names of the parts."""


def has_aptos2019(root: Path, part: str = "train") -> bool:
    """True if a folder has the images and the table of a part."""
    return (root / f"{part}_images").is_dir() and (root / f"{part}.csv").is_file()


def read_aptos2019(dataset_dir: str | Path, part: str = "train") -> ImageTable:
    """Read APTOS 2019.

    ::

        dataset_dir/
          <part>_images/   images, .png (as published), .jpg or .jpeg
          <part>.csv       id_code, diagnosis (0 to 4; the published test.csv has none)

    Columns are found by name. The data set has no patient identifiers: every image is a group of its own.

    Args:
        dataset_dir: folder with the layout above.
        part: ``"train"`` or ``"test"``.

    Returns:
        Items sorted by name. An image without a row or a diagnosis is unlabeled.

    Raises:
        DataError: when anything is missing or contradictory; one message with all problems.

    Example:
        >>> table = read_aptos2019("aptos2019")  # doctest: +SKIP
        >>> table.class_names[table.items[0]["label"]]  # doctest: +SKIP
        'Moderate'

    Source:
        https://www.kaggle.com/competitions/aptos2019-blindness-detection/data
    """
    root = Path(dataset_dir)
    image_dir, truth_file = root / f"{part}_images", root / f"{part}.csv"
    if not has_aptos2019(root, part):
        raise_wrong_folder(root, f"{image_dir.name}/ and {truth_file.name}", lambda folder: has_aptos2019(folder, part))

    problems: list[str] = []
    images = find_photos(image_dir, problems)
    columns, rows = read_rows(truth_file, ("id_code", "diagnosis") if part == "train" else ("id_code",), problems)
    labels: dict[str, int] = {}
    if "diagnosis" in columns:
        fault = ("have no diagnosis from 0 to 4", "correct them")
        labels = read_labels(truth_file, rows, "id_code", _label, fault, problems)
    table = make_table(root, truth_file, image_dir, APTOS2019_CLASSES, images, labels, problems)
    return replace(table, ordered=True)


def _label(row: Row) -> int | None:
    grade = as_number(row["diagnosis"])
    return int(grade) if grade in range(len(APTOS2019_CLASSES)) else None
