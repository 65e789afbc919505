# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_fgssl.label.history import labels_until_better, read_trainings, remember_training


def training(num_labels: int, accuracy: float, num_test_images: int = 1000) -> dict[str, Any]:
    figure = {"value": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.05}
    return {
        "num_labels": num_labels,
        "num_test_images": num_test_images,
        "accuracy": figure,
        "balanced_accuracy": figure,
    }


def test_trainings_are_remembered_in_their_order(tmp_path: Path) -> None:
    assert read_trainings(tmp_path) == []
    folder = tmp_path / "output" / "train"
    folder.mkdir(parents=True)
    for number, accuracy in ((1, 0.8), (2, 0.9)):
        entry = training(100 * number, accuracy)
        methods = {"ours": {name: entry[name] for name in ("accuracy", "balanced_accuracy")}}
        (folder / "metrics.json").write_text(json.dumps({"methods": methods, "num_test_images": 1000}))
        remember_training(tmp_path, 100 * number)
    assert read_trainings(tmp_path) == [training(100, 0.8), training(200, 0.9)]
    # A run without a test part has nothing to compare.
    (folder / "metrics.json").write_text(json.dumps({"methods": {}, "num_test_images": 0}))
    remember_training(tmp_path, 300)
    assert len(read_trainings(tmp_path)) == 2


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1}', '[{"num_labels": 3}]'])
def test_a_damaged_course_is_an_empty_one(tmp_path: Path, content: str) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "trainings.json").write_text(content)
    assert read_trainings(tmp_path) == []


def test_labels_follow_the_power_law() -> None:
    """Errors of 40 / n: 0.2 at 200. One of 0.19 needs 40 / 0.19 labels."""
    course = [training(count, 1 - 40 / count) for count in (100, 160, 200)]
    assert labels_until_better(course, 200) == pytest.approx(40 / 0.19 - 200, abs=1)
    assert labels_until_better(course, 205) == pytest.approx(40 / 0.19 - 205, abs=1)
    assert labels_until_better(course, 300) == 0


def test_one_training_is_taken_for_the_root_law() -> None:
    # From 0.2 to 0.19 with the root: the labels grow by (20 / 19)^2.
    assert labels_until_better([training(361, 0.8)], 361) == pytest.approx(400 - 361, abs=1)


@pytest.mark.parametrize(
    "course",
    [[], [training(100, 0.8), training(200, 0.8)], [training(100, 0.9), training(200, 0.8)], [training(9, 1.0)]],
)
def test_nothing_is_promised_where_the_curve_is_flat_or_at_its_end(course: list[dict[str, Any]]) -> None:
    assert labels_until_better(course, 300) is None


def test_trainings_with_several_findings_are_a_history_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "output" / "train"
    folder.mkdir(parents=True)
    figure = {"value": 0.8, "low": 0.7, "high": 0.9}
    methods = {"ours": {"macro_auc": figure, "macro_f1": figure}}
    (folder / "metrics.json").write_text(json.dumps({"methods": methods, "num_test_images": 1000}))
    remember_training(tmp_path, 361, several=True)
    own = {"accuracy": figure, "balanced_accuracy": figure}
    (folder / "metrics.json").write_text(json.dumps({"methods": {"ours": own}, "num_test_images": 1000}))
    remember_training(tmp_path, 100)
    assert [entry["num_labels"] for entry in read_trainings(tmp_path)] == [100]
    (entry,) = read_trainings(tmp_path, several=True)
    assert entry == {"num_labels": 361, "num_test_images": 1000, "macro_auc": figure, "macro_f1": figure}
    # As for the accuracy: from an error of 0.2 to 0.19 with the root, the labels grow by (20 / 19)^2.
    assert labels_until_better([entry], 361) == pytest.approx(400 - 361, abs=1)
