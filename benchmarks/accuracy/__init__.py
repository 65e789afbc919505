# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of FG-SSL and of what it is compared with, on public data sets: ``python -m benchmarks.accuracy --help``."""

from __future__ import annotations

PACKAGE = __name__
"""For ``python -m``; in configurations before the names of this benchmark's own losses, schedules and backbones."""
