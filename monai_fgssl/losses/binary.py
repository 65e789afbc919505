# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Loss of images with several findings, averaged over the batch of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from monai_fgssl.utils.distributed import num_processes, sum_over_processes

__all__ = ["MaskedBinaryCrossEntropyLoss"]


class MaskedBinaryCrossEntropyLoss(nn.Module):
    """Mean binary cross entropy over all findings of all images that are known.

    With several processes, the average of the values over the processes is the loss of the global batch, as in
    :class:`~monai_fgssl.losses.GlobalCrossEntropyLoss`.

    Args:
        weight: weight of an image that has the finding, for each finding, ``(num_classes,)``; an image without it has
            weight 1. None: all are 1.
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits and labels, both ``(B, num_classes)``; labels are 1, 0 or -1 (not known)."""
        known = target >= 0
        logits = input if input.dtype == torch.float64 else input.float()
        truth = target.clamp_min(0).to(logits.dtype)
        losses = binary_cross_entropy_with_logits(logits, truth, reduction="none", pos_weight=self.weight)
        count = sum_over_processes(known.sum().to(logits.dtype)).clamp_min(1)
        return (losses * known).sum() * num_processes() / count
