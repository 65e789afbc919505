# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Cross entropy, averaged over the batch of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from monai_fgssl.utils.distributed import num_processes, sum_over_processes

__all__ = ["GlobalCrossEntropyLoss"]


class GlobalCrossEntropyLoss(nn.CrossEntropyLoss):
    """Cross entropy with which several processes train like one process with the global batch.

    Each process holds a part of the global batch. The average of the parts' means is not the global mean if the parts
    differ in size, or, with class weights, in the sum of the weights. Here each process returns its share of the global
    mean, times the number of processes. The average of these values over the processes is the global loss.
    :func:`~monai_fgssl.networks.distribute` averages the gradients in the same way.

    Args:
        weight: weight of each class, ``(num_classes,)``.
    """

    def __init__(self, weight: Tensor | None = None) -> None:
        super().__init__(weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits ``(B, num_classes)`` and labels ``(B,)``."""
        total = cross_entropy(input, target, self.weight, reduction="sum")
        weights = torch.ones_like(target, dtype=total.dtype) if self.weight is None else self.weight[target]
        return total * num_processes() / sum_over_processes(weights.sum())
