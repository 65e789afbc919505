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
        partners: position in the batch of each mixture's second image, (B,).
        weight: share of the first image, in [0, 1].
    """

    partners: Tensor
    weight: float


def mixup(x: Tensor, alpha: float, generator: torch.Generator | None = None) -> tuple[Tensor, Mixture]:
    """Mix every image of a batch with another one: ``weight * x + (1 - weight) * x[partners]``.

    ``monai.transforms.MixUp`` draws from NumPy's random state, which a resumed training can't restore. It also draws a
    weight for each sample, so the loss must accept soft labels. Here the loss itself is mixed, so any loss works.

    Args:
        x: images, (B, C, *spatial).
        alpha: parameter of the distribution Beta(alpha, alpha), from which one weight is drawn for the whole batch; 1:
            all weights are equally likely.
        generator: random generator on the CPU; None takes torch's global one.

    Returns:
        Mixed images, and the record of how they were mixed.

    Raises:
        ValueError: when ``alpha`` is not positive.

    Source:
        Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018, fig. 1. https://arxiv.org/abs/1710.09412
    """
    if alpha <= 0:
        raise ValueError(f"alpha must be positive, got {alpha}.")
    # torch can't draw from a Beta distribution with a generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    weight = random.Random(seed).betavariate(alpha, alpha)
    partners = torch.randperm(len(x), generator=generator).to(x.device)
    return torch.lerp(x[partners], x, weight), Mixture(partners, weight)


def mixed_loss(
    loss_function: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor, mixture: Mixture | None
) -> Tensor:
    """Compute the losses of mixed images for both labels, and average them with the weights of the mixture.

    Args:
        loss_function: function of logits ``(B, num_classes)`` and labels ``(B,)`` that returns a scalar.
        logits: logits of the mixed images, (B, num_classes).
        labels: labels of the images before they were mixed, (B,).
        mixture: result of :func:`mixup`; None: the images were not mixed.
    """
    first = loss_function(logits, labels)
    if mixture is None:
        return first
    return torch.lerp(loss_function(logits, labels[mixture.partners]), first, mixture.weight)
