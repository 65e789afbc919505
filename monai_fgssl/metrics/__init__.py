# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of classifiers and of self-supervised features."""

from __future__ import annotations

from .classification import METRICS, bootstrap_difference, bootstrap_intervals, classification_metrics
from .collapse import effective_rank, feature_std
from .epoch import epoch_metric
from .probes import knn_accuracy

__all__ = [
    "METRICS",
    "bootstrap_difference",
    "bootstrap_intervals",
    "classification_metrics",
    "effective_rank",
    "epoch_metric",
    "feature_std",
    "knn_accuracy",
]
