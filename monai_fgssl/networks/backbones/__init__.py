# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Backbones in stages by name: MONAI's networks in 2D and 3D, and every model of timm."""

from __future__ import annotations

from .intermediates import IntermediatesBackbone
from .make import make_backbone
from .staged import Backbone, StagedBackbone, as_backbone

__all__ = ["Backbone", "IntermediatesBackbone", "StagedBackbone", "as_backbone", "make_backbone"]
