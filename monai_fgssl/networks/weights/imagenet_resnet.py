# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Former function that loads torchvision's ResNets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from monai_fgssl.utils.deprecation import warn_former_name

from .match import load_matching
from .read import read_checkpoint

__all__ = ["load_imagenet_resnet"]


def load_imagenet_resnet(backbone: nn.Module, path: str | Path) -> None:
    """Load weights into an existing backbone. Use ``make_backbone(name, weights=path)`` instead.

    Args:
        backbone: backbone of :func:`~monai_fgssl.networks.make_backbone`.
        path: file with the weights, see :func:`~monai_fgssl.networks.weights.read_checkpoint`.

    Raises:
        SettingsError: when the file is missing, damaged, or does not fit, see
            :func:`~monai_fgssl.networks.weights.load_matching`.
    """
    warn_former_name("load_imagenet_resnet", "make_backbone(name, weights=path)", "function")
    load_matching(backbone, read_checkpoint(path), str(path), translations=[_staged_names])


def _staged_names(state: Mapping[str, Tensor], _: nn.Module) -> dict[str, Tensor]:
    """``stages.0.0.conv1.weight`` for ``layer1.0.conv1.weight``, ``stem.conv1.weight`` for ``conv1.weight``."""
    layers = {name: re.fullmatch(r"layer(\d+)\.(.+)", name) for name in state}
    return {
        f"stages.{int(layer[1]) - 1}.{layer[2]}" if (layer := layers[name]) else f"stem.{name}": value
        for name, value in state.items()
    }
