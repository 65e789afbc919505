# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""MONAI transforms of one sample: an array version ``X`` and a dictionary version ``Xd`` of each."""

from __future__ import annotations

from .jigsaw import (
    JigsawPuzzle,
    JigsawPuzzleD,
    JigsawPuzzled,
    JigsawPuzzleDict,
    RandJigsawPuzzle,
    RandJigsawPuzzleD,
    RandJigsawPuzzled,
    RandJigsawPuzzleDict,
)
from .views import (
    RandDistortedView,
    RandDistortedViewD,
    RandDistortedViewd,
    RandDistortedViewDict,
    RandRegularizedView,
    RandRegularizedViewD,
    RandRegularizedViewd,
    RandRegularizedViewDict,
    RandView,
    RandViewD,
    RandViewd,
    RandViewDict,
)

__all__ = [
    "JigsawPuzzle",
    "JigsawPuzzleD",
    "JigsawPuzzleDict",
    "JigsawPuzzled",
    "RandDistortedView",
    "RandDistortedViewD",
    "RandDistortedViewDict",
    "RandDistortedViewd",
    "RandJigsawPuzzle",
    "RandJigsawPuzzleD",
    "RandJigsawPuzzleDict",
    "RandJigsawPuzzled",
    "RandRegularizedView",
    "RandRegularizedViewD",
    "RandRegularizedViewDict",
    "RandRegularizedViewd",
    "RandView",
    "RandViewD",
    "RandViewDict",
    "RandViewd",
]
