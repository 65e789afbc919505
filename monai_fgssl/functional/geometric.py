# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Flips, crops and rotations of a batch of images, with parameters of its own for every sample.

Everything that interpolates is composed into one affine map, so an image is resampled once whatever was drawn.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from .samples import update_where

__all__ = ["affine_matrices", "all_orientations", "orient", "resample"]


def orient(x: Tensor, flips: Tensor, transposed: Tensor) -> Tensor:
    """Swap the last two axes of the chosen samples, then flip the chosen axes; bit-exact.

    All combinations together are the 8 orientations of a square (its flips and quarter turns).

    Args:
        x: (B, C, *spatial), any dtype.
        flips: (B, D) bool, one column per spatial axis.
        transposed: (B,) bool.

    Returns:
        (B, C, *spatial), a new tensor.

    Raises:
        ValueError: when samples are to be transposed and the last two axes differ in size.
    """
    if transposed.any() and x.shape[-1] != x.shape[-2]:
        raise ValueError(f"only images with two equal last axes can be transposed, got shape {tuple(x.shape)}.")
    x = update_where(transposed, x.clone(), lambda y: y.transpose(-1, -2))
    for axis, flipped in enumerate(flips.unbind(1), start=2):
        x = update_where(flipped, x, partial(torch.flip, dims=(axis,)))
    return x


def all_orientations(x: Tensor) -> Tensor:
    """Every image as all flips show it, and where the last two axes are equal all flips of its transpose too.

    In 2D these are the 8 orientations of a square (4 of another rectangle), in 3D 16 (8) that a volume can have
    without resampling.

    Args:
        x: (B, C, *spatial), any dtype.

    Returns:
        (V, B, C, *spatial); the first is ``x``.
    """
    square = x.ndim > 3 and x.shape[-1] == x.shape[-2]
    orders = [x, x.transpose(-1, -2)] if square else [x]
    axes = range(2, x.ndim)
    subsets = [subset for size in range(len(axes) + 1) for subset in combinations(axes, size)]
    return torch.stack([order.flip(subset) for order in orders for subset in subsets])


def affine_matrices(
    spatial_shape: tuple[int, ...],
    flips: Tensor,
    transposed: Tensor,
    angles: Tensor,
    crop_size: Tensor,
    crop_center: Tensor,
) -> Tensor:
    """Compose crop, rotation and orientation into one map from output to input positions.

    Its result is ``orient(rotated crop)``: the crop is a box of ``crop_size`` around ``crop_center``, turned by
    ``angles`` about its own center (rigidly, in pixels) and scaled up to the whole image.

    Args:
        spatial_shape: sizes of the D spatial axes.
        flips: (B, D) bool, as in :func:`orient`.
        transposed: (B,) bool, as in :func:`orient`.
        angles: (B, D * (D - 1) / 2) degrees, one per pair of axes in the order of ``itertools.combinations``; the crop
            turns from the first axis of the pair toward the second.
        crop_size: (B, D) in (0, 1], fraction of each axis.
        crop_center: (B, D) in [-1, 1], where -1 and 1 are the borders of the image.

    Returns:
        (B, D, D + 1) float32, axes in the order of ``spatial_shape``, for :func:`resample`.
    """
    num_axes = len(spatial_shape)
    identity = torch.eye(num_axes, device=angles.device)
    extent = torch.tensor(spatial_shape, dtype=torch.float32, device=angles.device)

    rotation = identity
    for (i, j), angle in zip(combinations(range(num_axes), 2), torch.deg2rad(angles).unbind(1), strict=True):
        plane = identity.repeat(len(angle), 1, 1)
        plane[:, i, i] = plane[:, j, j] = angle.cos()
        plane[:, j, i] = angle.sin()
        plane[:, i, j] = -plane[:, j, i]
        rotation = plane @ rotation

    swap = identity.clone()
    swap[[-2, -1]] = swap[[-1, -2]]
    orientation = torch.where(transposed[:, None, None], swap, identity) * torch.where(flips, -1.0, 1.0)[:, None]

    # The rotation is rigid in pixels: `extent` converts the crop's fractions of the axes to pixels and back.
    crop = rotation * (extent * crop_size)[:, None] / extent[:, None]
    linear = crop @ orientation
    return torch.cat([linear, crop_center[:, :, None]], dim=2)


def resample(x: Tensor, matrices: Tensor) -> Tensor:
    """Linear interpolation of each image at the positions that its affine map gives; mirrored beyond the border.

    Mirroring leaves no black corners that a network could recognize.

    Args:
        x: (B, C, *spatial) floating point, 2 or 3 spatial axes.
        matrices: (B, D, D + 1) of :func:`affine_matrices`.

    Returns:
        (B, C, *spatial), within the range of ``x``.
    """
    spatial = x.shape[2:]
    num_axes = len(spatial)
    # `grid_sample` wants the positions with the last axis first. Summing one term per axis by broadcasting is an order
    # of magnitude faster than `affine_grid`, which multiplies matrices of 3 columns.
    matrices = matrices.to(x).flip(1)
    grid = matrices[:, :, -1].view(-1, *[1] * num_axes, num_axes)
    for axis, size in enumerate(spatial):
        centers = (2 * torch.arange(size, device=x.device, dtype=x.dtype) + 1) / size - 1
        shape = [1] * (num_axes + 2)
        shape[axis + 1] = size
        grid = grid + centers.view(shape) * matrices[:, :, axis].view(-1, *[1] * num_axes, num_axes)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
