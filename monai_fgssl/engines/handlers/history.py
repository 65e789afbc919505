# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Keep the metrics of every epoch for curves and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ignite.engine import Events
from monai.engines import Workflow

__all__ = ["EpochHistory"]


def metrics_with_validation(engine: Workflow, evaluator: Workflow | None) -> dict[str, float]:
    """Metrics of a trainer, and as ``val_<name>`` the metrics of its evaluator in the same epoch."""
    metrics = dict(engine.state.metrics)
    # MONAI's ValidationHandler gives the evaluator the trainer's epoch.
    if evaluator is not None and evaluator.state.epoch == engine.state.epoch:
        metrics.update({f"val_{name}": value for name, value in evaluator.state.metrics.items()})
    return {name: float(value) for name, value in metrics.items()}


class EpochHistory:
    """Keeps ``engine.state.metrics`` of every epoch in ``engine.state.history``: name to list of (epoch, value).

    Attach it after the handlers that write metrics. Metrics that they measure before the first iteration are kept as
    epoch 0. If an evaluator is given, the metrics of a ``ValidationHandler`` that runs it within the epoch are kept
    too.

    Args:
        evaluator: engine whose metrics are kept as ``val_<name>``.
    """

    def __init__(self, evaluator: Workflow | None = None) -> None:
        self.evaluator = evaluator

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer."""
        self._engine = engine
        engine.state.history = {}
        engine.add_event_handler(Events.STARTED, self._store_start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._store)

    def _store_start(self, engine: Workflow) -> None:
        if engine.state.iteration == 0 and engine.state.metrics:
            self._store(engine)

    def _store(self, engine: Workflow) -> None:
        for name, value in metrics_with_validation(engine, self.evaluator).items():
            engine.state.history.setdefault(name, []).append((engine.state.epoch, value))

    def state_dict(self) -> dict[str, Any]:
        """All series, and the last metrics of the evaluator."""
        evaluated = {} if self.evaluator is None else dict(self.evaluator.state.metrics)
        return {"history": self._engine.state.history, "evaluated": evaluated}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue these series."""
        self._engine.state.history = {name: list(series) for name, series in state["history"].items()}
        if self.evaluator is not None:
            self.evaluator.state.metrics.update(state["evaluated"])
