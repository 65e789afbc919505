# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""One network on several processes."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .batch_norm import synchronize_batch_norms

__all__ = ["DistributedNetwork", "distribute", "unwrap"]

BUCKET_BYTES = 8 * 2**20


class DistributedNetwork(nn.Module):
    """A network whose gradients are the means over all processes when a backward ends.

    Not ``DistributedDataParallel``: that one sends zeros for all parameters that a step does not use (40 % of
    its bytes, see ``benchmarks/scaling.py``), and fails where one backward follows forwards that used different
    parameters, as those of ``schedule="joint"`` do. Here a gradient is sent as soon as it is there, together with
    others in buckets, while the backward goes on. All processes must make the same forwards in the same order.

    Args:
        module: the network, on the device of this process; it begins with the state of the first process.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._bucket: list[nn.Parameter] = []
        self._sent: list[tuple[dist.Work, Tensor, list[nn.Parameter]]] = []
        with torch.no_grad():
            for value in module.state_dict().values():
                dense = value.contiguous()
                dist.broadcast(dense, src=0)
                value.copy_(dense)
        for parameter in module.parameters():
            # One that two networks share is averaged by the first wrapper.
            if parameter.requires_grad and not hasattr(parameter, "averaged_by"):
                parameter.averaged_by = self  # type: ignore[attr-defined]
                parameter.register_post_accumulate_grad_hook(self._collect)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Those of the network."""
        return self.module(*args, **kwargs)

    def _collect(self, parameter: Tensor) -> None:
        if not self._bucket and not self._sent:
            # The one way to be called when a backward ends; PyTorch's own wrappers take it too.
            torch.autograd.Variable._execution_engine.queue_callback(self._finish)
        self._bucket.append(parameter)  # type: ignore[arg-type]
        if sum(p.numel() * p.element_size() for p in self._bucket) >= BUCKET_BYTES:
            self._send()

    def _send(self) -> None:
        grads = torch.cat([p.grad.flatten() for p in self._bucket if p.grad is not None]).div_(dist.get_world_size())
        self._sent.append((dist.all_reduce(grads, async_op=True), grads, self._bucket))
        self._bucket = []

    def _finish(self) -> None:
        if self._bucket:
            self._send()
        for work, grads, parameters in self._sent:
            work.wait()
            for parameter, grad in zip(parameters, grads.split([p.numel() for p in parameters]), strict=True):
                parameter.grad.copy_(grad.view(parameter.shape))  # type: ignore[union-attr]
        self._sent = []


def distribute(network: nn.Module) -> DistributedNetwork:
    """Wrap a network for training in the initialized process group: N processes learn as one with their global batch.

    Batch norms use the statistics of the batch of all processes, and gradients are averaged. The wrapper holds the same
    parameters as the network, so an optimizer may be made of either.

    Args:
        network: on the device of this process; its batch norms are replaced.
    """
    # PyTorch's own is for GPUs only, and the faster there.
    on_gpu = next(network.parameters()).is_cuda
    return DistributedNetwork(
        nn.SyncBatchNorm.convert_sync_batchnorm(network) if on_gpu else synchronize_batch_norms(network)
    )


def unwrap(network: nn.Module) -> Any:
    """The network itself, whether or not :func:`distribute` has wrapped it."""
    return getattr(network, "module", network)
