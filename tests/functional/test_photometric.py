# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Photometric changes against Pillow, scipy and numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from scipy.ndimage import gaussian_filter

from monai_fgssl.functional import (
    adjust_brightness,
    adjust_color,
    adjust_contrast,
    adjust_saturation,
    gaussian_blur,
    grayscale,
    solarize,
)

LUMA = np.array([0.299, 0.587, 0.114])
ONE_LEVEL = 1.01 / 255
factors = st.floats(0, 2, width=32)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def to_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().to(torch.uint8).movedim(0, -1).numpy())


def from_pil(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).movedim(-1, 0) / 255


def whole_levels(*shape: int) -> torch.Tensor:
    """Values that 8 bits hold exactly, so that Pillow and we start from the same image."""
    return (images(*shape) * 255).round() / 255


@pytest.mark.parametrize(
    ("ours", "pillows"), [(adjust_brightness, ImageEnhance.Brightness), (adjust_saturation, ImageEnhance.Color)]
)
def test_factors_like_pillow(ours, pillows):
    x = whole_levels(5, 3, 16, 17)
    factor = torch.tensor([0.0, 0.4, 1.0, 1.3, 2.0])
    expected = torch.stack([from_pil(pillows(to_pil(i)).enhance(f)) for i, f in zip(x, factor.tolist(), strict=True)])
    # Pillow rounds the gray value to 8 bits before it takes the distance from it.
    torch.testing.assert_close(ours(x, factor), expected, atol=2 * ONE_LEVEL, rtol=0)


def test_grayscale_like_pillow_and_others_untouched():
    x = whole_levels(3, 3, 16, 17)
    result = grayscale(x, torch.tensor([True, False, True]))
    for i in (0, 2):
        torch.testing.assert_close(
            result[i, 0], from_pil(to_pil(x[i]).convert("L").convert("RGB"))[0], atol=ONE_LEVEL, rtol=0
        )
        torch.testing.assert_close(result[i], result[i, :1].expand(3, -1, -1))
    assert torch.equal(result[1], x[1])


def test_solarize_like_pillow():
    x = whole_levels(4, 3, 16, 17)
    thresholds = [0, 100, 128, 256]
    expected = torch.stack([from_pil(ImageOps.solarize(to_pil(i), t)) for i, t in zip(x, thresholds, strict=True)])
    torch.testing.assert_close(solarize(x, (torch.tensor(thresholds) - 0.5) / 255), expected)


def test_solarize_threshold_belongs_to_the_inverted():
    result = solarize(torch.tensor([[[0.25, 0.375, 0.75]]]), torch.tensor([0.375]))
    assert result.flatten().tolist() == [0.25, 0.625, 0.25]


def color_reference(x: np.ndarray, brightness: float, contrast: float, saturation: float | None) -> np.ndarray:
    """One image, pixel by pixel, in float64, one change after the other."""
    x = x.astype(np.float64) * brightness
    mean = x.reshape(len(x), -1).mean(1)
    result = np.empty_like(x)
    for place in np.ndindex(*x.shape[1:]):
        pixel = mean + contrast * (x[(slice(None), *place)] - mean)
        if saturation is not None:
            gray = LUMA @ pixel
            pixel = gray + saturation * (pixel - gray)
        result[(slice(None), *place)] = pixel
    return result.clip(0, 1)


@pytest.mark.parametrize(
    ("shape", "with_saturation"),
    [((4, 3, 6, 7), True), ((4, 3, 6, 7), False), ((4, 1, 6, 7), False), ((4, 2, 3, 4, 5), False), ((4, 5, 9), False)],
)
def test_color_against_loop(shape, with_saturation):
    x = images(*shape)
    amounts = [torch.tensor(values) for values in ([1.2, 0.5, 1.0, 1.9], [0.3, 1.0, 1.7, 1.2], [0.0, 1.5, 0.6, 1.0])]
    result = adjust_color(x, amounts[0], amounts[1], amounts[2] if with_saturation else None)
    for i, image in enumerate(x.numpy()):
        b, c, s = (amount[i].item() for amount in amounts)
        expected = color_reference(image, b, c, s if with_saturation else None)
        np.testing.assert_allclose(result[i].numpy(), expected, atol=1e-6)


def test_contrast_keeps_the_mean_color():
    x = images(3, 3, 16, 16) * 0.5 + 0.25
    result = adjust_contrast(x, torch.tensor([0.0, 0.5, 1.2]))
    torch.testing.assert_close(result.mean((2, 3)), x.mean((2, 3)))
    torch.testing.assert_close(result[0], x[0].mean((1, 2), keepdim=True).expand(3, 16, 16))


@given(factors, factors, factors, st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_color_stays_in_range(b, c, s, seed):
    result = adjust_color(images(1, 3, 5, 5, seed=seed), *torch.tensor([[b], [c], [s]]))
    assert 0 <= result.min() <= result.max() <= 1


@pytest.mark.parametrize("saturation", [None, torch.ones(4)])
def test_factors_of_one_are_the_identity(saturation):
    x = images(4, 3, 8, 9)
    assert torch.equal(adjust_color(x, torch.ones(4), torch.ones(4), saturation), x)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 1, 8, 8)])
def test_saturation_needs_rgb(shape):
    with pytest.raises(ValueError, match=f"got {shape[1]} channels.*saturation=None"):
        adjust_saturation(images(*shape), torch.ones(2))


@pytest.mark.parametrize("change", [adjust_brightness, adjust_contrast, adjust_saturation, gaussian_blur, solarize])
@pytest.mark.parametrize("amount", [torch.tensor(0.5), torch.ones(3), torch.ones(2, 1)])
def test_one_amount_per_sample(change, amount):
    with pytest.raises(ValueError, match=r"one amount per sample is needed, shape \(2,\), got shape \("):
        change(images(2, 3, 4, 4), amount)


@pytest.mark.parametrize("spatial", [(40,), (21, 34), (9, 12, 14)])
def test_blur_against_scipy(spatial):
    x = images(4, 2, *spatial)
    sigma = torch.tensor([0.4, 1.0, 2.5, 6.0])
    result = gaussian_blur(x, sigma)
    for image, blurred, width in zip(x.double().numpy(), result.numpy(), sigma.tolist(), strict=True):
        for channel, ours in zip(image, blurred, strict=True):

            def smooth(values: np.ndarray, width: float = width) -> np.ndarray:
                return gaussian_filter(values, width, mode="constant", truncate=max(spatial) / width + 1)

            # Near the border: the weights of the pixels that exist, normalized to 1.
            np.testing.assert_allclose(ours, smooth(channel) / smooth(np.ones(spatial)), atol=2e-6)


def test_blur_of_nothing_and_of_a_constant():
    x = images(2, 3, 16, 9)
    assert torch.equal(gaussian_blur(x, torch.zeros(2)), x)
    assert torch.equal(gaussian_blur(x, torch.tensor([0.0, 1.0]))[0], x[0])
    flat = torch.full((1, 1, 16, 9), 0.7)
    torch.testing.assert_close(gaussian_blur(flat, torch.tensor([3.0])), flat)


@given(st.floats(0, 50), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_blur_stays_in_range(sigma, seed):
    x = images(1, 1, 7, 8, seed=seed)
    result = gaussian_blur(x, torch.tensor([sigma]))
    assert x.min() - 1e-6 <= result.min() <= result.max() <= x.max() + 1e-6


def test_blur_refuses_negative_widths():
    with pytest.raises(ValueError, match=r"0 or more pixels, got -1\.5"):
        gaussian_blur(images(2, 1, 4, 4), torch.tensor([1.0, -1.5]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("change", [adjust_brightness, adjust_contrast, adjust_saturation, gaussian_blur, solarize])
def test_other_dtypes(change, dtype):
    x, amount = images(2, 3, 12, 12), torch.tensor([0.7, 1.3])
    result = change(x.to(dtype), amount)
    assert result.dtype == dtype
    # Near the threshold rounding decides what is inverted.
    tolerance = 0.02 if dtype == torch.bfloat16 else 1e-6
    differs = (result - change(x, amount)).abs() > tolerance
    assert differs.float().mean() < 0.01
