# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Jigsaw puzzles of one channel-first image: array versions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import InvertibleTransform, RandomizableTransform
from monai.utils import MAX_SEED, TraceKeys, TransformBackends, convert_to_dst_type, convert_to_tensor, look_up_option
from torch import Tensor

from monai_fgssl.functional.puzzles import (
    PERMUTATION_KINDS,
    REMAINDERS,
    check_permutations,
    invert_permutations,
    random_permutations,
    shuffle_tiles,
    tile_grid,
)

__all__ = ["JigsawPuzzle", "RandJigsawPuzzle"]


class _Puzzle(InvertibleTransform):
    """Base class of both puzzles: shuffles one image, records the permutation, and undoes it."""

    backend = [TransformBackends.TORCH]  # noqa: RUF012 (MONAI's form)

    def __init__(self, grid: int | Sequence[int], remainder: str) -> None:
        self.grid = grid
        self.remainder = look_up_option(remainder, REMAINDERS)

    def inverse(self, data: Tensor) -> Tensor:
        """Put every tile back, bit-exact, whatever device and type ``data`` has by now.

        Args:
            data: image or network output of shape (C, ``*spatial``) that carries the trace of this transform.

        Returns:
            Image with its tiles in order and without the trace.
        """
        trace = self.pop_transform(data)
        if not trace[TraceKeys.DO_TRANSFORM]:
            return data
        permutation = torch.as_tensor(trace[TraceKeys.EXTRA_INFO]["permutation"])
        return self._shuffle(data, invert_permutations(permutation[None])[0])

    def _shuffle(self, img: Tensor, permutation: Tensor) -> Tensor:
        tiles = convert_to_tensor(img, track_meta=False)
        shuffled = shuffle_tiles(tiles[None], self.grid, permutation[None], self.remainder)[0]
        return convert_to_dst_type(shuffled, dst=img)[0]

    def _shuffle_and_trace(self, img: Tensor, permutation: Tensor) -> Tensor:
        result = self._shuffle(img, permutation)
        self.push_transform(result, extra_info={"permutation": permutation})
        return result


def _as_monai_tensor(img: NdarrayOrTensor) -> Tensor:
    # MONAI's own conversion would widen uint16, although torch supports this type.
    tensor = img if isinstance(img, Tensor) else torch.as_tensor(np.ascontiguousarray(img))
    return convert_to_tensor(tensor, track_meta=get_track_meta())


class JigsawPuzzle(_Puzzle):
    """Cut an image into equal tiles and put them into a given order.

    Tile t of the output is tile ``permutation[t]`` of the input, counted in row-major order. The permutation is traced
    in ``applied_operations``, and inverting is bit-exact. As with every spatial transform of MONAI, the result is a
    ``MetaTensor`` while metadata is tracked. It has the dtype and the device of the input.

    Args:
        grid: number of tiles along every spatial axis, or one number per axis.
        permutation: order of the tiles, each of 0, ..., T - 1 once.
        remainder: ``"error"`` refuses a grid that does not divide the image; ``"keep"`` leaves the trailing border in
            place.

    Raises:
        ValueError: when ``permutation`` is not a permutation, and on a call when the grid doesn't fit the image.

    Example:
        >>> JigsawPuzzle(grid=(1, 3), permutation=(2, 0, 1))(torch.tensor([[[0, 1, 2]]])).tolist()
        [[[2, 0, 1]]]
    """

    def __init__(
        self,
        grid: int | Sequence[int],
        permutation: Sequence[int] | np.ndarray | Tensor,
        remainder: str = "error",
    ) -> None:
        super().__init__(grid, remainder)
        self.permutation = torch.as_tensor(permutation)
        check_permutations(self.permutation[None])

    def __call__(self, img: NdarrayOrTensor) -> Tensor:
        """Shuffle the tiles of ``img``, of shape (C, ``*spatial``) with one or more spatial axes."""
        return self._shuffle_and_trace(_as_monai_tensor(img), self.permutation)


class RandJigsawPuzzle(RandomizableTransform, _Puzzle):
    """Cut an image into equal tiles and put them into a random order, with probability ``prob``.

    The result is of the same kind as that of :class:`JigsawPuzzle`. To shuffle a whole batch on its device, use
    :func:`monai_fgssl.functional.jigsaw`.

    Args:
        grid: number of tiles along every spatial axis, or one number per axis.
        prob: probability that an image is shuffled.
        permutation: ``"uniform"`` draws every permutation with the same probability; ``"cyclic"`` draws one that is a
            single cycle, as the code of PMG and FG-SSL does.
        remainder: ``"error"`` refuses a grid that does not divide the image; ``"keep"`` leaves the trailing border in
            place.

    Raises:
        ValueError: for an unknown option, and on a call when the grid doesn't fit the image.
    """

    def __init__(
        self,
        grid: int | Sequence[int],
        prob: float = 1.0,
        permutation: str = "uniform",
        remainder: str = "error",
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        _Puzzle.__init__(self, grid, remainder)
        self.kind = look_up_option(permutation, PERMUTATION_KINDS)

    def randomize(self, data: NdarrayOrTensor) -> None:
        """Draw whether and in which order to shuffle ``data``, of shape (C, ``*spatial``)."""
        num_tiles = math.prod(tile_grid(data.shape[1:], self.grid, self.remainder))
        super().randomize(None)
        if self._do_transform:
            generator = torch.Generator().manual_seed(int(self.R.randint(MAX_SEED, dtype="uint32")))
            self._permutation = random_permutations(1, num_tiles, self.kind, generator)[0]

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> Tensor:
        """Shuffle the tiles of ``img``.

        Args:
            img: image of shape (C, ``*spatial``) with one or more spatial axes.
            randomize: True for a new draw; False repeats the last draw.

        Returns:
            Image with shuffled tiles, or unchanged.
        """
        if randomize:
            self.randomize(img)
        tensor = _as_monai_tensor(img)
        if self._do_transform:
            return self._shuffle_and_trace(tensor, self._permutation)
        self.push_transform(tensor)
        return tensor
