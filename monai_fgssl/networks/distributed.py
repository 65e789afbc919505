# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Train one network on several processes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from monai_fgssl.utils.distributed import num_processes, of_first_process

from .batch_norm import synchronize_batch_norms

__all__ = ["GradientAverage", "distribute", "unwrap"]


class _Passed(nn.Module):
    """Module that holds parameters, and whose ``forward`` returns a loss unchanged."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        # No buffers: synchronized batch norms keep them equal on all processes.
        self.held = nn.ParameterList(parameters)

    def forward(self, loss: Tensor) -> Tensor:
        """Return the loss."""
        return loss


class GradientAverage:
    """Averages the gradients of all processes at the end of a backward pass, with ``DistributedDataParallel``.

    ``DistributedDataParallel`` expects one ``forward`` of one module before a backward pass. It sends zeros for
    parameters that this forward does not use. But a step of this package makes several forward passes through parts of
    a network. So each kind of step has its own wrapper for the parameters that it uses, and its loss goes through this
    wrapper. The first loss of a kind needs one more backward pass, to find these parameters. With one process, nothing
    is wrapped.

    Gradients of parameters that a step does not use remain None. Processes must make the same steps in the same order.

    Args:
        network: network on the device of this process.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._wrappers: dict[Hashable, DistributedDataParallel] = {}
        self._trainable: list[nn.Parameter] = []

    def __call__(self, loss: Tensor, kind: Hashable) -> Tensor:
        """Return the loss. A backward pass from it averages the gradients.

        Args:
            loss: a scalar.
            kind: name of the kind of step. All steps of one kind use the same parameters.
        """
        if num_processes() == 1:
            return loss
        trainable = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if list(map(id, trainable)) != list(map(id, self._trainable)):
            # Layers were frozen or unfrozen. Frozen ones are not sent.
            self._trainable, self._wrappers = trainable, {}
        if kind not in self._wrappers:
            grads = torch.autograd.grad(loss, trainable, allow_unused=True, retain_graph=True)
            used = [parameter for parameter, grad in zip(trainable, grads, strict=True) if grad is not None]
            # They are equal already, and the backward pass that follows does not allow writing them.
            self._wrappers[kind] = DistributedDataParallel(_Passed(used), init_sync=False)
        return self._wrappers[kind](loss)


def distribute(network: nn.Module) -> nn.Module:
    """Prepare a network for training in the initialized process group.

    N processes then learn like one process with the global batch: batch norms use the statistics of all batches, and
    the trainers of this package average the gradients.

    Args:
        network: network on the device of this process; its batch norms are replaced, and it begins with the state of
            the first process.
    """
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(of_first_process(value.clone()))
    # PyTorch's own synchronized batch norm works on GPUs only, where it is faster.
    on_gpu = next(network.parameters()).is_cuda
    # PyTorch's own would drop the activations of timm's norms.
    with_activations = any(hasattr(module, "act") for module in network.modules() if isinstance(module, _BatchNorm))
    if on_gpu and not with_activations:
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return synchronize_batch_norms(network)


def unwrap(network: nn.Module) -> Any:
    """Return the network itself, also if ``DistributedDataParallel`` or another wrapper holds it as ``module``."""
    return getattr(network, "module", network)
