# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Photometric changes of a batch of images in [0, 1]; every sample has its own amount.

No function shifts the hue, since a diagnosis depends on the color of a lesion. Only solarization inverts colors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .samples import per_sample

__all__ = [
    "adjust_brightness",
    "adjust_color",
    "adjust_contrast",
    "adjust_saturation",
    "gaussian_blur",
    "grayscale",
    "solarize",
]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the gray value (ITU-R BT.601, as in PIL and torchvision)."""


def adjust_color(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor | None = None) -> Tensor:
    """Change brightness, then contrast, then saturation, in one pass and with one final clamp to [0, 1].

    All three changes are linear in the pixel's channels. They are composed into one matrix per sample, so no clamping
    in between loses values. A factor of 1 changes nothing (bit-exact). A factor of 0 gives black (brightness), the
    image's mean color (contrast), or the gray image (saturation).

    Args:
        x: (B, C, *spatial) floating point, in [0, 1].
        brightness: (B,) factor of the values.
        contrast: (B,) factor of the distance from the image's mean, channel by channel (so the mean color stays).
        saturation: (B,) factor of the distance from the pixel's own gray value; None does not change it, the only
            choice for images without the three channels red, green, blue.

    Returns:
        (B, C, *spatial) in [0, 1].

    Raises:
        ValueError: when ``saturation`` is given and C is not 3, or an amount is not of shape (B,).

    Example:
        >>> x = torch.rand(2, 3, 8, 8)
        >>> darker, grayer = torch.tensor([0.5, 1.0]), torch.tensor([1.0, 0.0])
        >>> adjust_color(x, darker, torch.ones(2), grayer).shape
        torch.Size([2, 3, 8, 8])
    """
    flat = x.flatten(2)
    gain = per_sample(brightness, flat)
    contrast = per_sample(contrast, flat)
    offset = (1 - contrast) * gain * flat.mean(2, keepdim=True)
    gain = gain * contrast
    if saturation is None:
        return (flat * gain).add_(offset).clamp_(0, 1).view_as(x)

    if x.shape[1] != 3:
        raise ValueError(
            f"saturation needs the 3 channels red, green, blue, got {x.shape[1]} channels (shape {tuple(x.shape)}); "
            "pass saturation=None for other images."
        )
    saturation = per_sample(saturation, flat)
    gray = flat.new_tensor(LUMA).expand(3, 3)
    mix = saturation * torch.eye(3, dtype=x.dtype, device=x.device) + (1 - saturation) * gray
    return torch.baddbmm(mix @ offset, mix * gain, flat).clamp_(0, 1).view_as(x)


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the values by ``factor`` (B,); see :func:`adjust_color`."""
    return adjust_color(x, factor, torch.ones_like(factor))


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance from each channel's mean by ``factor`` (B,); see :func:`adjust_color`."""
    return adjust_color(x, torch.ones_like(factor), factor)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply the distance from the pixel's gray value by ``factor`` (B,); see :func:`adjust_color`."""
    return adjust_color(x, torch.ones_like(factor), torch.ones_like(factor), factor)


def grayscale(x: Tensor, chosen: Tensor) -> Tensor:
    """Turn the chosen RGB images, ``chosen`` (B,) bool, into gray ones that keep their three channels."""
    return adjust_saturation(x, 1 - chosen.to(x.dtype))


def gaussian_blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur every image with a Gaussian of its own width, axis by axis.

    Each axis is multiplied by the matrix of all Gaussian weights between its pixels, rows normalized to 1. That needs
    no cut-off radius, no padding (near the border the weights of the pixels that exist are used) and no convolution
    per sample.

    Args:
        x: (B, C, *spatial) floating point, any number of spatial axes.
        sigma: (B,) standard deviation in pixels; 0 does not change the image (bit-exact).

    Returns:
        (B, C, *spatial), within the range of ``x``.

    Raises:
        ValueError: when a sigma is negative, or ``sigma`` is not of shape (B,).
    """
    if (sigma < 0).any():
        raise ValueError(f"sigma must be 0 or more pixels, got {sigma.min().item()}.")
    # Clamped to a positive value, so that the weights for sigma 0 are exactly the identity matrix.
    sigma = per_sample(sigma, x).clamp_min(1e-6).view(-1, 1, 1)
    blurred = x
    for size in reversed(x.shape[2:]):
        position = torch.arange(size, dtype=x.dtype, device=x.device)
        weights = torch.softmax(-0.5 * ((position[:, None] - position) / sigma).square(), dim=1)
        rows = torch.bmm(blurred.flatten(1, -2), weights)
        # The finished axis moves in front of the other axes. After all axes, they are in their original order again.
        blurred = rows.view(blurred.shape).movedim(-1, 2)
    return blurred


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above the sample's ``threshold`` (B,); a threshold above 1 changes nothing."""
    return torch.where(x < per_sample(threshold, x), x, 1 - x)
