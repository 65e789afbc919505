# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of classifiers and of self-supervised features."""

from __future__ import annotations

from .calibration import expected_calibration_error, fit_temperature, negative_log_likelihood
from .classification import METRICS, bootstrap_difference, bootstrap_intervals, classification_metrics
from .collapse import effective_rank, feature_std
from .epoch import epoch_metric
from .probes import knn_accuracy
from .uncertainty import disagreement, margin, predictive_entropy

__all__ = [
    "METRICS",
    "bootstrap_difference",
    "bootstrap_intervals",
    "classification_metrics",
    "disagreement",
    "effective_rank",
    "epoch_metric",
    "expected_calibration_error",
    "feature_std",
    "fit_temperature",
    "knn_accuracy",
    "margin",
    "negative_log_likelihood",
    "predictive_entropy",
]
