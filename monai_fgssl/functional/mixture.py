# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Mixtures of two images."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Mixture", "mixed_loss", "mixup"]


@dataclass(frozen=True)
class Mixture:
    """Record of how a batch was mixed.

    Attributes:
        partners: (B,) position of the second image of each.
        weight: share of the first image, in [0, 1].
    """

    partners: Tensor
    weight: float


def mixup(x: Tensor, alpha: float, generator: torch.Generator | None = None) -> tuple[Tensor, Mixture]:
    """Mix every image of a batch with another one: ``weight * x + (1 - weight) * x[partners]``.

    ``monai.transforms.MixUp`` draws from NumPy's random state, which a stopped training can't take up again, and a
    weight for each sample, for which a loss needs soft labels. Here the loss is mixed, so any loss will do.

    Args:
        x: (B, C, *spatial).
        alpha: the weight is drawn from Beta(alpha, alpha), one for the batch; 1: all weights are equally likely.
        generator: random generator on the CPU; None takes torch's global one.

    Returns:
        The mixed images, and how they were mixed.

    Raises:
        ValueError: when ``alpha`` is not positive.

    Source:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, fig. 1. https://arxiv.org/abs/1710.09412
    """
    if alpha <= 0:
        raise ValueError(f"alpha must be positive, got {alpha}.")
    # torch draws no Beta from a generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    weight = random.Random(seed).betavariate(alpha, alpha)
    partners = torch.randperm(len(x), generator=generator).to(x.device)
    return torch.lerp(x[partners], x, weight), Mixture(partners, weight)


def mixed_loss(
    loss_function: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor, mixture: Mixture | None
) -> Tensor:
    """Loss of the logits of mixed images: that of both labels, weighed as the images; None: nothing was mixed.

    Args:
        loss_function: function of logits ``(B, num_classes)`` and labels ``(B,)``that returns a scalar.
        logits: (B, num_classes).
        labels: (B,), of the images before they were mixed.
        mixture: result of :func:`mixup`.
    """
    first = loss_function(logits, labels)
    if mixture is None:
        return first
    return torch.lerp(loss_function(logits, labels[mixture.partners]), first, mixture.weight)
