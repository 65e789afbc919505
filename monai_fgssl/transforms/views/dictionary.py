# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Random views: dictionary versions, in which all keys share one draw."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, ClassVar

from monai.config import KeysCollection

from monai_fgssl.functional.views import DISTORTED, REGULARIZED, ViewSettings
from monai_fgssl.transforms.one_draw import OneDrawTransformd

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
class RandViewd(OneDrawTransformd):
    """Dictionary version of :class:`RandView`: one draw for all keys, which are images of equal spatial shape.

    For two views of one image copy it first (``CopyItemsd``) and give each copy a transform of its own. Masks do not
    belong here: a view interpolates and changes values.

    Args:
        keys: entries to change, each of shape (C, *spatial).
        prob: probability that the images are changed.
        allow_missing_keys: skip keys that the data lacks instead of raising.
        strengths: strengths of the changes, as for :class:`RandView`.
    """

    backend = RandView.backend
    preset: ClassVar[ViewSettings] = RandView.preset

    def __init__(
        self, keys: KeysCollection, prob: float = 1.0, allow_missing_keys: bool = False, **strengths: Any
    ) -> None:
        super().__init__(keys, RandView(prob, **{**asdict(self.preset), **strengths}), allow_missing_keys)


@name_strengths
class RandRegularizedViewd(RandViewd):
    """Dictionary version of :class:`RandRegularizedView`, with the arguments of :class:`RandViewd`."""

    preset = REGULARIZED


@name_strengths
class RandDistortedViewd(RandViewd):
    """Dictionary version of :class:`RandDistortedView`, with the arguments of :class:`RandViewd`."""

    preset = DISTORTED


RandViewD = RandViewDict = RandViewd
RandRegularizedViewD = RandRegularizedViewDict = RandRegularizedViewd
RandDistortedViewD = RandDistortedViewDict = RandDistortedViewd
