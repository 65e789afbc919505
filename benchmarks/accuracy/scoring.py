# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of predictions, for one weighting of the images or for thousands of resamples at a time.

The package's own metrics measure one sample at a time; the hundreds of intervals of the report need all resamples at
once. Values are those of scikit-learn with ``sample_weight``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Interval", "difference", "interval", "measure", "resample_weights"]

Array = NDArray[np.float64]
Interval = dict[str, float]

NUM_BINS = 15


def measure(
    prob: ArrayLike, labels: ArrayLike, class_names: Sequence[str], weights: Array | None = None
) -> dict[str, Array]:
    """All metrics of one classifier.

    Args:
        prob: ``(N, num_classes)``.
        labels: ``(N,)``, integers from 0.
        class_names: one for each class.
        weights: ``(R, N)``: how often each image counts in each of R samples; None: once, in one sample.

    Returns:
        ``(R,)`` each: ``accuracy``; ``balanced_accuracy``, the mean recall of the classes that occur; ``macro_f1`` over
        the classes that occur or are predicted; ``kappa``, Cohen's with quadratic weights; ``macro_auc``, one class
        against the rest; ``mean_auc``, the same over all classes but the last, as in ISIC 2017; ``calibration_error``
        in 15 bins; ``recall_<class>`` and ``auc_<class>``, NaN where undefined.
    """
    scores, truth = np.asarray(prob, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    size, classes = scores.shape
    weights = np.ones((1, size)) if weights is None else weights
    total = weights.sum(1)
    predicted = scores.argmax(1)
    confusion = (weights @ _one_hot(truth * classes + predicted, classes**2)).reshape(-1, classes, classes)
    hits = confusion.diagonal(axis1=1, axis2=2)
    support, claimed = confusion.sum(2), confusion.sum(1)
    distance = np.subtract.outer(np.arange(classes), np.arange(classes)) ** 2
    by_chance = support[:, :, None] * claimed[:, None, :] / total[:, None, None]
    confidence = scores.max(1)
    # Bins are closed above, as in the package.
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    surplus = (confidence - (predicted == truth))[:, None] * _one_hot(bins, NUM_BINS)
    auc = np.stack([_auc(scores[:, k], truth == k, weights) for k in range(classes)], axis=1)
    # Classes that a sample lacks have no recall or AUC, and are left out of the means.
    with np.errstate(invalid="ignore", divide="ignore"):
        recall, f1 = hits / support, 2 * hits / (support + claimed)
        kappa = 1 - (distance * confusion).sum((1, 2)) / (distance * by_chance).sum((1, 2))
    result = {
        "accuracy": hits.sum(1) / total,
        "balanced_accuracy": _mean(recall),
        "macro_f1": _mean(f1),
        "kappa": kappa,
        "macro_auc": _mean(auc),
        "mean_auc": _mean(auc[:, :-1]),
        "calibration_error": np.abs(weights @ surplus).sum(1) / total,
    }
    for k, name in enumerate(class_names):
        result |= {f"recall_{name}": recall[:, k], f"auc_{name}": auc[:, k]}
    return result


def _one_hot(values: NDArray[np.int64], size: int) -> Array:
    return (values[:, None] == np.arange(size)).astype(np.float64)


def _mean(values: Array) -> Array:
    """Mean over axis 1 of what is defined."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(1) / known.sum(1)


def _auc(scores: Array, positive: NDArray[np.bool_], weights: Array) -> Array:
    """Weighted share of pairs (positive, negative) in the right order, ties counting half; ``(R,)``."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    ordered = weights[:, order]
    yes = np.add.reduceat(ordered * positive[order], starts, axis=1)
    no = np.add.reduceat(ordered * ~positive[order], starts, axis=1)
    below = no.cumsum(1) - no
    with np.errstate(invalid="ignore", divide="ignore"):
        return (yes * (below + no / 2)).sum(1) / (yes.sum(1) * no.sum(1))


def resample_weights(groups: Sequence[str], num_resamples: int = 1000, seed: int = 0) -> Array:
    """How often each image is drawn when whole groups (lesions) are drawn with replacement.

    The same groups and seed give the same draws, so differences between classifiers on the same images are paired.

    Args:
        groups: ``N`` names.
        num_resamples: R.
        seed: of the draws.

    Returns:
        ``(R, N)``.

    Source:
        Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 13.
    """
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=num_resamples)
    return counts[:, group_of].astype(np.float64)


def interval(values: Sequence[float], draws: Sequence[ArrayLike], seed: int = 1) -> Interval:
    """Mean over seeds with a 95 % interval that holds the chance of the test images and that of the seeds.

    In each resample of the images as many seeds as there are are drawn with replacement. With one seed the interval
    holds the chance of the images only.

    Args:
        values: ``S`` values, one for each seed.
        draws: ``S`` arrays ``(R,)``, the same metric in each resample.
        seed: of the choice of seeds.

    Returns:
        ``value``, ``low``, ``high``, and ``p``, twice the share of resamples beyond 0 (for differences).
    """
    stacked = np.asarray(draws, dtype=np.float64)
    chosen = np.random.default_rng(seed).integers(len(stacked), size=stacked.shape)
    means = np.take_along_axis(stacked, chosen, axis=0).mean(0)
    means = means[~np.isnan(means)]
    low, high = np.quantile(means, (0.025, 0.975)) if len(means) else (np.nan, np.nan)
    beyond = min((means <= 0).mean(), (means >= 0).mean()) if len(means) else np.nan
    return {"value": float(np.mean(values)), "low": float(low), "high": float(high), "p": float(min(1, 2 * beyond))}


def difference(
    first: Mapping[int, Mapping[str, Any]], second: Mapping[int, Mapping[str, Any]], metric: str
) -> Interval | None:
    """Difference first - second over the seeds that both have, paired by image and by seed; None without any.

    Args:
        first: by seed, ``"values"`` (float) and ``"draws"`` ``(R,)`` by metric.
        second: the same of the other method.
        metric: name of the metric.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    return interval(
        [first[s]["values"][metric] - second[s]["values"][metric] for s in seeds],
        [first[s]["draws"][metric] - second[s]["draws"][metric] for s in seeds],
    )
