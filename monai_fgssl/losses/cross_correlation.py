# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Cross-correlation loss as a module."""

from __future__ import annotations

from torch import Tensor, nn

from monai_fgssl.functional import cross_correlation, cross_correlation_loss

__all__ = ["CrossCorrelationLoss"]


class CrossCorrelationLoss(nn.Module):
    """Distance of the cross-correlation of two views' features from the identity (Barlow Twins, eq. 1 and 2).

    Unlike ``monai.losses.BarlowTwinsLoss``, this loss standardizes with the biased variance, so identical views give a
    diagonal of exactly 1. With several processes, it is the loss of the global batch, with its gradient.

    Args:
        redundancy_weight: lambda of eq. 1, the weight of the off-diagonal terms.
        eps: smallest variance that a column is divided by, see :func:`~monai_fgssl.functional.cross_correlation`.

    Raises:
        ValueError: when ``redundancy_weight`` is negative or ``eps`` is not positive.

    Example:
        >>> import torch
        >>> features = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> CrossCorrelationLoss()(features, features).item()
        0.0
    """

    def __init__(self, redundancy_weight: float = 5e-3, eps: float = 1e-5) -> None:
        super().__init__()
        if redundancy_weight < 0:
            raise ValueError(f"redundancy_weight must be at least 0, got {redundancy_weight}.")
        if eps <= 0:
            raise ValueError(f"eps must be positive, got {eps}.")
        self.redundancy_weight = redundancy_weight
        self.eps = eps

    def forward(self, features_a: Tensor, features_b: Tensor) -> Tensor:
        """Compute the loss of two feature matrices ``(B, D)``: a scalar, float32 at least."""
        return cross_correlation_loss(cross_correlation(features_a, features_b, self.eps), self.redundancy_weight)
