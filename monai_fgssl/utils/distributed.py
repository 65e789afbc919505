# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Sums and moments of a batch that is spread over the processes of a group."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["global_moments", "num_processes", "of_first_process", "process_rank", "sum_over_processes"]


def num_processes() -> int:
    """Size of the process group; 1 where there is none."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Number of this process in its group; 0 where there is none."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum a tensor over all processes. The tensor may be overwritten, and autograd does not track the sum."""
    if num_processes() > 1:
        value = value.contiguous()
        dist.all_reduce(value)
    return value


def of_first_process(value: Tensor) -> Tensor:
    """Return the first process's tensor on all processes. The tensors of the other processes are overwritten."""
    if num_processes() > 1:
        value = value.contiguous()
        dist.broadcast(value, src=0)
    return value


def global_moments(values: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Compute mean and biased variance over the batch of all processes, which may hold different numbers of samples.

    There are two passes: first the mean, then the squared distances from the mean. A single pass over the squared
    values would lose the variance of features that are far from zero.

    Args:
        values: this process's share of the batch, at least one sample.
        axes: axes to reduce, which are all axes but one.

    Returns:
        Mean ``(C,)``, variance ``(C,)`` and the number of samples, a scalar, in the type of ``values``. The numbers of
        samples are added on the device, since reading them back would stall a GPU.
    """
    variance, mean = torch.var_mean(values, list(axes), correction=0)
    count = mean.new_full((1,), values.numel() // mean.numel())
    if num_processes() == 1:
        return mean, variance, count[0]
    sums = sum_over_processes(torch.cat([count * mean, count]))
    total_mean, total = sums[:-1] / sums[-1], sums[-1]
    squares = sum_over_processes(count * (variance + (mean - total_mean).square()))
    return total_mean, squares / total, total
