# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Distances from the training images, against loops and SciPy's Mahalanobis distance."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.stats import binomtest

from monai_fgssl.metrics import (
    SEVERAL_CLASSES,
    UNLIKE_TRAINING,
    FeatureDistances,
    fit_feature_distances,
    reasons_to_refer,
)

WIDTHS = [4, 7]


def draw(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    scale = np.linspace(0.5, 3, sum(WIDTHS))
    return np.random.default_rng(seed).normal(size=(count, sum(WIDTHS))) * scale + 5 + shift


def by_loops(train: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Mean squared Mahalanobis distance of each stage, ``(N, K)``."""
    first = slice(0, WIDTHS[0]), slice(WIDTHS[0], None)
    result = np.zeros((len(features), 2))
    for k, stage in enumerate(first):
        inverse = np.diag(1 / train[:, stage].var(0))
        mean = train[:, stage].mean(0)
        for n, row in enumerate(features[:, stage]):
            result[n, k] = mahalanobis(row, mean, inverse) ** 2 / WIDTHS[k]
    return result


def test_distances_are_those_of_scipy() -> None:
    train, validation, new = draw(200, 0), draw(99, 1), draw(20, 2, shift=2.0)
    rule = fit_feature_distances(train, validation, WIDTHS, share=0.1)
    medians = np.median(by_loops(train, validation), axis=0)
    np.testing.assert_allclose(rule.medians, medians, rtol=1e-5)
    np.testing.assert_allclose(rule.stage_distances(new), by_loops(train, new) / medians, rtol=1e-5)
    # The 90th smallest of 99: with one more image, 90 % of 100.
    farthest = np.sort((by_loops(train, validation) / medians).max(1))
    assert rule.limit == pytest.approx(farthest[89], rel=1e-5)
    np.testing.assert_allclose(rule.scores(new), (by_loops(train, new) / medians).max(1) / farthest[89], rtol=1e-5)
    assert (rule.scores(validation) > 1).sum() == 9


def test_few_new_images_of_the_same_source_are_above_the_limit_and_others_are() -> None:
    rule = fit_feature_distances(draw(2000, 0), draw(2000, 1), WIDTHS, share=0.05)
    above = int((rule.scores(draw(4000, 2)) > 1).sum())
    assert binomtest(above, 4000, 0.05).pvalue > 0.001
    assert (rule.scores(draw(100, 3, shift=15)) > 1).all()


def test_one_far_stage_is_enough() -> None:
    rule = fit_feature_distances(draw(500, 0), draw(500, 1), WIDTHS)
    for stage in (slice(0, WIDTHS[0]), slice(WIDTHS[0], None)):
        new = np.full((1, sum(WIDTHS)), 5.0)
        assert rule.scores(new)[0] < 1
        new[:, stage] += 20
        assert rule.scores(new)[0] > 1


def test_with_few_validation_images_none_of_them_is_above() -> None:
    validation = draw(20, 1)
    rule = fit_feature_distances(draw(200, 0), validation, WIDTHS, share=0.01)
    assert rule.scores(validation).max() == pytest.approx(1)


def test_constant_features_do_not_make_distances_infinite() -> None:
    train, validation = draw(200, 0), draw(50, 1)
    train[:, 0] = validation[:, 0] = 0
    rule = fit_feature_distances(train, validation, WIDTHS)
    new = draw(30, 2)
    new[:, 0] = 0.05
    # The constant feature is one of four, and 0.05 is small beside the others' deviations.
    assert (rule.scores(new) > 1).mean() < 0.2
    train[:], validation[:] = 1, 1
    assert fit_feature_distances(train, validation, WIDTHS).scores(validation).tolist() == [0] * 50


def test_a_record_brings_the_same_scores_back() -> None:
    rule = fit_feature_distances(draw(200, 0), draw(50, 1), WIDTHS)
    again = FeatureDistances.from_record(json.loads(json.dumps(rule.to_record())))
    np.testing.assert_array_equal(again.scores(draw(30, 2)), rule.scores(draw(30, 2)))
    assert again.share == 0.02


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("widths", [4, True], "widths that are not whole numbers"),
        ("widths", [4, 8], "needs 12 finite numbers as its mean"),
        ("medians", [1.0], "a median above 0 for each stage"),
        ("medians", [1.0, float("nan")], "a median above 0 for each stage"),
        ("limit", 0, "a limit that is not a number above 0"),
        ("limit", "1", "a limit that is not a number above 0"),
        ("share", 1.5, r"a share outside \(0, 1\)"),
        ("mean", "AAAA", "a mean that is not float32 numbers"),
        ("mean", 7, "a mean that is not float32 numbers"),
        ("mean", "AADAfw==" * 11, "a mean that is not float32 numbers"),
        ("std", "zero", "a std that is not above 0"),
        ("std", "nan", "needs 11 finite numbers as its std"),
        ("more", 1, "must have widths, mean, std, medians, limit, share"),
    ],
)
def test_damaged_records_are_refused(name: str, value: Any, message: str) -> None:
    rule = fit_feature_distances(draw(200, 0), draw(50, 1), WIDTHS)
    record = rule.to_record()
    if name == "std":
        number = {"zero": 0.0, "nan": float("nan")}[value]
        changed = FeatureDistances(rule.widths, rule.mean, np.full(11, number, "f4"), rule.medians, 1.0, 0.1)
        value = changed.to_record()["std"]
    with pytest.raises(ValueError, match=message):
        FeatureDistances.from_record(record | {name: value})


def test_what_can_not_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="share must be between 0 and 1"):
        fit_feature_distances(draw(9, 0), draw(9, 1), WIDTHS, share=1)
    with pytest.raises(ValueError, match="no images"):
        fit_feature_distances(draw(9, 0), draw(0, 1), WIDTHS)
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_feature_distances(draw(9, 0) * np.nan, draw(9, 1), WIDTHS)
    rule = fit_feature_distances(draw(9, 0), draw(9, 1), WIDTHS)
    with pytest.raises(ValueError, match=r"features must be \(N, 11\), got \(2, 3\): they are of another network"):
        rule.scores(np.zeros((2, 3)))


def test_reasons_to_refer() -> None:
    inside = [[True, False], [True, True], [True, False], [True, True]]
    scores = [0.2, 1.0, 1.5, 3.0]
    assert reasons_to_refer(inside, scores) == [
        (),
        (SEVERAL_CLASSES,),
        (UNLIKE_TRAINING,),
        (SEVERAL_CLASSES, UNLIKE_TRAINING),
    ]
    assert reasons_to_refer(None, scores) == [(), (), (UNLIKE_TRAINING,), (UNLIKE_TRAINING,)]
    assert reasons_to_refer(None, [float("nan")]) == [(UNLIKE_TRAINING,)]
    assert reasons_to_refer(inside, None) == [(), (SEVERAL_CLASSES,), (), (SEVERAL_CLASSES,)]
    assert reasons_to_refer(None, None) is None
