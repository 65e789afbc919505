# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The reliability diagram, against scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.calibration import calibration_curve

from monai_fgssl.metrics import expected_calibration_error
from monai_fgssl.report.reliability import plot_reliability, reliability_bins

RNG = np.random.default_rng(0)
PROBABILITIES = RNG.dirichlet([0.6] * 4, 500)
LABELS = RNG.integers(0, 4, 500)


@pytest.mark.parametrize("num_bins", [3, 10, 15])
def test_bins_equal_those_of_scikit_learn(num_bins: int) -> None:
    bins = reliability_bins(PROBABILITIES, LABELS, num_bins)
    right = PROBABILITIES.argmax(1) == LABELS
    accuracy, confidence = calibration_curve(right, PROBABILITIES.max(1), n_bins=num_bins)
    np.testing.assert_allclose(bins.accuracy, accuracy)
    np.testing.assert_allclose(bins.confidence, confidence)
    assert bins.num_images.sum() == 500
    # And they add up to the metric.
    error = np.sum(bins.num_images * np.abs(bins.accuracy - bins.confidence)) / 500
    assert error == pytest.approx(expected_calibration_error(PROBABILITIES, LABELS, num_bins))


def test_intervals_follow_wilson() -> None:
    bins = reliability_bins([[1.0, 0.0]] * 10, [0] * 8 + [1] * 2, num_bins=5)
    n, p, z = 10, 0.8, 1.959963984540054
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    np.testing.assert_allclose([bins.low[0], bins.high[0]], [middle - reach, middle + reach])


def test_figure_shows_every_series_with_its_points(tmp_path: Path) -> None:
    flat = PROBABILITIES**0.5 / (PROBABILITIES**0.5).sum(1, keepdims=True)
    figure = plot_reliability({"raw": PROBABILITIES, "flat": flat}, LABELS, path=tmp_path / "reliability.png")
    above, below = figure.axes
    assert [text.get_text().split()[0] for text in above.get_legend().get_texts()] == ["raw", "flat"]
    for container, values in zip(above.containers, (PROBABILITIES, flat), strict=True):
        np.testing.assert_allclose(container.lines[0].get_ydata(), reliability_bins(values, LABELS).accuracy)
    assert len(below.collections) == 2
    with Image.open(tmp_path / "reliability.png") as picture:
        assert picture.width > 500
