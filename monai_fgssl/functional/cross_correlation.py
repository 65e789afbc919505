# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Cross-correlation of two batches of feature vectors, over one process or all processes of a group."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

__all__ = ["cross_correlation", "cross_correlation_loss"]


def _num_processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _sum_over_processes(value: Tensor) -> Tensor:
    # The differentiable collective: its backward sums the gradients of all processes. A raw `all_reduce` would
    # leave each process with its own share and scale the gradient down by the number of processes.
    return all_reduce(value) if _num_processes() > 1 else value


def _standardize(features: Tensor, num_samples: Tensor, eps: float) -> Tensor:
    mean = _sum_over_processes(features.sum(0)) / num_samples
    centered = features - mean
    variance = _sum_over_processes(centered.square().sum(0)) / num_samples
    return centered * variance.clamp_min(eps).rsqrt()


def cross_correlation(features_a: Tensor, features_b: Tensor, eps: float = 1e-5) -> Tensor:
    """Cross-correlation matrix of two views' feature vectors (Barlow Twins, eq. 2).

    Every column is standardised with the mean and the biased variance of the whole batch, each view with its own.
    When ``torch.distributed`` is initialised, the batch is that of all processes together: they may hold different
    numbers of samples, and gradients flow through the collectives.

    Args:
        features_a: feature vectors of the first view, ``(B, D)``, any floating dtype (computed in float32 at least).
        features_b: feature vectors of the second view, ``(B, D)``, row for row of the same images.
        eps: variances below it are taken as ``eps``, so that a constant column gives zeros and a finite gradient.
            Columns of a larger variance follow the formula exactly.

    Returns:
        ``(D, D)``, entries in [-1, 1], float32 (float64 for float64 inputs).

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
    # Counted without reading a tensor back from the device, which would stall a GPU in every step.
    if len(features_a) * _num_processes() < 2:
        raise ValueError(
            f"the cross-correlation needs at least 2 samples in the batch, got {len(features_a)}: "
            "a single sample has no variance. Use a larger batch or drop the last incomplete one."
        )
    dtype = torch.promote_types(torch.promote_types(features_a.dtype, features_b.dtype), torch.float32)
    # Half precision loses the small off-diagonal entries, and autocast would turn the product back into it.
    with torch.autocast(features_a.device.type, enabled=False):
        num_samples = _sum_over_processes(features_a.new_tensor(float(len(features_a)), dtype=dtype))
        standardized_a = _standardize(features_a.to(dtype), num_samples, eps)
        standardized_b = _standardize(features_b.to(dtype), num_samples, eps)
        return _sum_over_processes(standardized_a.T @ standardized_b) / num_samples


def cross_correlation_loss(correlation: Tensor, redundancy_weight: float = 5e-3) -> Tensor:
    """Distance of a cross-correlation matrix from the identity (Barlow Twins, eq. 1).

    ``sum_i (1 - C_ii)^2 + redundancy_weight * sum_{i != j} C_ij^2``: the first term makes features invariant to what
    distinguishes the views, the second keeps them from repeating each other.

    Args:
        correlation: ``(D, D)``.
        redundancy_weight: the paper's lambda.

    Returns:
        The loss, a scalar.

    Source:
        Zbontar et al., Barlow Twins, ICML 2021, eq. 1: https://arxiv.org/abs/2103.03230
    """
    diagonal = correlation.diagonal()
    invariance = (1 - diagonal).square().sum()
    redundancy = correlation.square().sum() - diagonal.square().sum()
    return invariance + redundancy_weight * redundancy
