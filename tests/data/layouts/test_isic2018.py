# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The reader of the ISIC 2018 layout, on the real data and on data sets with mistakes."""

from __future__ import annotations

import csv
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from monai_fgssl.data import ISIC2018_CLASSES, UNLABELED, DataError, read_isic2018

INPUT = "ISIC2018_Task3_Training_Input"
TRUTH = "ISIC2018_Task3_Training_GroundTruth.csv"
GROUPS = "ISIC2018_Task3_Training_LesionGroupings.csv"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of classes NV, MEL and NV, the first and the third of one lesion."""
    root = tmp_path / "set"
    (root / INPUT).mkdir(parents=True)
    for name in ("a.jpg", "b.JPEG", "c.png"):
        (root / INPUT / name).touch()
    (root / INPUT / "LICENSE.txt").touch()
    (root / INPUT / "._a.jpg").touch()
    write(root / TRUTH, ["image", *ISIC2018_CLASSES], one_hot("a", 1), one_hot("b", 0), one_hot("c", 1))
    write(root / GROUPS, ["image", "lesion_id"], ["a", "L1"], ["b", "L2"], ["c", "L1"])
    return root


def one_hot(name: str, label: int) -> list[str]:
    return [name, *(str(float(label == index)) for index in range(7))]


def write(path: Path, *rows: list[str]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def read_error(folder: Path, part: str = "Training") -> str:
    with pytest.raises(DataError) as error:
        read_isic2018(folder, part)
    return str(error.value)


def test_items(folder: Path) -> None:
    table = read_isic2018(folder)
    assert table.class_names == ISIC2018_CLASSES
    assert table.items == [
        {"image": str(folder / INPUT / "a.jpg"), "name": "a", "label": 1, "group": "L1"},
        {"image": str(folder / INPUT / "b.JPEG"), "name": "b", "label": 0, "group": "L2"},
        {"image": str(folder / INPUT / "c.png"), "name": "c", "label": 1, "group": "L1"},
    ]


def test_columns_are_found_by_name(folder: Path) -> None:
    expected = read_isic2018(folder)
    for file in (TRUTH, GROUPS):
        with (folder / file).open(newline="") as stream:
            columns, *rows = list(csv.reader(stream))
        order = random.Random(0).sample(range(len(columns)), len(columns))
        assert order != sorted(order)
        # As a spreadsheet saves it: byte order mark, spaces, an empty line; and names with the suffix of the file.
        lines = [[f" {row[i]}.jpg" if row[i] == "a" else row[i] for i in order] for row in (columns, *rows)]
        text = "\n\n".join(",".join(line) for line in lines)
        (folder / file).write_text("\ufeff" + text, encoding="utf-8")
    assert read_isic2018(folder) == expected


def test_other_classes_keep_the_order_of_their_columns(folder: Path) -> None:
    write(folder / TRUTH, ["benign", "image", "acral"], ["0", "a", "1"], ["1", "b", "0"])
    table = read_isic2018(folder)
    assert table.class_names == ("benign", "acral")
    assert [item["label"] for item in table.items] == [1, 0, UNLABELED]


def test_images_without_a_row_are_unlabeled(folder: Path) -> None:
    (folder / INPUT / "d.png").touch()
    last = read_isic2018(folder).items[-1]
    assert (last["name"], last["label"], last["group"]) == ("d", UNLABELED, "d")


def test_without_groupings_each_image_is_a_group(folder: Path) -> None:
    (folder / GROUPS).unlink()
    assert [item["group"] for item in read_isic2018(folder).items] == ["a", "b", "c"]


def test_other_part_and_csv_in_a_folder_of_its_name(folder: Path) -> None:
    expected = [(item["name"], item["label"]) for item in read_isic2018(folder).items]
    (folder / INPUT).rename(folder / INPUT.replace("Training", "Test"))
    truth = Path(TRUTH.replace("Training", "Test"))
    (folder / truth.stem).mkdir()
    (folder / TRUTH).rename(folder / truth.stem / truth)
    assert [(item["name"], item["label"]) for item in read_isic2018(folder, "Test").items] == expected


def test_wrong_folders_say_where_the_data_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "does not exist" in read_error(folder / "nowhere")
    assert f"but in {folder}: use that" in read_error(folder.parent)
    assert f"but in {folder}: use that" in read_error(folder / INPUT)
    monkeypatch.chdir(folder / INPUT)
    assert f"but in {folder}: use that" in read_error(Path("."))
    message = read_error(folder, "Validation")
    assert "looked for ISIC2018_Task3_Validation_Input/ and ISIC2018_Task3_Validation_GroundTruth.csv" in message
    assert f"found {TRUTH}, {INPUT}/, {GROUPS}" in message
    (folder / TRUTH).unlink()
    assert f"{TRUTH} in {folder}" in read_error(folder)


def test_all_problems_are_told_at_once(folder: Path) -> None:
    (folder / INPUT / "a.png").touch()
    write(
        folder / TRUTH,
        ["image", *ISIC2018_CLASSES],
        one_hot("a", 1),
        one_hot("a", 1),
        ["b", "1", "1", "0", "0", "0", "0", "0"],
        ["c", "0", "0", "0", "0", "0", "0", "0"],
        *(one_hot(f"gone{i}", 0) for i in range(7)),
    )
    write(folder / GROUPS, ["image", "lesion_id"], ["a", "L1"], ["a", "L2"], ["c", ""])
    message = read_error(folder)
    for text in (
        f"7 problem(s) in {folder}",
        f"{INPUT}/: 1 images differ from another one in the suffix only (a.png)",
        f"{TRUTH}: 2 rows need exactly one 1 and else 0 in MEL, NV, BCC, AKIEC, BKL, DF, VASC (b, c)",
        f"{TRUTH}: 1 rows repeat an image (a)",
        f"{TRUTH}: 7 rows have no image in {INPUT}/ (gone0, gone1, gone2, gone3, gone4 and 2 more)",
        f"{GROUPS}: 1 rows have no lesion_id (c)",
        f"{GROUPS}: 1 images belong to two lesions (a)",
        f"{GROUPS}: 1 labeled images have no row (b)",
    ):
        assert text in message
    assert message.count("\n  - ") == 7


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([["name", "MEL", "NV"], ["a", "1", "0"]], "no column image; its columns are: name, MEL, NV"),
        ([["image", "MEL"], ["a", "1"]], "needs a column for each of at least 2 classes, has 1"),
        ([["image", "MEL", "MEL"], ["a", "1", "0"]], "columns with the same name (MEL)"),
        ([["", "image", "MEL", "NV"], ["x", "a", "1", "0"]], "1 rows need exactly one 1 and else 0 in column 1"),
        ([["image", "MEL", "NV"]], "has no rows"),
        ([["image", "MEL", "NV"], ["a", "1"]], "1 rows need exactly one 1"),
        ([["image", "MEL", "NV", "dx"], ["a", "1", "0", "mel"]], "delete columns that are not classes"),
        ([["image", "MEL", "NV"], ["a", "nan", "1"]], "1 rows need exactly one 1"),
        ([["image", "MEL", "NV"], ["a", "0.5", "0.5"]], "1 rows need exactly one 1"),
        ([], "no column image; its columns are: none"),
    ],
)
def test_broken_ground_truth(folder: Path, rows: list[list[str]], text: str) -> None:
    write(folder / TRUTH, *rows)
    assert f"{TRUTH}: " in read_error(folder)
    assert text in read_error(folder)


def test_binary_file_and_empty_folder(folder: Path) -> None:
    (folder / TRUTH).write_bytes(b"PK\x03\x04\xff\xfe\x00")
    assert "is not text; save it again as CSV in UTF-8" in read_error(folder)
    shutil.rmtree(folder / INPUT)
    (folder / INPUT).mkdir()
    assert "there are no images (.jpg, .jpeg, .png) in this folder" in read_error(folder)


def test_real_images(isic2018: Path) -> None:
    table = read_isic2018(isic2018)
    assert table.class_names == ISIC2018_CLASSES
    # Counted with grep in the CSV.
    counts = Counter(table.class_names[item["label"]] for item in table.items)
    assert counts == {"NV": 4323, "BKL": 583, "MEL": 491, "BCC": 264, "AKIEC": 183, "VASC": 80, "DF": 60}
    with (isic2018 / TRUTH).open(newline="") as file:
        expected = {row["image"]: max(ISIC2018_CLASSES, key=lambda n: float(row[n])) for row in csv.DictReader(file)}
    assert {item["name"]: table.class_names[item["label"]] for item in table.items} == expected
    with (isic2018 / GROUPS).open(newline="") as file:
        groups = {row["image"]: row["lesion_id"] for row in csv.DictReader(file)}
    assert all(item["group"] == groups[item["name"]] for item in table.items)
    assert all(Path(item["image"]).stem == item["name"] for item in table.items)
