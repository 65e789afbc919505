# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pre-train in several processes, and count the bytes of gradients that they hand to the process group."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from monai_fgssl.engines import PreTrainer
from monai_fgssl.losses import CrossCorrelationLoss
from monai_fgssl.networks import distributed
from monai_fgssl.transforms import RandDistortedView, RandRegularizedView

__all__ = ["count_buckets", "counted_wrappers", "make_trainer", "run_processes"]


def make_trainer(
    network: nn.Module, images: Tensor, optimizer: torch.optim.Optimizer, grids: Sequence[int], schedule: str
) -> PreTrainer:
    """Make a pre-trainer on the CPU that trains for one epoch of one batch."""
    return PreTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": images}],
        network=network,
        optimizer=optimizer,
        loss_function=CrossCorrelationLoss(),
        grids=list(grids),
        regularized_view=RandRegularizedView().batch,
        distorted_view=RandDistortedView().batch,
        schedule=schedule,
    )


def run_processes(measure: Callable[..., Any], arguments: Sequence[Any], processes: int, start_method: str) -> Any:
    """Call ``measure(*arguments)`` in real gloo processes with one thread each; return the result of the first one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    queue = mp.get_context(start_method).Queue()
    mp.start_processes(_measure, (port, processes, measure, arguments, queue), processes, start_method=start_method)
    return queue.get()


def _measure(
    rank: int, port: int, processes: int, measure: Callable[..., Any], arguments: Sequence[Any], queue: Any
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    result = measure(*arguments)
    if rank == 0:
        queue.put(result)
    queue.close()
    queue.join_thread()
    dist.barrier()
    # Exit without the destructor of the gloo group, which can wait for ever.
    os._exit(0)


def count_buckets(wrapper: DistributedDataParallel, sent: list[int]) -> None:
    """Append to ``sent`` the bytes of each bucket that a wrapper sends. The wrapper must not have sent anything yet."""

    def hook(state: Any, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        sent.append(bucket.buffer().nbytes)
        return allreduce_hook(dist.distributed_c10d._get_default_group(), bucket)

    # register_comm_hook does not understand annotations that are text.
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
