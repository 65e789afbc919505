# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Weights from anywhere: found (a file, a hub, the network's own), read as data, and matched with a network."""

from __future__ import annotations

from .find import IMAGENET, FoundWeights, find_weights, stored_normalization
from .imagenet_resnet import load_imagenet_resnet
from .match import load_matching
from .read import read_checkpoint

__all__ = [
    "IMAGENET",
    "FoundWeights",
    "find_weights",
    "load_imagenet_resnet",
    "load_matching",
    "read_checkpoint",
    "stored_normalization",
]
