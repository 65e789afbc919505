# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Jigsaw puzzles of channel-first images: dictionary versions, in which all keys share one permutation."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import InvertibleTransform, MapTransform
from torch import Tensor

from monai_fgssl.transforms.one_draw import OneDrawTransformd

from .array import JigsawPuzzle, RandJigsawPuzzle

__all__ = [
    "JigsawPuzzleD",
    "JigsawPuzzleDict",
    "JigsawPuzzled",
    "RandJigsawPuzzleD",
    "RandJigsawPuzzleDict",
    "RandJigsawPuzzled",
]


class InvertiblePuzzled(MapTransform, InvertibleTransform):
    """Base class of the dictionary versions, with the inverse for all keys."""

    transform: JigsawPuzzle | RandJigsawPuzzle

    def inverse(self, data: Mapping[Hashable, Tensor]) -> dict[Hashable, Tensor]:
        """Put the tiles of every key back."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform.inverse(d[key])
        return d


class JigsawPuzzled(InvertiblePuzzled):
    """Dictionary version of :class:`JigsawPuzzle`.

    Args:
        keys: entries to shuffle, each of shape (C, ``*spatial``); sizes may differ, since the grid cuts each of them.
        grid: number of tiles along every spatial axis, or one number per axis.
        permutation: order of the tiles, each of 0, ..., T - 1 once.
        remainder: ``"error"`` or ``"keep"``.
        allow_missing_keys: skip keys that the data lacks instead of raising.
    """

    backend = JigsawPuzzle.backend

    def __init__(
        self,
        keys: KeysCollection,
        grid: int | Sequence[int],
        permutation: Sequence[int] | np.ndarray | Tensor,
        remainder: str = "error",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.transform = JigsawPuzzle(grid, permutation, remainder)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Shuffle the tiles of every key."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key])
        return d


class RandJigsawPuzzled(OneDrawTransformd, InvertiblePuzzled):
    """Dictionary version of :class:`RandJigsawPuzzle`: one draw for all keys, so that image and mask stay together.

    Args:
        keys: entries to shuffle, each of shape (C, ``*spatial``); sizes may differ, since the grid cuts each of them.
        grid: number of tiles along every spatial axis, or one number per axis.
        prob: probability that the images are shuffled.
        permutation: ``"uniform"`` or ``"cyclic"``.
        remainder: ``"error"`` or ``"keep"``.
        allow_missing_keys: skip keys that the data lacks instead of raising.
    """

    backend = RandJigsawPuzzle.backend
    transform: RandJigsawPuzzle

    def __init__(
        self,
        keys: KeysCollection,
        grid: int | Sequence[int],
        prob: float = 1.0,
        permutation: str = "uniform",
        remainder: str = "error",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandJigsawPuzzle(grid, prob, permutation, remainder), allow_missing_keys)


JigsawPuzzleD = JigsawPuzzleDict = JigsawPuzzled
RandJigsawPuzzleD = RandJigsawPuzzleDict = RandJigsawPuzzled
