# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Reliability diagram: among the images with confidence c, a share of c should be classified right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest

from monai_fgssl.metrics import expected_calibration_error
from monai_fgssl.metrics.calibration import confidence_bins

from .style import COLORS, save_figure, style

__all__ = ["ReliabilityBins", "plot_reliability", "reliability_bins"]


class ReliabilityBins(NamedTuple):
    """Images by their confidence, the probability of the likeliest class.

    Attributes:
        confidence: mean confidence in each bin that has images.
        accuracy: share of these images that is classified right.
        low: lower end of the 95 % Wilson interval of the accuracy.
        high: upper end of that interval.
        num_images: number of images in the bin.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    num_images: NDArray[np.int64]


def reliability_bins(probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 10) -> ReliabilityBins:
    """Confidence and accuracy in bins of equal width, as in :func:`~monai_fgssl.metrics.expected_calibration_error`.

    Args:
        probabilities: ``(N, num_classes)``.
        labels: ``(N,)``, integers from 0.
        num_bins: number of bins of the confidence from 0 to 1; empty bins are left out.

    Example:
        >>> bins = reliability_bins([[0.9, 0.1], [0.1, 0.9]], [0, 0], num_bins=2)
        >>> float(bins.confidence[0]), float(bins.accuracy[0]), int(bins.num_images[0])
        (0.9, 0.5, 2)

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, sec. 2.
    """
    confidence, right, bins = confidence_bins(probabilities, labels, num_bins)
    count = np.bincount(bins, minlength=num_bins)
    there = count > 0
    hits = np.bincount(bins, right, num_bins)[there].astype(int)
    count = count[there]
    intervals = [
        binomtest(k, n).proportion_ci(method="wilson") for k, n in zip(hits.tolist(), count.tolist(), strict=True)
    ]
    low, high = np.array(intervals).reshape(-1, 2).T
    return ReliabilityBins(
        np.bincount(bins, confidence, num_bins)[there] / count, hits / count, low, high, count.astype(np.int64)
    )


def plot_reliability(
    probabilities: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike,
    num_bins: int = 10,
    path: str | Path | None = None,
) -> Figure:
    """Draw the reliability diagram: accuracy over confidence with 95 % intervals, and the number of images per point.

    Below the diagonal the classifier is too sure, above it the classifier is not sure enough.

    Args:
        probabilities: ``(N, num_classes)``, or several such by name, to compare.
        labels: ``(N,)``, integers from 0.
        num_bins: bins of the confidence.
        path: file to save to; the suffix chooses the format.

    Returns:
        The figure.

    Example:
        >>> figure = plot_reliability([[0.9, 0.1], [0.2, 0.8]], [0, 1])
    """
    named = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
    with style():
        figure = Figure(figsize=(4.4, 5.2), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        above.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.8)
        for number, (name, values) in enumerate(named.items()):
            bins = reliability_bins(values, labels, num_bins)
            color = COLORS[number % len(COLORS)]
            # Points are side by side, so that no series hides another.
            shift = (number - (len(named) - 1) / 2) * 0.012
            error = expected_calibration_error(values, labels, num_bins)
            # The accuracy is not in the middle of a Wilson interval. At 0 and 1 rounding may put it outside.
            reach = np.maximum([bins.accuracy - bins.low, bins.high - bins.accuracy], 0)
            above.errorbar(
                bins.confidence + shift,
                bins.accuracy,
                reach,
                fmt="o-",
                color=color,
                markersize=4,
                linewidth=1.2,
                elinewidth=0.8,
                label=f"{name} calibration error {error:.3f}".strip(),
            )
            below.vlines(bins.confidence + shift, 0, bins.num_images, color=color, linewidth=4)
        above.set(ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
        above.legend(loc="upper left")
        below.set(xlabel="confidence", ylabel="images")
        if path is not None:
            save_figure(figure, path)
    return figure
