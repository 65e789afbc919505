# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Decisions against a loop, scikit-learn and the theory of balanced recall."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from monai_fgssl.metrics import (
    STRENGTHS,
    LogitAdjustment,
    class_shares,
    classification_metrics,
    decide,
    fit_logit_adjustment,
)

PRIOR = (0.8, 0.15, 0.05)


def make_samples(size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right, and labels that are drawn from them: the rarest class is hardly ever likeliest."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size, p=PRIOR)
    seen = np.eye(3)[labels] + rng.normal(0, 0.7, (size, 3))
    # Bayes' theorem for normal densities around the unit vectors.
    scores = np.log(PRIOR) - ((seen[:, None] - np.eye(3)) ** 2).sum(2) / (2 * 0.7**2)
    prob = np.exp(scores - scores.max(1, keepdims=True))
    return prob / prob.sum(1, keepdims=True), labels


def loop(probabilities: np.ndarray, prior: tuple[float, ...], strength: float) -> list[int]:
    decided = []
    for row in probabilities.tolist():
        # A power instead of logarithms.
        scores = [p / share**strength for p, share in zip(row, prior, strict=True)]
        decided.append(scores.index(max(scores)))
    return decided


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(2, 6), st.floats(0, 2), st.integers(0, 1000))
def test_decision_is_that_of_a_loop(size: int, num_classes: int, strength: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    prob, prior = rng.dirichlet(np.ones(num_classes), size), tuple(rng.dirichlet(np.full(num_classes, 3.0)).tolist())
    rule = LogitAdjustment(strength, prior)
    assert rule.predict(prob).tolist() == decide(torch.from_numpy(prob), rule).tolist() == loop(prob, prior, strength)


def test_without_an_adjustment_and_with_strength_0_the_likeliest_class_is_decided_for() -> None:
    prob, _ = make_samples(200)
    assert decide(prob).tolist() == decide(prob, LogitAdjustment(0.0, PRIOR)).tolist() == prob.argmax(1).tolist()


def test_strength_1_gives_the_highest_mean_recall_if_the_probabilities_are_right() -> None:
    prob, labels = make_samples(50000)
    recalls = [
        recall_score(labels, LogitAdjustment(strength, PRIOR).predict(prob), average="macro")
        for strength in (0, 0.5, 1, 1.5)
    ]
    assert int(np.argmax(recalls)) == 2
    assert recalls[2] > recalls[0] + 0.1


def test_probability_0_and_a_class_without_images_are_never_preferred() -> None:
    rule = LogitAdjustment(1.5, (0.9, 0.1, 0.0))
    assert rule.predict([[0.5, 0.0, 0.5], [0.6, 0.0, 0.4], [0.2, 0.4, 0.4]]).tolist() == [0, 0, 1]


@pytest.mark.parametrize("seed", range(3))
def test_fitted_strength_has_the_highest_macro_f1_and_is_the_smallest_of_equal_ones(seed: int) -> None:
    prob, labels = make_samples(400, seed)
    values = [f1_score(labels, loop(prob, PRIOR, strength), average="macro") for strength in STRENGTHS]
    best = max(values)
    expected = next(strength for strength, value in zip(STRENGTHS, values, strict=True) if math.isclose(value, best))
    fitted = fit_logit_adjustment(prob, labels, PRIOR)
    assert fitted == LogitAdjustment(expected, PRIOR)
    assert expected > 0
    # All of them are right at any strength.
    assert fit_logit_adjustment(np.eye(3)[labels], labels, PRIOR).strength == 0


def test_metrics_take_the_decided_classes_and_keep_the_auc() -> None:
    prob, labels = make_samples(400)
    decided = LogitAdjustment(1.0, PRIOR).predict(prob)
    adjusted, plain = classification_metrics(prob, labels, decided), classification_metrics(prob, labels)
    assert adjusted["macro_auc"] == plain["macro_auc"]
    assert adjusted["macro_f1"] == pytest.approx(f1_score(labels, decided, average="macro"))
    assert adjusted["macro_f1"] != pytest.approx(plain["macro_f1"], abs=0.01)
    with pytest.raises(ValueError, match="predicted must be"):
        classification_metrics(prob, labels, decided[1:])
    with pytest.raises(ValueError, match="predicted must be"):
        classification_metrics(prob, labels, decided + 1)


def test_shares_are_those_of_the_known_labels() -> None:
    assert class_shares([0, 0, 1, -1, 0], 3) == (0.75, 0.25, 0.0)
    with pytest.raises(ValueError, match="need labeled images"):
        class_shares([-1, -1], 3)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        fit_logit_adjustment([[float("nan"), 0.5]], [0], (0.5, 0.5))


def test_a_record_gives_the_same_rule() -> None:
    rule = LogitAdjustment(0.75, class_shares([0, 0, 1, 2], 3))
    assert LogitAdjustment.from_record(json.loads(json.dumps(rule.to_record())), 3) == rule


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"strength": -1.0}, "strength"),
        ({"strength": True}, "strength"),
        ({"strength": float("nan")}, "strength"),
        ({"prior": [0.5, 0.5]}, "3 shares"),
        ({"prior": [0.5, 0.5, 0.5]}, "sum 1"),
        ({"prior": [1.5, -0.5, 0.0]}, "sum 1"),
        ({"prior": ["a", 0.5, 0.5]}, "sum 1"),
        ({"more": 1}, "must have strength, prior"),
    ],
)
def test_other_records_are_refused(change: dict[str, Any], fault: str) -> None:
    record = {"strength": 1.0, "prior": [0.5, 0.25, 0.25]} | change
    with pytest.raises(ValueError, match=fault):
        LogitAdjustment.from_record(record, 3)
