# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of findings against scikit-learn, with weights and with answers that are not known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from monai_fgssl.metrics import (
    MULTILABEL_METRICS,
    Thresholds,
    fit_thresholds,
    multilabel_difference,
    multilabel_intervals,
    multilabel_metrics,
    resample_weights,
)


def make_findings(size: int, num_classes: int, seed: int, ties: bool) -> tuple[NDArray, NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 2, (size, num_classes))
    scores = (rng.random((size, num_classes)) + 0.5 * (labels == 1)) / 1.5
    scores = np.round(scores, 1) if ties else scores
    return scores, labels, scores >= 0.5


def by_scikit_learn(scores: NDArray, labels: NDArray, predicted: NDArray) -> dict[str, float]:
    aucs, precisions, scores_f1, everything = [], [], [], []
    ranked = np.concatenate([scores[labels[:, k] >= 0, k] for k in range(labels.shape[1])])
    for k in range(labels.shape[1]):
        known = labels[:, k] >= 0
        truth, score, claimed = labels[known, k], scores[known, k], predicted[known, k]
        everything.append((truth, claimed))
        if len(np.unique(truth)) == 2:
            aucs.append(metrics.roc_auc_score(truth, score))
            precisions.append(metrics.average_precision_score(truth, score))
        if truth.any() or claimed.any():
            scores_f1.append(metrics.f1_score(truth, claimed))
    truth, claimed = (np.concatenate(one) for one in zip(*everything, strict=True))
    both = len(np.unique(truth)) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "macro_auc": np.mean(aucs) if aucs else np.nan,
            "macro_average_precision": np.mean(precisions) if precisions else np.nan,
            "macro_f1": np.mean(scores_f1) if scores_f1 else np.nan,
            "micro_auc": metrics.roc_auc_score(truth, ranked) if both else np.nan,
            "micro_average_precision": metrics.average_precision_score(truth, ranked) if both else np.nan,
            "micro_f1": metrics.f1_score(truth, claimed) if truth.any() or claimed.any() else np.nan,
        }


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 1000), st.booleans())
def test_equal_to_scikit_learn(size: int, num_classes: int, seed: int, ties: bool) -> None:
    scores, labels, predicted = make_findings(size, num_classes, seed, ties)
    found = multilabel_metrics(scores, labels, predicted)
    expected = by_scikit_learn(scores, labels, predicted)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-12, err_msg=name)


def test_intervals_are_quantiles_of_scikit_learn_on_each_resample() -> None:
    scores, labels, predicted = make_findings(60, 3, 1, False)
    other, _, of_other = make_findings(60, 3, 2, False)
    groups = [f"g{i}" for i in np.random.default_rng(9).integers(0, 30, 60)]
    draws: dict[str, list[tuple[float, float]]] = {name: [] for name in MULTILABEL_METRICS}
    for counts in resample_weights(groups, 20, seed=3).astype(int):
        a, b = (
            by_scikit_learn(*(np.repeat(values, counts, axis=0) for values in (one, labels, decided)))
            for one, decided in ((scores, predicted), (other, of_other))
        )
        for name in MULTILABEL_METRICS:
            draws[name].append((a[name], b[name]))
    options = {"groups": groups, "num_resamples": 20, "seed": 3, "confidence": 0.8}
    intervals = multilabel_intervals(scores, labels, predicted, **options)
    differences = multilabel_difference(scores, other, labels, predicted, of_other, **options)
    for name, pairs in draws.items():
        a, b = np.array(pairs).T
        for found, values in ((intervals, a), (differences, a - b)):
            bounds = [found[name]["low"], found[name]["high"]]
            np.testing.assert_allclose(bounds, np.quantile(values, (0.1, 0.9)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_no_threshold_has_a_higher_f1(ties: bool) -> None:
    scores, labels, _ = make_findings(50, 4, 5, ties)
    labels[:, 3] = np.where(labels[:, 3] == 1, 0, labels[:, 3])
    values = fit_thresholds(scores, labels)
    assert values[3] == 0.5
    predicted = Thresholds(values).predict(scores)
    for k in range(3):
        known = labels[:, k] >= 0
        ours = metrics.f1_score(labels[known, k], predicted[known, k])
        others = [metrics.f1_score(labels[known, k], scores[known, k] >= one) for one in np.unique(scores[known, k])]
        assert ours == pytest.approx(max(others))


def test_thresholds_come_back_from_their_record() -> None:
    rule = Thresholds((0.2, 0.9))
    assert Thresholds.from_record(rule.to_record(), 2) == rule
    for record, reason in ((None, "numbers from 0 to 1"), ([0.5, 2.0], "numbers from 0 to 1"), ([0.5], "must be 2")):
        with pytest.raises(ValueError, match=reason):
            Thresholds.from_record(record, 2)


def test_what_does_not_fit_is_refused() -> None:
    scores, labels, predicted = make_findings(10, 2, 0, False)
    with pytest.raises(ValueError, match="must be"):
        multilabel_metrics(scores, labels[:, :1], predicted)
    with pytest.raises(ValueError, match="1, 0 or -1"):
        multilabel_metrics(scores, labels + 1, predicted)
