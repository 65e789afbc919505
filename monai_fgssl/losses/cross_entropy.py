# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Cross entropy whose mean is over the batch of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from monai_fgssl.utils.distributed import num_processes, sum_over_processes

__all__ = ["GlobalCrossEntropyLoss"]


class GlobalCrossEntropyLoss(nn.CrossEntropyLoss):
    """Cross entropy that trains several processes as one with their global batch.

    A mean over each process's share is not that where the shares differ in size, or with class weights in the sum of
    the weights. Here each process returns its own part of the global mean, times the number of processes: the values,
    as the gradients are by :func:`~monai_fgssl.networks.distribute`, are to be averaged.

    Args:
        weight: weight of each class, ``(num_classes,)``.
    """

    def __init__(self, weight: Tensor | None = None) -> None:
        super().__init__(weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits ``(B, num_classes)`` and labels ``(B,)``."""
        total = cross_entropy(input, target, self.weight, reduction="sum")
        weights = torch.ones_like(target, dtype=total.dtype) if self.weight is None else self.weight[target]
        return total * num_processes() / sum_over_processes(weights.sum())
