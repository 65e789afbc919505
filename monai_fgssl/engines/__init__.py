# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Ignite workflows on MONAI's engine classes."""

from __future__ import annotations

from .embedding import Embeddings, embed_files, embed_images
from .evaluator import HierarchicalEvaluator
from .frozen import probe_frozen
from .heads import solve_heads, solve_pooled
from .pretrainer import PreTrainer
from .trainer import ProgressiveTrainer

__all__ = [
    "Embeddings",
    "HierarchicalEvaluator",
    "PreTrainer",
    "ProgressiveTrainer",
    "embed_files",
    "embed_images",
    "probe_frozen",
    "solve_heads",
    "solve_pooled",
]
