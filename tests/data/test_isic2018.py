# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The reader of the ISIC 2018 layout, on the real data and on data sets with mistakes."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest

from monai_fgssl.data import ISIC2018_CLASSES, UNLABELLED, DataError, read_isic2018

PREFIX = "ISIC2018_Task3_Training"
TRUTH = f"{PREFIX}_GroundTruth.csv"
GROUPS = f"{PREFIX}_LesionGroupings.csv"


@pytest.fixture
def copy(lesions: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lesions, tmp_path / "copy"))


def read_rows(file: Path) -> list[list[str]]:
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


def write_rows(file: Path, rows: list[list[str]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)


def test_real_images(isic2018: Path) -> None:
    table = read_isic2018(isic2018)
    assert table.class_names == ISIC2018_CLASSES
    # Counted with grep in the CSV.
    counts = Counter(table.class_names[item["label"]] for item in table.items)
    assert counts == {"NV": 4323, "BKL": 583, "MEL": 491, "BCC": 264, "AKIEC": 183, "VASC": 80, "DF": 60}
    first = table.items[0]
    assert (first["name"], first["group"], table.class_names[first["label"]]) == ("ISIC_0024306", "HAM_0000550", "NV")


def test_columns_are_found_by_name(copy: Path) -> None:
    expected = read_isic2018(copy)
    for file in (copy / TRUTH, copy / GROUPS):
        write_rows(file, [row[::-1] for row in read_rows(file)])
    shuffled = read_isic2018(copy)
    assert shuffled.class_names == expected.class_names[::-1]
    for item, other in zip(expected.items, shuffled.items, strict=True):
        assert expected.class_names[item["label"]] == shuffled.class_names[other["label"]]
        assert item["group"] == other["group"]


def test_official_classes_keep_the_official_order(copy: Path) -> None:
    rows = read_rows(copy / TRUTH)
    rows[0][1:] = sorted(ISIC2018_CLASSES)
    write_rows(copy / TRUTH, rows)
    assert read_isic2018(copy).class_names == ISIC2018_CLASSES


def test_images_without_a_row_are_unlabelled(copy: Path) -> None:
    rows = read_rows(copy / TRUTH)
    write_rows(copy / TRUTH, rows[:101])
    labels = [item["label"] for item in read_isic2018(copy).items]
    assert labels.count(UNLABELLED) == 40
    assert len(labels) == 140


def test_without_groupings_every_image_is_a_group(copy: Path) -> None:
    (copy / GROUPS).unlink()
    items = read_isic2018(copy).items
    assert all(item["group"] == item["name"] for item in items)


def test_all_problems_are_in_one_message(copy: Path) -> None:
    rows = read_rows(copy / TRUTH)
    (copy / f"{PREFIX}_Input" / f"{rows[1][0]}.png").unlink()
    rows[2][1:] = ["1.0", "1.0", *["0.0"] * 5]
    rows.append(rows[3])
    write_rows(copy / TRUTH, rows)
    with pytest.raises(DataError) as error:
        read_isic2018(copy)
    message = str(error.value)
    assert message.startswith("3 problem(s)")
    for name in (rows[1][0], rows[2][0], rows[3][0]):
        assert name in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: shutil.rmtree(root), "does not exist"),
        (lambda root: (root / TRUTH).unlink(), f"looked for {PREFIX}_Input/ and {TRUTH}"),
        (lambda root: write_rows(root / TRUTH, [["picture", "A"], ["x", "1"]]), "image"),
        (lambda root: [file.unlink() for file in (root / f"{PREFIX}_Input").iterdir()], "no images"),
    ],
)
def test_mistakes(copy: Path, change, message: str) -> None:
    change(copy)
    with pytest.raises(DataError, match=message):
        read_isic2018(copy)


def test_folder_one_level_too_high_is_pointed_to(copy: Path) -> None:
    with pytest.raises(DataError, match=f"but in {copy}"):
        read_isic2018(copy.parent)
