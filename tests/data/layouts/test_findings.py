# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Lists with several findings for an image: recognized where that is certain, asked for where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from monai_fgssl.data import DataError, ImageTable, read_table

UNKNOWN = -1


def make_list(folder: Path, name: str, text: str) -> Path:
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def labels_of(table: ImageTable) -> list[int | tuple[int, ...]]:
    return [item["label"] for item in sorted(table.items, key=lambda item: item["name"])]


def test_columns_of_findings(tmp_path: Path) -> None:
    text = "image,Mass,Edema,Hernia\n0.png,1,1,0\n1.png,0,0,0\n2.png,,-1,0\n3.png,,,\n"
    table = read_table(make_list(tmp_path, "list.csv", text))
    assert table.multilabel
    # No image has a hernia, so nothing can be learned about it.
    assert table.class_names == ("Mass", "Edema")
    assert labels_of(table) == [(1, 1), (0, 0), UNKNOWN, UNKNOWN]
    assert any("no image has Hernia: left out" in note for note in table.notes)


def test_answers_that_are_empty_or_uncertain_are_not_known(tmp_path: Path) -> None:
    text = (
        "Path,Sex,Age,Mass,Edema\n0.png,Male,50,1.0,1.0\n1.png,Female,60,0.0,-1.0\n2.png,Male,40,,1.0\n3.png,Male,3,,\n"
    )
    table = read_table(make_list(tmp_path, "list.csv", text))
    assert labels_of(table) == [(1, 1), (0, UNKNOWN), (UNKNOWN, 1), UNKNOWN]
    assert "2 of 6 answers are not known (empty or -1): not learned from" in table.notes


@pytest.mark.parametrize("column", ["sex", "Male", "is female"])
def test_a_column_about_the_person_is_no_finding(column: str, tmp_path: Path) -> None:
    text = f"image,Mass,Edema,{column}\n0.png,1,1,0\n1.png,0,0,1\n2.png,0,1,1\n3.png,1,0,0\n"
    assert read_table(make_list(tmp_path, "list.csv", text)).class_names == ("Mass", "Edema")
    text = "image,male,female\n0.png,1,0\n1.png,0,1\n2.png,0,1\n3.png,1,0\n"
    assert read_table(make_list(tmp_path, "list.csv", text)).class_names == ("male", "female")


def test_columns_have_composed_letters_as_labels_have(tmp_path: Path) -> None:
    text = "image,Mass,O\u0308dem\n0.png,1,1\n1.png,0,0\n2.png,0,1\n3.png,1,0\n"
    assert read_table(make_list(tmp_path, "list.csv", text)).class_names == ("Mass", "\u00d6dem")


def test_names_with_bars_between_them(tmp_path: Path) -> None:
    text = "Image Index,Finding Labels,Patient ID\n0.png,Mass|Edema,1\n1.png,No Finding,1\n2.png,Edema,2\n3.png,,3\n"
    table = read_table(make_list(tmp_path, "Data_Entry_2017.csv", text))
    assert table.multilabel
    assert table.class_names == ("Edema", "Mass")
    assert labels_of(table) == [(1, 1), (0, 0), (1, 0), UNKNOWN]
    assert [item["group"] for item in table.items] == ["1", "1", "2", "3"]


def test_no_finding_beside_a_finding_is_told(tmp_path: Path) -> None:
    text = "image,No Finding,Edema,Support Devices\n0.png,1,0,1\n1.png,0,1,1\n2.png,1,0,0\n3.png,1,1,0\n"
    table = read_table(make_list(tmp_path, "list.csv", text))
    assert labels_of(table) == [(1, 0, 1), (0, 1, 1), (1, 0, 0), (1, 1, 0)]
    told = "2 images have 'No Finding' beside a finding (0.png, 3.png): both are learned as they are"
    assert told in table.notes


def test_one_hot_columns_are_classes(tmp_path: Path) -> None:
    folder = make_list(tmp_path, "list.csv", "image,MEL,NV\n0.png,1,0\n1.png,0,1\n2.png,1,0\n3.png,0,1\n")
    table = read_table(folder)
    assert not table.multilabel
    assert labels_of(table) == [0, 1, 0, 1]
    assert labels_of(read_table(folder, task="multilabel")) == [(1, 0), (0, 1), (1, 0), (0, 1)]


def test_rows_without_any_class_are_asked_about(tmp_path: Path) -> None:
    folder = make_list(tmp_path, "list.csv", "image,Mass,Edema\n0.png,1,0\n1.png,0,1\n2.png,0,0\n3.png,0,1\n")
    with pytest.raises(DataError, match=r"1 rows need exactly one 1 .*2\.png.* add --task multilabel"):
        read_table(folder)
    assert labels_of(read_table(folder, task="multilabel")) == [(1, 0), (0, 1), (0, 0), (0, 1)]


def test_several_classes_are_refused_where_one_is_asked_for(tmp_path: Path) -> None:
    folder = make_list(tmp_path, "list.csv", "image,label\n0.png,Mass|Edema\n1.png,Mass\n2.png,Edema\n3.png,Mass\n")
    with pytest.raises(DataError, match="several classes at once"):
        read_table(folder, task="multiclass")


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        ([[1, 1], [0, -1], [0, 0], [-1, -1]], None, [(1, 1), (0, UNKNOWN), (0, 0), UNKNOWN]),
        ([[1, 1], [0, 1.0], [0, 0], [1, 0]], {"0": "Mass", "1": "Edema"}, [(1, 1), (0, 1), (0, 0), (1, 0)]),
        ([["1", "0"], ["1"], "0", None], None, [(1, 1), (0, 1), (1, 0), UNKNOWN]),
    ],
)
def test_a_data_list_with_vectors_or_lists_of_names(
    labels: list, names: dict[str, str] | None, expected: list, tmp_path: Path
) -> None:
    items = [{"image": f"{number}.png", "label": label} for number, label in enumerate(labels)]
    content = {"training": items} | ({"labels": names} if names else {})
    table = read_table(make_list(tmp_path, "list.json", json.dumps(content)))
    assert table.class_names == (("Mass", "Edema") if names else ("0", "1"))
    assert labels_of(table) == expected


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (
            "list.csv",
            "image,label\n0.png,Mass|nan\n1.png,Mass|Edema\n2.png,Edema\n3.png,Mass\n",
            "1 images have a value that stands for not known beside a finding",
        ),
        ("list.csv", "image,label\n0.png,Mass|No Finding\n1.png,Mass\n", "1 images have 'No Finding' beside a finding"),
        ("list.csv", "image,label\n0.png,Mass|mass\n1.png,Mass\n", "nearly the same name"),
        (
            "list.json",
            '{"training": [{"image": "0.png", "label": [1, 1]}, {"image": "1.png", "label": [1]}]}',
            "lists of",
        ),
        ("list.json", '{"training": [{"image": "0.png", "label": [1, 7]}]}', "nor a list of 1, 0 and -1"),
    ],
)
def test_what_contradicts_itself(name: str, text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        read_table(make_list(tmp_path, name, text))
