# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The values drawn for a view, and that they are applied exactly."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from monai_fgssl.functional import (
    DISTORTED,
    REGULARIZED,
    ViewDraw,
    ViewSettings,
    adjust_color,
    affine_matrices,
    apply_view,
    draw_view,
    gaussian_blur,
    orient,
    random_view,
    resample,
    solarize,
)

MANY = 20_000
# Everything that a view can do, at once.
EVERYTHING = replace(DISTORTED, crop_scale=(0.5, 1.0), rotate_prob=0.5, rotate_range=20.0, solarize_prob=0.1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=seeded(seed))


def one_sample(draw: ViewDraw, i: int) -> ViewDraw:
    return ViewDraw(**{field.name: getattr(draw, field.name)[i : i + 1] for field in fields(draw)})


def share(happened: torch.Tensor) -> float:
    return happened.double().mean().item()


def test_defaults_change_nothing():
    x = images(4, 3, 9, 9)
    result = random_view(x, ViewSettings(), seeded())
    assert torch.equal(result, x)
    assert result.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("view", [REGULARIZED, DISTORTED, EVERYTHING])
@pytest.mark.parametrize("shape", [(8, 3, 16, 16), (8, 1, 12, 20), (8, 4, 10, 11), (4, 1, 8, 10, 10), (4, 3, 6, 7, 8)])
def test_views_of_every_kind_of_image(view, shape):
    x = images(*shape)
    before = x.clone()
    result = random_view(x, view, seeded())
    assert result.shape == x.shape
    assert result.dtype == x.dtype
    assert result.min() >= 0
    assert result.max() <= 1
    assert all(not torch.equal(a, b) for a, b in zip(result, x, strict=True))
    assert torch.equal(x, before)
    assert torch.equal(result, random_view(x, view, seeded()))
    assert not torch.equal(result, random_view(x, view, seeded(1)))


@pytest.mark.parametrize("shape", [(32, 3, 8, 8), (32, 1, 5, 8), (32, 2, 4, 6, 6)])
def test_flips_and_transpositions_only_move_pixels(shape):
    x = images(*shape)
    result = random_view(x, ViewSettings(flip_prob=0.5, transpose_prob=0.5), seeded())
    assert torch.equal(result.flatten(2).sort().values, x.flatten(2).sort().values)
    draw = draw_view(len(x), shape[2:], ViewSettings(flip_prob=0.5, transpose_prob=0.5), seeded())
    assert torch.equal(result, orient(x, draw.flips, draw.transposed))


@pytest.mark.parametrize("shape", [(12, 3, 16, 16), (12, 1, 10, 14), (6, 2, 7, 8, 8)])
def test_steps_in_their_order(shape):
    """Every step on all samples, where `apply_view` takes out those that it concerns."""
    x = images(*shape)
    settings = replace(EVERYTHING, jitter_prob=0.5, grayscale_prob=0.5, blur_prob=0.5, solarize_prob=0.5)
    draw = draw_view(len(x), shape[2:], settings, seeded(3))
    geometry = (draw.flips, draw.transposed, draw.angles, draw.crop_size, draw.crop_center)
    expected = resample(x, affine_matrices(shape[2:], *geometry))
    saturation = draw.saturation if shape[1] == 3 and len(shape) == 4 else None
    expected = adjust_color(expected, draw.brightness, draw.contrast, saturation)
    expected = gaussian_blur(expected, draw.blur_sigma)
    # Values within rounding of the threshold may fall on either side of it.
    near = (expected - settings.solarize_threshold).abs() < 1e-5
    expected = solarize(expected, draw.solarize_threshold)
    result = apply_view(x, draw)
    torch.testing.assert_close(result[~near], expected[~near], atol=1e-5, rtol=0)


def test_a_sample_does_not_depend_on_the_others():
    x = images(16, 3, 12, 12)
    settings = replace(EVERYTHING, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    draw = draw_view(len(x), (12, 12), settings, seeded())
    result = apply_view(x, draw)
    for i in range(len(x)):
        torch.testing.assert_close(apply_view(x[i : i + 1], one_sample(draw, i))[0], result[i], atol=1e-6, rtol=0)


def test_samples_without_a_change_stay_bit_exact():
    x = images(64, 3, 10, 10)
    settings = ViewSettings(
        rotate_prob=0.3, rotate_range=30, jitter_prob=0.3, brightness=0.3, blur_prob=0.3, blur_sigma=(1, 2),
        solarize_prob=0.3, flip_prob=0.2, grayscale_prob=0.2,
    )  # fmt: skip
    draw = draw_view(len(x), (10, 10), settings, seeded())
    unchanged = ~(
        draw.flips.any(1)
        | (draw.angles != 0).any(1)
        | (draw.brightness != 1)
        | (draw.saturation != 1)
        | (draw.blur_sigma > 0)
        | draw.solarize_threshold.isfinite()
    )
    assert 0 < unchanged.sum() < len(x)
    result = apply_view(x, draw)
    assert torch.equal(result[unchanged], x[unchanged])
    assert (result[~unchanged] != x[~unchanged]).flatten(1).any(1).all()


@pytest.mark.parametrize("shape", [(8, 1, 9, 9), (8, 4, 9, 9), (8, 3, 5, 6, 6)])
def test_color_steps_aside(shape):
    x = images(*shape)
    colorful = ViewSettings(jitter_prob=1, saturation=0.5, grayscale_prob=0.5)
    assert torch.equal(random_view(x, colorful, seeded()), x)


def test_color_applies_to_rgb():
    x = images(8, 3, 9, 9)
    gray = random_view(x, ViewSettings(grayscale_prob=1), seeded())
    torch.testing.assert_close(gray, gray[:, :1].expand(-1, 3, -1, -1))


@given(st.integers(0, 999), st.sampled_from([(8, 8), (6, 9), (4, 6, 6)]), st.floats(0.05, 1), st.floats(1, 3))
@settings(deadline=None, max_examples=40)
def test_crops_lie_in_the_image(seed, spatial, low, ratio):
    draw = draw_view(50, spatial, ViewSettings(crop_scale=(low, 1), crop_ratio=(1 / ratio, ratio)), seeded(seed))
    assert (draw.crop_size > 0).all()
    assert (draw.crop_center.abs() + draw.crop_size <= 1 + 1e-6).all()
    assert (draw.crop_size.prod(1) <= 1).all()


@pytest.mark.parametrize("spatial", [(8, 8), (8, 8, 8)])
def test_crops_have_the_drawn_size_and_shape(spatial):
    draw = draw_view(MANY, spatial, ViewSettings(crop_scale=(0.1, 0.2), crop_ratio=(0.5, 2.0)), seeded())
    volume, first, last = draw.crop_size.prod(1), draw.crop_size[:, 0], draw.crop_size[:, -1]
    assert (volume.min().item(), volume.max().item()) == pytest.approx((0.1, 0.2), abs=1e-3)
    assert volume.mean().item() == pytest.approx(0.15, abs=0.001)
    ratio = (last / first).log()
    assert ratio.abs().max().item() <= math.log(2) + 1e-5
    assert ratio.mean().item() == pytest.approx(0, abs=0.02)


def test_frequencies_and_ranges_are_those_of_the_settings():
    settings = ViewSettings(
        crop_scale=(1.0, 1.0), flip_prob=0.3, transpose_prob=0.6, rotate_prob=0.4, rotate_range=15.0, jitter_prob=0.7,
        brightness=0.2, contrast=0.3, saturation=0.4, grayscale_prob=0.1, blur_prob=0.5, blur_sigma=(0.5, 1.5),
        solarize_prob=0.2, solarize_threshold=0.6,
    )  # fmt: skip
    draw = draw_view(MANY, (8, 8), settings, seeded())
    happened = {
        0.3: draw.flips,
        0.6: draw.transposed,
        0.4: draw.angles != 0,
        0.7: draw.brightness != 1,
        0.1: draw.saturation == 0,
        0.5: draw.blur_sigma > 0,
        0.2: draw.solarize_threshold.isfinite(),
    }
    for probability, samples in happened.items():
        assert share(samples) == pytest.approx(probability, abs=0.02)
    assert torch.equal(draw.brightness != 1, draw.contrast != 1)
    for factor, deviation in (
        (draw.brightness, 0.2),
        (draw.contrast, 0.3),
        (draw.saturation[draw.saturation > 0], 0.4),
    ):
        assert factor.min().item() == pytest.approx(1 - deviation, abs=0.01)
        assert factor.max().item() == pytest.approx(1 + deviation, abs=0.01)
    assert draw.angles.abs().max().item() == pytest.approx(15, abs=0.1)
    sigma = draw.blur_sigma[draw.blur_sigma > 0]
    assert (sigma.min().item(), sigma.max().item()) == pytest.approx((0.5, 1.5), abs=0.01)
    assert draw.solarize_threshold[draw.solarize_threshold.isfinite()].unique().tolist() == pytest.approx([0.6])


def test_draws_are_on_the_cpu_and_follow_the_generator():
    first, again, other = (draw_view(8, (8, 8), EVERYTHING, seeded(seed)) for seed in (5, 5, 6))
    for name, value in asdict(first).items():
        assert value.device.type == "cpu", name
        assert torch.equal(value, getattr(again, name)), name
    assert not torch.equal(first.crop_center, other.crop_center)


def test_default_device_does_not_matter():
    x = images(4, 3, 12, 12)
    with torch.device("meta"):
        result = random_view(x, EVERYTHING, seeded())
    assert torch.equal(result, random_view(x, EVERYTHING, seeded()))


def test_without_generator_torchs_own_is_used():
    torch.manual_seed(1)
    first = draw_view(4, (8, 8), EVERYTHING)
    torch.manual_seed(1)
    assert torch.equal(first.crop_center, draw_view(4, (8, 8), EVERYTHING).crop_center)


def test_transposition_steps_aside_unless_square():
    settings = ViewSettings(transpose_prob=1)
    assert draw_view(4, (6, 6), settings).transposed.all()
    assert draw_view(4, (5, 6, 6), settings).transposed.all()
    assert not draw_view(4, (6, 5), settings).transposed.any()


def test_autocast_does_not_round():
    x = images(4, 3, 12, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = random_view(x, EVERYTHING, seeded())
    assert torch.equal(result, random_view(x, EVERYTHING, seeded()))


def test_float64():
    x = images(4, 3, 12, 12).double()
    settings = replace(EVERYTHING, solarize_prob=0.0)
    result = random_view(x, settings, seeded())
    assert result.dtype == torch.float64
    torch.testing.assert_close(result.float(), random_view(x.float(), settings, seeded()), atol=1e-5, rtol=0)


def test_settings_accept_lists_as_json_gives_them():
    assert ViewSettings(crop_scale=[0.5, 1], blur_sigma=[0, 1]) == ViewSettings(
        crop_scale=(0.5, 1.0), blur_sigma=(0, 1)
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"crop_scale": 0.5}, r"crop_scale must be a pair \(lowest, highest\), got 0.5"),
        ({"crop_scale": (0.9, 0.5)}, r"crop_scale must be a pair.*got \(0.9, 0.5\)"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale must lie in \(0, 1\], got \(0.0, 1.0\)"),
        ({"crop_scale": (0.5, 1.5)}, r"crop_scale must lie in \(0, 1\]"),
        ({"crop_ratio": (0, 1)}, r"crop_ratio must be positive, got \(0.0, 1.0\)"),
        ({"blur_sigma": (-1, 1)}, r"blur_sigma must be 0 or more pixels, got \(-1.0, 1.0\)"),
        ({"blur_sigma": (1, 2, 3)}, r"blur_sigma must be a pair"),
        ({"rotate_range": -5}, r"rotate_range must lie in \[0, 180\] degrees, got -5"),
        ({"flip_prob": 1.2}, r"flip_prob must lie in \[0, 1\], got 1.2"),
        ({"jitter_prob": -0.1}, r"jitter_prob must lie in \[0, 1\], got -0.1"),
        ({"contrast": 1.5}, r"contrast must lie in \[0, 1\], got 1.5"),
        ({"solarize_threshold": 128}, r"solarize_threshold must lie in \[0, 1\], got 128"),
    ],
)
def test_settings_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        ViewSettings(**wrong)


@pytest.mark.parametrize("spatial", [(8,), (4, 4, 4, 4), ()])
def test_two_or_three_axes(spatial):
    with pytest.raises(ValueError, match="2 or 3 spatial axes, got spatial shape"):
        draw_view(2, spatial, ViewSettings())


def test_integers_are_refused():
    with pytest.raises(TypeError, match=r"torch\.uint8; divide uint8 images by 255"):
        random_view(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), REGULARIZED)


@pytest.mark.parametrize("shape", [(3, 3, 8, 8), (2, 3, 8, 8, 8)])
def test_draw_of_another_batch_is_refused(shape):
    with pytest.raises(ValueError, match="the draw is for 2 samples with 2 spatial axes, but the images have shape"):
        apply_view(images(*shape), draw_view(2, (8, 8), REGULARIZED))
