# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The reader of ISIC 2017 Part 3, on the real data and on data sets with mistakes."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import pytest

from monai_fgssl.data.layouts.isic2017 import ISIC2017_CLASSES, read_isic2017
from monai_fgssl.data.layouts.registry import read_part, read_table
from monai_fgssl.data.layouts.table import UNLABELED
from monai_fgssl.utils.errors import DataError

PARTS = {"train": "Training", "validation": "Validation", "test": "Test_v2"}


def write_part(root: Path, part: str, rows: list[str]) -> None:
    """Images and ground truth as the official archives have them."""
    folder = root / f"ISIC-2017_{part}_Data"
    folder.mkdir(parents=True)
    for row in rows:
        name = row.split(",")[0]
        (folder / f"{name}.jpg").touch()
        (folder / f"{name}_superpixels.png").touch()
    (folder / f"ISIC-2017_{part}_Data_metadata.csv").write_text("image_id,age_approximate,sex\n")
    truth = root / f"ISIC-2017_{part}_Part3_GroundTruth.csv"
    truth.write_text("image_id,melanoma,seborrheic_keratosis\n" + "\n".join(rows) + "\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_part(tmp_path, "Training", ["ISIC_1,0.0,0.0", "ISIC_2,1.0,0.0", "ISIC_3,0.0,1.0"])
    write_part(tmp_path, "Validation", ["ISIC_4,1,0"])
    write_part(tmp_path, "Test_v2", ["ISIC_5,0,1", "ISIC_6,0,0"])
    return tmp_path


def test_items(folder: Path) -> None:
    table = read_isic2017(folder)
    assert table.class_names == ISIC2017_CLASSES == ("melanoma", "seborrheic_keratosis", "nevus")
    assert table.items == [
        {"image": str(folder / f"ISIC-2017_Training_Data/{name}.jpg"), "name": name, "label": label, "group": name}
        for name, label in (("ISIC_1", 2), ("ISIC_2", 0), ("ISIC_3", 1))
    ]


def test_all_parts(folder: Path) -> None:
    table = read_table(folder)
    assert [(item["name"], item["part"], item["label"]) for item in table.items] == [
        ("ISIC_1", "train", 2),
        ("ISIC_2", "train", 0),
        ("ISIC_3", "train", 1),
        ("ISIC_4", "validation", 0),
        ("ISIC_5", "test", 1),
        ("ISIC_6", "test", 2),
    ]
    for names in (("test", "Test", "Test_v2"), ("validation", "Validation"), ("train", "Training")):
        expected = [item["name"] for item in table.items if item["part"] == names[0]]
        for name in names:
            assert [item["name"] for item in read_part(folder, name).items] == expected


def test_images_without_ground_truth_are_no_part(folder: Path) -> None:
    (folder / "ISIC-2017_Test_v2_Part3_GroundTruth.csv").unlink()
    assert {item["part"] for item in read_table(folder).items} == {"train", "validation"}
    with pytest.raises(DataError, match=r"looked for ISIC-2017_Test_v2_Data/ and .*Part3_GroundTruth.csv in"):
        read_part(folder, "test")


def test_columns_by_name_and_images_without_a_row(folder: Path) -> None:
    truth = folder / "ISIC-2017_Training_Part3_GroundTruth.csv"
    truth.write_text("seborrheic_keratosis,image_id,melanoma\n1,ISIC_1.jpg,0\n0,ISIC_2,1\n")
    assert [item["label"] for item in read_isic2017(folder).items] == [1, 0, UNLABELED]


def test_mistakes(folder: Path) -> None:
    truth = folder / "ISIC-2017_Training_Part3_GroundTruth.csv"
    truth.write_text(
        "image_id,melanoma,seborrheic_keratosis\nISIC_1,1,1\nISIC_2,0.5,0\nISIC_3,,0\nISIC_3,0,0\nISIC_9,0,0\n"
    )
    with pytest.raises(DataError) as error:
        read_isic2017(folder)
    for text in (
        "3 problem(s) in",
        "3 rows need at most one 1 and else 0 in melanoma, seborrheic_keratosis (ISIC_1, ISIC_2, ISIC_3)",
        "1 rows repeat an image (ISIC_3)",
        "1 rows have no image in ISIC-2017_Training_Data/ (ISIC_9)",
    ):
        assert text in str(error.value)
    truth.write_text("image_id,melanoma\nISIC_1,1\n")
    with pytest.raises(DataError, match="no column seborrheic_keratosis; its columns are: image_id, melanoma"):
        read_isic2017(folder)


def test_one_image_in_two_parts(folder: Path) -> None:
    (folder / "ISIC-2017_Training_Data" / "ISIC_4.jpg").touch()
    with pytest.raises(DataError, match=r"1 images are in two parts \(ISIC_4\): keep one of each"):
        read_table(folder)


def test_wrong_folder_names_the_right_one(folder: Path) -> None:
    with pytest.raises(DataError, match=f"but in {folder}: use that"):
        read_isic2017(folder / "ISIC-2017_Training_Data")


@pytest.mark.parametrize(
    ("part", "counts"),
    [
        ("train", {"melanoma": 374, "seborrheic_keratosis": 254, "nevus": 1372}),
        ("validation", {"melanoma": 30, "seborrheic_keratosis": 42, "nevus": 78}),
    ],
)
def test_real_images(isic2017: Path, part: str, counts: dict[str, int]) -> None:
    table = read_table(isic2017)
    items = [item for item in table.items if item["part"] == part]
    # Counts of the challenge's description: https://arxiv.org/abs/1710.05006
    assert Counter(table.class_names[item["label"]] for item in items) == counts
    with (isic2017 / f"ISIC-2017_{PARTS[part]}_Part3_GroundTruth.csv").open(newline="") as file:
        rows = {row["image_id"]: row for row in csv.DictReader(file)}
    assert {item["name"] for item in items} == rows.keys()
    for item in items:
        row = rows[item["name"]]
        named = [name for name in ("melanoma", "seborrheic_keratosis") if float(row[name])] or ["nevus"]
        assert [table.class_names[item["label"]]] == named
        assert Path(item["image"]).name == f"{item['name']}.jpg"
