# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Jigsaw puzzles against a loop over tiles in numpy, and by their properties."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from monai_fgssl.functional import invert_permutations, jigsaw, random_permutations, shuffle_tiles
from monai_fgssl.functional.puzzles import check_permutations, tile_grid

DTYPES = (
    *(torch.bool, torch.uint8, torch.uint16, torch.int16, torch.int64),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tile_slices(shape: tuple[int, ...], grid: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """Positions of the tiles, in row-major order."""
    sizes = [length // n for length, n in zip(shape, grid, strict=True)]
    return [
        tuple(slice(i * size, (i + 1) * size) for i, size in zip(place, sizes, strict=True))
        for place in itertools.product(*(range(n) for n in grid))
    ]


def loop_reference(images: np.ndarray, grid: tuple[int, ...], permutations: np.ndarray) -> np.ndarray:
    """Tile by tile; what no tile covers stays."""
    result = images.copy()
    places = tile_slices(images.shape[2:], grid)
    for sample, order in enumerate(permutations):
        for target, source in enumerate(order):
            result[(sample, slice(None), *places[target])] = images[(sample, slice(None), *places[source])]
    return result


def distinct_images(*shape: int) -> torch.Tensor:
    """No two elements are equal, so nothing can move unseen."""
    return torch.arange(math.prod(shape)).reshape(shape)


def cycle_lengths(permutation: list[int]) -> list[int]:
    left, lengths = set(range(len(permutation))), []
    while left:
        start = position = left.pop()
        length = 1
        while (position := permutation[position]) != start:
            left.remove(position)
            length += 1
        lengths.append(length)
    return lengths


@st.composite
def puzzles(draw: st.DrawFn) -> tuple[torch.Tensor, tuple[int, ...], torch.Tensor]:
    """Images with 1 to 4 spatial axes that their grid may or may not divide, and permutations."""
    num_axes = draw(st.integers(1, 4))
    grid = tuple(draw(st.integers(1, 4)) for _ in range(num_axes))
    spatial = [n * draw(st.integers(1, 3)) + draw(st.integers(0, n - 1)) for n in grid]
    batch, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    permutations = random_permutations(batch, math.prod(grid), generator=seeded(draw(st.integers(0, 2**31))))
    return distinct_images(batch, channels, *spatial), grid, permutations


class TestShuffleTiles:
    @given(puzzles())
    @settings(deadline=None, max_examples=60)
    def test_equals_the_loop_over_tiles(self, puzzle: tuple[torch.Tensor, tuple[int, ...], torch.Tensor]) -> None:
        images, grid, permutations = puzzle
        result = shuffle_tiles(images, grid, permutations, remainder="keep")
        np.testing.assert_array_equal(result.numpy(), loop_reference(images.numpy(), grid, permutations.numpy()))

    @given(puzzles())
    @settings(deadline=None, max_examples=60)
    def test_the_inverse_permutation_restores_the_images(
        self, puzzle: tuple[torch.Tensor, tuple[int, ...], torch.Tensor]
    ) -> None:
        images, grid, permutations = puzzle
        shuffled = shuffle_tiles(images, grid, permutations, remainder="keep")
        assert torch.equal(shuffle_tiles(shuffled, grid, invert_permutations(permutations), remainder="keep"), images)

    @given(puzzles(), st.integers(0, 2**31))
    @settings(deadline=None, max_examples=30)
    def test_the_multiset_of_tiles_stays(
        self, puzzle: tuple[torch.Tensor, tuple[int, ...], torch.Tensor], seed: int
    ) -> None:
        images, grid, _ = puzzle
        result = jigsaw(images, grid, remainder="keep", generator=seeded(seed))
        for before, after in zip(images.numpy(), result.numpy(), strict=True):
            tiles = [
                sorted(image[(slice(None), *place)].tobytes() for place in tile_slices(image.shape[1:], grid))
                for image in (before, after)
            ]
            assert tiles[0] == tiles[1]

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_every_type_comes_back_bit_for_bit(self, dtype: torch.dtype) -> None:
        # Random bits, NaN payloads and negative zeros among them; a bool byte holds 0 or 1 alone.
        high = 2 if dtype == torch.bool else 256
        width = 6 * dtype.itemsize
        raw = torch.randint(0, high, (3, 2, 6, width), generator=seeded(), dtype=torch.uint8)
        permutations = random_permutations(3, 9, generator=seeded(1))
        result = shuffle_tiles(raw.view(dtype), 3, permutations)
        assert result.dtype == dtype
        expected = loop_reference(raw.numpy(), (3, 3), permutations.numpy())
        np.testing.assert_array_equal(result.view(torch.uint8).numpy(), expected)

    @pytest.mark.parametrize("layout", ["channels_last", "transposed", "sliced"])
    def test_any_memory_layout(self, layout: str) -> None:
        images = distinct_images(2, 3, 8, 12)
        same = {
            "channels_last": images.contiguous(memory_format=torch.channels_last),
            "transposed": images.transpose(2, 3).contiguous().transpose(2, 3),
            "sliced": torch.cat([images, images], dim=1)[:, :3],
        }[layout]
        assert not same.is_contiguous()
        permutations = random_permutations(2, 16, generator=seeded())
        assert torch.equal(shuffle_tiles(same, 4, permutations), shuffle_tiles(images, 4, permutations))

    def test_the_remainder_stays_and_the_rest_moves(self) -> None:
        images = distinct_images(2, 1, 9, 11)
        result = shuffle_tiles(images, (4, 5), random_permutations(2, 20, generator=seeded()), remainder="keep")
        assert torch.equal(result[..., 8:, :], images[..., 8:, :])
        assert torch.equal(result[..., 10:], images[..., 10:])
        assert (result[..., :8, :10] != images[..., :8, :10]).any(dim=(1, 2, 3)).all()

    def test_the_input_is_left_alone(self) -> None:
        images = distinct_images(2, 1, 9, 9)
        before = images.clone()
        jigsaw(images, 3)
        jigsaw(images, 4, remainder="keep")
        assert torch.equal(images, before)

    def test_gradients_go_back_to_where_the_tiles_came_from(self) -> None:
        images = torch.rand(2, 3, 9, 9, generator=seeded()).requires_grad_()
        weights = torch.rand(2, 3, 9, 9, generator=seeded(1))
        permutations = random_permutations(2, 16, generator=seeded(2))
        (shuffle_tiles(images, 4, permutations, remainder="keep") * weights).sum().backward()
        expected = shuffle_tiles(weights, 4, invert_permutations(permutations), remainder="keep")
        assert torch.equal(images.grad, expected)

    def test_everything_happens_on_the_device_of_the_images(self) -> None:
        # An operation that mixed the meta device with another would raise.
        assert jigsaw(torch.empty(4, 3, 32, 32, device="meta"), 8).device.type == "meta"

    def test_an_empty_batch(self) -> None:
        assert jigsaw(torch.empty(0, 3, 8, 8), 4).shape == (0, 3, 8, 8)


class TestOut:
    @pytest.mark.parametrize("grid", [4, 5])
    def test_is_written_and_returned(self, grid: int) -> None:
        images = distinct_images(2, 3, 8, 8)
        out = torch.zeros_like(images)
        result = jigsaw(images, grid, remainder="keep", generator=seeded(), out=out)
        assert result.data_ptr() == out.data_ptr()
        assert torch.equal(out, jigsaw(images, grid, remainder="keep", generator=seeded()))

    @pytest.mark.parametrize(
        "out",
        [
            torch.empty(2, 3, 8, 4),
            torch.empty(2, 3, 8, 8, dtype=torch.float64),
            torch.empty(2, 3, 8, 8).to(memory_format=torch.channels_last),
        ],
        ids=["shape", "type", "layout"],
    )
    def test_that_does_not_fit_is_refused(self, out: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"out must be contiguous, of the images' shape \(2, 3, 8, 8\)"):
            jigsaw(torch.rand(2, 3, 8, 8), 2, out=out)

    def test_that_is_the_input_is_refused(self) -> None:
        images = torch.rand(2, 3, 8, 8)
        with pytest.raises(RuntimeError, match="memory"):
            jigsaw(images, 2, out=images)


class TestRandomPermutations:
    def test_every_tile_is_equally_often_everywhere(self) -> None:
        num_draws, num_tiles = 20_000, 9
        draws = random_permutations(num_draws, num_tiles, generator=seeded())
        counts = torch.stack([draws.eq(tile).sum(dim=0) for tile in range(num_tiles)]).double().numpy()
        expected = num_draws / num_tiles
        statistic = ((counts - expected) ** 2 / expected).sum()
        assert stats.chi2.sf(statistic, df=(num_tiles - 1) ** 2) > 0.01

    @pytest.mark.parametrize(("kind", "num_possible"), [("uniform", 24), ("cyclic", 6)])
    def test_every_possible_permutation_is_equally_likely(self, kind: str, num_possible: int) -> None:
        draws = random_permutations(12_000, 4, kind, generator=seeded())
        distinct, counts = draws.unique(dim=0, return_counts=True)
        assert len(distinct) == num_possible
        assert stats.chisquare(counts.numpy()).pvalue > 0.01

    @pytest.mark.parametrize("num_tiles", [1, 2, 3, 64, 1024])
    @pytest.mark.parametrize("kind", ["uniform", "cyclic"])
    def test_rows_are_permutations(self, kind: str, num_tiles: int) -> None:
        draws = random_permutations(8, num_tiles, kind, generator=seeded())
        assert draws.dtype == torch.int64
        assert all(sorted(row) == list(range(num_tiles)) for row in draws.tolist())

    @pytest.mark.parametrize("num_tiles", [1, 2, 5, 16, 100])
    def test_cyclic_has_one_cycle(self, num_tiles: int) -> None:
        for row in random_permutations(20, num_tiles, "cyclic", generator=seeded()).tolist():
            assert cycle_lengths(row) == [num_tiles]

    def test_cyclic_draws_what_the_swaps_of_pmg_draw(self) -> None:
        def swaps(order: tuple[int, ...]) -> tuple[int, ...]:
            tiles = list(range(4))
            for tile in order:
                tiles[0], tiles[tile] = tiles[tile], tiles[0]
            return tuple(tiles)

        drawn = {tuple(row) for row in random_permutations(500, 4, "cyclic", generator=seeded()).tolist()}
        assert drawn == {swaps(order) for order in itertools.permutations(range(4))}

    def test_uniform_leaves_one_tile_in_place_on_average(self) -> None:
        draws = random_permutations(20_000, 16, generator=seeded())
        fixed = draws.eq(torch.arange(16)).sum(dim=1).double()
        assert fixed.mean().item() == pytest.approx(1, abs=4 / math.sqrt(20_000))

    def test_seeds(self) -> None:
        images = distinct_images(4, 1, 16, 16)
        first, again, other = (jigsaw(images, 4, generator=seeded(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_without_generator_torch_s_own_seed_counts(self) -> None:
        state = torch.get_rng_state()
        try:
            torch.manual_seed(3)
            first = random_permutations(4, 16)
            torch.manual_seed(3)
            assert torch.equal(random_permutations(4, 16), first)
        finally:
            torch.set_rng_state(state)

    def test_a_generator_leaves_the_global_state_alone(self) -> None:
        state = torch.get_rng_state()
        random_permutations(4, 16, "cyclic", seeded())
        assert torch.equal(torch.get_rng_state(), state)

    def test_every_sample_has_its_own_permutation(self) -> None:
        image = distinct_images(1, 1, 16, 16)
        puzzles = jigsaw(image.expand(6, -1, -1, -1), 4, generator=seeded())
        assert len(puzzles.unique(dim=0)) == 6


class TestInvertPermutations:
    def test_equals_argsort(self) -> None:
        permutations = random_permutations(5, 30, generator=seeded())
        np.testing.assert_array_equal(invert_permutations(permutations), np.argsort(permutations.numpy(), axis=1))


class TestErrors:
    @pytest.mark.parametrize(
        ("shape", "grid", "remainder", "message"),
        [
            ((8, 8), 0, "error", "positive integer or one per spatial axis, got 0"),
            ((8, 8), -2, "error", "got -2"),
            ((8, 8), 2.0, "error", r"got 2\.0"),
            ((8, 8), "2", "error", "got '2'"),
            ((8, 8), (2, 0), "error", r"got \(2, 0\)"),
            ((8, 8), (2, 2, 2), "error", r"grid \(2, 2, 2\) has 3 entries but the image has 2 spatial axes \(8, 8\)"),
            ((8, 8), (), "error", "has 0 entries"),
            ((8, 8), 16, "keep", r"grid \(16, 16\) is larger than the spatial shape \(8, 8\)"),
            ((8, 9), 2, "error", r"grid \(2, 2\) does not divide the spatial shape \(8, 9\).*remainder='keep'"),
            ((8, 8), 2, "drop", r"remainder must be one of \('error', 'keep'\), got 'drop'"),
            ((), 2, "error", "at least one spatial axis"),
        ],
    )
    def test_grid(self, shape: tuple[int, ...], grid: object, remainder: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            tile_grid(shape, grid, remainder)
        with pytest.raises(ValueError, match=message):
            jigsaw(torch.zeros(2, 3, *shape), grid, remainder=remainder)

    def test_kind(self) -> None:
        with pytest.raises(ValueError, match=r"one of \('uniform', 'cyclic'\), got 'pmg'"):
            jigsaw(torch.zeros(2, 3, 8, 8), 2, kind="pmg")

    @pytest.mark.parametrize("shape", [(2, 9), (3, 4), (4,)])
    def test_number_of_permutations_or_tiles(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match=r"2 images cut by the grid \(2, 2\) need \(2, 4\)"):
            shuffle_tiles(torch.zeros(2, 3, 8, 8), 2, torch.zeros(shape, dtype=torch.int64))

    @pytest.mark.parametrize("row", [[0, 1, 2, 2], [1, 2, 3, 4], [-1, 0, 1, 2]])
    def test_rows_that_are_no_permutation(self, row: list[int]) -> None:
        message = r"every number from 0 to 3 once, but row 1 is \[" + ", ".join(map(str, row))
        with pytest.raises(ValueError, match=message):
            shuffle_tiles(torch.zeros(2, 3, 8, 8), 2, torch.tensor([[0, 1, 2, 3], row]))

    @pytest.mark.parametrize("permutations", [torch.zeros(1, 1), torch.zeros(1, dtype=torch.int64)])
    def test_permutations_of_another_kind(self, permutations: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"integers of shape \(batch, tiles\), got torch\."):
            check_permutations(permutations)


def test_loop_of_pmg_and_of_this_file_agree() -> None:
    """Swapping each tile with the first, on the images themselves, is the cyclic shuffle that the swaps compose."""
    images = distinct_images(1, 2, 6, 6)
    places = tile_slices((6, 6), (3, 3))
    order = random.Random(0).sample(range(9), 9)
    tiles, swapped = list(range(9)), images.clone()
    for tile in order:
        tiles[0], tiles[tile] = tiles[tile], tiles[0]
        first, other = (0, slice(None), *places[0]), (0, slice(None), *places[tile])
        swapped[first], swapped[other] = swapped[other].clone(), swapped[first].clone()
    assert cycle_lengths(tiles) == [9]
    assert torch.equal(shuffle_tiles(images, 3, torch.tensor([tiles])), swapped)
