# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Calibration of probabilities on the validation part."""

from __future__ import annotations

from ignite import distributed as idist

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import expected_calibration_error, fit_temperature

__all__ = ["MIN_CALIBRATION_IMAGES", "calibrate"]

MIN_CALIBRATION_IMAGES = 30
"""In the validation part."""


def calibrate(predictions: PredictionCollector) -> float:
    """Fit a temperature to predictions on the validation part, and print it.

    Fewer than :data:`MIN_CALIBRATION_IMAGES` leave probabilities as they are: a handful of images that are all right
    or all wrong would turn every probability into a certainty or a guess.

    Returns:
        The temperature.
    """
    if len(predictions.labels) < MIN_CALIBRATION_IMAGES:
        if idist.get_rank() == 0:
            print(
                f"probabilities are not calibrated: that takes {MIN_CALIBRATION_IMAGES} validation images, there are "
                f"{len(predictions.labels)}",
                flush=True,
            )
        return 1.0
    temperature = fit_temperature(predictions.logits, predictions.labels)
    before, after = (
        expected_calibration_error((predictions.logits / t).softmax(1), predictions.labels) for t in (1.0, temperature)
    )
    if idist.get_rank() == 0:
        print(f"calibration error {before:.3f}, with temperature {temperature:.2f} {after:.3f}", flush=True)
    return temperature
