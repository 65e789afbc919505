# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Random views: dictionary versions, in which all keys share one draw."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Randomizable

from monai_fgssl.functional.views import DISTORTED, REGULARIZED, ViewSettings

from .array import RandView, name_strengths

__all__ = [
    "RandDistortedViewD",
    "RandDistortedViewDict",
    "RandDistortedViewd",
    "RandRegularizedViewD",
    "RandRegularizedViewDict",
    "RandRegularizedViewd",
    "RandViewD",
    "RandViewDict",
    "RandViewd",
]


@name_strengths
class RandViewd(Randomizable, MapTransform):
    """Dictionary version of :class:`RandView`: one draw for all keys, which are images of equal spatial shape.

    For two views of one image copy it first (``CopyItemsd``) and give each copy a transform of its own. Masks do not
    belong here: a view interpolates and changes values.

    Args:
        keys: entries to change, each of shape (C, *spatial).
        prob: probability that the images are changed at all.
        allow_missing_keys: skip keys that the data lacks instead of raising.
        strengths: as for :class:`RandView`.
    """

    backend = RandView.backend
    preset: ClassVar[ViewSettings] = RandView.preset

    def __init__(
        self, keys: KeysCollection, prob: float = 1.0, allow_missing_keys: bool = False, **strengths: Any
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.view = RandView(prob, **{**asdict(self.preset), **strengths})

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandViewd:
        """Set the random state that the view draws from."""
        self.view.set_random_state(seed, state)
        return self

    def randomize(self, data: NdarrayOrTensor) -> None:
        """Draw whether and how to change images of the spatial shape of ``data``, (C, *spatial)."""
        self.view.randomize(data)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Replace the image of every key by its view."""
        d = dict(data)
        first_key = self.first_key(d)
        if first_key == ():
            return d
        self.randomize(d[first_key])
        for key in self.key_iterator(d):
            d[key] = self.view(d[key], randomize=False)
        return d


@name_strengths
class RandRegularizedViewd(RandViewd):
    """Dictionary version of :class:`RandRegularizedView`; arguments as those of :class:`RandViewd`."""

    preset = REGULARIZED


@name_strengths
class RandDistortedViewd(RandViewd):
    """Dictionary version of :class:`RandDistortedView`; arguments as those of :class:`RandViewd`."""

    preset = DISTORTED


RandViewD = RandViewDict = RandViewd
RandRegularizedViewD = RandRegularizedViewDict = RandRegularizedViewd
RandDistortedViewD = RandDistortedViewDict = RandDistortedViewd
