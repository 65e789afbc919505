# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Loss modules."""

from __future__ import annotations

from .cross_correlation import CrossCorrelationLoss
from .cross_entropy import GlobalCrossEntropyLoss

__all__ = ["CrossCorrelationLoss", "GlobalCrossEntropyLoss"]
