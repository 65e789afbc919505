# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Loss of ordered classes, averaged over the batch of all processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from monai_fgssl.functional import cumulative_logits
from monai_fgssl.utils.distributed import num_processes, sum_over_processes

__all__ = ["CumulativeCrossEntropyLoss"]


class CumulativeCrossEntropyLoss(nn.Module):
    """Mean binary cross entropy of the questions "is the class above k?", for each k but the last.

    A prediction that is wrong by two classes answers two of these questions wrongly, so it costs more than one that is
    wrong by one. The questions are asked of the softmax of the logits: the network is that of unordered classes, and
    its answers never contradict each other. The loss is a proper score, lowest in expectation for the true
    probabilities of the classes. For two classes it is the cross entropy.

    With several processes, the average of the values over the processes is the loss of the global batch, as in
    :class:`~monai_fgssl.losses.GlobalCrossEntropyLoss`.

    Args:
        weight: weight of each class, ``(num_classes,)``; None: all are 1.

    Source:
        Tödter & Ahrens, "Generalization of the Ignorance Score: Continuous Ranked Version and Its Decomposition",
        Monthly Weather Review 2012 (ranked ignorance score): https://doi.org/10.1175/MWR-D-11-00266.1
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits ``(B, num_classes)`` and labels ``(B,)``, integers from 0."""
        answers = cumulative_logits(input)
        truth = target[:, None] > torch.arange(answers.shape[1], device=target.device)
        of_image = binary_cross_entropy_with_logits(answers, truth.to(answers.dtype), reduction="none").mean(1)
        weights = torch.ones_like(of_image) if self.weight is None else self.weight[target].to(of_image.dtype)
        return (weights * of_image).sum() * num_processes() / sum_over_processes(weights.sum())
