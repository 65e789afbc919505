# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers that MONAI lacks."""

from __future__ import annotations

from .calibration import NormCalibrator
from .features import FeatureMonitor
from .history import EpochHistory
from .predictions import PredictionCollector
from .progress import PhaseProgress
from .rest import BackboneRest
from .resume import Resumer
from .saver import WeightsSaver
from .weights import WeightMonitor

__all__ = [
    "BackboneRest",
    "EpochHistory",
    "FeatureMonitor",
    "NormCalibrator",
    "PhaseProgress",
    "PredictionCollector",
    "Resumer",
    "WeightMonitor",
    "WeightsSaver",
]
