# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Order of grades: from numbers, from a list, or refused."""

from __future__ import annotations

import pytest

from monai_fgssl.data import DataError, ImageTable, order_classes


def table_of(*names: str, ordered: bool = False) -> ImageTable:
    items = [{"image": f"{k}.png", "name": str(k), "label": k, "group": str(k)} for k in range(len(names))]
    return ImageTable(names, [*items, {**items[0], "name": "x", "label": -1}], ("as read",), ordered)


def labels_by_name(table: ImageTable) -> dict[str, str]:
    names = dict(enumerate(table.class_names)) | {-1: "not known"}
    return {item["name"]: names[item["label"]] for item in table.items}


def test_numbers_have_an_order_of_their_own() -> None:
    before = table_of("10", "2", "0.5")
    table = order_classes(before)
    assert table.class_names == ("0.5", "2", "10")
    assert table.ordered
    assert labels_by_name(table) == labels_by_name(before)


def test_a_list_gives_the_order() -> None:
    before = table_of("absent", "mild", "severe", "2")
    table = order_classes(before, ["absent", "minimal", "mild", 2, "severe"])
    assert table.class_names == ("absent", "mild", "2", "severe")
    assert labels_by_name(table) == labels_by_name(before)
    assert table.notes == ("as read", "no image has the grade minimal: left out")


def test_letters_with_accents_may_be_written_as_two_signs() -> None:
    assert order_classes(table_of("g\u00fcnstig", "b\u00f6se"), ["gu\u0308nstig", "bo\u0308se"]).class_names == (
        "g\u00fcnstig",
        "b\u00f6se",
    )


def test_a_known_order_stays() -> None:
    assert order_classes(table_of("mild", "absent", ordered=True)).class_names == ("mild", "absent")


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (None, r"needs the order of the classes \(absent, mild, severe\).*--class_order"),
        (["absent", "mild"], r"--class_order lacks classes of the data set \(severe\)"),
        (["absent", "mild", "severe", "mild"], "--class_order names a class twice"),
        ("absent,mild,severe", "--class_order must be a list"),
    ],
)
def test_what_does_not_tell_the_order(order: list[str] | str | None, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        order_classes(table_of("absent", "mild", "severe"), order)
