# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Backbones by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import look_up_option
from torch import Tensor, nn

from ..weights import IMAGENET, find_weights, load_matching, read_checkpoint, stored_normalization
from .convolutional import (
    DENSENETS,
    EFFICIENTNETS,
    RESNETS,
    SERESNETS,
    TINY,
    Built,
    build_densenet,
    build_efficientnet,
    build_resnet,
    build_seresnet,
    build_tiny,
)
from .encoders import SEGRESNETS, UNET, build_segresnet, build_unet
from .staged import Backbone
from .timm_models import TIMM_PREFIX, build_timm, published_weights, translation
from .transformers import SWINS, VITS, build_swin, build_vit

__all__ = ["BACKBONES", "make_backbone"]

BACKBONES = (*RESNETS, *EFFICIENTNETS, *DENSENETS, *SERESNETS, *SWINS, *VITS, UNET, *SEGRESNETS, TINY)
STEMS = ("imagenet", "small")


def make_backbone(
    name: str,
    spatial_dims: int = 2,
    in_channels: int = 3,
    stem: str = "imagenet",
    weights: str | Path | None = None,
    image_size: int | Sequence[int] | None = None,
    drop_path: float = 0.0,
    inflate_weights: bool = False,
) -> Backbone:
    """Build a backbone by name, with random or published weights. All backbones of MONAI have four stages.

    Args:
        name: ``resnet10|18|34|50|101|152|200``, ``efficientnet-b0`` to ``-b7``, ``densenet121|169|201|264``,
            ``seresnet50|101|152``, ``seresnext50|101``, ``senet154``, ``swin-unetr-24|48``, ``unet`` and
            ``segresnet-16|32`` (encoders of MONAI's SwinUNETR, UNet and SegResNet as in its model zoo),
            ``vit-tiny|small|base`` (MONAI's ViT with patches of 16), ``medicalnet-resnet18|34``, ``tiny-cnn``
            (four convolutions, for a first try), all in 2D and 3D; or ``timm:<model>`` for any model of timm (2D only,
            needs the extra ``timm``). The stages of a plain transformer are four groups of its blocks, and the grid of
            its tokens is the map.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        stem: ``imagenet`` for the network as published; ``small`` (ResNets only) replaces the 7x7 convolution of
            stride 2 and the max pooling by a 3x3 convolution of stride 1, for images up to about 64 px: the stages
            then have strides 1, 2, 4 and 8.
        weights: ``pretrained`` or ``imagenet`` for those that the network's authors published, ``hf-hub:OWNER/NAME``,
            or a file, of this package or another; see :func:`~monai_fgssl.networks.weights.find_weights`.
        image_size: height and width in pixels, for networks that are made for images of one size, as most transformers
            are. None: the size that they were published with.
        drop_path: rate of stochastic depth in training, for networks that have it; 0: none.
        inflate_weights: True: weights of a 2D network may be loaded into a 3D network.

    Returns:
        Backbone. Its ``normalization`` is that of its weights, if they have one.

    Raises:
        ValueError: on an unknown name or stem, on an option that the backbone does not have, or on an image size that
            it can't take.
        SettingsError: when the weights are not found, can't be fetched or do not fit.
    """
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
    look_up_option(stem, STEMS)
    if not name.startswith(TIMM_PREFIX):
        name = look_up_option(name, BACKBONES)
    if name not in RESNETS and stem != "imagenet":
        raise ValueError(f"stem={stem!r} exists for {', '.join(RESNETS)} only, not for {name!r}: use stem='imagenet'.")
    net, make = _build(name, spatial_dims, in_channels, stem, image_size, drop_path)
    backbone = make()
    if weights is not None:
        _load(net, backbone, name, spatial_dims, weights, inflate_weights)
    return backbone


def _build(
    name: str, spatial_dims: int, in_channels: int, stem: str, image_size: int | Sequence[int] | None, drop_path: float
) -> Built:
    if name.startswith(TIMM_PREFIX):
        if spatial_dims != 2:
            raise ValueError(f"timm's models are 2D: {name!r} can't be built with spatial_dims={spatial_dims}.")
        return build_timm(name.removeprefix(TIMM_PREFIX), in_channels, image_size, drop_path)
    if name in SWINS:
        return build_swin(name, spatial_dims, in_channels, drop_path)
    if name in EFFICIENTNETS:
        return build_efficientnet(name, spatial_dims, in_channels, drop_path)
    if drop_path:
        raise ValueError(f"{name!r} has no drop path: leave drop_path at 0.")
    if name in VITS:
        return build_vit(name, spatial_dims, in_channels, image_size)
    if name in RESNETS:
        return build_resnet(name, spatial_dims, in_channels, small=stem == "small")
    if name == UNET:
        return build_unet(spatial_dims, in_channels)
    if name in SEGRESNETS:
        return build_segresnet(name, spatial_dims, in_channels)
    if name == TINY:
        return build_tiny(spatial_dims, in_channels)
    if name in SERESNETS:
        return build_seresnet(name, spatial_dims, in_channels)
    return build_densenet(name, spatial_dims, in_channels)


def _load(
    net: nn.Module, backbone: Backbone, name: str, spatial_dims: int, weights: str | Path, inflate_weights: bool
) -> None:
    """Load weights into the network that a backbone was made of, and pass their normalization to the backbone."""
    timm_name = name.removeprefix(TIMM_PREFIX) if name.startswith(TIMM_PREFIX) else None
    published = None if timm_name is None else published_weights(timm_name)
    found = find_weights(weights, name, spatial_dims, published)
    # Tensors outside of the backbone, such as those of the classifier, are not needed.
    inside = {id(tensor) for tensor in _tensors(backbone).values()}
    wanted = {name for name, tensor in _tensors(net).items() if id(tensor) in inside}
    states = read_checkpoint(found.path)
    load_matching(
        net,
        states,
        found.label,
        wanted,
        _translations(net, backbone, timm_name is not None),
        inflate_weights,
    )
    backbone.normalization = found.normalization or stored_normalization(states)
    if backbone.normalization is None and published:
        # Further training of a model nearly always keeps its normalization.
        backbone.normalization = tuple(published[0].mean), tuple(published[0].std)
    elif backbone.normalization is None and (spatial_dims == 2 or (inflate_weights and _of_pictures(states))):
        backbone.normalization = IMAGENET


def _of_pictures(states: Mapping[str, Mapping[str, Tensor]]) -> bool:
    """True if a file has kernels of two spatial axes, and so was trained on pictures."""
    return any(value.ndim == 4 for state in states.values() for value in state.values())


def _translations(net: nn.Module, backbone: Backbone, is_timm: bool) -> list[Any]:
    """Functions that translate names of tensors: from this package, and for timm from the models' authors."""
    names = {id(tensor): name for name, tensor in _tensors(net).items()}
    ours = {name: names[id(tensor)] for name, tensor in _tensors(backbone).items() if id(tensor) in names}

    def from_ours(state: dict[str, Any], _: nn.Module) -> dict[str, Any]:
        return {ours[name]: value for name, value in state.items() if name in ours}

    authors = translation(net) if is_timm else None
    return [from_ours] if authors is None else [from_ours, authors]


def _tensors(module: nn.Module) -> dict[str, Any]:
    used = getattr(module, "part_names", None)
    names = None if used is None else {f"net.{name}" for part in used for name in part}
    parameters = {name: p for name, p in module.named_parameters() if names is None or name in names}
    return parameters | dict(module.named_buffers())
