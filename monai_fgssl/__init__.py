# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Fine-grained self-supervised learning with jigsaw puzzles for medical images, on MONAI."""

from __future__ import annotations

__version__ = "0.1.0"
