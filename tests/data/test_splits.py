# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Splits by lesion: for any data set, no lesion is in two parts, and classes are in proportion."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from monai_fgssl.data import (
    UNLABELED,
    DataError,
    ImageTable,
    limit_labels,
    read_isic2018,
    read_split,
    split_table,
    write_split,
)
from monai_fgssl.data.layouts.registry import read_table
from monai_fgssl.data.splits import fold_table, split_notes

PARTS = ("train", "validation", "test")


def make_table(group_labels: list[list[int]], num_classes: int) -> ImageTable:
    """One inner list per group, with the labels of its images."""
    items = [
        {"image": f"{group}_{photo}.png", "name": f"{group}_{photo}", "label": label, "group": f"g{group}"}
        for group, labels in enumerate(group_labels)
        for photo, label in enumerate(labels)
    ]
    return ImageTable(tuple(f"class{label}" for label in range(num_classes)), items)


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["name"] for item in items]


@st.composite
def tables(draw: st.DrawFn) -> ImageTable:
    num_classes = draw(st.integers(2, 4))
    groups = []
    for label in range(num_classes):
        sizes = draw(st.lists(st.integers(1, 4), min_size=3, max_size=30))
        groups += [[label] * size for size in sizes]
    groups += [[UNLABELED] * size for size in draw(st.lists(st.integers(1, 3), max_size=5))]
    return make_table(groups, num_classes)


@settings(deadline=None, max_examples=60)
@given(tables(), st.integers(0, 9), st.sampled_from([(0.7, 0.15, 0.15), (0.34, 0.33, 0.33), (0.1, 0.1, 0.8)]))
def test_split_properties(table: ImageTable, seed: int, shares: tuple[float, float, float]) -> None:
    fractions = dict(zip(PARTS, shares, strict=True))
    split = split_table(table, fractions, seed)
    assert tuple(split) == PARTS
    # Nothing is lost or twice there, and each part keeps the table's order.
    assert sorted(name for part in split.values() for name in names(part)) == sorted(names(table.items))
    order = {name: position for position, name in enumerate(names(table.items))}
    for part in split.values():
        assert [order[name] for name in names(part)] == sorted(order[name] for name in names(part))
    # No group is torn apart.
    parts_of_groups = [{item["group"] for item in part} for part in split.values()]
    assert sum(map(len, parts_of_groups)) == len(set.union(*parts_of_groups))
    # Unlabeled images are in the first part only.
    assert all(item["label"] != UNLABELED for part in ("validation", "test") for item in split[part])
    # Every class is in every part, and where there are groups to choose from as often as asked for, but for one group.
    for label in range(len(table.class_names)):
        total = sum(item["label"] == label for item in table.items)
        num_groups = len({item["group"] for item in table.items if item["label"] == label})
        for part, share in fractions.items():
            count = sum(item["label"] == label for item in split[part])
            assert count >= 1
            assert num_groups < 20 or abs(count - share * total) <= 4
    assert split_table(table, fractions, seed) == split


def test_groups_of_several_classes() -> None:
    rng = np.random.default_rng(0)
    table = make_table([rng.integers(0, 3, rng.integers(1, 5)).tolist() for _ in range(200)], 3)
    split = split_table(table)
    for label in range(3):
        total = sum(item["label"] == label for item in table.items)
        for part, share in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
            assert sum(item["label"] == label for item in split[part]) == pytest.approx(share * total, abs=0.05 * total)
    groups = [{item["group"] for item in part} for part in split.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_another_seed_is_another_split() -> None:
    table = make_table([[label] for label in [0, 1] * 50], 2)
    assert names(split_table(table, seed=0)["test"]) != names(split_table(table, seed=1)["test"])


def test_unlabeled_photos_of_test_lesions_are_left_out() -> None:
    table = make_table([[label, UNLABELED] for label in [0, 1] * 10], 2)
    split = split_table(table)
    tested = {item["group"] for part in ("validation", "test") for item in split[part]}
    in_train = [item for item in split["train"] if item["label"] == UNLABELED]
    assert tested
    assert not tested & {item["group"] for item in split["train"]}
    assert len(in_train) == 20 - len(tested)


def test_split_errors() -> None:
    table = make_table([[0], [0], [0], [1], [1, 1]], 3)
    with pytest.raises(DataError, match="but there are 2 of class1, 0 of class2"):
        split_table(table)
    with pytest.raises(DataError, match=r"add up to 1, got \{'a': 0.5, 'b': 0.4\}"):
        split_table(table, {"a": 0.5, "b": 0.4})
    with pytest.raises(DataError, match="must be positive"):
        split_table(table, {"a": 1.5, "b": -0.5})
    with pytest.raises(DataError, match="no images to train on"):
        split_table(with_parts(table, ["test"] * 6))
    # Each pair of classes shares a group: whichever way the three groups go, one class is in one part only.
    with pytest.raises(DataError, match=r"class\d can't be in every part \(a, b\) without tearing a group apart"):
        split_table(make_table([[0, 1], [1, 2], [2, 0]], 3), {"a": 0.5, "b": 0.5})


@settings(deadline=None, max_examples=40)
@given(tables(), st.integers(0, 5), st.sampled_from([0.05, 0.3, 1.0, 1, 4, 1000]))
def test_limit_labels_properties(table: ImageTable, seed: int, amount: float | int) -> None:
    limited = limit_labels(table.items, amount, seed)
    assert names(limited) == names(table.items)
    before = Counter(item["label"] for item in table.items)
    after = Counter(item["label"] for item in limited)
    largest = Counter(item["group"] for item in table.items).most_common(1)[0][1]
    for label in range(len(table.class_names)):
        wanted = max(1, round(amount * before[label])) if isinstance(amount, float) else min(amount, before[label])
        assert wanted <= after[label] < wanted + largest
    # All images of a group keep their labels, or none does; a label never changes into another.
    for old, new in zip(table.items, limited, strict=True):
        assert new["label"] in (old["label"], UNLABELED)
        assert {k: v for k, v in new.items() if k != "label"} == {k: v for k, v in old.items() if k != "label"}
    known = {group: set() for group in {item["group"] for item in limited}}
    for old, new in zip(table.items, limited, strict=True):
        known[old["group"]].add(new["label"] == old["label"])
    assert all(len(kept) == 1 for kept in known.values())


def test_smaller_amounts_are_part_of_larger_ones() -> None:
    items = make_table([[label] * (1 + label) for label in [0, 1, 2] * 30], 3).items
    kept = [{i["name"] for i in limit_labels(items, n, seed=3) if i["label"] >= 0} for n in (1, 5, 20, 60)]
    assert kept[0] < kept[1] < kept[2] < kept[3]
    other = {i["name"] for i in limit_labels(items, 5, seed=4) if i["label"] >= 0}
    assert other != kept[1]


@pytest.mark.parametrize("amount", [0, 0.0, -1, 1.5])
def test_limit_labels_out_of_range(amount: float | int) -> None:
    with pytest.raises(DataError, match=f"got {amount!r}"):
        limit_labels(make_table([[0], [1]], 2).items, amount)


def with_parts(table: ImageTable, parts: list[str]) -> ImageTable:
    return ImageTable(table.class_names, [item | {"part": part} for item, part in zip(table.items, parts, strict=True)])


def test_parts_of_the_data_set_are_kept() -> None:
    labels = [[label] for label in [0, 1] * 30]
    table = with_parts(make_table(labels, 2), ["train"] * 40 + ["validation"] * 8 + ["test"] * 12)
    split = split_table(table, {"train": 0.7, "validation": 0.1, "test": 0.2})
    assert {part: names(items) for part, items in split.items()} == {
        "train": names(table.items[:40]),
        "validation": names(table.items[40:48]),
        "test": names(table.items[48:]),
    }


def test_missing_parts_are_split_off_from_training() -> None:
    labels = [[label] for label in [0, 1] * 30]
    table = with_parts(make_table(labels, 2), ["train"] * 50 + ["validation"] * 10)
    split = split_table(table, {"train": 0.7, "validation": 0.1, "test": 0.2})
    assert names(split["validation"]) == names(table.items[50:])
    assert len(split["test"]) == 10
    assert Counter(item["label"] for item in split["test"]) == {0: 5, 1: 5}
    assert sorted(names(split["train"]) + names(split["test"])) == sorted(names(table.items[:50]))


def test_a_test_part_without_labels_is_left_out() -> None:
    labels = [[label] for label in [0, 1] * 20] + [[UNLABELED]] * 10
    table = with_parts(make_table(labels, 2), ["train"] * 40 + ["test"] * 10)
    split = split_table(table, {"train": 0.7, "validation": 0.1, "test": 0.2})
    assert len(split["test"]) == 8
    assert sorted(name for part in split.values() for name in names(part)) == sorted(names(table.items[:40]))


def test_a_group_in_two_parts_of_the_data_set_leaves_training() -> None:
    items = make_table([[label] for label in [0, 1] * 20], 2).items
    groups = {items[0]["name"]: "x", items[30]["name"]: "x", items[39]["name"]: "x", items[1]["name"]: "y"}
    groups[items[31]["name"]] = "y"
    table = ImageTable(("a", "b"), [item | {"group": groups.get(item["name"], item["group"])} for item in items])
    table = with_parts(table, ["train"] * 30 + ["validation"] * 5 + ["test"] * 5)
    split = split_table(table)
    assert names(split["test"]) == names(table.items[35:])
    assert names(split["validation"]) == names(table.items[31:35])
    assert names(split["train"]) == names(table.items[2:30])


def test_a_table_without_classes_is_for_training() -> None:
    table = make_table([[UNLABELED]] * 5, 0)
    assert split_table(table) == {"train": table.items, "validation": [], "test": []}


@settings(deadline=None, max_examples=40)
@given(tables(), st.integers(2, 3), st.integers(0, 9))
def test_fold_properties(table: ImageTable, num_folds: int, seed: int) -> None:
    try:
        folds = fold_table(table, num_folds, 0.2, seed)
    except DataError:
        # Too few groups of a class; hypothesis fails when it meets too many of these.
        reject()
    assert len(folds) == num_folds
    labeled = [item["name"] for item in table.items if item["label"] != UNLABELED]
    # Every labeled image is tested once.
    assert sorted(name for fold in folds for name in names(fold["test"])) == sorted(labeled)
    for fold in folds:
        groups = [{item["group"] for item in items} for items in fold.values()]
        assert sum(map(len, groups)) == len(set.union(*groups))
        known = [item["name"] for items in fold.values() for item in items if item["label"] != UNLABELED]
        assert sorted(known) == sorted(labeled)
        for part in PARTS:
            assert {item["label"] for item in fold[part]} >= set(range(len(table.class_names)))
    assert fold_table(table, num_folds, 0.2, seed) == folds


def test_folds_are_stratified() -> None:
    rng = np.random.default_rng(0)
    table = make_table([[int(rng.random() < 0.1)] * int(rng.integers(1, 4)) for _ in range(600)], 2)
    total = Counter(item["label"] for item in table.items)
    folds = fold_table(table, 5)
    for fold in folds:
        counts = Counter(item["label"] for item in fold["test"])
        assert counts[0] == pytest.approx(total[0] / 5, rel=0.05)
        assert counts[1] == pytest.approx(total[1] / 5, rel=0.15)
    assert names(fold_table(table, 5, seed=1)[0]["test"]) != names(folds[0]["test"])


def test_folds_of_a_data_set_with_parts() -> None:
    table = with_parts(
        make_table([[label] for label in [0, 1] * 30], 2), ["train"] * 40 + ["validation"] * 8 + ["test"] * 12
    )
    for fold in fold_table(table, 4):
        assert names(fold["validation"]) == names(table.items[40:48])
        assert sorted(names(fold["train"]) + names(fold["test"])) == sorted(names(table.items[:40]))
        assert len(fold["test"]) == 10


def test_fold_errors() -> None:
    table = make_table([[0], [0], [0], [1], [1, 1]], 2)
    with pytest.raises(
        DataError, match=r"fold 0, fold 1, fold 2\) needs as many lesions of each class, but there are 2 of"
    ):
        fold_table(table, 3)
    with pytest.raises(DataError, match=r"num_folds of at least 2 .* got 1 and"):
        fold_table(table, 1)
    with pytest.raises(DataError, match=r"in \(0, 1\), got 5 and 1"):
        fold_table(table, 5, 1.0)


def test_split_file(tmp_path: Path) -> None:
    table = make_table([[label] for label in [0, 1] * 10] + [[UNLABELED]], 2)
    split = split_table(table)
    path = tmp_path / "new" / "split.json"
    write_split(path, split, table)
    assert read_split(path, table) == split
    assert ".png" not in path.read_text()
    # The order of items and classes, more images and forgotten labels make no difference.
    other = [item | {"label": {0: 1, 1: 0, -1: -1}[item["label"]]} for item in reversed(table.items)]
    other.append({**table.items[0], "name": "one more"})
    again = read_split(path, ImageTable(("class1", "class0"), other))
    assert {part: names(items) for part, items in again.items()} == {
        part: names(items) for part, items in split.items()
    }
    write_split(tmp_path / "limited.json", {**split, "train": limit_labels(split["train"], 1)}, table)
    assert (tmp_path / "limited.json").read_text() == path.read_text()
    with pytest.raises(DataError, match=r"21 images are not in the data set \(.* and 16 more\)"):
        read_split(path, ImageTable(table.class_names, []))
    for text, message in (
        ("[1]", "can't be read as a split"),
        ('{"a": 3}', "can't be read as a split"),
        ("{", "can't"),
        (
            '{"train": [], "val": [], "test": []}',
            "must have the lists train, validation, test, and has train, val, test",
        ),
        ('{"train": "0_0", "validation": [], "test": []}', "must have the lists train, validation, test"),
        ('{"train": ["0_0", "0_0"], "validation": [], "test": []}', r"1 images are named more than once \(0_0\)"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_split(path, table)
    with pytest.raises(DataError, match="can't be read as a split"):
        read_split(tmp_path / "none.json", table)


def test_a_split_of_another_data_set_is_refused(tmp_path: Path) -> None:
    table = make_table([[label] for label in [0, 1] * 10], 2)
    path = tmp_path / "split.json"
    write_split(path, split_table(table), table)
    changed = [item | {"label": 1 - item["label"]} if item["name"] == "7_0" else item for item in table.items]
    for other in (ImageTable(table.class_names, changed), ImageTable(("class0", "class2"), table.items)):
        with pytest.raises(DataError, match="is the split of another data set"):
            read_split(path, other)
    # Lists made by hand have no checksum.
    path.write_text('{"train": ["0_0"], "validation": [], "test": ["1_0"]}')
    assert names(read_split(path, ImageTable(table.class_names, changed))["test"]) == ["1_0"]


def test_a_split_made_by_hand_tells_what_it_tears_and_leaves_out(tmp_path: Path) -> None:
    table = make_table([[0, 0], [1], [UNLABELED], [1]], 2)
    path = tmp_path / "split.json"
    path.write_text('{"train": ["0_0", "1_0"], "validation": [], "test": ["0_1", "2_0"]}')
    split = read_split(path, table)
    # An image without a label can't be tested.
    assert names(split["test"]) == ["0_1"]
    assert split_notes(split, table) == [
        "1 patients or lesions are in several parts (those of 0_0 and 0_1), so the results will look better than they "
        "are",
        "2 images are in no part, or have no label there (2_0, 3_0)",
    ]
    whole = split_table(make_table([[label] for label in [0, 1] * 10], 2))
    assert split_notes(whole, make_table([[label] for label in [0, 1] * 10], 2)) == []


def make_findings(seed: int = 0) -> ImageTable:
    """300 images of 150 patients with four findings, of which two come together; a tenth of the answers is unknown."""
    rng = np.random.default_rng(seed)
    there = rng.random((300, 4)) < (0.5, 0.3, 0.2, 0.1)
    there[:, 3] &= there[:, 0]
    answers = np.where(rng.random((300, 4)) < 0.1, UNLABELED, there.astype(int))
    items = [
        {"image": f"{k}.png", "name": str(k), "label": tuple(row), "group": f"g{k // 2}"}
        for k, row in enumerate(answers.tolist())
    ]
    items[0] = items[0] | {"label": UNLABELED}
    return ImageTable(("a", "b", "c", "d"), items, multilabel=True)


def shares_of(items: list[dict[str, Any]]) -> np.ndarray:
    """Number of images with each finding, and without any."""
    answers = np.array([item["label"] for item in items if item["label"] != UNLABELED])
    return np.append((answers == 1).sum(0), (~(answers == 1).any(1)).sum())


@pytest.mark.parametrize("seed", range(3))
def test_findings_are_in_proportion_and_patients_stay_together(seed: int) -> None:
    table = make_findings(seed)
    fractions = {"train": 0.6, "validation": 0.2, "test": 0.2}
    split = split_table(table, fractions, seed)
    # An image without a label is left out if its patient is in another part than the first.
    assert {name for items in split.values() for name in names(items)} | {"0"} == set(names(table.items))
    groups = [{item["group"] for item in items} for items in split.values()]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    total = shares_of(table.items)
    for part, fraction in fractions.items():
        np.testing.assert_allclose(shares_of(split[part]), fraction * total, atol=3, err_msg=part)


def test_labels_of_findings_are_limited_by_finding() -> None:
    items = make_findings().items
    for amount in (5, 0.3):
        kept = limit_labels(items, amount)
        counts, total = shares_of(kept), shares_of(items)
        wanted = np.full(5, amount) if isinstance(amount, int) else np.round(amount * total)
        assert (counts >= np.minimum(wanted, total)).all()
        assert sum(item["label"] == UNLABELED for item in kept) > 100
    more = {item["name"] for item in limit_labels(items, 20) if item["label"] != UNLABELED}
    assert {item["name"] for item in limit_labels(items, 5) if item["label"] != UNLABELED} < more


def test_folds_of_findings_have_the_same_share_of_each() -> None:
    table = make_findings()
    folds = fold_table(table, 4, 0.2)
    tested = [name for fold in folds for name in names(fold["test"])]
    assert sorted(tested) == sorted(item["name"] for item in table.items if item["label"] != UNLABELED)
    total = shares_of(table.items)
    for fold in folds:
        groups = [{item["group"] for item in items} for items in fold.values()]
        assert sum(map(len, groups)) == len(set.union(*groups))
        for part in PARTS:
            assert (shares_of(fold[part]) > 0).all()
        np.testing.assert_allclose(shares_of(fold["test"]), total / 4, rtol=0.25, atol=2)
    assert fold_table(table, 4, 0.2) == folds
    assert names(fold_table(table, 4, 0.2, seed=1)[0]["test"]) != names(folds[0]["test"])


def test_too_few_images_of_a_finding_for_the_folds_are_told() -> None:
    items = [{"name": f"{n}", "group": f"{n}", "image": f"{n}.png", "label": (int(n < 2), 1)} for n in range(20)]
    with pytest.raises(DataError, match="there are 2 of"):
        fold_table(ImageTable(("rare", "usual"), items, multilabel=True), 3)


def test_a_split_of_findings_comes_back_and_belongs_to_its_labels(tmp_path: Path) -> None:
    table = make_findings()
    split = split_table(table)
    write_split(tmp_path / "split.json", split, table)
    assert read_split(tmp_path / "split.json", table) == split
    turned = [
        {**item, "label": item["label"] if item["label"] == UNLABELED else item["label"][::-1]} for item in table.items
    ]
    # Other names in another order are the same findings.
    same = ImageTable(table.class_names[::-1], turned, multilabel=True)
    assert names(read_split(tmp_path / "split.json", same)["test"]) == names(split["test"])
    with pytest.raises(DataError, match="is the split of another data set"):
        read_split(tmp_path / "split.json", ImageTable(table.class_names, turned, multilabel=True))


def test_real_split(isic2018: Path) -> None:
    table = read_isic2018(isic2018)
    split = split_table(table)
    for label in range(7):
        total = sum(item["label"] == label for item in table.items)
        for part, share in zip(PARTS, (0.7, 0.15, 0.15), strict=True):
            assert sum(item["label"] == label for item in split[part]) == pytest.approx(share * total, abs=1)


def test_real_split_with_official_validation(isic2017: Path) -> None:
    table = read_table(isic2017)
    split = split_table(table, {"train": 0.7, "validation": 0.1, "test": 0.2})
    assert [len(split[part]) for part in PARTS] == [1600, 150, 400]
    assert {item["part"] for item in split["validation"]} == {"validation"}
    assert {item["part"] for part in ("train", "test") for item in split[part]} == {"train"}


def test_real_folds(isic2018: Path) -> None:
    table = read_isic2018(isic2018)
    for fold in fold_table(table, 5):
        for label in range(7):
            total = sum(item["label"] == label for item in table.items)
            assert sum(item["label"] == label for item in fold["test"]) == pytest.approx(total / 5, abs=1)
