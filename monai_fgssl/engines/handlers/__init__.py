# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers that MONAI lacks."""

from __future__ import annotations

from .averaging import WeightAverager
from .batch_norm import BatchNormUpdater
from .features import FeatureMonitor
from .freezing import BackboneFreezer
from .history import EpochHistory
from .precision import FastestPrecision
from .predictions import PredictionCollector
from .progress import PhaseProgress
from .resume import Resumer
from .saver import WeightsSaver
from .weights import WeightMonitor

__all__ = [
    "BackboneFreezer",
    "BatchNormUpdater",
    "EpochHistory",
    "FastestPrecision",
    "FeatureMonitor",
    "PhaseProgress",
    "PredictionCollector",
    "Resumer",
    "WeightAverager",
    "WeightMonitor",
    "WeightsSaver",
]
