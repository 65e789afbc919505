# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Calibration on the validation part: of probabilities, and of sets of possible classes."""

from __future__ import annotations

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import PredictionSets, expected_calibration_error, fit_prediction_sets, fit_temperature
from monai_fgssl.utils.run_log import record, tell

__all__ = ["MIN_CALIBRATION_IMAGES", "calibrate", "calibrate_sets"]

MIN_CALIBRATION_IMAGES = 30
"""In the validation part."""


def calibrate(predictions: PredictionCollector) -> float:
    """Fit a temperature to predictions on the validation part, and write it to the log.

    Fewer than :data:`MIN_CALIBRATION_IMAGES` leave probabilities as they are: a handful of images that are all right
    or all wrong would turn every probability into a certainty or a guess.

    Returns:
        The temperature.
    """
    if len(predictions.labels) < MIN_CALIBRATION_IMAGES:
        tell(
            f"probabilities are not calibrated: that takes {MIN_CALIBRATION_IMAGES} validation images, there are "
            f"{len(predictions.labels)}"
        )
        return 1.0
    temperature = fit_temperature(predictions.logits, predictions.labels)
    before, after = (
        expected_calibration_error((predictions.logits / t).softmax(1), predictions.labels) for t in (1.0, temperature)
    )
    record(f"calibration error {before:.3f}, with temperature {temperature:.2f} {after:.3f}")
    return temperature


def calibrate_sets(
    predictions: PredictionCollector, temperature: float, coverage: float | None, by_class: bool, score: str
) -> PredictionSets | None:
    """Fit sets of possible classes to predictions on the validation part.

    The validation part has also chosen the best epoch and the temperature, which flatters it a little: look at the
    coverage on the test part, which the report has.

    Args:
        predictions: on the validation part.
        temperature: of the probabilities.
        coverage: see :func:`~monai_fgssl.metrics.fit_prediction_sets`; None: no sets.
        by_class: see :func:`~monai_fgssl.metrics.fit_prediction_sets`.
        score: see :func:`~monai_fgssl.metrics.fit_prediction_sets`.

    Returns:
        None without a coverage, or with fewer than :data:`MIN_CALIBRATION_IMAGES`.
    """
    if coverage is None:
        return None
    if len(predictions.labels) < MIN_CALIBRATION_IMAGES:
        tell(
            f"no sets of possible classes: they take {MIN_CALIBRATION_IMAGES} validation images, there are "
            f"{len(predictions.labels)}"
        )
        return None
    probabilities = (predictions.logits.double() / temperature).softmax(1)
    return fit_prediction_sets(probabilities, predictions.labels, coverage, by_class, score)
