# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures, tables and files that a person reads."""

from __future__ import annotations

from .views_figure import plot_views

__all__ = [
    "plot_views",
]
