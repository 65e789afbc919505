# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Moving average of the weights of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Workflow
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from monai_fgssl.networks import unwrap

__all__ = ["WeightAverager"]


class WeightAverager:
    """Keep an exponential moving average of the weights. The average is evaluated, and the training ends with it.

    After each iteration the average moves towards the weights: ``average = d * average + (1 - d) * weights``. Early on,
    ``d`` is smaller than ``decay``. Otherwise the average would contain the start for ``1 / (1 - decay)`` iterations.

    Between the end of an epoch and the start of the next epoch, the network has the averaged weights. Attach this
    handler before handlers that evaluate or save, and after handlers that watch the training itself. When the training
    ends, the network keeps the averaged weights. Statistics of batch norms are not averaged: they are the statistics
    that were measured last.

    Args:
        network: network whose parameters are averaged; it may be wrapped by ``DistributedDataParallel``.
        decay: decay of the average in (0, 1), such as 0.999; None: nothing is averaged.

    Source of the smaller decay early on:
        ``tf.train.ExponentialMovingAverage``, argument ``num_updates``.
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        self.network = network
        self.decay = decay
        self._average: AveragedModel | None = None
        self._raw: list[Tensor] | None = None

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer."""
        if self.decay is None:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._take_out)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._put_in)
        engine.add_event_handler(Events.COMPLETED, self._put_in)

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return list(unwrap(self.network).parameters())

    def _start(self) -> None:
        if self._average is None:
            self._average = AveragedModel(unwrap(self.network), multi_avg_fn=self._move)

    def _move(self, average: Any, weights: Any, count: Any) -> None:
        assert self.decay is not None
        steps = int(count)
        get_ema_multi_avg_fn(min(self.decay, (1 + steps) / (10 + steps)))(average, weights, count)

    def _update(self) -> None:
        assert self._average is not None
        self._average.update_parameters(unwrap(self.network))

    @torch.no_grad()
    def _put_in(self) -> None:
        """Give the network the average, and keep its own weights."""
        if self._raw is not None:
            return
        assert self._average is not None
        parameters = self._parameters
        self._raw = [parameter.detach().clone() for parameter in parameters]
        for parameter, value in zip(parameters, self._average.module.parameters(), strict=True):
            parameter.copy_(value)

    @torch.no_grad()
    def _take_out(self) -> None:
        """Give the network its own weights back."""
        if self._raw is not None:
            for parameter, value in zip(self._parameters, self._raw, strict=True):
                parameter.copy_(value)
            self._raw = None

    def state_dict(self) -> dict[str, Any]:
        """Averaged weights, their number of iterations, and the network's own weights while it has the average."""
        if self._average is None:
            return {}
        average = [value.detach() for value in self._average.module.parameters()]
        return {"count": int(self._average.n_averaged), "average": average, "raw": self._raw}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict`, after the network has its own state."""
        if self.decay is None or not state:
            return
        self._start()
        assert self._average is not None
        self._average.n_averaged.fill_(state["count"])
        for own, value in zip(self._average.module.parameters(), state["average"], strict=True):
            own.copy_(value)
        # If the network had the average, it keeps it until the next epoch starts, as in the interrupted training.
        raw = state["raw"]
        self._raw = None if raw is None else [v.to(p) for v, p in zip(raw, self._parameters, strict=True)]
