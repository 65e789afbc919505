# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of a run by name, and intervals that include the chance of several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_fgssl.metrics import resample_weights, weighted_calibration_error, weighted_metrics
from monai_fgssl.metrics.classification import mean_of_defined

__all__ = ["Interval", "difference", "interval", "measure", "resample_weights"]

Array = NDArray[np.float64]
Interval = dict[str, float]


def measure(
    prob: ArrayLike,
    labels: ArrayLike,
    class_names: Sequence[str],
    weights: Array | None = None,
    predicted: ArrayLike | None = None,
) -> dict[str, Array]:
    """All metrics of one classifier.

    Args:
        prob: probabilities ``(N, num_classes)``.
        labels: labels ``(N,)``, integers from 0.
        class_names: names of the classes.
        weights: number of times that each image counts in each of R samples, ``(R, N)``; None: once, in one sample.
        predicted: predicted classes ``(N,)``; None: the likeliest ones.

    Returns:
        Array ``(R,)`` of each metric by name: the metrics of :func:`monai_fgssl.metrics.weighted_metrics`;
        ``recall_<class>`` and ``auc_<class>`` for each class; ``mean_auc`` over all classes but the last, as in ISIC
        2017; and ``calibration_error`` in 15 bins.
    """
    weights = np.ones((1, len(np.asarray(labels)))) if weights is None else weights
    values = weighted_metrics(prob, labels, weights, predicted)
    names = ("accuracy", "balanced_accuracy", "macro_f1", "kappa", "macro_auc")
    result = {name: values[name] for name in names}
    result["mean_auc"] = mean_of_defined(values["auc"][:, :-1])
    result["calibration_error"] = weighted_calibration_error(prob, labels, weights)
    for k, name in enumerate(class_names):
        result |= {f"recall_{name}": values["recall"][:, k], f"auc_{name}": values["auc"][:, k]}
    return result


def interval(values: Sequence[float], draws: Sequence[ArrayLike], seed: int = 1, level: float = 0.95) -> Interval:
    """Mean over seeds with an interval that includes the chance of the test images and of the seeds.

    For each resample of the images, S seeds are drawn from the S seeds with replacement. With one seed the interval
    includes only the chance of the images.

    Args:
        values: ``S`` values, one for each seed.
        draws: ``S`` arrays ``(R,)``, the same metric in each resample.
        seed: seed of the choice of seeds.
        level: level of the interval.

    Returns:
        ``value``, ``low``, ``high``, and ``p``, twice the share of resamples beyond 0 (for differences).
    """
    stacked = np.asarray(draws, dtype=np.float64)
    chosen = np.random.default_rng(seed).integers(len(stacked), size=stacked.shape)
    means = np.take_along_axis(stacked, chosen, axis=0).mean(0)
    means = means[~np.isnan(means)]
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2)) if len(means) else (np.nan, np.nan)
    beyond = min((means <= 0).mean(), (means >= 0).mean()) if len(means) else np.nan
    return {"value": float(np.mean(values)), "low": float(low), "high": float(high), "p": float(min(1, 2 * beyond))}


def difference(
    first: Mapping[int, Mapping[str, Any]], second: Mapping[int, Mapping[str, Any]], metric: str, level: float = 0.95
) -> Interval | None:
    """Difference first - second over the seeds that both have, paired by image and by seed; None without any.

    Args:
        first: metrics of the first method by seed: ``"values"`` (float) and ``"draws"`` ``(R,)``, each by metric.
        second: metrics of the second method, in the same form.
        metric: name of the metric.
        level: level of the interval.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    return interval(
        [first[s]["values"][metric] - second[s]["values"][metric] for s in seeds],
        [first[s]["draws"][metric] - second[s]["draws"][metric] for s in seeds],
        level=level,
    )
