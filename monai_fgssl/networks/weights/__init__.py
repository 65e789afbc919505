# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find weights (in a file, in a hub, from the network's authors), read them as data, and match them with a network."""

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
