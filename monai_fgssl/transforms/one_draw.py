# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Base of the random dictionary transforms, in which all keys share one draw."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Protocol, TypeVar

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable

__all__ = ["OneDrawTransformd"]

Self = TypeVar("Self", bound="OneDrawTransformd")


class RandArrayTransform(Protocol):
    """Random transform of one array, which can repeat its last draw."""

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> Any:
        """Set the random state of the transform."""

    def randomize(self, data: Any) -> None:
        """Draw for images of the shape of ``data``."""

    def __call__(self, image: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Change an image."""


class OneDrawTransformd(Randomizable, MapTransform):
    """Apply a random array transform to several entries of a dictionary, with one draw for all entries.

    Args:
        keys: entries to change, each of shape (C, ``*spatial``).
        transform: transform of one array.
        allow_missing_keys: skip keys that the data lacks instead of raising.
    """

    def __init__(self, keys: KeysCollection, transform: RandArrayTransform, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = transform

    def set_random_state(self: Self, seed: int | None = None, state: np.random.RandomState | None = None) -> Self:
        """Set the random state that the array transform draws from."""
        self.transform.set_random_state(seed, state)
        return self

    def randomize(self, data: NdarrayOrTensor) -> None:
        """Draw for images of the shape of ``data``, (C, ``*spatial``)."""
        self.transform.randomize(data)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Draw once, and change the entry of every key."""
        d = dict(data)
        first_key = self.first_key(d)
        if first_key == ():
            return d
        self.randomize(d[first_key])
        for key in self.key_iterator(d):
            d[key] = self.transform(d[key], randomize=False)
        return d
