# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures, tables and files that a person reads."""

from __future__ import annotations

from .dicom_results import DicomResultWriter
from .figures import plot_confusion, plot_learning_curves, plot_roc
from .heat_maps import HeatMapWriter, stage_heat_maps
from .predictions import write_predictions
from .results import ResultWriter
from .run import Report
from .tables import print_metrics, write_metrics
from .views_figure import plot_views

__all__ = [
    "DicomResultWriter",
    "HeatMapWriter",
    "Report",
    "ResultWriter",
    "plot_confusion",
    "plot_learning_curves",
    "plot_roc",
    "plot_views",
    "print_metrics",
    "stage_heat_maps",
    "write_metrics",
    "write_predictions",
]
