# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Watch the norms of the weights and the size of the updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Workflow
from torch import Tensor, nn

__all__ = ["WeightMonitor"]


class WeightMonitor:
    """Measures the growth of the weights and the ratio of update to weight.

    The output of a convolution before a norm does not depend on the scale of its weights, so its effective learning
    rate falls with the square of their norm. If weights grow several-fold in pre-training, fine-tuning hardly moves.

    At the end of each epoch, the handler writes to ``engine.state.metrics``:

    - ``weight_growth``, ``weight_growth_max``: median and largest ratio of a layer's norm to that at the start;
    - ``update_ratio``: median over layers of ``|change of the weights| / |weights|`` in the epoch's last iteration.

    Args:
        network: network whose convolution and linear weights are watched, except frozen weights.
    """

    def __init__(self, network: nn.Module) -> None:
        self.weights = [p for p in network.parameters() if p.ndim > 1 and p.requires_grad]

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED, self._remember_start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._remember_last_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _norms(self) -> Tensor:
        return torch.stack([weight.detach().norm() for weight in self.weights])

    def _remember_start(self, engine: Workflow) -> None:
        if engine.state.iteration == 0:
            self._start_norms = self._norms()

    def state_dict(self) -> dict[str, Any]:
        """Norms at the start."""
        return {"start_norms": self._start_norms}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with these norms."""
        self._start_norms = state["start_norms"].to(self.weights[0].device)

    def _remember_last_iteration(self, engine: Workflow) -> None:
        if engine.state.iteration % engine.state.epoch_length == 0:
            self._before = [weight.detach().clone() for weight in self.weights]

    def _write(self, engine: Workflow) -> None:
        # Weights that start from 0, such as adapters, have no growth.
        growth = torch.where(self._start_norms > 0, self._norms() / self._start_norms.clamp_min(1e-12), 1.0)
        updates = torch.stack(
            [
                (weight.detach() - before).norm() / before.norm().clamp_min(1e-12)
                for weight, before in zip(self.weights, self._before, strict=True)
            ]
        )
        engine.state.metrics["weight_growth"] = float(growth.median())
        engine.state.metrics["weight_growth_max"] = float(growth.max())
        engine.state.metrics["update_ratio"] = float(updates.median())
