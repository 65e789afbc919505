# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from monai_fgssl.label.review import agreements, similar, suggestions
from monai_fgssl.label.scores import Scores
from monai_fgssl.label.thumbnails import Thumbnails
from monai_fgssl.metrics import LogitAdjustment, Thresholds
from monai_fgssl.tasks import TASKS


def test_suggestions_are_those_of_the_mean_of_the_logits() -> None:
    scores = Scores("1")
    logits = torch.tensor([[[9.0, 0, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0.2]], [[0, 30, 0], [0, 30, 0]]])
    scores.add(["a", "b", "c"], logits, torch.zeros(3, 2))
    found = suggestions(scores, ["x", "y", "z"])
    assert {name: one[0] for name, one in found.items()} == {"a": "x", "b": "z", "c": "y"}
    assert found["b"][1] > 0.99
    assert found["b"][1] > found["a"][1] > found["c"][1]
    assert found["c"][1] == pytest.approx(0, abs=1e-6)
    assert suggestions(Scores(), ["x"]) == {}
    # Of b the probabilities at temperature 2 are 0.322, 0.322 and 0.356.
    balanced = suggestions(scores, ["x", "y", "z"], 2.0, LogitAdjustment(1.0, (0.3, 0.2, 0.5)))
    assert {name: one[0] for name, one in balanced.items()} == {"a": "x", "b": "y", "c": "y"}
    assert {name: one[1] for name, one in balanced.items()} == {name: one[1] for name, one in found.items()}


def test_agreement_of_two_people() -> None:
    """The worked example: 20 of 50 said yes by both, 15 no by both, 5 and 10 apart."""
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    readings = {f"{number}": {"anna": a, "uma": b} for number, (a, b) in enumerate(pairs)}
    # Others have seen images that nobody else has.
    readings |= {"x": {"ada": "yes"}, "y": {"uma": "no"}}
    (found,) = agreements(readings)
    assert found["people"] == ["anna", "uma"]
    assert (found["images"], found["agreed"]) == (50, 35)
    assert found["kappa"] == pytest.approx((0.7 - 0.5) / (1 - 0.5))
    assert found["differ"] == [f"{number}" for number in range(20, 35)]


def test_agreement_about_one_class_says_nothing() -> None:
    (found,) = agreements({name: {"anna": "yes", "uma": "yes"} for name in "ab"})
    assert (found["kappa"], found["agreed"], found["differ"]) == (None, 2, [])


def test_small_pictures_are_drawn_once_until_their_file_changes(tmp_path: Path) -> None:
    drawn: list[str] = []

    def draw(path: str) -> NDArray[np.uint8]:
        drawn.append(Path(path).name)
        return np.full((20, 30, 3), 128, np.uint8)

    for name in "ab":
        (tmp_path / name).touch()
    thumbnails = Thumbnails(draw)
    picture = Image.open(io.BytesIO(thumbnails.of(str(tmp_path / "a"))))
    assert (picture.format, picture.size) == ("JPEG", (30, 20))
    thumbnails.of(str(tmp_path / "b"))
    thumbnails.of(str(tmp_path / "a"))
    assert drawn == ["a", "b"]
    os.utime(tmp_path / "a", (1, 1))
    thumbnails.of(str(tmp_path / "a"))
    assert drawn == ["a", "b", "a"]


def test_small_pictures_take_no_more_memory_than_allowed(tmp_path: Path) -> None:
    drawn: list[str] = []

    def draw(path: str) -> NDArray[np.uint8]:
        drawn.append(Path(path).name)
        return np.zeros((20, 20, 3), np.uint8)

    for name in "abc":
        (tmp_path / name).touch()
    size = len(Thumbnails(draw).of(str(tmp_path / "a")))
    drawn.clear()
    thumbnails = Thumbnails(draw, max_bytes=2 * size)
    for name in "abcab":
        thumbnails.of(str(tmp_path / name))
    # The oldest went first each time.
    assert drawn == list("abcab")
    thumbnails.of(str(tmp_path / "b"))
    assert drawn == list("abcab")


def test_similar_images_are_labeled_ones_and_the_nearest_first() -> None:
    scores = Scores("1")
    # b is the same as a, d is close, c is far.
    features = torch.tensor([[1.0, 0.0, 0.2], [1.0, 0.0, 0.2], [-1.0, 0.3, 0.0], [0.9, 0.1, 0.1], [1.0, 0.1, 0.2]])
    scores.add(list("abcde"), torch.zeros(5, 1, 2), features)
    # Of e there is no label, f has no features.
    labeled = {"a": "x", "b": "y", "c": "x", "d": "y", "f": "x"}
    found = similar(scores, "a", labeled, 2)
    assert [(one["id"], one["class"]) for one in found] == [("b", "y"), ("d", "y")]
    assert found[0]["similarity"] == pytest.approx(1)
    assert found[0]["similarity"] > found[1]["similarity"]
    assert similar(scores, "f", labeled, 2) == []
    assert similar(scores, "a", {"a": "x"}, 2) == []


def test_suggestions_of_findings_are_those_above_their_thresholds() -> None:
    scores = Scores("1")
    # Sums of both stages: 4 and -4; 0 and 0.5; -6 and -6. Sigmoids of 0 and 0.5 are 0.5 and 0.622.
    logits = torch.tensor([[[3.0, -1], [1, -3]], [[0, 0], [0, 0.5]], [[-3, -3], [-3, -3]]])
    scores.add(["a", "b", "c"], logits, torch.zeros(3, 2))
    found = suggestions(scores, ["x", "y"], 1.0, Thresholds((0.5, 0.7)), TASKS["multilabel"])
    assert {name: one[0] for name, one in found.items()} == {"a": ("x",), "b": ("x",), "c": ()}
    # Doubt is the mean entropy of the findings, in bits, of the mean logits: 2 and -2; 0 and 0.25; -3 and -3.
    for name, logit in (("a", (2.0, -2.0)), ("b", (0.0, 0.25)), ("c", (-3.0, -3.0))):
        p = 1 / (1 + np.exp(-np.array(logit)))
        assert found[name][1] == pytest.approx(np.mean(-p * np.log2(p) - (1 - p) * np.log2(1 - p)), abs=1e-4)


def test_agreement_on_each_finding() -> None:
    """Of the first finding the worked example; of the second one nobody ever said yes."""
    pairs = [(("x",), ("x",))] * 20 + [(("x",), ())] * 5 + [((), ("x",))] * 10 + [((), ())] * 15
    readings = {f"{number}": {"anna": a, "uma": b} for number, (a, b) in enumerate(pairs)}
    (found,) = agreements(readings, ["x", "y"])
    assert (found["images"], found["agreed"], found["kappa"]) == (50, 35, None)
    assert found["findings"] == [
        {"name": "x", "agreed": 35, "kappa": pytest.approx(0.4)},
        {"name": "y", "agreed": 50, "kappa": None},
    ]
    assert found["differ"] == [f"{number}" for number in range(20, 35)]
