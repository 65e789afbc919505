# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The regularized and the distorted view of an image."""

from __future__ import annotations

from .array import RandDistortedView, RandRegularizedView, RandView
from .dictionary import (
    RandDistortedViewD,
    RandDistortedViewd,
    RandDistortedViewDict,
    RandRegularizedViewD,
    RandRegularizedViewd,
    RandRegularizedViewDict,
    RandViewD,
    RandViewd,
    RandViewDict,
)

__all__ = [
    "RandDistortedView",
    "RandDistortedViewD",
    "RandDistortedViewDict",
    "RandDistortedViewd",
    "RandRegularizedView",
    "RandRegularizedViewD",
    "RandRegularizedViewDict",
    "RandRegularizedViewd",
    "RandView",
    "RandViewD",
    "RandViewDict",
    "RandViewd",
]
