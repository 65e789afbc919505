# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Probabilities that mean what they say: temperature scaling and how far off it leaves them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array
from scipy.special import log_softmax

__all__ = [
    "confidence_bins",
    "expected_calibration_error",
    "fit_temperature",
    "negative_log_likelihood",
    "weighted_calibration_error",
]

# A temperature outside says that the labels are separated perfectly, or not related to the logits at all.
BOUNDS = (0.05, 20.0)


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> float:
    """Mean negative logarithm of the probability that ``softmax(logits / temperature)`` gives to the true class.

    Args:
        logits: ``(N, num_classes)``.
        labels: ``(N,)``, integers from 0.
        temperature: positive.
    """
    scores = np.asarray(logits, dtype=np.float64) / temperature
    return float(-log_softmax(scores, axis=1)[np.arange(len(scores)), np.asarray(labels)].mean())


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Temperature that makes labeled validation data most likely; it changes no ranking and no decision.

    Args:
        logits: ``(N, num_classes)``, of images that were not trained on.
        labels: ``(N,)``, integers from 0.

    Returns:
        Between 0.05 and 20; above 1: the network was too sure.

    Raises:
        ValueError: when there are no samples.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, sec. 4.2.
    """
    if len(np.asarray(labels)) == 0:
        raise ValueError("a temperature can't be fitted to no samples: give labeled validation images.")
    # The likelihood has a single optimum in 1 / T; in log T the search is as fine for small as for large ones.
    best = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, labels, float(np.exp(log_t))),
        bounds=tuple(np.log(BOUNDS)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(best.x))


def confidence_bins(
    probabilities: ArrayLike, labels: ArrayLike, num_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Confidence of each sample, whether its prediction is right, and the bin of equal width that it is in.

    Args:
        probabilities: ``(N, num_classes)``.
        labels: ``(N,)``, integers from 0.
        num_bins: bins of the confidence, from 0 to 1.

    Returns:
        ``(N,)`` each; bins are counted from 0.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    confidence = scores.max(1)
    # Bins are closed above, as in the paper of Guo et al.
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    return confidence, scores.argmax(1) == np.asarray(labels), bins


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighted by the samples in them.

    Args:
        probabilities: ``(N, num_classes)``.
        labels: ``(N,)``, integers from 0.
        num_bins: bins of the confidence, from 0 to 1.

    Returns:
        In [0, 1]; 0: of the images with confidence c a share c is right.

    Source:
        Guo et al., ICML 2017, eq. 3.
    """
    return weighted_calibration_error(probabilities, labels, np.ones((1, len(np.asarray(labels)))), num_bins).item()


def weighted_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike, num_bins: int = 15
) -> NDArray[np.float64]:
    """:func:`expected_calibration_error` of many weightings of the same samples.

    Args:
        probabilities: ``(N, num_classes)``.
        labels: ``(N,)``, integers from 0.
        weights: ``(R, N)``, not negative: how often each sample counts in each of R samples.
        num_bins: bins of the confidence, from 0 to 1.

    Returns:
        ``(R,)``, in [0, 1].
    """
    confidence, right, bins = confidence_bins(probabilities, labels, num_bins)
    columns = np.asarray(weights, dtype=np.float64).T
    surplus = csr_array((confidence - right, (bins, np.arange(len(bins)))), shape=(num_bins, len(bins)))
    return np.abs(surplus @ columns).sum(0) / columns.sum(0)
