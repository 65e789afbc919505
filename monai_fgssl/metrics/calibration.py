# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Calibration of probabilities: temperature scaling, and measures of the error that remains."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.sparse import csr_array
from scipy.special import expit, log_softmax, softmax

__all__ = [
    "confidence_bins",
    "expected_calibration_error",
    "finding_calibration_error",
    "fit_member_weights",
    "fit_temperature",
    "negative_log_likelihood",
    "weighted_calibration_error",
]

# A temperature outside these bounds means that the logits separate the labels perfectly, or are not related to them.
BOUNDS = (0.05, 20.0)


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike, temperature: float = 1.0) -> float:
    """Mean negative logarithm of the probability that ``softmax(logits / temperature)`` gives to the true class; for
    findings, of the probability that the sigmoid gives to each known answer.

    Args:
        logits: logits of the images, ``(N, num_classes)``.
        labels: true classes, ``(N,)``, integers from 0; or findings, ``(N, num_classes)`` with 1, 0 and -1 (not known).
        temperature: divisor of the logits, positive.
    """
    scores = np.asarray(logits, dtype=np.float64) / temperature
    truth = np.asarray(labels)
    if truth.ndim == 2:
        return float((np.logaddexp(0, scores) - scores * truth)[truth >= 0].mean())
    return float(-log_softmax(scores, axis=1)[np.arange(len(scores)), np.asarray(labels)].mean())


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Fit the temperature that makes labeled validation data most likely.

    A temperature changes neither the order of the classes of an image nor the prediction.

    Args:
        logits: logits of images that were not trained on, ``(N, num_classes)``.
        labels: see :func:`negative_log_likelihood`.

    Returns:
        Temperature between 0.05 and 20; above 1: the network was too confident.

    Raises:
        ValueError: when there are no samples, or a logit is not finite.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, sec. 4.2.
    """
    if len(np.asarray(labels)) == 0:
        raise ValueError("a temperature can't be fitted to no samples: give labeled validation images.")
    if not np.isfinite(np.asarray(logits)).all():
        raise ValueError("a temperature can't be fitted to logits that are NaN or infinite.")
    # The likelihood has a single optimum in 1 / T; the search is in log T, so that it is equally precise for small and
    # large temperatures.
    best = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits, labels, float(np.exp(log_t))),
        bounds=tuple(np.log(BOUNDS)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(best.x))


def fit_member_weights(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Fit weights of the members of an ensemble that make labeled validation data most likely.

    The ensemble predicts ``softmax(sum_m weight_m * logits_m)``, or for findings the sigmoid of the sum. The likelihood
    has a single optimum. Weights that sum to less than 1 also lower the confidence, as a temperature above 1 does.

    Args:
        logits: logits of images that were not trained on, ``(N, M, num_classes)`` for M members.
        labels: see :func:`negative_log_likelihood`.

    Returns:
        Weights ``(M,)`` from 0 to 20; 0: the member adds nothing to the others.

    Raises:
        ValueError: when there are no samples, or a logit is not finite.

    Source:
        The weighted sum of logits is a logarithmic opinion pool: Heskes, "Selecting Weighting Factors in Logarithmic
        Opinion Pools", NeurIPS 1997.
    """
    scores, classes = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if len(classes) == 0:
        raise ValueError("weights can't be fitted to no samples: give labeled validation images.")
    if not np.isfinite(scores).all():
        raise ValueError("weights can't be fitted to logits that are NaN or infinite.")
    rows, members = np.arange(len(scores)), scores.shape[1]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total = np.einsum("m,nmc->nc", weights, scores)
        if classes.ndim == 2:
            error = np.where(classes >= 0, expit(total) - classes, 0) / (classes >= 0).sum()
            return negative_log_likelihood(total, classes), np.einsum("nc,nmc->m", error, scores)
        prob = softmax(total, axis=1)
        gradient = np.einsum("nc,nmc->nm", prob, scores) - scores[rows, :, classes]
        return float(-log_softmax(total, axis=1)[rows, classes].mean()), gradient.mean(axis=0)

    start = np.full(members, 1 / members)
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, BOUNDS[1])] * members).x


def confidence_bins(
    probabilities: ArrayLike, labels: ArrayLike, num_bins: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return each sample's confidence, whether its prediction is right, and the bin of its confidence.

    Args:
        probabilities: predictions, ``(N, num_classes)``.
        labels: true classes, ``(N,)``, integers from 0.
        num_bins: number of bins of equal width for the confidence, from 0 to 1.

    Returns:
        Three arrays ``(N,)``; bins are counted from 0.

    Raises:
        ValueError: when a probability is NaN.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if np.isnan(scores).any():
        raise ValueError("probabilities must be numbers, got NaN.")
    confidence = scores.max(1)
    # Bins are closed above, as in the paper of Guo et al.
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    return confidence, scores.argmax(1) == np.asarray(labels), bins


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighted by the number of samples in each
    bin.

    Args:
        probabilities: predictions, ``(N, num_classes)``.
        labels: true classes, ``(N,)``, integers from 0.
        num_bins: number of bins of equal width for the confidence, from 0 to 1.

    Returns:
        Error in [0, 1]. It is 0 if, for every confidence c, a share c of the images with this confidence is right.

    Source:
        Guo et al., ICML 2017, eq. 3.
    """
    return weighted_calibration_error(probabilities, labels, np.ones((1, len(np.asarray(labels)))), num_bins).item()


def finding_calibration_error(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """:func:`expected_calibration_error` of one finding, as a class beside its absence.

    Args:
        probabilities: of the finding, ``(N,)``.
        labels: 1: the finding is there; 0: it is not; -1: not known, and left out. ``(N,)``.

    Returns:
        Error in [0, 1]; NaN if the finding is known of no image.
    """
    truth, values = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    known = truth >= 0
    if not known.any():
        return float("nan")
    return expected_calibration_error(np.stack([1 - values[known], values[known]], axis=1), truth[known])


def weighted_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, weights: ArrayLike, num_bins: int = 15
) -> NDArray[np.float64]:
    """Compute :func:`expected_calibration_error` for many weightings of the same samples.

    Args:
        probabilities: predictions, ``(N, num_classes)``.
        labels: true classes, ``(N,)``, integers from 0.
        weights: how often each sample counts in each of R weightings, ``(R, N)``, not negative.
        num_bins: number of bins of equal width for the confidence, from 0 to 1.

    Returns:
        Errors ``(R,)``, in [0, 1].
    """
    confidence, right, bins = confidence_bins(probabilities, labels, num_bins)
    columns = np.asarray(weights, dtype=np.float64).T
    surplus = csr_array((confidence - right, (bins, np.arange(len(bins)))), shape=(num_bins, len(bins)))
    return np.abs(surplus @ columns).sum(0) / columns.sum(0)
