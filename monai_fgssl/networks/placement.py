# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Precision, memory format and device of a network."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from monai_fgssl.utils.errors import SettingsError

from .base import StagedNet
from .onnx import OnnxNet

__all__ = ["has_bfloat16", "memory_format", "place_network"]


def has_bfloat16(device: str | torch.device, spatial_dims: int = 2) -> bool:
    """Tell whether a device computes correctly in bfloat16, and faster than in float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if spatial_dims == 3:
        # In torch 2.13 gradients of 3D convolutions in bfloat16 are now and then no numbers on a CPU (oneDNN).
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def memory_format(network: nn.Module) -> torch.memory_format:
    """Choose the fastest order of the weights in memory: channels last for pictures, contiguous for volumes."""
    is_3d = any(parameter.ndim == 5 for parameter in network.parameters())
    return torch.contiguous_format if is_3d else torch.channels_last


def place_network(network_def: nn.Module, model_path: str | Path, device: str | torch.device) -> nn.Module:
    """Move a network to its device, or take ONNX Runtime in its place for a model that ``export_model`` wrote.

    Raises:
        SettingsError: when the ONNX file is missing, damaged, or has other steps or classes than the network.
    """
    if not _is_onnx(model_path):
        return network_def.to(device, memory_format=memory_format(network_def))  # type: ignore[call-overload]
    exported = OnnxNet(model_path)
    # Networks of other people may not tell.
    definition = network_def.definition() if isinstance(network_def, StagedNet) else {}
    for name in ("num_steps", "num_classes"):
        expected = definition.get(name, getattr(network_def, name, None))
        if expected not in (None, getattr(exported, name)):
            raise SettingsError(
                f"{model_path} has {name} {getattr(exported, name)}, and its record says {expected}: they belong to "
                "different models. Export it again with configs/export_onnx.json."
            )
    return exported


def _is_onnx(model_path: str | Path) -> bool:
    return Path(model_path).suffix == ".onnx"
