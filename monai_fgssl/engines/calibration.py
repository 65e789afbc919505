# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Calibration of probabilities on the validation part."""

from __future__ import annotations

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import expected_calibration_error, fit_temperature
from monai_fgssl.utils.run_log import record, tell

__all__ = ["MIN_CALIBRATION_IMAGES", "calibrate"]

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
