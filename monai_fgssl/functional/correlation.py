# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Cross-correlation of two batches of feature vectors, over one process or all processes of a group."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from monai_fgssl.utils.distributed import global_moments, num_processes, sum_over_processes

__all__ = ["cross_correlation", "cross_correlation_loss"]


class _CrossCorrelation(torch.autograd.Function):
    """Cross-correlation matrix of two views over all processes. The backward exchanges nothing between processes.

    With ``Z = (F - mean) * scale``, ``C = Z_a^T Z_b / N`` and ``G = dL/dC``, the gradient of one row of ``F_a`` is
    ``scale_a / N * (z_b G^T - z_a * rowsum(G * C))``. The mean adds nothing, because the columns of ``Z_b`` sum to
    zero. The variance adds a sum over the whole batch, and ``C`` already contains this sum. Every process has all of
    these values, as long as each process computes the same loss from the same matrix.
    """

    @staticmethod
    def forward(ctx: Any, features_a: Tensor, features_b: Tensor, eps: float) -> Tensor:
        features = torch.cat([features_a, features_b], dim=1)
        mean, variance, num_samples = global_moments(features, [0])
        scale = variance.clamp_min(eps).rsqrt()
        standardized_a, standardized_b = ((features - mean) * scale).chunk(2, dim=1)
        correlation = sum_over_processes(standardized_a.T @ standardized_b) / num_samples
        # Below eps the scale is a constant.
        varies = variance >= eps
        ctx.save_for_backward(standardized_a, standardized_b, correlation, scale, varies, num_samples)
        return correlation

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        standardized_a, standardized_b, correlation, scale, varies, num_samples = ctx.saved_tensors
        (grad,) = grads
        with torch.autocast(grad.device.type, enabled=False):
            weighted = grad * correlation
            (scale_a, scale_b), (varies_a, varies_b) = scale.chunk(2), varies.chunk(2)
            grad_a = standardized_b @ grad.T - standardized_a * (varies_a * weighted.sum(1))
            grad_b = standardized_a @ grad - standardized_b * (varies_b * weighted.sum(0))
            # The gradient of a weight is a sum over the processes, but `distribute` averages it: hence the number of
            # processes.
            factor = num_processes() / num_samples
            return factor * scale_a * grad_a, factor * scale_b * grad_b, None


def cross_correlation(features_a: Tensor, features_b: Tensor, eps: float = 1e-5) -> Tensor:
    """Cross-correlation matrix of two views' feature vectors (Barlow Twins, eq. 2).

    Every column of each view is standardized with its own mean and biased variance over the whole batch. When
    ``torch.distributed`` is initialized, the batch consists of the samples of all processes. The processes may hold
    different numbers of samples. The gradients are those of the global loss times the number of processes, since
    :func:`~monai_fgssl.networks.distribute` averages them. Every process must compute the same loss from the matrix.
    The forward exchanges the matrix, ``4 D`` sums and one number. The backward exchanges nothing.

    Args:
        features_a: feature vectors of the first view, ``(B, D)``, any floating dtype (computed in float32 at least).
        features_b: feature vectors of the second view, ``(B, D)``; each row belongs to the same image as in
            ``features_a``.
        eps: smallest variance; a smaller variance is replaced by ``eps``, so that a constant column gives zeros and a
            finite gradient. Columns of a larger variance follow the formula exactly.

    Returns:
        Matrix ``(D, D)`` with entries in [-1, 1], float32 (float64 for float64 inputs).

    Raises:
        ValueError: when the inputs are not two matrices of one shape, or the global batch has fewer than 2 samples.

    Source:
        Zbontar et al., Barlow Twins, ICML 2021, eq. 2: https://arxiv.org/abs/2103.03230
    """
    if features_a.ndim != 2 or features_a.shape != features_b.shape:
        raise ValueError(
            "the two views need feature matrices of one shape (batch, features), "
            f"got {tuple(features_a.shape)} and {tuple(features_b.shape)}."
        )
    # Python numbers only: reading a tensor back from the device would stall a GPU in every step.
    if len(features_a) * num_processes() < 2:
        raise ValueError(
            f"the cross-correlation needs at least 2 samples in the batch, got {len(features_a)}: "
            "a single sample has no variance. Use a larger batch or drop the last incomplete one."
        )
    dtype = torch.promote_types(torch.promote_types(features_a.dtype, features_b.dtype), torch.float32)
    # Half precision loses the small off-diagonal entries, and autocast would compute the product in half precision.
    with torch.autocast(features_a.device.type, enabled=False):
        return _CrossCorrelation.apply(features_a.to(dtype), features_b.to(dtype), eps)


def cross_correlation_loss(correlation: Tensor, redundancy_weight: float = 5e-3) -> Tensor:
    """Distance of a cross-correlation matrix from the identity (Barlow Twins, eq. 1).

    ``sum_i (1 - C_ii)^2 + redundancy_weight * sum_{i != j} C_ij^2``: the first term makes features invariant to the
    differences between the views, the second term keeps features from repeating each other.

    Args:
        correlation: cross-correlation matrix, ``(D, D)``.
        redundancy_weight: weight of the off-diagonal terms, lambda in the paper.

    Returns:
        Loss, a scalar.

    Source:
        Zbontar et al., Barlow Twins, ICML 2021, eq. 1: https://arxiv.org/abs/2103.03230
    """
    diagonal = correlation.diagonal()
    invariance = (1 - diagonal).square().sum()
    redundancy = correlation.square().sum() - diagonal.square().sum()
    return invariance + redundancy_weight * redundancy
