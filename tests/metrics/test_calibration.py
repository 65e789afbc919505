# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Temperature and calibration error against brute force, and on data whose temperature is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.metrics import log_loss

from monai_fgssl.metrics.calibration import (
    expected_calibration_error,
    fit_member_weights,
    fit_temperature,
    negative_log_likelihood,
    weighted_calibration_error,
)
from monai_fgssl.metrics.conformal import fit_prediction_sets


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def make_samples(n: int, temperature: float, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits, and labels drawn from ``softmax(logits / temperature)``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, 4))
    labels = np.array([rng.choice(4, p=p) for p in softmax(logits / temperature)])
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_finds_the_temperature_that_the_labels_were_drawn_with(temperature: float) -> None:
    assert fit_temperature(*make_samples(20000, temperature)) == pytest.approx(temperature, rel=0.05)


def test_no_temperature_of_a_fine_grid_is_better() -> None:
    logits, labels = make_samples(60, 2.0)
    best = negative_log_likelihood(logits, labels, fit_temperature(logits, labels))
    assert best <= min(negative_log_likelihood(logits, labels, t) for t in np.geomspace(0.05, 20, 2000)) + 1e-9


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.5])
def test_likelihood_is_scikit_learns(temperature: float) -> None:
    logits, labels = make_samples(50, 1.0)
    expected = log_loss(labels, softmax(logits / temperature), labels=range(4))
    assert negative_log_likelihood(logits, labels, temperature) == pytest.approx(expected, rel=1e-9)


def test_calibration_error_is_that_of_a_loop() -> None:
    logits, labels = make_samples(300, 2.0)
    probabilities = softmax(logits)
    expected = 0.0
    for i in range(10):
        inside = [
            (max(p), float(np.argmax(p) == label))
            for p, label in zip(probabilities, labels, strict=True)
            if i / 10 < max(p) <= (i + 1) / 10
        ]
        if inside:
            confidence, accuracy = np.mean(inside, axis=0)
            expected += len(inside) / len(labels) * abs(confidence - accuracy)
    assert expected_calibration_error(probabilities, labels, num_bins=10) == pytest.approx(expected, rel=1e-12)
    # A sample that counts three times is one that is there three times.
    counts = np.random.default_rng(0).integers(0, 4, (5, 300))
    found = weighted_calibration_error(probabilities, labels, counts, num_bins=10)
    for value, times in zip(found, counts, strict=True):
        repeated = (np.repeat(values, times, axis=0) for values in (probabilities, labels))
        assert value == pytest.approx(expected_calibration_error(*repeated, num_bins=10), rel=1e-12)


def test_temperature_improves_calibration_of_an_overconfident_network() -> None:
    logits, labels = make_samples(5000, 3.0)
    temperature = fit_temperature(logits, labels)
    before = expected_calibration_error(softmax(logits), labels)
    assert expected_calibration_error(softmax(logits / temperature), labels) < before / 5


def test_perfectly_separated_data_stay_finite() -> None:
    temperature = fit_temperature(np.eye(3) * 10, np.arange(3))
    assert math.isfinite(temperature)
    assert temperature >= 0.05


def test_no_samples() -> None:
    with pytest.raises(ValueError, match="labeled validation images"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, dtype=int))


def test_nan_is_refused() -> None:
    scores = np.array([[0.4, np.nan], [0.3, 0.7]])
    with pytest.raises(ValueError, match="got NaN"):
        expected_calibration_error(scores, [0, 1])
    with pytest.raises(ValueError, match="logits that are NaN or infinite"):
        fit_temperature(scores, [0, 1])
    with pytest.raises(ValueError, match="logits that are NaN or infinite"):
        fit_member_weights(scores[:, None], [0, 1])
    with pytest.raises(ValueError, match="probabilities that are NaN"):
        fit_prediction_sets(scores, [0, 1])


def test_weights_of_members_are_the_most_likely_ones_of_a_grid() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(3, size=400)
    truth = np.eye(3)[labels]
    # The first member knows less, the second is too confident.
    members = np.stack([truth + rng.normal(0, 1, (400, 3)), 8 * (truth + rng.normal(0, 0.7, (400, 3)))], axis=1)
    weights = fit_member_weights(members, labels)
    best = log_loss(labels, softmax(np.einsum("m,nmc->nc", weights, members)))
    grid = [(a, b) for a in np.linspace(0, 4, 41) for b in np.linspace(0, 0.6, 41)]
    losses = [log_loss(labels, softmax(np.einsum("m,nmc->nc", pair, members))) for pair in grid]
    assert best <= min(losses) + 1e-9
    np.testing.assert_allclose(weights, grid[int(np.argmin(losses))], atol=0.11)


def test_one_member_gets_the_inverse_of_its_temperature() -> None:
    logits, labels = make_samples(500, 2.0)
    (weight,) = fit_member_weights(logits[:, None], labels)
    assert weight == pytest.approx(1 / fit_temperature(logits, labels), rel=1e-3)


def test_a_useless_member_gets_no_weight() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(2, size=300)
    against = -3.0 * np.eye(2)[labels]
    good, bad = fit_member_weights(np.stack([2 * np.eye(2)[labels] + rng.normal(0, 1, (300, 2)), against], 1), labels)
    assert bad == 0
    assert good > 0
    with pytest.raises(ValueError, match="no samples"):
        fit_member_weights(np.zeros((0, 2, 3)), np.zeros(0, dtype=int))


def test_temperature_and_weights_of_findings_have_the_lowest_log_loss() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 2, (120, 3))
    logits = 2 * (labels == 1)[:, None] - 1 + rng.normal(0, 2, (120, 2, 3))
    known = labels >= 0

    def loss(scores: NDArray[np.float64]) -> float:
        return float(log_loss(labels[known], expit(scores[known]), labels=[0, 1]))

    assert negative_log_likelihood(logits[:, 0], labels, 1.5) == pytest.approx(loss(logits[:, 0] / 1.5))
    best = fit_temperature(logits[:, 0], labels)
    assert loss(logits[:, 0] / best) <= min(loss(logits[:, 0] / t) for t in np.geomspace(0.1, 10, 60)) + 1e-9
    weights = fit_member_weights(logits, labels)
    lowest = loss(np.einsum("m,nmc->nc", weights, logits))
    for other in rng.uniform(0, 1, (100, 2)):
        assert lowest <= loss(np.einsum("m,nmc->nc", other, logits)) + 1e-9
