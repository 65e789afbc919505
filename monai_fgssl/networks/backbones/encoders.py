# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Encoders of MONAI's segmentation networks, as published in its model zoo."""

from __future__ import annotations

from monai.networks import nets

from .convolutional import Built
from .staged import Backbone, StagedBackbone

__all__ = ["SEGRESNETS", "UNET", "build_segresnet", "build_unet"]

UNET = "unet"
UNET_CHANNELS = (16, 32, 64, 128, 256)
"""Channels of the zoo's UNets, such as ``spleen_ct_segmentation``; each level but the last halves the image."""

SEGRESNETS = {f"segresnet-{filters}": filters for filters in (16, 32)}
"""Channels of the first level: 16 in the zoo's ``brats_mri_segmentation``, 32 in its ``wholeBody_ct_segmentation``."""
SEGRESNET_BLOCKS = (1, 2, 2, 4)


def build_unet(spatial_dims: int, in_channels: int) -> Built:
    """Build the encoder of MONAI's UNet with residual units, see :func:`~monai_fgssl.networks.make_backbone`.

    Source:
        Kerfoot et al., "Left-Ventricle Quantification Using Residual U-Net" (STACOM 2018).
    """
    net = nets.UNet(
        spatial_dims,
        in_channels,
        out_channels=2,
        channels=UNET_CHANNELS,
        strides=(2, 2, 2, 2),
        num_res_units=2,
        norm="batch",
    )
    levels, inside = [], net.model
    for _ in UNET_CHANNELS[1:]:
        # The way down, a skip connection around all deeper levels, and the way up.
        down, connection, _ = inside
        levels.append(down)
        inside = connection.submodule
    stem, *stages = levels

    def make() -> Backbone:
        return StagedBackbone(stem, [*stages, inside], channels=UNET_CHANNELS[1:], strides=(4, 8, 16, 16))

    return net, make


def build_segresnet(name: str, spatial_dims: int, in_channels: int) -> Built:
    """Build the encoder of MONAI's SegResNet, see :func:`~monai_fgssl.networks.make_backbone`.

    Source:
        Myronenko, "3D MRI brain tumor segmentation using autoencoder regularization" (BrainLes 2018).
    """
    filters = SEGRESNETS[name]
    net = nets.SegResNet(
        spatial_dims, init_filters=filters, in_channels=in_channels, out_channels=2, blocks_down=SEGRESNET_BLOCKS
    )

    def make() -> Backbone:
        return StagedBackbone(
            net.convInit,
            list(net.down_layers),
            channels=[filters * 2**level for level in range(len(SEGRESNET_BLOCKS))],
            strides=(1, 2, 4, 8),
        )

    return net, make
