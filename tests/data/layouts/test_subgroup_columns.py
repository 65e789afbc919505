# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Subgroups of images from the columns of a list, a data list, or another table."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from monai_fgssl.data import DataError, load_images, read_table
from monai_fgssl.data.layouts.subgroups import MOST_VALUES, subgroup_names

ROWS = [("a", "0", "F", "31"), ("b", "1", "M", ""), ("c", "0", "F", "unknown"), ("d", "1", "", "54")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set").mkdir()
    for name, *_ in ROWS:
        Image.new("RGB", (8, 8)).save(tmp_path / "set" / f"{name}.png")
    lines = [";".join((f"{name}.png", label, sex, age)) for name, label, sex, age in ROWS]
    (tmp_path / "set" / "list.csv").write_text("\n".join(["image;label;Sex;Age years", *lines]))
    (tmp_path / "set" / "license.txt").write_bytes(b"\x00\x01 no table")
    return tmp_path / "set"


def values_of(table: Any, column: str) -> list[str]:
    return [item["subgroups"][column] for item in table.items]


def test_columns_of_the_list(folder: Path) -> None:
    table = read_table(folder, subgroup_columns="sex, age_years")
    assert values_of(table, "sex") == ["F", "M", "F", ""]
    assert values_of(table, "age_years") == ["31", "", "", "54"]
    assert "subgroups of sex: F 2, M 1, not known 1" in table.notes
    plain = [{key: value for key, value in item.items() if key != "subgroups"} for item in table.items]
    assert plain == read_table(folder).items
    assert read_table(folder / "list.csv", subgroup_columns=("sex",)).items[0]["subgroups"] == {"sex": "F"}
    assert "subgroups" not in read_table(folder).items[0]


def test_columns_of_a_data_list(folder: Path) -> None:
    (folder / "list.csv").unlink()
    items = [{"image": f"{name}.png", "label": label, "scanner": sex or None} for name, label, sex, _ in ROWS]
    (folder / "list.json").write_text(json.dumps({"training": items[:2], "test": items[2:]}))
    assert values_of(read_table(folder, subgroup_columns="scanner"), "scanner") == ["F", "M", "F", ""]


def test_another_table_for_folders_of_classes(folder: Path, tmp_path: Path) -> None:
    (folder / "list.csv").unlink()
    for name, label, *_ in ROWS:
        (folder / label).mkdir(exist_ok=True)
        (folder / f"{name}.png").rename(folder / label / f"{name}.png")
    others = "\n".join(["isic_id\tsite", "a\tback", "d\tarm", "not_here\tleg"])
    (tmp_path / "more.tsv").write_text(others)
    table = read_table(folder, "classes", "site", tmp_path / "more.tsv")
    assert {item["name"]: item["subgroups"]["site"] for item in table.items} == {
        "0/a": "back",
        "0/c": "",
        "1/b": "",
        "1/d": "arm",
    }


def test_loaded_images_keep_their_subgroups_in_any_order(folder: Path) -> None:
    images = load_images(read_table(folder, subgroup_columns="sex").items, 8)
    assert images.subgroups == {"sex": ["F", "M", "F", ""]}
    assert images.select([3, 1]).subgroups == {"sex": ["", "M"]}
    items = read_table(folder, subgroup_columns="sex").items[::-1]
    assert images.listed(items).subgroups == {"sex": ["", "F", "M", "F"]}
    assert load_images(read_table(folder).items, 8).subgroups == {}


@pytest.mark.parametrize(
    ("columns", "more", "message"),
    [
        ("sexx", "", r"no column sexx \(--subgroup_columns\) in .*columns are: image, label, Sex, Age years"),
        ("site", "image,site\na,back\na,arm\n", "a: site is back and arm"),
        ("site", "image,site\nelsewhere,back\n", "has no value for any image"),
    ],
)
def test_what_can_not_be_subgroups_is_refused(
    columns: str, more: str, message: str, folder: Path, tmp_path: Path
) -> None:
    file = None
    if more:
        file = tmp_path / "more.csv"
        file.write_text(more)
    with pytest.raises(DataError, match=message):
        read_table(folder, None, columns, file)


def test_a_missing_table_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=re.escape(f"{tmp_path / 'none.csv'} (--subgroup_file) can't be read")):
        read_table(folder, None, "sex", tmp_path / "none.csv")


def test_names_that_may_be_one_subgroup_are_told(folder: Path) -> None:
    text = (folder / "list.csv").read_text().replace("b.png;1;M", "b.png;1;f")
    (folder / "list.csv").write_text(text)
    notes = read_table(folder, subgroup_columns="sex").notes
    assert "different subgroups: F and f; write them alike if they are the same" in notes


def test_many_texts_are_refused() -> None:
    with pytest.raises(DataError, match=r"the column day .* 21 different values"):
        subgroup_names("day", [f"2024-01-{n}" for n in range(MOST_VALUES + 1)])


@given(st.lists(st.one_of(st.just(""), st.integers(-5, 120).map(str), st.floats(0, 1).map("{:.2f}".format))))
def test_many_numbers_become_ranges(values: list[str]) -> None:
    names = subgroup_names("age", values)
    assert [not name for name in names] == [not value for value in values]
    if len({value for value in values if value}) <= MOST_VALUES:
        assert names == values
        return
    of_name: dict[str, list[float]] = {}
    for name, value in zip(names, values, strict=True):
        if name:
            of_name.setdefault(name, []).append(float(value))
    # The ranges do not overlap, so equal values are in one of them, and they have the names of their limits.
    ranges = sorted((min(inside), max(inside)) for inside in of_name.values())
    assert all(first[1] < second[0] for first, second in pairwise(ranges))
    assert set(of_name) == {f"{low:g} to {high:g}" for low, high in ranges}
    # A quarter of the images, but for equal values at an edge.
    most_equal = max(Counter(float(value) for value in values if value).values())
    known = sum(bool(value) for value in values)
    assert all(len(inside) <= known / 4 + most_equal + 1 for inside in of_name.values())
