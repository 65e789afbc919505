# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Splits by lesion: nothing in two parts, classes in proportion, for any data set."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_fgssl.data import (
    UNLABELLED,
    DataError,
    ImageTable,
    limit_labels,
    read_isic2018,
    read_split,
    split_table,
    write_split,
)

FRACTIONS = {"train": 0.6, "validation": 0.2, "test": 0.2}


def make_table(group_sizes: list[int], num_classes: int = 3, unlabelled: int = 5) -> ImageTable:
    items = [
        {"image": f"{group}_{i}.png", "name": f"{group}_{i}", "label": group % num_classes, "group": f"lesion{group}"}
        for group, size in enumerate(group_sizes)
        for i in range(size)
    ]
    items += [
        {"image": f"u{i}.png", "name": f"u{i}", "label": UNLABELLED, "group": f"lesion{i}"} for i in range(unlabelled)
    ]
    return ImageTable(tuple("ABC"[:num_classes]), items)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=15, max_size=60), st.integers(0, 5))
def test_groups_stay_together_and_nothing_is_lost(sizes: list[int], seed: int) -> None:
    table = make_table(sizes)
    split = split_table(table, FRACTIONS, seed)
    part_of: dict[str, str] = {}
    for part, items in split.items():
        for item in items:
            assert part_of.setdefault(item["group"], part) == part
            assert part == "train" or item["label"] != UNLABELLED
        assert {item["label"] for item in items} >= {0, 1, 2}
    labelled = sorted(item["name"] for items in split.values() for item in items if item["label"] != UNLABELLED)
    assert labelled == sorted(item["name"] for item in table.items if item["label"] != UNLABELLED)


def test_classes_in_proportion_on_real_labels(isic2018: Path) -> None:
    table = read_isic2018(isic2018)
    totals = Counter(item["label"] for item in table.items)
    for part, items in split_table(table, FRACTIONS, seed=1).items():
        for label, count in Counter(item["label"] for item in items).items():
            assert count == pytest.approx(FRACTIONS[part] * totals[label], abs=1)


def test_seed_decides() -> None:
    table = make_table([1] * 60)
    assert split_table(table, FRACTIONS, 1) == split_table(table, FRACTIONS, 1)
    assert split_table(table, FRACTIONS, 1) != split_table(table, FRACTIONS, 2)


def test_too_few_groups_name_the_class() -> None:
    table = make_table([2, 2, 2, 2, 2, 2, 2])
    with pytest.raises(DataError, match=r"\bB\b"):
        split_table(table, FRACTIONS)
    with pytest.raises(DataError, match="add up to 1"):
        split_table(make_table([1] * 30), {"train": 0.5, "test": 0.4})


@settings(max_examples=20, deadline=None)
@given(st.floats(0.05, 0.9), st.integers(0, 5))
def test_fewer_labels_are_a_subset_of_more(amount: float, seed: int) -> None:
    items = make_table([1, 2, 1] * 20, unlabelled=0).items

    def labelled(share: float) -> set[str]:
        return {item["name"] for item in limit_labels(items, share, seed) if item["label"] != UNLABELLED}

    fewer, more = labelled(amount), labelled(1.0 if amount > 0.5 else 2 * amount)
    assert fewer <= more
    labels = {item["name"]: item["label"] for item in items}
    totals = Counter(labels.values())
    for label, count in Counter(labels[name] for name in fewer).items():
        assert count == pytest.approx(amount * totals[label], abs=2)
    assert [item["name"] for item in limit_labels(items, amount, seed)] == [item["name"] for item in items]


def test_written_and_read_again(tmp_path: Path) -> None:
    table = make_table([1] * 30)
    split = split_table(table, FRACTIONS)
    write_split(tmp_path / "split.json", split)
    assert read_split(tmp_path / "split.json", table) == split
    with pytest.raises(DataError, match="25 images are not in the data set"):
        read_split(tmp_path / "split.json", ImageTable(table.class_names, table.items[25:30] + table.items[30:]))
    (tmp_path / "split.json").write_text("[1")
    with pytest.raises(DataError, match="can't be read as a split"):
        read_split(tmp_path / "split.json", table)
