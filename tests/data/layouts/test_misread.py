# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Lists and folders that could be misread silently: each is read right, reported, or refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from monai_fgssl.data import DataError, list_images, read_table

FILES = [f"{number}.png" for number in range(6)]


def table_of(folder: Path, labels: list[str], header: str = "image,label") -> Any:
    for name in FILES:
        (folder / name).touch()
    rows = [f"{name},{label}" for name, label in zip(FILES, labels, strict=False)]
    (folder / "list.csv").write_text("\n".join([header, *rows]))
    return read_table(folder)


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def labels_of(table: Any) -> list[str | None]:
    return [table.class_names[item["label"]] if item["label"] >= 0 else None for item in table.items]


def test_words_for_no_label(tmp_path: Path) -> None:
    table = table_of(tmp_path, ["a", "b", "missing", "not available", ".", "n.a."])
    assert labels_of(table) == ["a", "b", None, None, None, None]
    assert "4 images have no label (missing 1, not available 1, . 1, n.a. 1)" in table.notes


@pytest.mark.parametrize("code", ["-9", "999", "unknown", "-"])
def test_codes_that_may_stand_for_no_label_are_told(code: str, tmp_path: Path) -> None:
    table = table_of(tmp_path, ["0", "1", code, "0", "1", code])
    assert code in table.class_names
    assert f"read as classes: {code} 2; if this means 'not known', leave it empty" in table.notes


@pytest.mark.parametrize(
    "dates", [["2026-01-02", "2026-01-03"], ["2-Jan", "3-Jan"], ["1/2/2026", "1/3/2026"], ["Jan-02", "Feb-03"]]
)
def test_classes_written_as_dates_are_told(dates: list[str], tmp_path: Path) -> None:
    assert "2 classes are written as dates (" in " ".join(table_of(tmp_path, dates * 3).notes)


def test_classes_with_decimals_are_told(tmp_path: Path) -> None:
    assert "2 classes are numbers with decimals (1.5, 2.5)" in " ".join(table_of(tmp_path, ["1.5", "2.5"] * 3).notes)


@pytest.mark.parametrize("name", ["3", "grade 2", "T2-N1", "may", "march", "MAR-2b", "12", "1-2", "M8-3"])
def test_other_classes_are_no_dates(name: str, tmp_path: Path) -> None:
    notes = " ".join(table_of(tmp_path, [name, "other"] * 3).notes)
    assert "dates" not in notes
    assert "decimals" not in notes


def test_labels_that_python_wrote_as_lists(tmp_path: Path) -> None:
    assert labels_of(table_of(tmp_path, ["['a']", '"[""b""]"', "[c]"])) == ["a", "b", "c"]


def test_columns_of_classes_with_decimal_commas(tmp_path: Path) -> None:
    make(tmp_path, *FILES)
    (tmp_path / "list.csv").write_text("image;a;b\n0.png;1,0;0,0\n1.png;0,0;1,0\n2.png;1,0;0,0\n")
    assert labels_of(read_table(tmp_path)) == ["a", "b", "a"]


@pytest.mark.parametrize("several", ["Mass/Edema", "Mass and Edema", "Mass & Edema", "Mass + Edema"])
def test_several_classes_in_one_label(several: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 images have several classes at once"):
        table_of(tmp_path, ["Mass", several, "Edema", "Mass", "Edema", "Mass"])


def test_names_that_hold_a_separator_are_names(tmp_path: Path) -> None:
    labels = ["head/neck", "skin & hair", "bread and butter"] * 2
    assert labels_of(table_of(tmp_path, labels)) == labels


def test_measurements_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"its labels are measurements \(0.1, 0.2, 0.31 and 3 more\)"):
        table_of(tmp_path, ["0.1", "0.2", "0.31", "0.42", "0.55", "0.6"])
    # Grades may have halves.
    assert labels_of(table_of(tmp_path, ["1", "1.5", "2"] * 2)) == ["1", "1.5", "2"] * 2


@pytest.mark.parametrize("name", ["pid", "MRN", "case_id", "person_id"])
def test_more_names_of_patients(name: str, tmp_path: Path) -> None:
    table = table_of(tmp_path, ["a,1", "b,1", "a,2", "b,2"], f"image,label,{name}")
    assert [item["group"] for item in table.items] == ["1", "1", "2", "2"]


def test_parts_without_a_common_class(tmp_path: Path) -> None:
    make(tmp_path, *FILES)
    (tmp_path / "train.csv").write_text("image,label\n0.png,0\n1.png,1\n2.png,0\n")
    (tmp_path / "test.csv").write_text("image,label\n3.png,nevus\n4.png,melanoma\n")
    with pytest.raises(DataError, match="the part test has none of the classes of train"):
        read_table(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"training": [{"image": "0.png", "label": "a"}], "training": [{"image": "1.png", "label": "b"}]}',
        '{"training": [{"image": "0.png", "label": "a", "label": "b"}]}',
    ],
)
def test_keys_that_are_there_twice(text: str, tmp_path: Path) -> None:
    make(tmp_path, *FILES)
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(DataError, match=r"can't be read as JSON \(the key '(training|label)' is there twice\)"):
        read_table(tmp_path)


def test_half_a_character_is_refused(tmp_path: Path) -> None:
    r"""JSON may hold half of a surrogate pair, such as "\ud800", which no encoding can write."""
    make(tmp_path, *FILES)
    for item in (r'{"image": "\ud800.png", "label": 0}', r'{"image": "0.png", "label": "nevus \uDFFF"}'):
        (tmp_path / "list.json").write_text(f'{{"training": [{item}]}}')
        with pytest.raises(DataError, match=r"can't be read as JSON \(it has a text that is not valid Unicode"):
            read_table(tmp_path)


def test_lists_under_other_keys_are_told(tmp_path: Path) -> None:
    make(tmp_path, *FILES)
    items = [{"image": name, "label": "ab"[number % 2]} for number, name in enumerate(FILES)]
    content = {"training": items[:3], "fold0": items[3:], "labels": {"0": "a"}, "modality": ["CT"]}
    (tmp_path / "list.json").write_text(json.dumps(content))
    note = "list.json: lists under other keys than those of parts are not used (fold0 3)"
    assert note in read_table(tmp_path).notes


def test_masks_beside_images_are_no_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As in BUSI, where each ultrasound image has masks in the folder of its class, and in ISIC 2017."""
    names = ["benign/benign (1).png", "normal/scan.png", "normal/mask.png", "normal/lonely_mask.png"]
    masks = ["benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png", "normal/scan_superpixels.png"]
    make(tmp_path, *names, *masks)
    table = read_table(tmp_path)
    assert sorted(item["name"] + ".png" for item in table.items) == sorted(names)
    assert table.notes == ("3 files that are not images are left out (masks 3)",)
    with caplog.at_level(logging.WARNING):
        assert sorted(item["name"] + ".png" for item in list_images(tmp_path)) == sorted(names)
    assert "3 files that are not images are left out (masks 3)" in caplog.text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/a/1.png", "train/b/1.png", "val/A/2.png", "val/b/2.png"), r"a \(1 images\) and A \(1 images\)"),
        (("train/a/1.png", "train/b/1.png", "test/2.png"), "test has images, and no folder for each class"),
        (("train/a/1.png", "train/b/1.png", "test/a/2.png", "test/b/2.png", "misc/9.png"), "misc beside them is not"),
        (("p1/a/1.png", "p2/b/2.png", "p3/a/1.png", "p4/b/1.png"), "hold folders of the same names"),
        (("siteA/a/1.png", "siteA/b/2.png", "siteB/a/1.png"), "hold folders of the same names"),
        (("a/1.png", "b/1.png", "b copy/1.png"), r"b \(1 images\) and b copy \(1 images\) are nearly the same"),
        (("a/1.png", "b/1.png", "b (2)/1.png"), r"b \(1 images\) and b \(2\) \(1 images\) are nearly the same"),
    ],
)
def test_folders_that_are_asked_about(names: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_table(make(tmp_path, *names))


def test_folders_of_patients_within_classes(tmp_path: Path) -> None:
    names = ("a/p1/1.png", "a/p2/1.png", "b/p3/1.png", "a/patient_1/2.png", "b/patient_1/3.png")
    assert read_table(make(tmp_path / "one", *names[:3])).class_names == ("a", "b")
    assert read_table(make(tmp_path / "two", *names[3:], "b/patient_2/3.png")).class_names == ("a", "b")
