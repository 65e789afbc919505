# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""MONAI's convolutional networks in stages, in 2D and 3D."""

from __future__ import annotations

from collections import OrderedDict

from monai.networks.nets import DenseNet121, DenseNet169, DenseNet201, EfficientNetBN, ResNet
from torch import nn

from .staged import StagedBackbone

__all__ = ["DENSENETS", "EFFICIENTNETS", "RESNETS", "build_densenet", "build_efficientnet", "build_resnet"]

# He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), table 1: block type and blocks per stage.
RESNETS = {
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
}
DENSENETS = {"densenet121": DenseNet121, "densenet169": DenseNet169, "densenet201": DenseNet201}
EFFICIENTNETS = tuple(f"efficientnet-b{index}" for index in range(8))


def build_resnet(name: str, spatial_dims: int, in_channels: int, small: bool) -> StagedBackbone:
    """Build a ResNet; ``small``: without stride in its stem, see :func:`~monai_fgssl.networks.make_backbone`."""
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


def build_efficientnet(name: str, spatial_dims: int, in_channels: int) -> StagedBackbone:
    """Build an EfficientNet, see :func:`~monai_fgssl.networks.make_backbone`."""
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


def build_densenet(name: str, spatial_dims: int, in_channels: int) -> StagedBackbone:
    """Build a DenseNet, see :func:`~monai_fgssl.networks.make_backbone`."""
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
