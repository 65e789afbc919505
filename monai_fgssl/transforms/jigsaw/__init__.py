# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Jigsaw puzzles as invertible MONAI transforms."""

from __future__ import annotations

from .array import JigsawPuzzle, RandJigsawPuzzle
from .dictionary import (
    JigsawPuzzleD,
    JigsawPuzzled,
    JigsawPuzzleDict,
    RandJigsawPuzzleD,
    RandJigsawPuzzled,
    RandJigsawPuzzleDict,
)

__all__ = [
    "JigsawPuzzle",
    "JigsawPuzzleD",
    "JigsawPuzzleDict",
    "JigsawPuzzled",
    "RandJigsawPuzzle",
    "RandJigsawPuzzleD",
    "RandJigsawPuzzleDict",
    "RandJigsawPuzzled",
]
