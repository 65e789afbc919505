# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Choose the device of a network and the memory format of its weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from monai_fgssl.utils.errors import SettingsError

from .base import StagedNet
from .onnx import OnnxNet
from .precision import PrecisionChoice, move

__all__ = ["memory_format", "place_network"]


def memory_format(network: nn.Module) -> torch.memory_format:
    """Choose the fastest memory format of the weights: channels last for pictures, contiguous for volumes."""
    is_3d = any(parameter.ndim == 5 for parameter in network.parameters())
    return torch.contiguous_format if is_3d else torch.channels_last


def place_network(
    network_def: nn.Module,
    model_path: str | Path,
    device: str | torch.device,
    precision: PrecisionChoice | None = None,
) -> nn.Module:
    """Move a network to its device, or replace it by ONNX Runtime for a model that ``export_model`` wrote.

    Args:
        network_def: the network.
        model_path: file of the weights. If its suffix is ``.onnx``, the exported model is taken.
        device: where to compute.
        precision: precision that decides the memory format of the weights; None: :func:`memory_format` decides.

    Raises:
        SettingsError: when the ONNX file is missing, damaged, or has other steps or classes than the network.
    """
    if not _is_onnx(model_path):
        if precision is not None:
            return precision.place(network_def)
        return move(network_def, device, memory_format(network_def))
    exported = OnnxNet(model_path)
    # Other networks may not have these attributes.
    definition = network_def.definition() if isinstance(network_def, StagedNet) else {}
    for name in ("num_steps", "num_classes"):
        expected = definition.get(name, getattr(network_def, name, None))
        if expected not in (None, getattr(exported, name)):
            raise SettingsError(
                f"{model_path} has {name} {getattr(exported, name)}, but its record says {expected}: they belong to "
                "different models. Export it again with configs/export_onnx.json."
            )
    return exported


def _is_onnx(model_path: str | Path) -> bool:
    return Path(model_path).suffix == ".onnx"
