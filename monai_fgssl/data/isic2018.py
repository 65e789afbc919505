# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""ISIC 2018 Task 3 (HAM10000) in its official layout."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from .errors import DataError, first_names
from .table import UNLABELLED, ImageTable

__all__ = ["ISIC2018_CLASSES", "read_isic2018"]

ISIC2018_CLASSES = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
"""The seven classes in the official order."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def read_isic2018(dataset_dir: str | Path, part: str = "Training") -> ImageTable:
    """Read a data set in the layout of ISIC 2018 Task 3.

    ::

        dataset_dir/
          ISIC2018_Task3_<part>_Input/               images, .jpg, .jpeg or .png
          ISIC2018_Task3_<part>_GroundTruth.csv      image, then one column per class: one 1, else 0
          ISIC2018_Task3_<part>_LesionGroupings.csv  image, lesion_id (optional)

    Columns are found by name. Own data in this layout may have other classes than the official seven: their order is
    that of the columns then. The CSV files may also lie in a folder of the same name, as the official archives unpack.

    Args:
        dataset_dir: folder with the layout above.
        part: ``"Training"``, ``"Validation"``, ``"Test"``, or whatever stands in its place in the names.

    Returns:
        Items sorted by name. An image without a row in the ground truth is unlabelled. Without lesion groupings every
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
    truth_file = _find_csv(root, f"{prefix}_GroundTruth")
    if not input_dir.is_dir() or truth_file is None:
        raise DataError(_describe_wrong_folder(root, prefix))

    problems: list[str] = []
    images = _find_images(input_dir, problems)
    class_names, labels = _read_truth(truth_file, problems)
    if missing := sorted(labels.keys() - images.keys()):
        problems.append(
            f"{truth_file.name}: {len(missing)} rows have no image in {input_dir.name}/ ({first_names(missing)}): "
            "add the images or delete the rows."
        )
    groups: dict[str, str] = {}
    if (group_file := _find_csv(root, f"{prefix}_LesionGroupings")) is not None:
        groups = _read_groups(group_file, problems)
        if groups and (ungrouped := sorted(labels.keys() & images.keys() - groups.keys())):
            problems.append(
                f"{group_file.name}: {len(ungrouped)} labelled images have no row ({first_names(ungrouped)}): add "
                "their lesion_id, or remove the file if no two images show the same lesion."
            )
    if problems:
        raise DataError("\n  - ".join([f"{len(problems)} problem(s) in {root}:", *problems]))
    items: list[dict[str, Any]] = [
        {
            "image": str(images[name]),
            "name": name,
            "label": labels.get(name, UNLABELLED),
            "group": groups.get(name, name),
        }
        for name in sorted(images)
    ]
    return ImageTable(class_names, items)


def _find_csv(root: Path, stem: str) -> Path | None:
    candidates = (root / f"{stem}.csv", root / stem / f"{stem}.csv")
    return next((path for path in candidates if path.is_file()), None)


def _describe_wrong_folder(root: Path, prefix: str) -> str:
    wanted = f"{prefix}_Input/ and {prefix}_GroundTruth.csv"
    if not root.is_dir():
        return f"the data set folder {root} does not exist (dataset_dir): name the folder that has {wanted}."
    for folder in (root.resolve().parent, *sorted(path for path in root.iterdir() if path.is_dir())):
        if (folder / f"{prefix}_Input").is_dir() and _find_csv(folder, f"{prefix}_GroundTruth"):
            return f"{wanted} are not in {root} but in {folder}: use that as dataset_dir."
    found = [path.name + "/" * path.is_dir() for path in sorted(root.iterdir())]
    return f"looked for {wanted} in {root} (dataset_dir), found {first_names(found) or 'an empty folder'}."


def _find_images(folder: Path, problems: list[str]) -> dict[str, Path]:
    images: dict[str, Path] = {}
    repeated: list[str] = []
    for path in sorted(folder.iterdir()):
        # Names that start with a dot: what macOS leaves beside the real files of an unpacked archive.
        if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in images:
            repeated.append(path.name)
        images[path.stem] = path
    if repeated:
        problems.append(
            f"{folder.name}/: {len(repeated)} images have the name of another one but for the suffix "
            f"({first_names(repeated)}): keep one of each."
        )
    if not images:
        problems.append(f"{folder.name}/: there are no images ({', '.join(IMAGE_SUFFIXES)}) in it.")
    return images


def _read_rows(path: Path, needed: tuple[str, ...], problems: list[str]) -> tuple[list[str], list[dict[str, str]]]:
    """Column names and rows of a CSV file; without the needed columns no rows and a problem more."""
    try:
        # utf-8-sig: spreadsheets put a byte order mark before the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [[cell.strip() for cell in line] for line in csv.reader(file) if any(line)]
    except UnicodeDecodeError:
        problems.append(f"{path.name}: is not a text file in UTF-8; save it again as CSV.")
        return [], []
    columns = lines[0] if lines else []
    if lacking := [name for name in needed if name not in columns]:
        problems.append(
            f"{path.name}: no column {', '.join(lacking)}; its columns are: {', '.join(columns) or 'none'}."
        )
        return [], []
    if len(set(columns)) < len(columns) or "" in columns:
        problems.append(f"{path.name}: columns without a name or with the same name: {', '.join(columns)}.")
        return [], []
    # Short lines are filled up: the missing values are then reported where they are read.
    rows = [dict(zip(columns, line + [""] * (len(columns) - len(line)), strict=False)) for line in lines[1:]]
    for row in rows:
        if row["image"].lower().endswith(IMAGE_SUFFIXES):
            row["image"] = row["image"].rpartition(".")[0]
    return columns, rows


def _read_truth(path: Path, problems: list[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    columns, rows = _read_rows(path, ("image",), problems)
    class_names = tuple(name for name in columns if name != "image")
    if set(class_names) == set(ISIC2018_CLASSES):
        class_names = ISIC2018_CLASSES
    if columns and len(class_names) < 2:
        problems.append(f"{path.name}: needs a column for each of at least 2 classes, has {len(class_names)}.")
        return class_names, {}
    labels: dict[str, int] = {}
    wrong: list[str] = []
    repeated: list[str] = []
    for row in rows:
        one_hot = [_as_number(row[name]) for name in class_names]
        if sorted(one_hot) != [0.0] * (len(class_names) - 1) + [1.0]:
            wrong.append(row["image"])
        if row["image"] in labels:
            repeated.append(row["image"])
        labels[row["image"]] = one_hot.index(max(one_hot))
    if wrong:
        problems.append(
            f"{path.name}: {len(wrong)} rows have not exactly one 1 and else 0 in {', '.join(class_names)} "
            f"({first_names(wrong)}): correct them, and delete columns that are no classes."
        )
    if repeated:
        problems.append(
            f"{path.name}: {len(repeated)} rows repeat an image ({first_names(repeated)}): keep one row for each image."
        )
    if columns and not rows:
        problems.append(f"{path.name}: has no rows, so no image has a label.")
    return class_names, labels


def _read_groups(path: Path, problems: list[str]) -> dict[str, str]:
    _, rows = _read_rows(path, ("image", "lesion_id"), problems)
    groups: dict[str, str] = {}
    nameless: list[str] = []
    contradictory: list[str] = []
    for row in rows:
        name, group = row["image"], row["lesion_id"]
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


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("-inf")
