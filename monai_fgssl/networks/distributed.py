# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""One network on several processes."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["distribute", "unwrap"]


def distribute(network: nn.Module) -> DistributedDataParallel:
    """Wrap a network for training in the initialised process group.

    On GPUs batch norms become synchronised ones; on CPUs, where PyTorch has none, each process normalises with the
    statistics of its own share of the batch.

    Args:
        network: on the device of this process.
    """
    parameter = next(network.parameters())
    if parameter.is_cuda:
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return DistributedDataParallel(
        network,
        device_ids=[parameter.device] if parameter.is_cuda else None,
        # A step leaves the parameters of other stages without gradient.
        find_unused_parameters=True,
        # Two views make two forwards before one backward; a broadcast in between would change what the first saved.
        broadcast_buffers=False,
    )


def unwrap(network: nn.Module) -> Any:
    """The network itself, whether or not :func:`distribute` has wrapped it."""
    return getattr(network, "module", network)
