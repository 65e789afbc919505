# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Backbones in stages, hierarchical blocks, and the networks that consist of them."""

from __future__ import annotations

from .adapters import add_adapters, load_plain_state, plain_state
from .backbones import Backbone, StagedBackbone, make_backbone
from .base import StagedNet
from .block import HierarchicalBlock, ProjectionHead
from .distributed import distribute, unwrap
from .ensemble import EnsembleNet
from .hierarchical import HierarchicalNet
from .mean_ensemble import MeanEnsembleNet
from .onnx import OnnxNet, export_onnx
from .plain import PlainNet
from .pooled import PooledNet
from .precision import Precision, PrecisionChoice
from .weights import load_imagenet_resnet

__all__ = [
    "Backbone",
    "EnsembleNet",
    "HierarchicalBlock",
    "HierarchicalNet",
    "MeanEnsembleNet",
    "OnnxNet",
    "PlainNet",
    "PooledNet",
    "Precision",
    "PrecisionChoice",
    "ProjectionHead",
    "StagedBackbone",
    "StagedNet",
    "add_adapters",
    "distribute",
    "export_onnx",
    "load_imagenet_resnet",
    "load_plain_state",
    "make_backbone",
    "plain_state",
    "unwrap",
]
