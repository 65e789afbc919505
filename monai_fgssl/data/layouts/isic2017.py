# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""ISIC 2017 Part 3 (lesion classification) in its official layout."""

from __future__ import annotations

from pathlib import Path

from .columns import as_number
from .csv_files import Row, read_labels, read_rows
from .official import find_csv, find_photos, make_table, raise_wrong_folder
from .table import ImageTable

__all__ = ["ISIC2017_CLASSES", "ISIC2017_PARTS", "has_isic2017", "read_isic2017"]

ISIC2017_CLASSES = ("melanoma", "seborrheic_keratosis", "nevus")
"""The two columns of the ground truth, and the class of images with 0 in both."""

ISIC2017_PARTS = {"train": "Training", "validation": "Validation", "test": "Test_v2"}
"""Official names of the parts."""


def has_isic2017(root: Path, part: str = "Training") -> bool:
    """True if a folder has the images and the ground truth of a part."""
    prefix = f"ISIC-2017_{part}"
    return (root / f"{prefix}_Data").is_dir() and find_csv(root, f"{prefix}_Part3_GroundTruth") is not None


def read_isic2017(dataset_dir: str | Path, part: str = "Training") -> ImageTable:
    """Read ISIC 2017 Part 3.

    ::

        dataset_dir/
          ISIC-2017_<part>_Data/                   images; <image>_superpixels.png are none
          ISIC-2017_<part>_Part3_GroundTruth.csv   image_id, melanoma, seborrheic_keratosis

    Columns are found by name. The data set has no lesion identifiers: every image is a group of its own.

    Args:
        dataset_dir: folder with the layout above.
        part: ``"Training"``, ``"Validation"`` or ``"Test_v2"``.

    Returns:
        Items sorted by name. An image without a row in the ground truth is unlabeled.

    Raises:
        DataError: when anything is missing or contradictory; one message with all problems.

    Example:
        >>> table = read_isic2017("isic2017", "Validation")  # doctest: +SKIP
        >>> len(table.items)  # doctest: +SKIP
        150

    Source:
        https://challenge.isic-archive.com/data/#2017
    """
    root = Path(dataset_dir)
    prefix = f"ISIC-2017_{part}"
    data_dir = root / f"{prefix}_Data"
    truth_file = find_csv(root, f"{prefix}_Part3_GroundTruth")
    if not data_dir.is_dir() or truth_file is None:
        wanted = f"{prefix}_Data/ and {prefix}_Part3_GroundTruth.csv"
        raise_wrong_folder(root, wanted, lambda folder: has_isic2017(folder, part))

    problems: list[str] = []
    images = find_photos(data_dir, problems, ignored="_superpixels")
    _, rows = read_rows(truth_file, ("image_id", *ISIC2017_CLASSES[:2]), problems)
    fault = ("need at most one 1 and else 0 in melanoma, seborrheic_keratosis", "correct them")
    labels = read_labels(truth_file, rows, "image_id", _label, fault, problems)
    return make_table(root, truth_file, data_dir, ISIC2017_CLASSES, images, labels, problems)


def _label(row: Row) -> int | None:
    values = (as_number(row["melanoma"]), as_number(row["seborrheic_keratosis"]))
    return {(1.0, 0.0): 0, (0.0, 1.0): 1, (0.0, 0.0): 2}.get(values)
