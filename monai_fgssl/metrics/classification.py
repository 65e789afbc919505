# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures of a classifier, with intervals that know that images of one lesion are not independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

__all__ = ["METRICS", "bootstrap_difference", "bootstrap_intervals", "classification_metrics"]

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")
"""Names of the metrics, in the order of tables."""


def classification_metrics(probabilities: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1 and macro AUC.

    The same values as scikit-learn's, which takes ten times as long: too long for thousands of resamples.

    Args:
        probabilities: ``(N, num_classes)``, one score per class; the highest is the prediction.
        labels: ``(N,)``, integers from 0.

    Returns:
        ``accuracy``; ``balanced_accuracy``, the mean recall of the classes that occur; ``macro_f1``, the mean F1 of
        the classes that occur or are predicted; ``macro_auc``, the mean of one class against the rest over the
        classes that occur, NaN when there is only one. All in [0, 1].

    Raises:
        ValueError: when the shapes do not fit or there are no samples.
    """
    scores, truth = _checked(probabilities, labels)
    num_classes = scores.shape[1]
    predicted = scores.argmax(1)
    confusion = np.bincount(truth * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, -1)
    hits = confusion.diagonal()
    support, claimed = confusion.sum(1), confusion.sum(0)
    present = support > 0
    seen = support + claimed > 0
    f1 = 2 * hits[seen] / (support + claimed)[seen]
    ranked = present & (support < len(truth))
    aucs = []
    if ranked.any():
        ranks = rankdata(scores[:, ranked], axis=0)
        for column, label in zip(ranks.T, np.flatnonzero(ranked), strict=True):
            positives = int(support[label])
            # Mann and Whitney: how far the ranks of the positives lie above the lowest that they could have.
            above = column[truth == label].sum() - positives * (positives + 1) / 2
            aucs.append(above / (positives * (len(truth) - positives)))
    return {
        "accuracy": float(hits.sum() / len(truth)),
        "balanced_accuracy": float((hits[present] / support[present]).mean()),
        "macro_f1": float(f1.mean()),
        "macro_auc": float(np.mean(aucs)) if aucs else float("nan"),
    }


def bootstrap_intervals(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, dict[str, float]]:
    """Metrics with percentile intervals from resampled groups (Efron & Tibshirani, 1993, ch. 13).

    Args:
        probabilities: ``(N, num_classes)``.
        labels: ``(N,)``.
        groups: ``N`` names of what is drawn as one (lesion, patient); None: every sample for itself.
        num_resamples: number of resamples.
        seed: of the resampling.
        confidence: share of the resamples within the interval.

    Returns:
        ``value``, ``low`` and ``high`` of each metric of :func:`classification_metrics`.
    """
    scores, truth = _checked(probabilities, labels)

    def measure(rows: NDArray[np.int64]) -> dict[str, float]:
        return classification_metrics(scores[rows], truth[rows])

    return _intervals(measure, len(truth), groups, num_resamples, seed, confidence)


def bootstrap_difference(
    probabilities_a: ArrayLike,
    probabilities_b: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, dict[str, float]]:
    """Differences A - B of two classifiers on the same samples, with intervals from the same resamples for both.

    Arguments and result as those of :func:`bootstrap_intervals`.
    """
    scores_a, truth = _checked(probabilities_a, labels)
    scores_b, _ = _checked(probabilities_b, labels)

    def measure(rows: NDArray[np.int64]) -> dict[str, float]:
        a = classification_metrics(scores_a[rows], truth[rows])
        b = classification_metrics(scores_b[rows], truth[rows])
        return {name: a[name] - b[name] for name in METRICS}

    return _intervals(measure, len(truth), groups, num_resamples, seed, confidence)


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    scores, truth = np.asarray(probabilities), np.asarray(labels)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or len(truth) == 0:
        raise ValueError(
            f"probabilities must be (N, num_classes) and labels (N,) with N > 0, got {scores.shape} and {truth.shape}."
        )
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ValueError(f"labels must be from 0 to {scores.shape[1] - 1}, got {truth.min()} to {truth.max()}.")
    return scores, truth.astype(np.int64)


def _intervals(
    measure: Callable[[NDArray[np.int64]], dict[str, float]],
    size: int,
    groups: Sequence[str] | None,
    num_resamples: int,
    seed: int,
    confidence: float,
) -> dict[str, dict[str, float]]:
    _, group_of = np.unique(np.arange(size) if groups is None else np.asarray(groups), return_inverse=True)
    members = np.split(np.argsort(group_of, kind="stable"), np.cumsum(np.bincount(group_of))[:-1])
    rng = np.random.default_rng(seed)
    draws = [
        measure(np.concatenate([members[i] for i in rng.integers(len(members), size=len(members))]))
        for _ in range(num_resamples)
    ]
    outside = (1 - confidence) / 2
    intervals = {}
    for name, value in measure(np.arange(size)).items():
        low, high = np.nanquantile([draw[name] for draw in draws], (outside, 1 - outside))
        intervals[name] = {"value": value, "low": float(low), "high": float(high)}
    return intervals
