# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The reader of APTOS 2019, on the real data and on data sets with mistakes."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from monai_fgssl.data.layouts.aptos2019 import APTOS2019_CLASSES, read_aptos2019
from monai_fgssl.data.layouts.registry import read_part, read_table
from monai_fgssl.data.layouts.table import UNLABELED
from monai_fgssl.data.splits import split_table
from monai_fgssl.utils.errors import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As Kaggle's archive unpacks, but for the number of images."""
    for part, names in (("train", ("a.png", "b.jpg", "c.PNG")), ("test", ("d.png", "e.png"))):
        (tmp_path / f"{part}_images").mkdir()
        for name in names:
            (tmp_path / f"{part}_images" / name).touch()
    (tmp_path / "train.csv").write_text("id_code,diagnosis\na,2\nb,0\nc,4\n")
    (tmp_path / "test.csv").write_text("id_code\nd\ne\n")
    (tmp_path / "sample_submission.csv").write_text("id_code,diagnosis\nd,0\ne,0\n")
    return tmp_path


def test_items(folder: Path) -> None:
    table = read_aptos2019(folder)
    assert table.class_names == APTOS2019_CLASSES
    assert table.items == [
        {"image": str(folder / "train_images/a.png"), "name": "a", "label": 2, "group": "a"},
        {"image": str(folder / "train_images/b.jpg"), "name": "b", "label": 0, "group": "b"},
        {"image": str(folder / "train_images/c.PNG"), "name": "c", "label": 4, "group": "c"},
    ]


def test_the_published_test_part_has_no_labels(folder: Path) -> None:
    items = read_table(folder).items
    assert [(item["name"], item["part"], item["label"]) for item in items[3:]] == [
        ("d", "test", UNLABELED),
        ("e", "test", UNLABELED),
    ]
    assert read_part(folder, "Test").items == read_aptos2019(folder, "test").items


def test_a_labeled_test_part_is_kept(folder: Path) -> None:
    (folder / "test.csv").write_text("diagnosis,id_code\n3,e\n1.0,d\n")
    assert [item["label"] for item in read_part(folder, "test").items] == [1, 3]


def test_mistakes(folder: Path) -> None:
    (folder / "train.csv").write_text("id_code,diagnosis\na,5\na,x\nb,\nz,1\n")
    with pytest.raises(DataError) as error:
        read_aptos2019(folder)
    for text in (
        "3 problem(s) in",
        "train.csv: 3 rows have no diagnosis from 0 to 4 (a, a, b): correct them",
        "train.csv: 1 rows repeat an image (a)",
        "train.csv: 1 rows have no image in train_images/ (z)",
    ):
        assert text in str(error.value)
    (folder / "train.csv").write_text("id_code\na\n")
    with pytest.raises(DataError, match="no column diagnosis; its columns are: id_code"):
        read_aptos2019(folder)
    with pytest.raises(DataError, match=f"but in {folder}: use that"):
        read_aptos2019(folder / "train_images")


def test_real_images(aptos2019: Path) -> None:
    table = read_table(aptos2019)
    with (aptos2019 / "train.csv").open(newline="") as file:
        expected = {row["id_code"]: int(row["diagnosis"]) for row in csv.DictReader(file)}
    assert {item["name"]: item["label"] for item in table.items} == expected
    # Counted with cut, sort and uniq.
    assert Counter(item["label"] for item in table.items) == {0: 1445, 1: 297, 2: 796, 3: 156, 4: 236}
    split = split_table(table, {"train": 0.7, "validation": 0.1, "test": 0.2})
    for label, total in Counter(expected.values()).items():
        assert sum(item["label"] == label for item in split["test"]) == pytest.approx(0.2 * total, abs=1)
