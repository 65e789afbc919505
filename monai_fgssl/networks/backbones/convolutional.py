# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Convolutional networks in stages, in 2D and 3D: MONAI's, and a tiny one."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from monai.networks import nets
from monai.networks.blocks import Convolution
from monai.networks.layers import Pool
from torch import Tensor, nn
from torch.nn.functional import pad

from .staged import Backbone, StagedBackbone

__all__ = [
    "DENSENETS",
    "EFFICIENTNETS",
    "RESNETS",
    "SERESNETS",
    "TINY",
    "TINY_CHANNELS",
    "Built",
    "build_densenet",
    "build_efficientnet",
    "build_resnet",
    "build_seresnet",
    "build_tiny",
]

Built = tuple[nn.Module, Callable[[], Backbone]]
"""Network whose parameters have its authors' names, and function that makes a backbone with the same parameters."""

# Block type and blocks per stage: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), table 1; 10
# and 200 as in Chen et al., "Med3D" (2019).
RESNETS = {
    "resnet10": ("basic", [1, 1, 1, 1]),
    "resnet18": ("basic", [2, 2, 2, 2]),
    "resnet34": ("basic", [3, 4, 6, 3]),
    "resnet50": ("bottleneck", [3, 4, 6, 3]),
    "resnet101": ("bottleneck", [3, 4, 23, 3]),
    "resnet152": ("bottleneck", [3, 8, 36, 3]),
    "resnet200": ("bottleneck", [3, 24, 36, 3]),
}
# MedicalNet's ResNets of these depths have shortcuts without weights. Its other ResNets are those above.
RESNETS |= {f"medicalnet-{name}": RESNETS[name] for name in ("resnet18", "resnet34")}
DENSENETS = {f"densenet{depth}": getattr(nets, f"DenseNet{depth}") for depth in (121, 169, 201, 264)}
EFFICIENTNETS = tuple(f"efficientnet-b{index}" for index in range(8))
SERESNETS = {
    "senet154": nets.SENet154,
    "seresnet50": nets.SEResNet50,
    "seresnet101": nets.SEResNet101,
    "seresnet152": nets.SEResNet152,
    "seresnext50": nets.SEResNext50,
    "seresnext101": nets.SEResNext101,
}
TINY = "tiny-cnn"
TINY_CHANNELS = (24, 32, 64, 96)


class PaddedShortcut(nn.Module):
    """Shortcut without weights: one position of each ``stride``, and zeros for the new channels.

    It replaces MONAI's own, which takes ``out.data``: no gradient passes it, and neither TorchScript nor ONNX can
    express it.

    Args:
        spatial_dims: number of spatial axes.
        new_channels: channels of zeros that are added.
        stride: distance of the positions that are kept.

    Source:
        He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016), section 4.1, option A.
    """

    def __init__(self, spatial_dims: int, new_channels: int, stride: int) -> None:
        super().__init__()
        self.pool = Pool["avg", spatial_dims](kernel_size=1, stride=stride)
        self.padding = [0, 0] * spatial_dims + [0, new_channels]

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, *spatial) to (B, C + new_channels, *spatial / stride)."""
        return pad(self.pool(x), self.padding)


def build_resnet(name: str, spatial_dims: int, in_channels: int, small: bool) -> Built:
    """Build a ResNet; ``small``: without stride in its stem, see :func:`~monai_fgssl.networks.make_backbone`."""
    block, layers = RESNETS[name]
    net = nets.ResNet(
        block,
        layers,
        block_inplanes=[64, 128, 256, 512],
        spatial_dims=spatial_dims,
        n_input_channels=in_channels,
        conv1_t_size=3 if small else 7,
        # MONAI's defaults, stride 1 and a biased shortcut, are not the published network.
        conv1_t_stride=1 if small else 2,
        shortcut_type="A" if name.startswith("medicalnet-") else "B",
        bias_downsample=False,
        feed_forward=False,
    )
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        if isinstance(layer[0].downsample, partial):
            convolution, norm = layer[0].conv1, layer[0].bn2
            new_channels = norm.num_features - convolution.in_channels
            layer[0].downsample = PaddedShortcut(spatial_dims, new_channels, convolution.stride[0])

    def make() -> Backbone:
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

    return net, make


def build_seresnet(name: str, spatial_dims: int, in_channels: int) -> Built:
    """Build a network with squeeze and excitation, see :func:`~monai_fgssl.networks.make_backbone`."""
    net = SERESNETS[name](spatial_dims=spatial_dims, in_channels=in_channels, num_classes=1)
    layers = [net.layer1, net.layer2, net.layer3, net.layer4]

    def make() -> Backbone:
        return StagedBackbone(net.layer0, layers, channels=(256, 512, 1024, 2048), strides=(4, 8, 16, 32))

    return net, make


def build_efficientnet(name: str, spatial_dims: int, in_channels: int, drop_path: float) -> Built:
    """Build an EfficientNet, see :func:`~monai_fgssl.networks.make_backbone`."""
    net = nets.EfficientNetBN(name, pretrained=False, spatial_dims=spatial_dims, in_channels=in_channels)
    # The memory-efficient swish is a custom autograd function, which TorchScript and ONNX can't express.
    net.set_swish(memory_efficient=False)
    stacks = list(net._blocks)
    blocks = list(itertools.chain(*stacks))
    for number, block in enumerate(blocks):
        # MONAI gives no choice but the rates of the paper's models on ImageNet. As there, deeper blocks drop more.
        block.drop_connect_rate = drop_path * number / len(blocks)
    groups = [stacks[1:2], stacks[2:3], stacks[3:5], stacks[5:7]]

    def make() -> Backbone:
        return StagedBackbone(
            nn.Sequential(net._conv_stem_padding, net._conv_stem, net._bn0, net._swish, stacks[0]),
            [nn.Sequential(*group) for group in groups],
            channels=[group[-1][-1].out_channels for group in groups],
            strides=(4, 8, 16, 32),
        )

    return net, make


def build_densenet(name: str, spatial_dims: int, in_channels: int) -> Built:
    """Build a DenseNet, see :func:`~monai_fgssl.networks.make_backbone`."""
    net = DENSENETS[name](spatial_dims=spatial_dims, in_channels=in_channels, out_channels=1)
    features, relu = net.features, net.class_layers.relu

    def make() -> Backbone:
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

    return net, make


def build_tiny(spatial_dims: int, in_channels: int) -> Built:
    """Build a chain of four convolutions of stride 2, which learns simple textures in seconds on a CPU."""
    inputs = (in_channels, *TINY_CHANNELS)
    stages = [
        Convolution(spatial_dims, channels, outputs, strides=2, adn_ordering="NA", act="RELU", norm="BATCH", bias=False)
        for channels, outputs in zip(inputs, TINY_CHANNELS, strict=False)
    ]
    net = nn.Sequential(*stages)
    return net, lambda: StagedBackbone(nn.Identity(), stages, channels=TINY_CHANNELS, strides=(2, 4, 8, 16))
