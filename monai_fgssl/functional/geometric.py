# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Flips, crops and rotations of a batch of images; every sample has its own parameters.

All steps that interpolate are composed into one affine map, so an image is resampled at most once.
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
        x: images, (B, C, *spatial), of any dtype.
        flips: True for the samples and axes to flip, (B, D) bool, one column per spatial axis.
        transposed: True for the samples to transpose, (B,) bool.

    Returns:
        Images, (B, C, *spatial), in a new tensor.

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
    """Return all flips of every image, and all flips of its transpose if the last two axes have the same size.

    In 2D these are the 8 orientations of a square image (4 of another rectangle). In 3D there are 16 orientations (8 if
    the last two axes differ). None of them needs resampling.

    Args:
        x: images, (B, C, *spatial), of any dtype.

    Returns:
        Orientations, (V, B, C, *spatial); the first is ``x``.
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

    Resampling with this map gives ``orient(rotated crop)``. The crop is a box of ``crop_size`` around ``crop_center``.
    It is turned by ``angles`` about its own center (rigidly, in pixels) and scaled up to the whole image.

    Args:
        spatial_shape: sizes of the D spatial axes.
        flips: (B, D) bool, as in :func:`orient`.
        transposed: (B,) bool, as in :func:`orient`.
        angles: rotation angles in degrees, (B, D * (D - 1) / 2), one per pair of axes in the order of
            ``itertools.combinations``; the crop turns from the first axis of the pair toward the second.
        crop_size: size of the crop as a fraction of each axis, (B, D) in (0, 1].
        crop_center: center of the crop, (B, D) in [-1, 1]; -1 and 1 are the borders of the image.

    Returns:
        Matrices, (B, D, D + 1) float32, axes in the order of ``spatial_shape``, for :func:`resample`.
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
    """Interpolate each image linearly at the positions of its affine map. Images are mirrored beyond the border.

    Without mirroring, a rotated image would have black corners, which a network could recognize.

    Args:
        x: images, (B, C, *spatial) floating point, 2 or 3 spatial axes.
        matrices: result of :func:`affine_matrices`, (B, D, D + 1).

    Returns:
        Images, (B, C, *spatial), within the range of ``x``.
    """
    spatial = x.shape[2:]
    num_axes = len(spatial)
    # `grid_sample` expects the positions with the last axis first. Summing one term per axis by broadcasting is an
    # order of magnitude faster than `affine_grid`, which multiplies matrices of 3 columns.
    matrices = matrices.to(x).flip(1)
    grid = matrices[:, :, -1].view(-1, *[1] * num_axes, num_axes)
    for axis, size in enumerate(spatial):
        centers = (2 * torch.arange(size, device=x.device, dtype=x.dtype) + 1) / size - 1
        shape = [1] * (num_axes + 2)
        shape[axis + 1] = size
        grid = grid + centers.view(shape) * matrices[:, :, axis].view(-1, *[1] * num_axes, num_axes)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
