# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Accuracy by the number of stages that agree with the prediction, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.image import imread

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import LogitAdjustment, binomial_interval
from monai_fgssl.report.agreement import (
    count_agreeing,
    measure_agreement,
    plot_agreement,
    sentence_on_agreement,
)
from monai_fgssl.tasks import MULTILABEL, TASKS

# Probabilities of the second of two classes: three steps of five images.
SECOND = [[0.9, 0.8, 0.7], [0.1, 0.2, 0.2], [0.4, 0.9, 0.9], [0.6, 0.1, 0.1], [0.6, 0.6, 0.05]]
LABELS = [1, 0, 0, 0, 1]


def collect(second: list[list[float]], labels: list[int]) -> PredictionCollector:
    probabilities = torch.tensor(second)
    logits = torch.stack([1 - probabilities, probabilities], dim=2).log()
    names = [f"i{number}" for number in range(len(labels))]
    return PredictionCollector(names, names, [torch.tensor(labels)], [logits])


def test_rows_are_those_of_a_count_by_hand() -> None:
    predictions = collect(SECOND, LABELS)
    # The sums of the logits decide for 1, 0, 1, 0, 0; right, right, wrong, right, wrong.
    assert predictions.predicted.tolist() == [1, 0, 1, 0, 0]
    assert count_agreeing(predictions).tolist() == [3, 3, 2, 2, 1]
    found = measure_agreement(predictions)
    assert found is not None
    assert found["steps"] == 3
    assert [(row["agreeing"], row["images"], row["accuracy"]["value"]) for row in found["rows"]] == [
        (3, 2, 1.0),
        (2, 2, 0.5),
        (1, 1, 0.0),
    ]
    assert (found["rows"][1]["accuracy"]["low"], found["rows"][1]["accuracy"]["high"]) == binomial_interval(1, 2)
    highest = predictions.probabilities.max(1).values
    assert found["rows"][0]["probability"] == pytest.approx(float(highest[:2].mean()))
    # Of the six pairs of a right and a wrong image, five are in order, and one has equal numbers.
    assert found["ranking"]["agreement"] == pytest.approx(5.5 / 6)
    sentence = sentence_on_agreement(found)
    assert "Where 3 of 3 steps agree with the prediction (2 images), it is right for 100% [16, 100]" in sentence
    assert "where fewer agree (3 images), for 33% [1, 91]" in sentence
    assert "agreeing steps has an AUC of 0.92" in sentence


def test_the_rule_of_the_decision_holds_for_each_step() -> None:
    predictions = collect([[0.4, 0.4, 0.4]], [1])
    assert count_agreeing(predictions).tolist() == [3]
    # The second class wins from a probability of 0.2 on.
    predictions.adjustment = LogitAdjustment(1.0, (0.8, 0.2))
    assert predictions.predicted.tolist() == [1]
    assert count_agreeing(predictions).tolist() == [3]
    found = measure_agreement(predictions)
    assert found is not None
    assert found["ranking"] is None


def test_one_step_or_findings_have_no_agreement() -> None:
    assert measure_agreement(collect([[0.9], [0.2]], [1, 0])) is None
    several = collect(SECOND, LABELS)
    several.task = TASKS[MULTILABEL]
    assert measure_agreement(several) is None


def test_the_figure_shows_each_number_of_steps(tmp_path: Path) -> None:
    found = measure_agreement(collect(SECOND, LABELS))
    assert found is not None
    figure = plot_agreement(found, tmp_path / "a.png", title="FG-SSL")
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0\nn=0", "1\nn=1", "2\nn=2", "3\nn=2"]
    points = {tuple(point) for point in axes.lines[0].get_xydata().tolist()}
    assert points == {(3, 1.0), (2, 0.5), (1, 0.0)}
    assert imread(tmp_path / "a.png").ndim == 3
