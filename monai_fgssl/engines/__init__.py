# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Ignite workflows on MONAI's engine classes."""

from __future__ import annotations

from .evaluator import HierarchicalEvaluator
from .heads import solve_heads
from .pretrainer import PreTrainer
from .trainer import ProgressiveTrainer

__all__ = ["HierarchicalEvaluator", "PreTrainer", "ProgressiveTrainer", "solve_heads"]
