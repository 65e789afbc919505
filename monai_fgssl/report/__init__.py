# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures, tables and files for people to read."""

from __future__ import annotations

from .correlation_figure import plot_correlations, step_correlations
from .dicom.writer import DicomResultWriter
from .embeddings import check_formats, raise_failures, write_embeddings
from .feature_map import embed_features, plot_feature_map
from .figures import plot_comparison, plot_confusion, plot_learning_curves, plot_roc
from .heat_maps import HeatMapWriter, stage_heat_maps
from .predictions import write_predictions
from .reliability import ReliabilityBins, plot_reliability, reliability_bins
from .results import ResultWriter
from .run import Report
from .similar import find_similar, plot_similar, write_similar
from .tables import print_metrics, write_metrics
from .tracking import FinetuneTracker, PretrainTracker, RunTracker
from .views_figure import plot_views

__all__ = [
    "DicomResultWriter",
    "FinetuneTracker",
    "HeatMapWriter",
    "PretrainTracker",
    "ReliabilityBins",
    "Report",
    "ResultWriter",
    "RunTracker",
    "check_formats",
    "embed_features",
    "find_similar",
    "plot_comparison",
    "plot_confusion",
    "plot_correlations",
    "plot_feature_map",
    "plot_learning_curves",
    "plot_reliability",
    "plot_roc",
    "plot_similar",
    "plot_views",
    "print_metrics",
    "raise_failures",
    "reliability_bins",
    "stage_heat_maps",
    "step_correlations",
    "write_embeddings",
    "write_metrics",
    "write_predictions",
    "write_similar",
]
