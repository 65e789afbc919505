# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""MONAI's transformers in stages, in 2D and 3D: ViT, and the encoder of SwinUNETR."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from monai.networks.nets import ViT
from monai.networks.nets.swin_unetr import SwinTransformer
from monai.utils import ensure_tuple_rep
from torch import nn

from .convolutional import Built
from .staged import Backbone, StagedBackbone

__all__ = ["SWINS", "VITS", "build_swin", "build_vit"]

# Sizes of MONAI's ViTAutoEnc and SwinUNETR; heads and hidden size as in Touvron et al., DeiT (2021), table 1.
VITS = {"vit-tiny": (192, 3), "vit-small": (384, 6), "vit-base": (768, 12)}
SWINS = {"swin-unetr-24": 24, "swin-unetr-48": 48}
BLOCKS = 12
STAGES = 4
PATCH = 16
SWIN_PATCH = 2
SWIN_WINDOW = 7


class Tokens(nn.Module):
    """Arrange the tokens of a patch embedding as a map."""

    def __init__(self, grid: Sequence[int]) -> None:
        super().__init__()
        self.grid = list(grid)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (B, N, C) to a map (B, C, *grid)."""
        return x.transpose(1, 2).reshape([x.shape[0], x.shape[2]] + self.grid)  # noqa: RUF005  for TorchScript


class NormalizedTokens(nn.Module):
    """Apply the network's last norm, and arrange its tokens as a map."""

    def __init__(self, norm: nn.Module, grid: Sequence[int]) -> None:
        super().__init__()
        self.norm = norm
        self.to_map = Tokens(grid)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens (B, N, C) to a map (B, C, *grid)."""
        return self.to_map(self.norm(x))


class NormalizedMap(nn.Module):
    """Normalize a map over its channels, without weights, as for SwinUNETR's decoder."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, *spatial) to the same shape."""
        last = x.movedim(1, -1)
        return nn.functional.layer_norm(last, [last.shape[-1]]).movedim(-1, 1)


def build_vit(name: str, spatial_dims: int, in_channels: int, image_size: int | Sequence[int] | None) -> Built:
    """Build a ViT with patches of 16 voxels; its stages are four groups of its blocks.

    Raises:
        ValueError: when no image size is given, or patches do not divide it; the message names the nearest sizes.
    """
    hidden, heads = VITS[name]
    size = _checked_size(name, image_size, spatial_dims, PATCH)
    net = ViT(
        in_channels, size, PATCH, hidden, 4 * hidden, BLOCKS, heads, spatial_dims=spatial_dims, classification=False
    )
    groups = [nn.Sequential(*net.blocks[k : k + BLOCKS // STAGES]) for k in range(0, BLOCKS, BLOCKS // STAGES)]
    grid = [side // PATCH for side in size]

    def make() -> Backbone:
        return StagedBackbone(
            net.patch_embedding,
            groups,
            channels=[hidden] * STAGES,
            strides=[PATCH] * STAGES,
            # The norm counts once, for the last stage, and is applied to each map.
            to_maps=[NormalizedTokens(net.norm, grid) for _ in groups],
            patch_size=PATCH,
        )

    return net, make


def build_swin(name: str, spatial_dims: int, in_channels: int, drop_path: float) -> Built:
    """Build the encoder of SwinUNETR. Its stages are its four resolutions after the first."""
    width = SWINS[name]
    net = SwinTransformer(
        in_chans=in_channels,
        embed_dim=width,
        window_size=ensure_tuple_rep(SWIN_WINDOW, spatial_dims),
        patch_size=ensure_tuple_rep(SWIN_PATCH, spatial_dims),
        depths=(2, 2, 2, 2),
        num_heads=(3, 6, 12, 24),
        drop_path_rate=drop_path,
        spatial_dims=spatial_dims,
    )

    def make() -> Backbone:
        layers = (net.layers1, net.layers2, net.layers3, net.layers4)
        return StagedBackbone(
            nn.Sequential(net.patch_embed, net.pos_drop),
            [nn.Sequential(*itertools.chain(layer)) for layer in layers],
            channels=[width * 2 ** (k + 1) for k in range(STAGES)],
            strides=[SWIN_PATCH * 2 ** (k + 1) for k in range(STAGES)],
            to_maps=[NormalizedMap() for _ in layers],
            patch_size=SWIN_PATCH,
        )

    return net, make


def _checked_size(name: str, image_size: int | Sequence[int] | None, dims: int, patch: int) -> tuple[int, ...]:
    if image_size is None:
        raise ValueError(f"{name!r} is made for images of one size: give image_size.")
    size = tuple(ensure_tuple_rep(image_size, dims))
    if any(side % patch for side in size):
        down, up = (tuple(max(patch, (side + extra) // patch * patch) for side in size) for extra in (0, patch - 1))
        raise ValueError(
            f"{name!r} can't take images of {size} voxels: its patches of {patch} do not divide that. Nearest sizes "
            f"that it takes: {down} and {up} (image_size)."
        )
    return size
