# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of images with several findings, for one set of samples or for thousands of resamples at once.

A finding that is not known for an image (-1) does not count, in any metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .classification import Array, Measure, Ranking, differences_of, gaps_of, intervals_of, mean_of_defined

__all__ = [
    "MULTILABEL_METRICS",
    "fit_thresholds",
    "multilabel_difference",
    "multilabel_gap",
    "multilabel_intervals",
    "multilabel_metrics",
]

MULTILABEL_METRICS = (
    *("macro_auc", "macro_average_precision", "macro_f1"),
    *("micro_auc", "micro_average_precision", "micro_f1"),
)
"""Names of the metrics of findings, in the order of tables."""

OF_FINDING = ("auc", "average_precision", "f1", "recall", "precision")
"""Names of the metrics of each finding."""


def multilabel_metrics(probabilities: ArrayLike, labels: ArrayLike, predicted: ArrayLike) -> dict[str, Any]:
    """Metrics of findings, with the values of scikit-learn.

    Args:
        probabilities: probability of each finding, ``(N, num_classes)``.
        labels: 1 (there), 0 (not there) or -1 (not known), ``(N, num_classes)``.
        predicted: True for findings that are predicted, ``(N, num_classes)``.

    Returns:
        ``macro_auc`` and ``macro_average_precision``, means over the findings with known images of both kinds;
        ``macro_f1``, the mean F1 of the findings that occur or are predicted. ``micro_auc``,
        ``micro_average_precision`` and ``micro_f1`` are those of all known answers together, as if of one finding; NaN
        if these answers are all the same, ``micro_f1`` if no finding occurs or is predicted. Arrays ``(num_classes,)``:
        ``auc``, ``average_precision``, ``f1``, ``recall`` and ``precision``; NaN where a finding has no such image.

    Raises:
        ValueError: when the shapes do not fit, or there are no samples.
    """
    values = _Findings(*_checked(probabilities, labels, predicted))(np.ones((len(np.asarray(labels)), 1)))
    return {name: value[0] if value.ndim == 2 else float(value[0]) for name, value in values.items()}


def multilabel_intervals(
    probabilities: ArrayLike,
    labels: ArrayLike,
    predicted: ArrayLike,
    groups: Sequence[str] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, dict[str, float]]:
    """Compute :data:`MULTILABEL_METRICS` with intervals, as :func:`~monai_fgssl.metrics.bootstrap_intervals` does.

    Args:
        probabilities: ``(N, num_classes)``, or ``(S, N, num_classes)`` for S seeds.
        labels: see :func:`multilabel_metrics`.
        predicted: in the shape of ``probabilities``.
        groups: see :func:`~monai_fgssl.metrics.bootstrap_intervals`.
        num_resamples: number of resamples.
        seed: seed of the resampling.
        confidence: share of the resamples within the interval.
    """
    measures = _of_seeds(probabilities, labels, predicted)
    size = len(np.asarray(labels))
    return intervals_of(measures, size, groups, num_resamples, seed, confidence, MULTILABEL_METRICS)


def multilabel_difference(
    probabilities_a: ArrayLike,
    probabilities_b: ArrayLike,
    labels: ArrayLike,
    predicted_a: ArrayLike,
    predicted_b: ArrayLike,
    groups: Sequence[str] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, dict[str, float]]:
    """Compute the differences A - B on the same resamples, see :func:`multilabel_intervals`."""
    first, second = _of_seeds(probabilities_a, labels, predicted_a), _of_seeds(probabilities_b, labels, predicted_b)
    size = len(np.asarray(labels))
    return intervals_of(
        differences_of(first, second), size, groups, num_resamples, seed, confidence, MULTILABEL_METRICS
    )


def multilabel_gap(
    probabilities: ArrayLike,
    labels: ArrayLike,
    predicted: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[str] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, dict[str, float]]:
    """Compute the differences between two subsets, first - second, as :func:`~monai_fgssl.metrics.bootstrap_gap` does.

    Args:
        probabilities: see :func:`multilabel_intervals`.
        labels: see :func:`multilabel_metrics`.
        predicted: see :func:`multilabel_intervals`.
        first: True for the samples of the first subset, ``(N,)``.
        second: True for those of the second one.
        groups: see :func:`multilabel_intervals`, also for the next three.
        num_resamples: number of resamples.
        seed: seed of the resampling.
        confidence: share of the resamples within the interval.
    """
    gaps = gaps_of(_of_seeds(probabilities, labels, predicted), first, second, MULTILABEL_METRICS)
    size = len(np.asarray(labels))
    return intervals_of(gaps, size, groups, num_resamples, seed, confidence, MULTILABEL_METRICS)


def fit_thresholds(probabilities: ArrayLike, labels: ArrayLike) -> tuple[float, ...]:
    """Choose for each finding the threshold with the highest F1 on labeled validation images.

    Args:
        probabilities: probabilities of images that were not trained on, ``(N, num_classes)``.
        labels: see :func:`multilabel_metrics`.

    Returns:
        For each finding a threshold in (0, 1), halfway between two probabilities; 0.5 where no known image has it. A
        finding is predicted if its probability is at least the threshold.
    """
    scores, truth = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
    return tuple(
        _best_threshold(scores[truth[:, k] >= 0, k], truth[truth[:, k] >= 0, k]) for k in range(truth.shape[1])
    )


def _best_threshold(scores: Array, truth: NDArray[np.int64]) -> float:
    if not truth.any():
        return 0.5
    values = np.unique(scores)[::-1]
    order = np.argsort(-scores, kind="stable")
    last = np.searchsorted(-scores[order], -values, side="right") - 1
    hits, claimed = np.cumsum(truth[order])[last], last + 1
    best = int(np.argmax(2 * hits / (claimed + truth.sum())))
    below = values[best + 1] if best + 1 < len(values) else 0.0
    return float((values[best] + below) / 2)


def _checked(
    probabilities: ArrayLike, labels: ArrayLike, predicted: ArrayLike
) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_]]:
    scores, truth, decided = np.asarray(probabilities, dtype=np.float64), np.asarray(labels), np.asarray(predicted)
    if scores.ndim != 2 or len(scores) == 0 or not scores.shape == truth.shape == decided.shape:
        raise ValueError(
            "probabilities, labels and predicted must be (N, num_classes) with N > 0, got "
            f"{scores.shape}, {truth.shape} and {decided.shape}."
        )
    if not np.isin(truth, (-1, 0, 1)).all():
        raise ValueError("labels must be 1, 0 or -1 (not known).")
    return scores, truth.astype(np.int64), decided.astype(bool)


def _of_seeds(probabilities: ArrayLike, labels: ArrayLike, predicted: ArrayLike) -> list[Measure]:
    scores = np.asarray(probabilities)
    seeds = scores if scores.ndim == 3 else scores[None]
    decided = np.asarray(predicted).reshape(seeds.shape)
    if len(seeds) == 0:
        raise ValueError("probabilities must be of one seed at least.")
    return [_Findings(*_checked(one, labels, of_one)) for one, of_one in zip(seeds, decided, strict=True)]


class _Findings:
    """Metrics for blocks of weights; what does not depend on the weights is computed once."""

    def __init__(self, scores: Array, truth: NDArray[np.int64], predicted: NDArray[np.bool_]) -> None:
        known = truth >= 0
        self.hits, self.claimed, self.there = (
            (part & known).astype(float) for part in (predicted & (truth == 1), predicted, truth == 1)
        )
        self.ranked = not np.isnan(scores).any()
        self.rows = [np.flatnonzero(known[:, k]) for k in range(truth.shape[1])]
        self.rankings = [Ranking(scores[rows, k], truth[rows, k] == 1) for k, rows in enumerate(self.rows)]
        self.precisions = [_AveragePrecision(scores[rows, k], truth[rows, k] == 1) for k, rows in enumerate(self.rows)]
        # All known answers, with the image of each.
        self.images = np.nonzero(known)[0]
        self.ranking = Ranking(scores[known], truth[known] == 1)
        self.precision = _AveragePrecision(scores[known], truth[known] == 1)

    def __call__(self, weights: Array) -> dict[str, Array]:
        """Compute the values, ``(R,)`` or ``(R, num_classes)``, for weights ``(N, R)``."""
        hits, claimed, there = (weights.T @ part for part in (self.hits, self.claimed, self.there))
        with np.errstate(invalid="ignore", divide="ignore"):
            f1, recall, precision = 2 * hits / (claimed + there), hits / there, hits / claimed
            micro_f1 = 2 * hits.sum(1) / (claimed + there).sum(1)
        auc, average = np.full_like(f1, np.nan), np.full_like(f1, np.nan)
        for k, rows in enumerate(self.rows if self.ranked else []):
            auc[:, k], average[:, k] = self.rankings[k].auc(weights[rows]), self.precisions[k](weights[rows])
        micro_auc, micro_average = self._micro(weights)
        return {
            "macro_auc": mean_of_defined(auc),
            # A finding without an image has no average precision; one without any other image has no AUC.
            "macro_average_precision": mean_of_defined(np.where(np.isnan(auc), np.nan, average)),
            "macro_f1": mean_of_defined(f1),
            "micro_auc": micro_auc,
            "micro_average_precision": micro_average,
            "micro_f1": micro_f1,
            "auc": auc,
            "average_precision": average,
            "f1": f1,
            "recall": recall,
            "precision": precision,
        }

    def _micro(self, weights: Array) -> tuple[Array, Array]:
        """AUC and average precision of all known answers together, ``(R,)`` each; NaN if all answers are the same."""
        auc, average = np.full(weights.shape[1], np.nan), np.full(weights.shape[1], np.nan)
        if self.ranked:
            # An image has as many answers as there are findings, and no more weights are in memory at once.
            step = max(1, weights.shape[1] // len(self.rows))
            for start in range(0, weights.shape[1], step):
                of_answers = weights[self.images, start : start + step]
                auc[start : start + step] = self.ranking.auc(of_answers)
                average[start : start + step] = self.precision(of_answers)
        return auc, np.where(np.isnan(auc), np.nan, average)


class _AveragePrecision:
    """Average precision of one finding for blocks of weights.

    Args:
        scores: score of each known image, ``(N,)``.
        positive: True for the images with the finding, ``(N,)``.

    Source:
        scikit-learn, ``average_precision_score``: the sum over the scores of precision times the step in recall.
    """

    def __init__(self, scores: Array, positive: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self.positive = positive[self.order].astype(float)[:, None]
        ordered = scores[self.order]
        # Images with the same score are added together.
        self.last = np.flatnonzero(np.append(np.diff(ordered) != 0, True)) if len(ordered) else np.zeros(0, dtype=int)

    def __call__(self, weights: Array) -> Array:
        """Compute the values ``(R,)`` for weights ``(N, R)``."""
        if not len(self.last):
            return np.full(weights.shape[1], np.nan)
        ordered = weights[self.order]
        hits, claimed = np.cumsum(ordered * self.positive, axis=0)[self.last], np.cumsum(ordered, axis=0)[self.last]
        steps = np.diff(hits, axis=0, prepend=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(steps > 0, steps * hits / claimed, 0).sum(0) / hits[-1]
