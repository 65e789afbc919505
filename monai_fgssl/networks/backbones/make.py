# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Backbones by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai.utils import look_up_option

from ..weights import load_imagenet_resnet
from .convolutional import DENSENETS, EFFICIENTNETS, RESNETS, build_densenet, build_efficientnet, build_resnet
from .staged import Backbone
from .timm_models import TIMM_PREFIX, build_timm

__all__ = ["BACKBONES", "make_backbone"]

BACKBONES = (*RESNETS, *EFFICIENTNETS, *DENSENETS)
STEMS = ("imagenet", "small")


def make_backbone(
    name: str,
    spatial_dims: int = 2,
    in_channels: int = 3,
    stem: str = "imagenet",
    weights: str | Path | None = None,
    image_size: int | Sequence[int] | None = None,
    drop_path: float = 0.0,
) -> Backbone:
    """Build a backbone by name; MONAI's all have four stages, at strides 4, 8, 16 and 32.

    Args:
        name: ``resnet18|34|50``, ``efficientnet-b0`` to ``-b7``, ``densenet121|169|201``, or ``timm:<model>`` for any
            model of timm (2D only, needs the extra ``timm``). The stages of a plain transformer are four groups of its
            blocks, and the grid of its tokens is the map.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        stem: ``imagenet`` for the network as published; ``small`` (ResNets only) replaces the 7x7 convolution of
            stride 2 and the max pooling by a 3x3 convolution of stride 1, for images up to about 64 px: the stages
            then have strides 1, 2, 4 and 8.
        weights: file with ImageNet weights in torchvision's format (2D ResNets only), see
            :func:`~monai_fgssl.networks.weights.load_imagenet_resnet`.
        image_size: height and width in pixels, for networks that are made for images of one size, as most transformers
            are. None: the size that they were published with.
        drop_path: rate of stochastic depth in training, for networks that have it; 0: none.

    Raises:
        ValueError: on an unknown name or stem, on an option that the backbone does not have, or on an image size that
            it can't take.
    """
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
    look_up_option(stem, STEMS)
    if not name.startswith(TIMM_PREFIX):
        name = look_up_option(name, BACKBONES)
    if name not in RESNETS and stem != "imagenet":
        raise ValueError(f"stem={stem!r} exists for {', '.join(RESNETS)} only, not for {name!r}: use stem='imagenet'.")
    if weights is not None and (name not in RESNETS or spatial_dims != 2):
        raise ValueError(
            f"ImageNet weights load into 2D {', '.join(RESNETS)} only, not into {name!r} with "
            f"spatial_dims={spatial_dims}: leave weights unset."
        )
    if name.startswith(TIMM_PREFIX):
        if spatial_dims != 2:
            raise ValueError(f"timm's models are 2D: {name!r} can't be built with spatial_dims={spatial_dims}.")
        _, make = build_timm(name.removeprefix(TIMM_PREFIX), in_channels, image_size, drop_path)
        return make()
    if drop_path:
        raise ValueError(f"{name!r} has no drop path: leave drop_path at 0.")
    if name in RESNETS:
        backbone = build_resnet(name, spatial_dims, in_channels, small=stem == "small")
        if weights is not None:
            load_imagenet_resnet(backbone, weights)
        return backbone
    if name in EFFICIENTNETS:
        return build_efficientnet(name, spatial_dims, in_channels)
    return build_densenet(name, spatial_dims, in_channels)
