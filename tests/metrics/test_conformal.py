# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Prediction sets contain the true class as often as promised. Selective risk equals the result of a loop."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.stats import beta

from monai_fgssl.metrics import SET_SCORES, PredictionSets, binomial_interval, fit_prediction_sets, risk_coverage

Array = NDArray[Any]


@st.composite
def labeled_probabilities(draw: st.DrawFn, least: int = 1) -> tuple[Array, Array]:
    count, classes = draw(st.integers(least, 40)), draw(st.integers(2, 6))
    logits = draw(arrays(np.float64, (count, classes), elements=st.floats(-8, 8)))
    labels = draw(arrays(np.int64, count, elements=st.integers(0, classes - 1)))
    values = np.exp(logits)
    return values / values.sum(1, keepdims=True), labels


def simulated(generator: np.random.Generator, count: int, classes: int = 4) -> tuple[Array, Array]:
    """Images of a network that is overconfident, with classes of unlike sizes."""
    labels = generator.choice(classes, count, p=[0.5, 0.3, 0.15, 0.05])
    logits = generator.normal(size=(count, classes)) * 2 + 2 * np.eye(classes)[labels]
    values = np.exp(2 * logits)
    return values / values.sum(1, keepdims=True), labels


def raps_of_one(values: Array, label: int, penalty: float, free_ranks: int) -> float:
    """The score of Angelopoulos et al., eq. 4, written as a loop."""
    total, rank = 0.0, 0
    for other in sorted(range(len(values)), key=lambda k: (-values[k], k)):
        rank += 1
        total += values[other]
        if other == label:
            break
    return total + penalty * max(0, rank - free_ranks)


@given(labeled_probabilities(), st.floats(0.5, 0.95), st.floats(0, 1), st.integers(0, 3))
def test_raps_is_the_published_score(
    data: tuple[Array, Array], coverage: float, penalty: float, free_ranks: int
) -> None:
    values, labels = data
    sets = fit_prediction_sets(values, labels, coverage, penalty=penalty, free_ranks=free_ranks)
    scores = np.array([[raps_of_one(row, k, penalty, free_ranks) for k in range(len(row))] for row in values])
    ordered = sorted(scores[np.arange(len(labels)), labels])
    position = math.ceil(round((len(labels) + 1) * coverage, 9))
    limit = ordered[position - 1] if position <= len(labels) else math.inf
    expected = scores <= limit + 1e-9
    expected[np.arange(len(values)), values.argmax(1)] = True
    assert (sets.contains(values) == expected).all()


@given(labeled_probabilities(least=12), st.sampled_from(SET_SCORES), st.booleans())
def test_fitted_images_are_covered_and_sets_grow_with_the_coverage(
    data: tuple[Array, Array], score: str, by_class: bool
) -> None:
    values, labels = data
    before = np.zeros(values.shape, dtype=bool)
    for coverage in (0.5, 0.7, 0.9):
        inside = fit_prediction_sets(values, labels, coverage, by_class, score).contains(values)
        assert inside[np.arange(len(labels)), labels].mean() >= coverage
        assert inside.any(1).all()
        assert (inside >= before).all()
        before = inside


@pytest.mark.parametrize("score", SET_SCORES)
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_new_images_are_covered_as_promised(score: str, coverage: float) -> None:
    generator = np.random.default_rng(0)
    found = []
    for _ in range(400):
        sets = fit_prediction_sets(*simulated(generator, 60), coverage, score=score)
        values, labels = simulated(generator, 100)
        found.append(sets.contains(values)[np.arange(100), labels].mean())
    # At least the promise; the mean of 400 draws is known to about 0.002.
    assert coverage - 0.006 < np.mean(found) < coverage + 0.06


def test_thresholds_by_class_cover_each_class() -> None:
    generator = np.random.default_rng(1)
    shares = {False: [], True: []}
    for _ in range(200):
        fitted_to = simulated(generator, 400)
        values, labels = simulated(generator, 400)
        rare = labels == 3
        for by_class, found in shares.items():
            sets = fit_prediction_sets(*fitted_to, 0.9, by_class, "threshold")
            found.append(sets.contains(values)[rare, 3].mean())
    assert np.mean(shares[True]) > 0.89
    assert np.mean(shares[True]) > np.mean(shares[False])


def test_a_class_with_too_few_images_is_in_every_set() -> None:
    values, labels = simulated(np.random.default_rng(2), 200)
    keep = (labels != 3) | (np.cumsum(labels == 3) <= 8)
    sets = fit_prediction_sets(values[keep], labels[keep], 0.9, by_class=True)
    assert sets.thresholds[3] is None
    assert sets.contains(values)[:, 3].all()
    # 9 images are the fewest that 90 % can be promised with.
    nine = fit_prediction_sets(values[:9], np.zeros(9, dtype=int), 0.9, by_class=True)
    assert nine.thresholds[0] is not None
    assert nine.thresholds[1:] == (None, None, None)


def test_the_record_is_json_and_makes_the_same_sets() -> None:
    values, labels = simulated(np.random.default_rng(3), 50)
    sets = fit_prediction_sets(values, labels, 0.9, by_class=True)
    again = PredictionSets.from_record(json.loads(json.dumps(sets.to_record())), 4)
    assert again == sets


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": [0.5]}, "4 thresholds"),
        ({"thresholds": [0.5, 0.5, 0.5, "$print(1)"]}, "a threshold that is not a number"),
        ({"thresholds": [0.5, 0.5, 0.5, math.nan]}, "a threshold that is not a number"),
        ({"coverage": 1}, "outside"),
        ({"coverage": True}, "outside"),
        ({"score": "$print(1)"}, "score that is not one of raps, threshold"),
        ({"penalty": -1}, "penalty"),
        ({"free_ranks": 1.5}, "free_ranks"),
        ({"more": 1}, "must have coverage"),
    ],
)
def test_a_record_of_somebody_else_is_checked(change: dict[str, Any], message: str) -> None:
    record = PredictionSets(0.9, (0.5, None, 0.5, 0.5)).to_record() | change
    with pytest.raises(ValueError, match=message):
        PredictionSets.from_record(record, 4)


@pytest.mark.parametrize("coverage", [0, 1, -0.5])
def test_a_coverage_that_is_no_share_is_refused(coverage: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_prediction_sets([[0.5, 0.5]], [0], coverage)


def test_no_images_and_other_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        fit_prediction_sets(np.zeros((0, 2)), [])
    with pytest.raises(ValueError, match="raps, threshold"):
        fit_prediction_sets([[0.5, 0.5]], [0], score="aps")


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_of_a_share_is_that_of_clopper_and_pearson(numbers: tuple[int, int]) -> None:
    hits, count = numbers
    low, high = binomial_interval(hits, count)
    assert low == pytest.approx(0 if hits == 0 else beta.ppf(0.025, hits, count - hits + 1), abs=1e-9)
    assert high == pytest.approx(1 if hits == count else beta.ppf(0.975, hits + 1, count - hits), abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from([0.1, 0.5, 0.7, 0.9]), st.booleans()), min_size=1, max_size=12))
def test_selective_risk_is_the_mean_over_orders_of_ties(rows: list[tuple[float, bool]]) -> None:
    confidence, right = map(np.array, zip(*rows, strict=True))
    kept, risk, area = risk_coverage(confidence, right)
    generator = np.random.default_rng(0)
    for position, (share, error) in enumerate(zip(kept, risk, strict=True), start=1):
        assert share == position / len(rows)
        limit = sorted(confidence, reverse=True)[position - 1]
        above, tied = confidence > limit, confidence == limit
        # Of the tied ones as many as are kept, each as wrong as all of them are on average.
        expected = ((~right)[above].sum() + (position - above.sum()) * (~right)[tied].mean()) / position
        assert error == pytest.approx(expected)
    assert area == pytest.approx(risk.mean())
    shuffled = generator.permutation(len(rows))
    assert risk_coverage(confidence[shuffled], right[shuffled])[1] == pytest.approx(risk)
