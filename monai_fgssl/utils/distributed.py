# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Sums and moments of a batch that the processes of a group hold together."""

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
    """Sum of a tensor over all processes, which may overwrite it. Autograd does not see it."""
    if num_processes() > 1:
        value = value.contiguous()
        dist.all_reduce(value)
    return value


def of_first_process(value: Tensor) -> Tensor:
    """The first process's tensor, on all processes; the others' is overwritten."""
    if num_processes() > 1:
        value = value.contiguous()
        dist.broadcast(value, src=0)
    return value


def global_moments(values: Tensor, axes: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance over the batch of all processes, which may hold different numbers of samples.

    Two passes: the mean first, then the squares about it. One pass over squares about zero loses the variance of
    features that are far from zero.

    Args:
        values: all axes but one are reduced; this process's share, at least one sample.
        axes: names of the axes.

    Returns:
        Mean ``(C,)``, variance ``(C,)`` and the number of samples, a scalar, in the type of ``values``. The numbers are
        added on the device: to read them back would stall a GPU.
    """
    variance, mean = torch.var_mean(values, list(axes), correction=0)
    count = mean.new_full((1,), values.numel() // mean.numel())
    if num_processes() == 1:
        return mean, variance, count[0]
    sums = sum_over_processes(torch.cat([count * mean, count]))
    total_mean, total = sums[:-1] / sums[-1], sums[-1]
    squares = sum_over_processes(count * (variance + (mean - total_mean).square()))
    return total_mean, squares / total, total
