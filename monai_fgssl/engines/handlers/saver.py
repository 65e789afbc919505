# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Save the weights of a network in a file that is always complete."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from ignite.engine import Events
from monai.engines import Evaluator, Workflow
from torch import Tensor, nn

from monai_fgssl.networks import load_plain_state, plain_state, unwrap
from monai_fgssl.utils.tensors import read_state_dict, save_tensors

__all__ = ["WeightsSaver"]


class WeightsSaver:
    """Writes the weights at the end of a training, or after each evaluation whose key metric is the best so far.

    Why not ``monai.handlers.CheckpointSaver``: it uses Ignite's ``Checkpoint``, which removes the file before it writes
    the new one. A run that is stopped in between loses its best weights. Here the new file replaces the old one. The
    weights are kept in memory and in the checkpoints too, so they survive if somebody deletes the file.

    Args:
        network: network whose state dict is written.
        path: file to write.
    """

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        self.network = network
        self.path = Path(path)
        self._saved: dict[str, Tensor] | None = None

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer to save its last weights, or to an evaluator to save the best weights."""
        if isinstance(engine, Evaluator):
            self._evaluator = engine
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._save_if_best)
        else:
            engine.add_event_handler(Events.COMPLETED, self.save)

    def save(self) -> None:
        """Write the weights now. Of several processes, only the first writes.

        Raises:
            ValueError: when a weight is not finite; the file does not change.
        """
        state = plain_state(unwrap(self.network))
        broken = [name for name, value in state.items() if not value.isfinite().all()]
        if broken:
            raise ValueError(
                f"{self.path} is not written: {len(broken)} of {len(state)} tensors are not finite, first "
                f"{broken[0]}: the training has diverged. Start anew with a lower learning rate."
            )
        self._saved = {name: value.detach().cpu().clone() for name, value in state.items()}
        self._write()

    @idist.one_rank_only()
    def _write(self) -> None:
        save_tensors(self._saved, self.path, durable=True)

    def load(self) -> None:
        """Load the weights that were saved last, by this process or by an earlier process, into the network.

        Adapters start anew, see :func:`~monai_fgssl.networks.plain_state`.

        Raises:
            SettingsError: when no weights were saved, or the file is damaged.
        """
        saved = read_state_dict(self.path) if self._saved is None else self._saved
        load_plain_state(unwrap(self.network), saved)

    def _save_if_best(self, engine: Evaluator) -> None:
        # The engine has already compared its key metric.
        if engine.state.best_metric_epoch == engine.state.epoch:
            self.save()

    def state_dict(self) -> dict[str, Any]:
        """Best metric of an evaluator so far, and its weights."""
        state = self._evaluator.state
        best = {"best_metric": state.best_metric, "best_metric_epoch": state.best_metric_epoch}
        return {**best, "weights": self._saved}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Compare with this metric from now on, and write its weights again."""
        self._evaluator.state.best_metric = state["best_metric"]
        self._evaluator.state.best_metric_epoch = state["best_metric_epoch"]
        # Checkpoints of earlier releases do not have the weights.
        self._saved = state.get("weights")
        if self._saved is not None:
            self._write()
