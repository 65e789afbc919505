# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Flips, crops and rotations against numpy and scipy, sample by sample."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from monai_fgssl.functional import affine_matrices, all_orientations, orient, resample


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def orientation_choices(num_axes: int) -> tuple[torch.Tensor, torch.Tensor]:
    choices = torch.tensor(list(product([False, True], repeat=num_axes + 1)))
    return choices[:, 1:], choices[:, 0]


def orient_reference(image: np.ndarray, flips: np.ndarray, transposed: bool) -> np.ndarray:
    if transposed:
        image = image.swapaxes(-1, -2)
    return np.flip(image, [axis + 1 for axis, flipped in enumerate(flips) if flipped])


def still(batch_size: int, num_axes: int) -> dict[str, torch.Tensor]:
    """Parameters that move nothing."""
    return {
        "flips": torch.zeros(batch_size, num_axes, dtype=torch.bool),
        "transposed": torch.zeros(batch_size, dtype=torch.bool),
        "angles": torch.zeros(batch_size, num_axes * (num_axes - 1) // 2),
        "crop_size": torch.ones(batch_size, num_axes),
        "crop_center": torch.zeros(batch_size, num_axes),
    }


@pytest.mark.parametrize("spatial", [(5, 5), (4, 6, 6)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int16])
def test_orient_against_numpy(spatial, dtype):
    flips, transposed = orientation_choices(len(spatial))
    x = (images(len(flips), 2, *spatial) * 255).to(dtype)
    before = x.clone()
    result = orient(x, flips, transposed)
    expected = [orient_reference(i, f, t) for i, f, t in zip(x.numpy(), flips.numpy(), transposed.numpy(), strict=True)]
    np.testing.assert_array_equal(result.numpy(), np.stack(expected))
    assert torch.equal(x, before)
    assert result.dtype == dtype


def test_orient_makes_the_eight_orientations_of_a_square():
    flips, transposed = orientation_choices(2)
    x = images(1, 1, 3, 3).expand(8, -1, -1, -1)
    ours = {image.numpy().tobytes() for image in orient(x, flips, transposed)}
    square = x[0, 0].numpy()
    turns = {np.rot90(s, k).tobytes() for s in (square, square.T) for k in range(4)}
    assert ours == turns
    assert len(ours) == 8


def test_only_squares_are_transposed():
    x = images(2, 1, 4, 5)
    flips = torch.tensor([[True, False], [False, True]])
    assert torch.equal(orient(x, flips, torch.zeros(2, dtype=torch.bool))[0], x[0].flip(1))
    with pytest.raises(ValueError, match=r"two equal last axes.*\(2, 1, 4, 5\)"):
        orient(x, flips, torch.tensor([False, True]))


@pytest.mark.parametrize("spatial", [(6, 6), (4, 5, 5)])
def test_matrices_of_flips_and_transpositions_do_what_orient_does(spatial):
    flips, transposed = orientation_choices(len(spatial))
    x = images(len(flips), 2, *spatial)
    draw = still(len(x), len(spatial)) | {"flips": flips, "transposed": transposed}
    torch.testing.assert_close(resample(x, affine_matrices(spatial, **draw)), orient(x, flips, transposed))


def resample_reference(image: np.ndarray, draw: dict[str, np.ndarray]) -> np.ndarray:
    """One image in float64: where does each pixel of the crop lie, in pixels? Then interpolate, then orient."""
    spatial = np.array(image.shape[1:])
    offset = (np.indices(spatial).reshape(len(spatial), -1).T + 0.5) / spatial - 0.5
    offset = offset * draw["crop_size"] * spatial
    for (i, j), angle in zip(combinations(range(len(spatial)), 2), np.deg2rad(draw["angles"]), strict=True):
        first, second = offset[:, i].copy(), offset[:, j].copy()
        offset[:, i] = np.cos(angle) * first - np.sin(angle) * second
        offset[:, j] = np.sin(angle) * first + np.cos(angle) * second
    position = offset + (draw["crop_center"] + 1) / 2 * spatial - 0.5
    crop = [map_coordinates(c, position.T, order=1, mode="reflect").reshape(spatial) for c in image.astype(np.float64)]
    return orient_reference(np.stack(crop), draw["flips"], draw["transposed"])


def random_parameters(batch_size: int, spatial: tuple[int, ...], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    num_axes = len(spatial)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(batch_size, *shape, generator=generator)

    crop_size = 0.3 + 0.7 * uniform(num_axes)
    return {
        "flips": uniform(num_axes) < 0.5,
        "transposed": (uniform() < 0.5) & (spatial[-1] == spatial[-2]),
        "angles": 360 * uniform(num_axes * (num_axes - 1) // 2) - 180,
        "crop_size": crop_size,
        "crop_center": (2 * uniform(num_axes) - 1) * (1 - crop_size),
    }


@pytest.mark.parametrize("spatial", [(16, 16), (11, 17), (8, 9, 9), (6, 9, 12)])
def test_resampling_against_scipy(spatial):
    x = images(6, 2, *spatial)
    draw = random_parameters(6, spatial, seed=1)
    result = resample(x, affine_matrices(spatial, **draw))
    for i, image in enumerate(x.numpy()):
        expected = resample_reference(image, {name: value[i].numpy() for name, value in draw.items()})
        np.testing.assert_allclose(result[i].numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("spatial", [(7, 9), (4, 5, 6)])
def test_moving_nothing_is_the_identity(spatial):
    x = images(2, 3, *spatial)
    torch.testing.assert_close(resample(x, affine_matrices(spatial, **still(2, len(spatial)))), x)


def test_right_angles_of_a_square_are_quarter_turns():
    x = images(4, 1, 6, 6)
    draw = still(4, 2) | {"angles": torch.tensor([[0.0], [90.0], [180.0], [-90.0]])}
    # The crop turns forwards, so what it shows turns backwards.
    expected = torch.stack([x[0], x[1].rot90(-1, (1, 2)), x[2].rot90(2, (1, 2)), x[3].rot90(1, (1, 2))])
    torch.testing.assert_close(resample(x, affine_matrices((6, 6), **draw)), expected, atol=1e-5, rtol=0)


def test_crop_shows_the_box_and_nothing_else():
    x = torch.zeros(1, 1, 8, 8)
    x[..., :4, 4:] = 1
    draw = still(1, 2) | {"crop_size": torch.tensor([[0.5, 0.5]]), "crop_center": torch.tensor([[-0.5, 0.5]])}
    result = resample(x, affine_matrices((8, 8), **draw))
    assert result[..., 1:-1, 1:-1].eq(1).all()


@given(st.integers(0, 10_000), st.sampled_from([(5, 8), (7, 7), (4, 5, 5)]))
@settings(deadline=None, max_examples=30)
def test_resampling_stays_in_range(seed, spatial):
    x = images(2, 1, *spatial, seed=seed)
    result = resample(x, affine_matrices(spatial, **random_parameters(2, spatial, seed)))
    assert x.min() - 1e-6 <= result.min() <= result.max() <= x.max() + 1e-6


def test_float64_is_kept():
    x = images(2, 1, 6, 6).double()
    draw = random_parameters(2, (6, 6), seed=0)
    assert resample(x, affine_matrices((6, 6), **draw)).dtype == torch.float64


@pytest.mark.parametrize(
    ("shape", "count"), [((2, 3, 4, 4), 8), ((2, 3, 4, 5), 4), ((1, 1, 2, 3, 3), 16), ((1, 5, 5), 2)]
)
def test_all_orientations_are_different_and_each_holds_the_same_pixels(shape, count):
    x = torch.rand(shape)
    views = all_orientations(x)
    assert views.shape == (count, *shape)
    assert torch.equal(views[0], x)
    assert len({view.numpy().tobytes() for view in views}) == count
    for view in views:
        assert torch.equal(view.flatten(2).sort(-1).values, x.flatten(2).sort(-1).values)


def test_all_orientations_of_a_square_are_numpys_turns_and_flips():
    x = torch.rand(1, 1, 3, 3)
    expected = {np.rot90(y, k).tobytes() for y in (x[0, 0].numpy(), x[0, 0].numpy().T) for k in range(4)}
    assert {view[0, 0].numpy().tobytes() for view in all_orientations(x)} == expected
