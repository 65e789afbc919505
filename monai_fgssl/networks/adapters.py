# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Low-rank adapters (LoRA) in the linear layers of a backbone, made by the package peft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from monai_fgssl.utils.errors import SettingsError

from .backbones import IntermediatesBackbone
from .backbones.timm_package import import_without_torchvision
from .base import StagedNet

__all__ = ["add_adapters", "load_plain_state", "plain_state"]

ADAPTER = "default"
"""Name that peft gives to the one adapter of a layer."""


def add_adapters(
    network: StagedNet, rank: int | None, image_size: int | Sequence[int], alpha: float | None = None
) -> StagedNet:
    """Freeze the backbone, and let each of its linear layers learn a change of low rank: ``W + alpha / rank * B @ A``.

    Blocks and classifiers learn as usual. Only layers that a forward pass calls get adapters: some models of timm read
    the weight of a layer without calling it.

    Args:
        network: network to change in place; it computes the same as before until the adapters have learned.
        rank: rank of the change; None: the function does nothing.
        image_size: pixels along each axis, one number or one for each.
        alpha: scale of the change; None: the rank, so that the factor is 1.

    Returns:
        The network.

    Raises:
        SettingsError: when the backbone has no linear layers.
        ImportError: when peft is missing or can't be imported.

    Source:
        Hu et al., LoRA: Low-Rank Adaptation of Large Language Models, ICLR 2022: https://arxiv.org/abs/2106.09685
    """
    if rank is None:
        return network
    backbone = network.backbone
    names = _called_linear_layers(network, image_size)
    if not names:
        raise SettingsError(
            f"--lora_rank {rank}: the backbone has no linear layers that could be adapted, as transformers have. "
            "--freeze_stages freezes the first stages of any backbone."
        )
    peft = import_without_torchvision("peft", f"--lora_rank {rank}", "lora")
    parts = [{id(parameter) for parameter in part} for part in backbone.parts()]
    config = peft.LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=names)
    # It also freezes all other parameters of the backbone.
    peft.inject_adapter_in_model(config, backbone)
    if isinstance(backbone, IntermediatesBackbone):
        backbone.part_names = _names_of_parts(backbone.net, parts)
    return network


def _called_linear_layers(network: StagedNet, image_size: int | Sequence[int]) -> list[str]:
    """Names of the backbone's linear layers that a forward pass calls."""
    called: set[nn.Module] = set()
    layers = {name: module for name, module in network.backbone.named_modules() if isinstance(module, nn.Linear)}
    hooks = [layer.register_forward_hook(lambda module, *_: called.add(module)) for layer in layers.values()]
    image = network.mean.new_zeros(1, network.in_channels, *ensure_tuple_rep(image_size, network.spatial_dims))
    was_training = network.training
    try:
        with torch.no_grad():
            network.eval().backbone(image)
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return [name for name, layer in layers.items() if layer in called]


def _names_of_parts(net: nn.Module, parts: Sequence[set[int]]) -> list[list[str]]:
    """Names of the parameters of each part. An adapter belongs to the part of the weight that it changes."""
    part_of_base: dict[str, int] = {}
    own: dict[str, int] = {}
    for name, parameter in net.named_parameters():
        for number, part in enumerate(parts):
            if id(parameter) in part:
                own[name] = number
                if ".base_layer." in name:
                    part_of_base[name.rsplit(".base_layer.", 1)[0]] = number
    names: list[list[str]] = [[] for _ in parts]
    for name, _ in net.named_parameters():
        layer, is_adapter, _ = name.partition(".lora_")
        place = part_of_base.get(layer) if is_adapter else own.get(name)
        if place is not None:
            names[place].append(name)
    return names


def _adapted(network: nn.Module) -> dict[str, Any]:
    """Layers with an adapter by their names."""
    return {
        name: module
        for name, module in network.named_modules()
        if hasattr(module, "base_layer") and hasattr(module, "get_delta_weight")
    }


@torch.no_grad()
def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """State dict of a network without adapters: the weights contain what the adapters have learned.

    A network of the same kind without adapters loads it and computes the same, so users of a model do not need peft.
    """
    state = dict(network.state_dict())
    for name, layer in _adapted(network).items():
        weight = state[f"{name}.base_layer.weight"]
        state[f"{name}.base_layer.weight"] = weight + layer.get_delta_weight(ADAPTER).to(weight)
    return {key.replace(".base_layer.", "."): value for key, value in state.items() if ".lora_" not in key}


@torch.no_grad()
def load_plain_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a :func:`plain_state`. Adapters of the network start anew and change nothing at first.

    Raises:
        RuntimeError: when names or shapes differ, as ``load_state_dict`` does.
    """
    layers = _adapted(network)
    renamed = {}
    for key, value in state.items():
        layer, _, last = key.rpartition(".")
        renamed[f"{layer}.base_layer.{last}" if layer in layers else key] = value
    adapters = {
        key: torch.zeros_like(value) if ".lora_B." in key else value
        for key, value in network.state_dict().items()
        if any(key.startswith(f"{layer}.lora_") for layer in layers)
    }
    network.load_state_dict(renamed | adapters)
