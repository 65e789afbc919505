# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pure tensor operations, batch first, for any number of spatial axes and any device. They need only torch."""

from __future__ import annotations

from .correlation import cross_correlation, cross_correlation_loss
from .geometric import affine_matrices, all_orientations, orient, resample
from .mixture import Mixture, mixed_loss, mixup
from .ordinal import cumulative_logits
from .photometric import (
    adjust_brightness,
    adjust_color,
    adjust_contrast,
    adjust_saturation,
    gaussian_blur,
    grayscale,
    solarize,
)
from .puzzles import invert_permutations, jigsaw, random_permutations, shuffle_tiles
from .views import DISTORTED, REGULARIZED, ViewDraw, ViewSettings, apply_view, draw_view, random_view

__all__ = [
    "DISTORTED",
    "REGULARIZED",
    "Mixture",
    "ViewDraw",
    "ViewSettings",
    "adjust_brightness",
    "adjust_color",
    "adjust_contrast",
    "adjust_saturation",
    "affine_matrices",
    "all_orientations",
    "apply_view",
    "cross_correlation",
    "cross_correlation_loss",
    "cumulative_logits",
    "draw_view",
    "gaussian_blur",
    "grayscale",
    "invert_permutations",
    "jigsaw",
    "mixed_loss",
    "mixup",
    "orient",
    "random_permutations",
    "random_view",
    "resample",
    "shuffle_tiles",
    "solarize",
]
