# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Backbones cut into a stem and stages, so that a forward pass can stop at any stage."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DenseNet121, DenseNet169, DenseNet201, EfficientNetBN, ResNet
from monai.utils import look_up_option, optional_import
from torch import nn

from .weights import load_imagenet_resnet

__all__ = ["StagedBackbone", "make_backbone"]

# He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), table 1: block type and blocks per stage.
RESNETS = {
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
}
DENSENETS = {"densenet121": DenseNet121, "densenet169": DenseNet169, "densenet201": DenseNet201}
EFFICIENTNETS = tuple(f"efficientnet-b{index}" for index in range(8))
BACKBONES = (*RESNETS, *EFFICIENTNETS, *DENSENETS)
STEMS = ("imagenet", "small")
TIMM_PREFIX = "timm:"


class StagedBackbone(nn.Module):
    """A feature extractor as a stem followed by stages, each stage fed by the one before it.

    These four attributes are the whole protocol: the networks of this package take any ``nn.Module`` that has them,
    whatever its own ``forward`` does.

    Args:
        stem: maps an image (B, in_channels, *spatial) to the input of the first stage.
        stages: the stages from shallow to deep; stage ``i`` gives a map (B, channels[i], *spatial / strides[i]).
        channels: channels of each stage's map.
        strides: total reduction of each stage's map relative to the image.

    Raises:
        ValueError: when ``stages``, ``channels`` and ``strides`` differ in length.

    Example:
        >>> backbone = make_backbone("resnet18", spatial_dims=2, in_channels=3)
        >>> backbone.channels, backbone.strides
        ((64, 128, 256, 512), (4, 8, 16, 32))
        >>> [tuple(m.shape) for m in backbone(torch.rand(1, 3, 64, 64), num_stages=2)]
        [(1, 64, 16, 16), (1, 128, 8, 8)]
    """

    def __init__(
        self, stem: nn.Module, stages: Sequence[nn.Module], channels: Sequence[int], strides: Sequence[int]
    ) -> None:
        super().__init__()
        if not len(stages) == len(channels) == len(strides):
            raise ValueError(
                f"A backbone needs one entry of channels and strides per stage: got {len(stages)} stages, "
                f"channels={tuple(channels)}, strides={tuple(strides)}."
            )
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(channels)
        self.strides = tuple(strides)

    def forward(self, x: torch.Tensor, num_stages: int | None = None) -> list[torch.Tensor]:
        """Return the maps of the first ``num_stages`` stages (default all), computing nothing deeper."""
        maps: list[torch.Tensor] = []
        x = self.stem(x)
        for index, stage in enumerate(self.stages):
            if num_stages is None or index < num_stages:
                x = stage(x)
                maps.append(x)
        return maps


def make_backbone(
    name: str,
    spatial_dims: int = 2,
    in_channels: int = 3,
    stem: str = "imagenet",
    weights: str | Path | None = None,
) -> StagedBackbone:
    """Build a backbone by name; MONAI's all have four stages, at strides 4, 8, 16 and 32.

    Args:
        name: ``resnet18|34|50``, ``efficientnet-b0`` to ``-b7``, ``densenet121|169|201``, or ``timm:<model>`` for a
            model of timm that is a chain of stages (2D only, needs the extra ``timm``).
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        stem: ``imagenet`` for the network as published; ``small`` (ResNets only) replaces the 7x7 convolution of
            stride 2 and the max pooling by a 3x3 convolution of stride 1, for images up to about 64 px: the stages
            then have strides 1, 2, 4 and 8.
        weights: file with ImageNet weights in torchvision's format (2D ResNets only), see
            :func:`~monai_fgssl.networks.weights.load_imagenet_resnet`.

    Raises:
        ValueError: on an unknown name or stem, or on an option that the backbone does not have.
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

    if name in RESNETS:
        backbone = _resnet(name, spatial_dims, in_channels, small=stem == "small")
        if weights is not None:
            load_imagenet_resnet(backbone, weights)
        return backbone
    if name in EFFICIENTNETS:
        return _efficientnet(name, spatial_dims, in_channels)
    if name in DENSENETS:
        return _densenet(name, spatial_dims, in_channels)
    return _timm(name.removeprefix(TIMM_PREFIX), spatial_dims, in_channels)


def _resnet(name: str, spatial_dims: int, in_channels: int, small: bool) -> StagedBackbone:
    block, layers = RESNETS[name]
    net = ResNet(
        block,
        layers,
        block_inplanes=[64, 128, 256, 512],
        spatial_dims=spatial_dims,
        n_input_channels=in_channels,
        conv1_t_size=3 if small else 7,
        # MONAI's defaults, stride 1 and a biased shortcut, are not the published network.
        conv1_t_stride=1 if small else 2,
        bias_downsample=False,
        feed_forward=False,
    )
    stem = OrderedDict(conv1=net.conv1, bn1=net.bn1, act=net.act)
    if not small:
        stem["maxpool"] = net.maxpool
    expansion = 1 if block == "basic" else 4
    return StagedBackbone(
        nn.Sequential(stem),
        [net.layer1, net.layer2, net.layer3, net.layer4],
        channels=[planes * expansion for planes in (64, 128, 256, 512)],
        strides=(1, 2, 4, 8) if small else (4, 8, 16, 32),
    )


def _efficientnet(name: str, spatial_dims: int, in_channels: int) -> StagedBackbone:
    net = EfficientNetBN(name, pretrained=False, spatial_dims=spatial_dims, in_channels=in_channels)
    # The memory-efficient swish is a custom autograd function, which TorchScript and ONNX can't express.
    net.set_swish(memory_efficient=False)
    stacks = list(net._blocks)
    groups = [stacks[1:2], stacks[2:3], stacks[3:5], stacks[5:7]]
    return StagedBackbone(
        nn.Sequential(net._conv_stem_padding, net._conv_stem, net._bn0, net._swish, stacks[0]),
        [nn.Sequential(*group) for group in groups],
        channels=[group[-1][-1].out_channels for group in groups],
        strides=(4, 8, 16, 32),
    )


def _densenet(name: str, spatial_dims: int, in_channels: int) -> StagedBackbone:
    net = DENSENETS[name](spatial_dims=spatial_dims, in_channels=in_channels, out_channels=1)
    features, relu = net.features, net.class_layers.relu
    return StagedBackbone(
        nn.Sequential(features.conv0, features.norm0, features.relu0, features.pool0),
        [
            features.denseblock1,
            nn.Sequential(features.transition1, features.denseblock2),
            nn.Sequential(features.transition2, features.denseblock3),
            nn.Sequential(features.transition3, features.denseblock4, features.norm5, relu),
        ],
        channels=[
            features.transition1.conv.in_channels,
            features.transition2.conv.in_channels,
            features.transition3.conv.in_channels,
            features.norm5.num_features,
        ],
        strides=(4, 8, 16, 32),
    )


def _timm(name: str, spatial_dims: int, in_channels: int) -> StagedBackbone:
    timm, found = optional_import("timm")
    if not found:
        raise ImportError(
            f"The backbone 'timm:{name}' needs timm, which can't be imported: pip install 'monai-fgssl[timm]'."
        )
    if spatial_dims != 2:
        raise ValueError(f"timm's models are 2D: 'timm:{name}' can't be built with spatial_dims={spatial_dims}.")
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {name!r}: timm.list_models() names those it has.")
    net: Any = timm.create_model(name, pretrained=False, features_only=True, in_chans=in_channels)
    # timm's FeatureListNet, a chain of modules; models that it wraps in another class are none.
    if getattr(net, "return_layers", None) is None or net.output_fmt != "NCHW":
        raise ValueError(
            f"'timm:{name}' is no chain of stages with channel-first maps (timm wraps it in {type(net).__name__}): use "
            "another model (ResNet, ConvNeXt, RegNet, DenseNet, ...) or pass a module with the attributes of "
            "StagedBackbone."
        )
    groups: list[nn.Sequential] = []
    modules: list[nn.Module] = []
    for key, module in net.items():
        modules.append(module)
        if key in net.return_layers:
            groups.append(nn.Sequential(*modules))
            modules = []
    channels, strides = net.feature_info.channels(), net.feature_info.reduction()
    # As in MONAI's backbones, whatever comes before stride 4 is the stem.
    first = sum(stride < 4 for stride in strides)
    return StagedBackbone(nn.Sequential(*groups[:first]), groups[first:], channels[first:], strides[first:])
