# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures of sets of possible classes on the test part, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import LogitAdjustment, PredictionSets, binomial_interval
from monai_fgssl.report.abstention import measure_abstention, plot_risk_coverage, sentence_on_abstention

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
