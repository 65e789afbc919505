# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of a classifier, for one set of samples or for thousands of resamples at once.

Intervals take into account that images of one lesion are not independent.
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
    "ORDINAL_METRICS",
    "bootstrap_difference",
    "bootstrap_gap",
    "bootstrap_intervals",
    "classification_metrics",
    "resample_weights",
    "weighted_metrics",
]

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auc")
"""Names of the metrics of unordered classes, in the order of tables."""

ORDINAL_METRICS = ("kappa", "mean_absolute_error", *METRICS)
"""Names of the metrics of ordered classes, in the order of tables."""

BLOCK = 2**21
"""Number of weights in memory at once: 16 MB, and a few more arrays of this size."""

Array = NDArray[np.float64]
Measure = Callable[[Array], dict[str, Array]]
"""Function of weights ``(N, R)`` that returns the value of each metric for each of R weightings."""


def classification_metrics(
    probabilities: ArrayLike,
    labels: ArrayLike,
    predicted: ArrayLike | None = None,
    metrics: Sequence[str] = METRICS,
) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro F1 and macro AUC, with the values of scikit-learn.

    Args:
        probabilities: one score per class, ``(N, num_classes)``.
        labels: true classes, ``(N,)``, integers from 0.
        predicted: predicted class of each sample, ``(N,)``; None: the class with the highest score.
        metrics: names of the metrics: :data:`METRICS`, or :data:`ORDINAL_METRICS` for ordered classes.

    Returns:
        ``accuracy``; ``balanced_accuracy``, the mean recall of the classes that occur; ``macro_f1``, the mean F1 of the
        classes that occur or are predicted; ``macro_auc``, the mean AUC of one class against the rest over the classes
        that occur, NaN when only one class occurs. All in [0, 1], and all NaN when a score is NaN. For ordered classes
        also ``kappa``, Cohen's kappa with quadratic weights, at most 1, NaN when all samples are of one class and
        predicted as it; and ``mean_absolute_error``, the mean distance between predicted and true class, in classes.

    Raises:
        ValueError: when the shapes do not fit, there are no samples or a label is not a whole number.
    """
    scores, truth, decided = _checked(probabilities, labels, predicted)
    values = _Weighted(scores, truth, decided)(np.ones((len(truth), 1)))
    return {name: values[name].item() for name in metrics}


def weighted_metrics(
    probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike, predicted: ArrayLike | None = None
) -> dict[str, Array]:
    """Metrics of one classifier on many weightings of the same samples, with the values of scikit-learn.

    Args:
        probabilities: one score per class, ``(N, num_classes)``.
        labels: true classes, ``(N,)``, integers from 0.
        weights: how often each sample counts in each of R weightings, ``(R, N)``, not negative.
        predicted: predicted class of each sample, ``(N,)``; None: the class with the highest score.

    Returns:
        Arrays ``(R,)``: the metrics of :func:`classification_metrics`, also those of ordered classes. Arrays
        ``(R, num_classes)``: ``recall``, and ``auc`` of one class against the rest. A value is NaN if a weighting has
        no sample of the class, or, for ``auc``, no sample of any other class.

    Raises:
        ValueError: when the shapes do not fit, there are no samples or a label is not a whole number.
    """
    scores, truth, decided = _checked(probabilities, labels, predicted)
    columns = np.asarray(weights, dtype=np.float64).T
    if columns.ndim != 2 or len(columns) != len(truth):
        raise ValueError(f"weights must be (R, N) with N = {len(truth)}, got {columns.shape[::-1]}.")
    measure, rows = _Weighted(scores, truth, decided), _rows(len(truth))
    blocks = [measure(np.ascontiguousarray(columns[:, i : i + rows])) for i in range(0, max(1, columns.shape[1]), rows)]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def resample_weights(groups: Sequence[str], num_resamples: int = 1000, seed: int = 0) -> Array:
    """Draw whole groups (lesions, patients) with replacement, and count how often each sample is drawn.

    The same groups and seed give the same draws, so differences between classifiers on the same samples are paired.

    Args:
        groups: name of the group of each of the ``N`` samples.
        num_resamples: number of resamples, R.
        seed: seed of the draws.

    Returns:
        Counts ``(R, N)``.

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
    predicted: ArrayLike | None = None,
    metrics: Sequence[str] = METRICS,
) -> dict[str, dict[str, float]]:
    """Compute metrics with percentile intervals, by resampling groups and seeds (Efron & Tibshirani, 1993, ch. 13).

    With the predictions of several seeds, values are means over the seeds, and intervals include the chance of the
    samples and the chance of the seeds. Each resample draws groups with replacement and, independently, S - 1 of the S
    seeds with replacement. S drawn seeds would make the interval too narrow if S is small: their mean varies by the
    variance of the S values, which is on average only (S - 1) / S of the true variance.

    Args:
        probabilities: predictions ``(N, num_classes)``, or ``(S, N, num_classes)`` for S seeds of one method.
        labels: true classes, ``(N,)``, integers from 0.
        groups: name of the group (lesion, patient) of each of the ``N`` samples; a group is drawn as a whole. None:
            every sample is a group.
        num_resamples: number of resamples.
        seed: seed of the resampling.
        confidence: share of the resamples within the interval.
        predicted: predicted class of each sample, in the shape of ``probabilities`` without its last axis; None: the
            class with the highest score.
        metrics: names of the metrics, see :func:`classification_metrics`.

    Returns:
        ``value``, ``low`` and ``high`` of each metric.

    Raises:
        ValueError: when the shapes do not fit, there are no samples or a label is not a whole number.

    Source of the two-way resampling, and of S - 1:
        Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007, sec. 3: https://arxiv.org/abs/0712.1111;
        Hesterberg, What Teachers Should Know About the Bootstrap, The American Statistician 2015, sec. 3.2:
        https://arxiv.org/abs/1411.5279
    """
    measures, size = _of_seeds(probabilities, labels, predicted)
    return intervals_of(measures, size, groups, num_resamples, seed, confidence, metrics)


def bootstrap_difference(
    probabilities_a: ArrayLike,
    probabilities_b: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    predicted_a: ArrayLike | None = None,
    predicted_b: ArrayLike | None = None,
    metrics: Sequence[str] = METRICS,
) -> dict[str, dict[str, float]]:
    """Compute the differences A - B of two classifiers on the same samples. Both classifiers use the same resamples.

    Arguments and result are those of :func:`bootstrap_intervals`, with predicted classes of each classifier. Both
    classifiers need the same number of seeds, and a resample draws the same seeds for both.
    """
    first, size = _of_seeds(probabilities_a, labels, predicted_a)
    second, _ = _of_seeds(probabilities_b, labels, predicted_b)
    return intervals_of(differences_of(first, second), size, groups, num_resamples, seed, confidence, metrics)


def bootstrap_gap(
    probabilities: ArrayLike,
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[str] | None = None,
    num_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    predicted: ArrayLike | None = None,
    metrics: Sequence[str] = METRICS,
) -> dict[str, dict[str, float]]:
    """Compute the differences of one classifier between two subsets of the samples, first - second.

    ``first`` and ``second`` are True for the samples of a subset, ``(N,)``. Other arguments and the result are those of
    :func:`bootstrap_intervals`. A group that has samples in both subsets is drawn for both.
    """
    measures, size = _of_seeds(probabilities, labels, predicted)
    gaps = gaps_of(measures, first, second, metrics)
    return intervals_of(gaps, size, groups, num_resamples, seed, confidence, metrics)


def gaps_of(measures: Sequence[Measure], first: ArrayLike, second: ArrayLike, metrics: Sequence[str]) -> list[Measure]:
    """Return for each seed a function from weights to the differences between two subsets of the samples, ``(N,)``."""
    masks = [np.asarray(subset, dtype=np.float64)[:, None] for subset in (first, second)]
    return [partial(_gap, metrics, measure, *masks) for measure in measures]


def _gap(metrics: Sequence[str], measure: Measure, first: Array, second: Array, weights: Array) -> dict[str, Array]:
    a, b = measure(weights * first), measure(weights * second)
    return {name: a[name] - b[name] for name in metrics}


def differences_of(first: Sequence[Measure], second: Sequence[Measure]) -> list[Measure]:
    """Return for each seed a function from weights to the differences of two classifiers.

    Raises:
        ValueError: when the classifiers have different numbers of seeds.
    """
    if len(first) != len(second):
        raise ValueError(f"both need the same number of seeds, got {len(first)} and {len(second)}.")
    return [partial(_difference, a, b) for a, b in zip(first, second, strict=True)]


def _difference(first: Measure, second: Measure, weights: Array) -> dict[str, Array]:
    a, b = first(weights), second(weights)
    return {name: a[name] - b[name] for name in a}


def _of_seeds(probabilities: ArrayLike, labels: ArrayLike, predicted: ArrayLike | None) -> tuple[list[Measure], int]:
    """Return one function for each seed, from weights to metrics, and the number of samples."""
    scores = np.asarray(probabilities)
    seeds = scores if scores.ndim == 3 else scores[None]
    if len(seeds) == 0:
        raise ValueError("probabilities must be of one seed at least.")
    decided = [None] * len(seeds) if predicted is None else np.asarray(predicted).reshape(seeds.shape[:-1])
    checked = [_checked(of_seed, labels, classes) for of_seed, classes in zip(seeds, decided, strict=True)]
    return [_Weighted(*one) for one in checked], len(checked[0][1])


def _mean_over_seeds(draws: Array, rng: np.random.Generator) -> Array:
    """Means ``(R,)`` of values ``(S, R)`` over S - 1 drawn seeds in each resample; NaN if a drawn value is NaN."""
    seeds, resamples = draws.shape
    if seeds == 1:
        return draws[0]
    chosen = rng.integers(seeds, size=(seeds - 1, resamples))
    return np.take_along_axis(draws, chosen, axis=0).mean(0)


def _checked(
    probabilities: ArrayLike, labels: ArrayLike, predicted: ArrayLike | None
) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    scores, truth = np.asarray(probabilities), np.asarray(labels)
    if scores.ndim != 2 or truth.shape != scores.shape[:1] or len(truth) == 0:
        raise ValueError(
            f"probabilities must be (N, num_classes) and labels (N,) with N > 0, got {scores.shape} and {truth.shape}."
        )
    if (truth != np.rint(truth)).any():
        raise ValueError("labels must be whole numbers.")
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise ValueError(f"labels must be from 0 to {scores.shape[1] - 1}, got {truth.min()} to {truth.max()}.")
    decided = scores.argmax(1) if predicted is None else np.asarray(predicted)
    if decided.shape != truth.shape or not np.isin(decided, np.arange(scores.shape[1])).all():
        raise ValueError(f"predicted must be (N,) with N = {len(truth)}, classes from 0 to {scores.shape[1] - 1}.")
    return scores, truth.astype(np.int64), decided.astype(np.int64)


def _rows(size: int) -> int:
    """Number of weightings that fit into a block."""
    return max(1, BLOCK // size)


def _draw(groups: Sequence[Any], num_resamples: int, seed: int) -> Iterator[Array]:
    """Yield blocks ``(N, R')`` of resamples, with one column for each resample."""
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    equal = np.full(len(names), 1 / len(names))
    rows = _rows(len(groups))
    for start in range(0, num_resamples, rows):
        counts = rng.multinomial(len(names), equal, size=min(rows, num_resamples - start))
        yield counts.T[group_of].astype(np.float64)


class _Weighted:
    """Metrics of one classifier for blocks of weights; values that do not depend on the weights are computed once.

    Args:
        scores: one score per class, ``(N, num_classes)``.
        truth: true classes, ``(N,)``.
        predicted: predicted classes, ``(N,)``.
    """

    def __init__(self, scores: NDArray[Any], truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> None:
        size, self.num_classes = scores.shape
        cells = truth * self.num_classes + predicted
        # This matrix has a row for each pair of true and predicted class.
        self.cells = csr_array(
            (np.ones(size), (cells, np.arange(size))), shape=(self.num_classes**2, size), dtype=np.float64
        )
        # A score of NaN can't be ranked, and NumPy would take it for the highest: nothing is known then.
        self.ordered = not np.isnan(scores).any()
        self.rankings = [Ranking(scores[:, k], truth == k) for k in range(self.num_classes)]

    def __call__(self, weights: Array) -> dict[str, Array]:
        """Compute the values, ``(R,)`` or ``(R, num_classes)``, for weights ``(N, R)``."""
        classes = self.num_classes
        confusion = (self.cells @ weights).T.reshape(-1, classes, classes)
        hits = confusion.diagonal(axis1=1, axis2=2)
        support, claimed, total = confusion.sum(2), confusion.sum(1), weights.sum(0)
        distance = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes)))
        by_chance = support[:, :, None] * claimed[:, None, :] / total[:, None, None]
        auc = np.full((len(total), classes), np.nan)
        if self.ordered:
            auc = np.stack([ranking.auc(weights) for ranking in self.rankings], axis=1)
        # A class without a sample has no recall and no AUC, and does not count in the means.
        with np.errstate(invalid="ignore", divide="ignore"):
            recall, f1 = hits / support, 2 * hits / (support + claimed)
            kappa = 1 - (distance**2 * confusion).sum((1, 2)) / (distance**2 * by_chance).sum((1, 2))
        error = (distance * confusion).sum((1, 2)) / total
        if not self.ordered:
            hits, recall, f1, kappa, error = (np.full_like(one, np.nan) for one in (hits, recall, f1, kappa, error))
        return {
            "accuracy": hits.sum(1) / total,
            "balanced_accuracy": mean_of_defined(recall),
            "macro_f1": mean_of_defined(f1),
            "macro_auc": mean_of_defined(auc),
            "kappa": kappa,
            "mean_absolute_error": error,
            "recall": recall,
            "auc": auc,
        }


class Ranking:
    """Ranks of the samples of one class among all other samples, by score.

    Args:
        scores: score of each sample, ``(N,)``.
        positive: True for the samples of the class, ``(N,)``.
    """

    def __init__(self, scores: NDArray[Any], positive: NDArray[np.bool_]) -> None:
        self.positives, negatives = np.flatnonzero(positive), np.flatnonzero(~positive)
        self.negatives = negatives[np.argsort(scores[negatives], kind="stable")]
        ordered, ours = scores[self.negatives], scores[self.positives]
        # For each sample of the class: the number of other samples with a lower score, and with a lower or equal score.
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
    """Mean over axis 1 without NaN; NaN if all values are NaN."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(1) / known.sum(1)


def intervals_of(
    measures: Sequence[Measure],
    size: int,
    groups: Sequence[str] | None,
    num_resamples: int,
    seed: int,
    confidence: float,
    metrics: Sequence[str],
) -> dict[str, dict[str, float]]:
    drawn = range(size) if groups is None else groups
    if len(drawn) != size:
        raise ValueError(f"groups must have a name for each of the {size} samples, got {len(drawn)}.")
    once = np.ones((size, 1))
    values = [measure(once) for measure in measures]
    blocks = [[measure(block) for measure in measures] for block in _draw(drawn, num_resamples, seed)]
    # The groups come from another random stream, so that they do not depend on the number of seeds.
    rng = np.random.default_rng([seed, 1])
    outside = (1 - confidence) / 2
    intervals = {}
    for name in metrics:
        of_seeds = np.concatenate([np.stack([draws[name] for draws in block]) for block in blocks], axis=1)
        low, high = np.nanquantile(_mean_over_seeds(of_seeds, rng), (outside, 1 - outside))
        value = np.mean([of_seed[name].item() for of_seed in values])
        intervals[name] = {"value": float(value), "low": float(low), "high": float(high)}
    return intervals
