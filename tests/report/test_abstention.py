# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures of sets of possible classes on the test part, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import (
    FeatureDistances,
    FindingSets,
    LogitAdjustment,
    PredictionSets,
    Thresholds,
    binomial_interval,
)
from monai_fgssl.report.abstention import measure_abstention, plot_risk_coverage, sentence_on_abstention
from monai_fgssl.tasks import TASKS

# Every class with a probability of 0.3 or more is possible.
SETS = PredictionSets(0.9, (0.7,) * 3, "threshold")
PROBABILITIES = [[0.9, 0.05, 0.05], [0.6, 0.35, 0.05], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3], [0.2, 0.75, 0.05]]
LABELS = [0, 1, 2, 2, 0]


def collect(sets: PredictionSets | None) -> PredictionCollector:
    logits = torch.tensor(PROBABILITIES).log()[:, None]
    names = [f"i{number}" for number in range(len(LABELS))]
    return PredictionCollector(names, names, [torch.tensor(LABELS)], [logits], prediction_sets=sets)


def test_shares_are_those_of_a_count_by_hand() -> None:
    found = measure_abstention(collect(SETS), ["a", "b", "c"])
    assert found is not None
    # Sets: a; a, b; c; a, b, c; b. The last one is wrong.
    assert found["covered"]["value"] == 4 / 5
    assert (found["covered"]["low"], found["covered"]["high"]) == binomial_interval(4, 5)
    assert found["kept"]["value"] == 3 / 5
    assert found["accuracy"]["value"] == 2 / 5
    assert (found["accuracy_kept"]["value"], found["accuracy_kept"]["images"]) == (2 / 3, 3)
    assert found["mean_size"] == pytest.approx(8 / 5)
    assert {name: row["value"] for name, row in found["covered_by_class"].items()} == {"a": 0.5, "b": 1.0, "c": 1.0}
    sentence = sentence_on_abstention(found)
    assert "80% [28, 99]" in sentence
    assert "(90% were wanted)" in sentence
    assert "1.6 classes" in sentence
    assert "for 60% of the images" in sentence
    assert "right for 67%" in sentence


def test_images_unlike_the_training_images_are_not_kept() -> None:
    predictions = collect(SETS)
    mean = np.zeros(2, np.float32)
    predictions.feature_distances = FeatureDistances((2,), mean, mean + 1, (1.0,), 4.0, 0.02)
    # The first and the last image are beyond the limit; the first was one of the three with one possible class.
    predictions._scores = [predictions.feature_distances.scores([[3, 0], [0, 0], [1, 1], [0, 2], [9, 9]])]
    assert (predictions._scores[0] > 1).tolist() == [True, False, False, False, True]
    found = measure_abstention(predictions, ["a", "b", "c"])
    assert found is not None
    assert found["unlike"]["value"] == 2 / 5
    assert (found["kept"]["value"], found["accuracy_kept"]["value"]) == (1 / 5, 1.0)
    assert found["covered"]["value"] == 4 / 5
    assert "Unlike the training images were 40% [5, 85]." in sentence_on_abstention(found)


def test_the_decided_class_is_possible_and_counts_as_the_prediction() -> None:
    predictions = collect(SETS)
    # Class b wins where its probability is at least half that of class a: images 2, 4 and 5.
    predictions.adjustment = LogitAdjustment(1.0, (0.4, 0.2, 0.4))
    assert predictions.predicted.tolist() == [0, 1, 2, 1, 1]
    found = measure_abstention(predictions, ["a", "b", "c"])
    assert found is not None
    # The same sets as before, since b was in each of them.
    assert found["covered"]["value"] == 4 / 5
    assert found["accuracy"]["value"] == 3 / 5
    predictions.adjustment = LogitAdjustment(2.0, (0.7, 0.1, 0.2))
    assert predictions.predicted.tolist() == [1, 1, 2, 1, 1]
    found = measure_abstention(predictions, ["a", "b", "c"])
    assert found is not None
    # Sets: a, b; a, b; c; a, b, c; b.
    assert found["kept"]["value"] == 2 / 5
    assert found["accuracy_kept"]["value"] == 1 / 2


def test_where_everything_is_referred_the_sentence_says_so() -> None:
    found = measure_abstention(collect(PredictionSets(0.9, (None, None, None))), ["a", "b", "c"])
    assert found is not None
    assert found["accuracy_kept"] is None
    assert "look at all of them" in sentence_on_abstention(found)


def test_without_sets_there_are_no_figures() -> None:
    assert measure_abstention(collect(None), ["a", "b", "c"]) is None


@pytest.mark.parametrize("sets", [SETS, None])
def test_the_curve_is_drawn(sets: PredictionSets | None, tmp_path: Path) -> None:
    figure = plot_risk_coverage(collect(sets), tmp_path / "curve.png", "title")
    curve = figure.axes[0].lines[0]
    # From the surest image on: right, right, wrong, wrong, wrong.
    assert list(curve.get_ydata()) == pytest.approx([0, 0, 1 / 3, 2 / 4, 3 / 5])
    points = [next(zip(*line.get_data(), strict=True)) for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert points == ([pytest.approx((3 / 5, 1 / 3))] if sets else [])
    assert imread(tmp_path / "curve.png").shape[0] > 100


def test_shares_of_findings_are_those_of_a_count_by_hand(tmp_path: Path) -> None:
    # A finding may be there from 0.3 on, and absent up to 0.6; the last finding has no rule.
    sets = FindingSets(0.9, (0.3, 0.3, None), (0.6, 0.6, None))
    probabilities = torch.tensor([[0.9, 0.1, 0.5], [0.45, 0.2, 0.5], [0.8, 0.7, 0.5], [0.1, 0.2, 0.5]])
    labels = torch.tensor([[1, 0, 1], [1, -1, 0], [0, 1, 1], [1, 0, 0]])
    predictions = PredictionCollector(
        list("wxyz"), list("wxyz"), [labels], [torch.logit(probabilities)[:, None]],
        prediction_sets=sets, adjustment=Thresholds((0.5, 0.5, 0.5)), task=TASKS["multilabel"],
    )  # fmt: skip
    found = measure_abstention(predictions, ["a", "b", "c"])
    assert found is not None
    # Seven answers are known of the first two findings. Those of y and z about a are surely wrong.
    assert (found["covered"]["value"], found["covered"]["images"]) == (5 / 7, 7)
    assert {name: row["value"] for name, row in found["covered_by_class"].items()} == {"a": 2 / 4, "b": 1.0}
    # Only a of x is undecided, and is decided wrongly.
    assert found["mean_size"] == 1 / 4
    assert found["kept"]["value"] == 3 / 4
    assert found["accuracy"]["value"] == 4 / 7
    assert (found["accuracy_kept"]["value"], found["accuracy_kept"]["images"]) == (4 / 6, 6)
    assert found["without_rule"] == ["c"]
    sentence = sentence_on_abstention(found)
    assert "true one was possible for 71%" in sentence
    assert "no such doubt for 75% of the images, and 67%" in sentence
    assert sentence.endswith("Too few images for a rule: c.")
    # Of all 11 known answers: 3 with 0.9, 2 with 0.8, then 0.7 and 0.55, and 4 about c with 0.5.
    axes = plot_risk_coverage(predictions, tmp_path / "curve.png").axes[0]
    risk = axes.lines[0].get_ydata()
    assert [risk[number - 1] for number in (3, 5, 6, 7, 11)] == pytest.approx([1 / 3, 2 / 5, 2 / 6, 3 / 7, 5 / 11])
    assert found["risk_area"] == pytest.approx(np.mean(risk))
    # Image x is referred. Of the nine other answers three are wrong.
    (point,) = [line.get_xydata() for line in axes.lines if line.get_marker() == "o"]
    assert point[0].tolist() == pytest.approx([9 / 11, 3 / 9])
    predictions.prediction_sets = FindingSets(0.9, (None,) * 3, (None,) * 3)
    assert measure_abstention(predictions, ["a", "b", "c"]) is None
