# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Bytes of the gradients that ``DistributedDataParallel`` hands to the process group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from monai_fgssl.networks import distributed

__all__ = ["count_buckets", "counted_wrappers"]


def count_buckets(wrapper: DistributedDataParallel, sent: list[int]) -> None:
    """Append to ``sent`` the bytes of each bucket that a wrapper sends from now on; nothing may have been sent yet."""

    def hook(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        sent.append(bucket.buffer().nbytes)
        return allreduce_hook(dist.distributed_c10d._get_default_group(), bucket)

    # Annotations that are text are not understood.
    hook.__annotations__ = {}
    wrapper.register_comm_hook(None, hook)


@contextmanager
def counted_wrappers(sent: list[int]) -> Iterator[None]:
    """Count the buckets of all wrappers that the trainers of this package make within the block."""

    class Counted(DistributedDataParallel):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            count_buckets(self, sent)

    distributed.DistributedDataParallel = Counted  # type: ignore[misc]
    try:
        yield
    finally:
        distributed.DistributedDataParallel = DistributedDataParallel  # type: ignore[misc]
