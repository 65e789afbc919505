# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Random views of a batch of images: draw the parameters for each sample, and apply them.

Parameters are drawn on the CPU, so the same seed gives the same draw for every device. A draw is a plain record, which
can be stored, inspected and applied again.

Source: the pair of a regularized and a distorted view follows FG-SSL (fig. 2); the steps of the distorted view and
their order (crop, flip, color, gray, blur, solarize) follow Barlow Twins (Zbontar et al., ICML 2021, sec. 2.2),
without the change of hue.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from .geometric import affine_matrices, orient, resample
from .photometric import adjust_color, gaussian_blur, solarize
from .samples import update_where

__all__ = ["DISTORTED", "REGULARIZED", "ViewDraw", "ViewSettings", "apply_view", "draw_view", "random_view"]


@dataclass(frozen=True)
class ViewSettings:
    """Probabilities and strengths of a view; the defaults change nothing.

    Attributes:
        crop_scale: lowest and highest share of the image's area (volume) that the crop keeps, in (0, 1].
        crop_ratio: lowest and highest ratio of the crop's sides, relative to the ratio of the image's sides.
        flip_prob: probability of a flip, for each axis.
        transpose_prob: probability of swapping the last two axes, where they have the same size. With flips, 0.5 makes
            all 8 orientations of a square equally likely.
        rotate_prob: probability of a rotation.
        rotate_range: largest angle in degrees, in both directions; in a volume for each pair of axes.
        jitter_prob: probability of a change of brightness, contrast and saturation.
        brightness: largest deviation of the brightness factor from 1, in [0, 1].
        contrast: largest deviation of the contrast factor from 1, in [0, 1].
        saturation: largest deviation of the saturation factor from 1, in [0, 1] (2D images with 3 channels only).
        grayscale_prob: probability of a gray image (2D images with 3 channels only).
        blur_prob: probability of a Gaussian blur.
        blur_sigma: lowest and highest standard deviation of the blur, in pixels.
        solarize_prob: probability of inverting the bright values.
        solarize_threshold: smallest value that is inverted, in [0, 1].

    Raises:
        ValueError: when a value is out of its range.
    """

    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    flip_prob: float = 0.0
    transpose_prob: float = 0.0
    rotate_prob: float = 0.0
    rotate_range: float = 0.0
    jitter_prob: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grayscale_prob: float = 0.0
    blur_prob: float = 0.0
    blur_sigma: tuple[float, float] = (0.0, 0.0)
    solarize_prob: float = 0.0
    solarize_threshold: float = 0.5

    def __post_init__(self) -> None:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            object.__setattr__(self, name, _increasing_pair(name, getattr(self, name)))
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must lie in (0, 1], got {self.crop_scale}.")
        if self.crop_ratio[0] <= 0:
            raise ValueError(f"crop_ratio must be positive, got {self.crop_ratio}.")
        if self.blur_sigma[0] < 0:
            raise ValueError(f"blur_sigma must be 0 or more pixels, got {self.blur_sigma}.")
        if not 0 <= self.rotate_range <= 180:
            raise ValueError(f"rotate_range must lie in [0, 180] degrees, got {self.rotate_range}.")
        shares = ("brightness", "contrast", "saturation", "solarize_threshold")
        for name in (*(field.name for field in fields(self) if field.name.endswith("_prob")), *shares):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}.")


def _increasing_pair(name: str, value: Sequence[float]) -> tuple[float, float]:
    if not isinstance(value, Sequence) or len(value) != 2 or value[0] > value[1]:
        raise ValueError(f"{name} must be a pair (lowest, highest), got {value!r}.")
    return float(value[0]), float(value[1])


REGULARIZED = ViewSettings(
    flip_prob=0.5, transpose_prob=0.5, jitter_prob=0.8, brightness=0.1, contrast=0.1, saturation=0.1
)
"""Light view, from which the puzzles are cut: every pixel keeps its neighbors, and its color changes little."""

DISTORTED = ViewSettings(
    crop_scale=(0.85, 1.0),
    crop_ratio=(0.9, 1.1),
    flip_prob=0.5,
    transpose_prob=0.5,
    jitter_prob=1.0,
    brightness=0.4,
    contrast=0.4,
    saturation=0.8,
    grayscale_prob=0.2,
    blur_prob=0.2,
    blur_sigma=(0.1, 1.0),
)
"""Strong view. It changes colors as strongly as is usual for photographs: if color survives, the network matches the
two views of an image by color alone and does not learn the texture (``benchmarks/results/synthetic.md``). If every
other image is gray, a network learns to ignore colors that a diagnosis needs. The crop is light, since fine texture
must stay visible. All flips and quarter turns are equally likely, since lesions have no upright position."""


@dataclass(frozen=True)
class ViewDraw:
    """Random numbers drawn for each of B samples with D spatial axes; CPU tensors.

    Attributes:
        flips: True for the samples and axes to flip, (B, D) bool.
        transposed: True for the samples to transpose, (B,) bool.
        angles: rotation angles in degrees, (B, D * (D - 1) / 2); 0: not rotated.
        crop_size: size of the crop as a fraction of each axis, (B, D); 1: not cropped.
        crop_center: center of the crop, (B, D) in [-1, 1]; -1 and 1 are the borders of the image.
        brightness: factor of the brightness, (B,); 1: unchanged.
        contrast: factor of the contrast, (B,); 1: unchanged.
        saturation: factor of the saturation, (B,); 1: unchanged, 0: gray.
        blur_sigma: standard deviation of the blur in pixels, (B,); 0: not blurred.
        solarize_threshold: smallest value that is inverted, (B,); infinite: not solarized.
    """

    flips: Tensor
    transposed: Tensor
    angles: Tensor
    crop_size: Tensor
    crop_center: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    blur_sigma: Tensor
    solarize_threshold: Tensor


def draw_view(
    batch_size: int,
    spatial_shape: tuple[int, ...],
    settings: ViewSettings,
    generator: torch.Generator | None = None,
) -> ViewDraw:
    """Draw the parameters of a view for every sample of a batch.

    Args:
        batch_size: number of samples, B.
        spatial_shape: sizes of the 2 or 3 spatial axes. Samples are transposed only if the last two axes have the same
            size.
        settings: probabilities and strengths of the view.
        generator: random generator on the CPU; None takes torch's global one.

    Returns:
        Parameters, on the CPU.

    Raises:
        ValueError: when there are not 2 or 3 spatial axes.
    """
    num_axes = len(spatial_shape)
    if num_axes not in (2, 3):
        raise ValueError(f"views need images with 2 or 3 spatial axes, got spatial shape {tuple(spatial_shape)}.")

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        # Always on the CPU, whatever torch's default device is, so that the draw is the same for every device.
        return torch.empty(batch_size, *shape, device="cpu").uniform_(low, high, generator=generator)

    def happens(prob: float, *shape: int) -> Tensor:
        return uniform(0, 1, *shape) < prob

    def factor(deviation: float) -> Tensor:
        return torch.where(jittered, uniform(1 - deviation, 1 + deviation), 1.0)

    flips = happens(settings.flip_prob, num_axes)
    transposed = happens(settings.transpose_prob) & (spatial_shape[-1] == spatial_shape[-2])
    rotated = happens(settings.rotate_prob)[:, None]
    angles = rotated * uniform(-settings.rotate_range, settings.rotate_range, num_axes * (num_axes - 1) // 2)

    # Sides of a box with the drawn volume and ratios; in 2D sqrt(scale * ratio) and sqrt(scale / ratio). Sides that
    # would stick out of the image are cut off.
    low, high = (math.log(ratio) for ratio in settings.crop_ratio)
    log_ratio = uniform(low, high, num_axes - 1)
    log_side = F.pad(log_ratio, (1, 0)) - log_ratio.sum(1, keepdim=True) / num_axes
    crop_size = (uniform(*settings.crop_scale, 1) ** (1 / num_axes) * log_side.exp()).clamp_max(1)
    crop_center = uniform(-1, 1, num_axes) * (1 - crop_size)

    jittered = happens(settings.jitter_prob)
    brightness, contrast, saturation = (
        factor(deviation) for deviation in (settings.brightness, settings.contrast, settings.saturation)
    )
    saturation = saturation.masked_fill(happens(settings.grayscale_prob), 0)
    blur_sigma = happens(settings.blur_prob) * uniform(*settings.blur_sigma)
    solarize_threshold = torch.where(happens(settings.solarize_prob), settings.solarize_threshold, torch.inf)
    return ViewDraw(
        flips=flips,
        transposed=transposed,
        angles=angles,
        crop_size=crop_size,
        crop_center=crop_center,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
        blur_sigma=blur_sigma,
        solarize_threshold=solarize_threshold,
    )


def apply_view(x: Tensor, draw: ViewDraw) -> Tensor:
    """Apply a drawn view: geometry, color, blur, solarization, each step only to the samples that need it.

    Saturation and gray apply to 2D images with 3 channels only, since other images have no color.

    Args:
        x: (B, C, *spatial) floating point, in [0, 1], 2 or 3 spatial axes, on any device.
        draw: result of :func:`draw_view` for the same B and spatial shape.

    Returns:
        (B, C, *spatial) in [0, 1], a new tensor on the device of ``x``. Samples for which nothing was drawn stay
        bit-exact; flips and transpositions without crop or rotation only move pixels.

    Raises:
        TypeError: when ``x`` is not floating point.
        ValueError: when ``x`` and ``draw`` differ in the number of samples or of spatial axes.
    """
    if not x.is_floating_point():
        raise TypeError(f"views need floating point images in [0, 1], got {x.dtype}; divide uint8 images by 255.")
    if draw.flips.shape != (len(x), x.ndim - 2):
        raise ValueError(
            f"the draw is for {draw.flips.shape[0]} samples with {draw.flips.shape[1]} spatial axes, "
            f"but the images have shape {tuple(x.shape)}."
        )
    # Color and blur are matrix products, and autocast would round their factors to about 8 bits.
    with torch.autocast(x.device.type, enabled=False):
        return _solarize(_blur(_color(_move(x, draw), draw), draw), draw)


def random_view(x: Tensor, settings: ViewSettings, generator: torch.Generator | None = None) -> Tensor:
    """Draw a view for every sample of a batch and apply it; see :func:`draw_view` and :func:`apply_view`.

    Example:
        >>> images = torch.rand(8, 3, 64, 64)
        >>> random_view(images, DISTORTED, torch.Generator().manual_seed(0)).shape
        torch.Size([8, 3, 64, 64])
    """
    return apply_view(x, draw_view(len(x), tuple(x.shape[2:]), settings, generator))


def _move(x: Tensor, draw: ViewDraw) -> Tensor:
    resampled = (draw.angles != 0).any(1) | (draw.crop_size != 1).any(1)
    if not resampled.all():
        x = orient(x, draw.flips & ~resampled[:, None], draw.transposed & ~resampled)
    geometry = (draw.flips, draw.transposed, draw.angles, draw.crop_size, draw.crop_center)
    spatial_shape = tuple(x.shape[2:])
    return update_where(resampled, x, lambda y: resample(y, affine_matrices(spatial_shape, *geometry)[resampled]))


def _color(x: Tensor, draw: ViewDraw) -> Tensor:
    amounts = [draw.brightness, draw.contrast]
    if x.ndim == 4 and x.shape[1] == 3:
        amounts.append(draw.saturation)
    # All samples are computed, including those that do not change: one pass is faster than selecting samples and
    # writing them back, and a factor of 1 changes nothing (bit-exact).
    return x if all((amount == 1).all() for amount in amounts) else adjust_color(x, *amounts)


def _blur(x: Tensor, draw: ViewDraw) -> Tensor:
    blurred = draw.blur_sigma > 0
    return update_where(blurred, x, lambda y: gaussian_blur(y, draw.blur_sigma[blurred]))


def _solarize(x: Tensor, draw: ViewDraw) -> Tensor:
    solarized = draw.solarize_threshold.isfinite()
    return update_where(solarized, x, lambda y: solarize(y, draw.solarize_threshold[solarized]))
