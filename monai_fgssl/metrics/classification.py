# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of a classifier, of one sample or of thousands of resamples at once.

Intervals know that images of one lesion are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

__all__ = [
    "METRICS",
    "bootstrap_difference",
    "bootstrap_intervals",
    "classification_metrics",
    "resample_weights",
    "weighted_metrics",
]

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")
"""Names of the metrics, in the order of tables."""

BLOCK = 2**21
"""Weights that are held at once: 16 MB, and a few arrays of that size beside."""

Array = NDArray[np.float64]
Measure = Callable[[Array], dict[str, Array]]
"""From weights ``(N, R)`` to the value of each metric in each of R samples."""


def classification_metrics(probabilities: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1 and macro AUC, with the values of scikit-learn.

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
    values = _Weighted(scores, truth)(np.ones((len(truth), 1)))
    return {name: values[name].item() for name in METRICS}


def weighted_metrics(probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> dict[str, Array]:
    """Metrics of one classifier on many weightings of the same samples, with the values of scikit-learn.

    Args:
        probabilities: ``(N, num_classes)``, one score per class; the highest is the prediction.
        labels: ``(N,)``, integers from 0.
        weights: ``(R, N)``, not negative: how often each sample counts in each of R samples.

    Returns:
        ``(R,)`` each: the four of :func:`classification_metrics`, and ``kappa``, Cohen's with quadratic weights, for
        classes in an order. ``(R, num_classes)`` each: ``recall``, and ``auc`` of one class against the rest. NaN
        where a sample lacks the class, or all others.

    Raises:
        ValueError: when the shapes do not fit or there are no samples.
    """
    scores, truth = _checked(probabilities, labels)
    columns = np.asarray(weights, dtype=np.float64).T
    if columns.ndim != 2 or len(columns) != len(truth):
        raise ValueError(f"weights must be (R, N) with N = {len(truth)}, got {columns.shape[::-1]}.")
    measure, rows = _Weighted(scores, truth), _rows(len(truth))
    blocks = [measure(np.ascontiguousarray(columns[:, i : i + rows])) for i in range(0, max(1, columns.shape[1]), rows)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def resample_weights(groups: Sequence[str], num_resamples: int = 1000, seed: int = 0) -> Array:
    """Number of times that each sample is drawn when whole groups (lesions, patients) are drawn with replacement.

    The same groups and seed give the same draws, so differences between classifiers on the same samples are paired.

    Args:
        groups: ``N`` names.
        num_resamples: R.
        seed: seed of the draws.

    Returns:
        ``(R, N)``.

    Source:
        Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13.
    """
    return np.concatenate([block.T for block in _draw(groups, num_resamples, seed)])


def bootstrap_intervals(
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, dict[str, float]]:
    """Metrics with percentile intervals from resampled groups, and seeds (Efron & Tibshirani, 1993, ch. 13).

    With the predictions of several seeds, values are means over the seeds, and intervals hold the chance of the samples
    and that of the seeds: each resample draws groups, and independently S - 1 of the S seeds, both with replacement.
    As many as S would make the interval too narrow where S is small, since the mean of S draws varies by the variance
    of the S values, which is (S - 1) / S of what they estimate.

    Args:
        probabilities: ``(N, num_classes)``, or ``(S, N, num_classes)`` of S seeds of one method.
        labels: ``(N,)``.
        groups: ``N`` names of what is drawn as one (lesion, patient); None: every sample for itself.
        num_resamples: number of resamples.
        seed: seed of the resampling.
        confidence: share of the resamples within the interval.

    Returns:
        ``value``, ``low`` and ``high`` of each metric of :func:`classification_metrics`.

    Raises:
        ValueError: when the shapes do not fit or there are no samples.

    Source of the two-way resampling, and of S - 1:
        Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007, sec. 3: https://arxiv.org/abs/0712.1111;
        Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 2015, sec. 3.2:
        https://arxiv.org/abs/1411.5279
    """
    measures, size = _of_seeds(probabilities, labels)
    return _intervals(measures, size, groups, num_resamples, seed, confidence)


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

    Arguments and result as those of :func:`bootstrap_intervals`. Both have the same seeds, which are drawn together.
    """
    first, size = _of_seeds(probabilities_a, labels)
    second, _ = _of_seeds(probabilities_b, labels)
    if len(first) != len(second):
        raise ValueError(f"both need the same number of seeds, got {len(first)} and {len(second)}.")
    measures = [partial(_difference, a, b) for a, b in zip(first, second, strict=True)]
    return _intervals(measures, size, groups, num_resamples, seed, confidence)


def _difference(first: Measure, second: Measure, weights: Array) -> dict[str, Array]:
    a, b = first(weights), second(weights)
    return {name: a[name] - b[name] for name in METRICS}


def _of_seeds(probabilities: ArrayLike, labels: ArrayLike) -> tuple[list[Measure], int]:
    """The metrics of each seed as functions of weights, and the number of samples."""
    scores = np.asarray(probabilities)
    seeds = scores if scores.ndim == 3 else scores[None]
    if len(seeds) == 0:
        raise ValueError("probabilities must be of one seed at least.")
    checked = [_checked(of_seed, labels) for of_seed in seeds]
    return [_Weighted(*pair) for pair in checked], len(checked[0][1])


def _mean_over_seeds(draws: Array, rng: np.random.Generator) -> Array:
    """Means ``(R,)`` of S - 1 drawn seeds in each resample, of values ``(S, R)``; NaN where a drawn one is."""
    seeds, resamples = draws.shape
    if seeds == 1:
        return draws[0]
    chosen = rng.integers(seeds, size=(seeds - 1, resamples))
    return np.take_along_axis(draws, chosen, axis=0).mean(0)


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    scores, truth = np.asarray(probabilities), np.asarray(labels)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or len(truth) == 0:
        raise ValueError(
            f"probabilities must be (N, num_classes) and labels (N,) with N > 0, got {scores.shape} and {truth.shape}."
        )
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ValueError(f"labels must be from 0 to {scores.shape[1] - 1}, got {truth.min()} to {truth.max()}.")
    return scores, truth.astype(np.int64)


def _rows(size: int) -> int:
    """Number of weightings that fit into a block."""
    return max(1, BLOCK // size)


def _draw(groups: Sequence[Any], num_resamples: int, seed: int) -> Iterator[Array]:
    """Blocks ``(N, R')`` of resamples, a column for each."""
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    equal = np.full(len(names), 1 / len(names))
    rows = _rows(len(groups))
    for start in range(0, num_resamples, rows):
        counts = rng.multinomial(len(names), equal, size=min(rows, num_resamples - start))
        yield counts.T[group_of].astype(np.float64)


class _Weighted:
    """Metrics of one classifier for blocks of weights; what does not depend on the weights is found once.

    Args:
        scores: ``(N, num_classes)``.
        truth: ``(N,)``.
    """

    def __init__(self, scores: NDArray[Any], truth: NDArray[np.int64]) -> None:
        size, self.num_classes = scores.shape
        cells = truth * self.num_classes + scores.argmax(1)
        # A row for each pair of true and predicted class.
        self.cells = csr_array(
            (np.ones(size), (cells, np.arange(size))), shape=(self.num_classes**2, size), dtype=np.float64
        )
        # A score that is NaN has no place in an order.
        self.ordered = not np.isnan(scores).any()
        self.rankings = [_Ranking(scores[:, k], truth == k) for k in range(self.num_classes)]

    def __call__(self, weights: Array) -> dict[str, Array]:
        """Values ``(R,)`` or ``(R, num_classes)`` for weights ``(N, R)``."""
        classes = self.num_classes
        confusion = (self.cells @ weights).T.reshape(-1, classes, classes)
        hits = confusion.diagonal(axis1=1, axis2=2)
        support, claimed, total = confusion.sum(2), confusion.sum(1), weights.sum(0)
        distance = np.subtract.outer(np.arange(classes), np.arange(classes)) ** 2
        by_chance = support[:, :, None] * claimed[:, None, :] / total[:, None, None]
        auc = np.full((len(total), classes), np.nan)
        if self.ordered:
            auc = np.stack([ranking.auc(weights) for ranking in self.rankings], axis=1)
        # Classes that a sample lacks have no recall or AUC, and are left out of the means.
        with np.errstate(invalid="ignore", divide="ignore"):
            recall, f1 = hits / support, 2 * hits / (support + claimed)
            kappa = 1 - (distance * confusion).sum((1, 2)) / (distance * by_chance).sum((1, 2))
        return {
            "accuracy": hits.sum(1) / total,
            "balanced_accuracy": mean_of_defined(recall),
            "macro_f1": mean_of_defined(f1),
            "macro_auc": mean_of_defined(auc),
            "kappa": kappa,
            "recall": recall,
            "auc": auc,
        }


class _Ranking:
    """Samples of a class among all others, by their score.

    Args:
        scores: ``(N,)``.
        positive: ``(N,)``, whether a sample is of the class.
    """

    def __init__(self, scores: NDArray[Any], positive: NDArray[np.bool_]) -> None:
        self.positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
        self.negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        ordered, ours = scores[self.negatives], scores[self.positives]
        # For each sample of the class: the number of others below it, and below or beside it.
        self.below, self.up_to = np.searchsorted(ordered, ours, "left"), np.searchsorted(ordered, ours, "right")

    def auc(self, weights: Array) -> Array:
        """Weighted share of pairs in the right order, ties counting half; ``(R,)`` for weights ``(N, R)``."""
        passed = np.zeros((len(self.negatives) + 1, weights.shape[1]))
        np.cumsum(weights[self.negatives], axis=0, out=passed[1:])
        ours = weights[self.positives]
        pairs = np.einsum("nr,nr->r", ours, passed[self.below] + passed[self.up_to]) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            return pairs / (ours.sum(0) * passed[-1])


def mean_of_defined(values: Array) -> Array:
    """Mean over axis 1, without NaN; NaN where all are."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(1) / known.sum(1)


def _intervals(
    measures: Sequence[Measure],
    size: int,
    groups: Sequence[str] | None,
    num_resamples: int,
    seed: int,
    confidence: float,
) -> dict[str, dict[str, float]]:
    drawn = range(size) if groups is None else groups
    if len(drawn) != size:
        raise ValueError(f"groups must have a name for each of the {size} samples, got {len(drawn)}.")
    once = np.ones((size, 1))
    values = [measure(once) for measure in measures]
    blocks = [[measure(block) for measure in measures] for block in _draw(drawn, num_resamples, seed)]
    # Not the stream that the groups are drawn from: those stay the same whatever the number of seeds.
    rng = np.random.default_rng([seed, 1])
    outside = (1 - confidence) / 2
    intervals = {}
    for name in METRICS:
        of_seeds = np.concatenate([np.stack([draws[name] for draws in block]) for block in blocks], axis=1)
        low, high = np.nanquantile(_mean_over_seeds(of_seeds, rng), (outside, 1 - outside))
        value = np.mean([of_seed[name].item() for of_seed in values])
        intervals[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return intervals
