# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Accuracy of FG-SSL and of other methods on public data sets: ``python -m benchmarks.accuracy --help``."""

from __future__ import annotations

PACKAGE = __name__
"""Name for ``python -m``. Configurations use it as prefix of this benchmark's own losses, schedules and backbones."""
