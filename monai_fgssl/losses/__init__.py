# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Loss modules."""

from __future__ import annotations

from .binary import MaskedBinaryCrossEntropyLoss
from .cross_correlation import CrossCorrelationLoss
from .cross_entropy import GlobalCrossEntropyLoss
from .ordinal import CumulativeCrossEntropyLoss

__all__ = [
    "CrossCorrelationLoss",
    "CumulativeCrossEntropyLoss",
    "GlobalCrossEntropyLoss",
    "MaskedBinaryCrossEntropyLoss",
]
