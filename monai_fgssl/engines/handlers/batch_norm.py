# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure the running statistics of batch norms anew before they are used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Evaluator, Workflow
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from monai_fgssl.engines.hierarchical import prepare_images
from monai_fgssl.networks import PrecisionChoice, unwrap
from monai_fgssl.networks.precision import autocast_of

from .epochs import every_epochs

__all__ = ["BatchNormUpdater"]


class StageVectors(nn.Module):
    """Network whose ``forward`` is ``stage_vectors``, which uses all batch norms.

    The network's own ``forward`` gives logits, and does not use the batch norms of a projector.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network
        self.train(network.training)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, C, *spatial) to (B, K + 1, embedding_dim)."""
        return self.network.stage_vectors(images)


class BatchNormUpdater:
    """Measures the running statistics of all batch norms on whole images, before something uses them.

    The running averages of a short or fast training lag behind the weights. If attached to an evaluator, this handler
    measures when an evaluation starts. If attached to a trainer, it measures at the start and after every ``interval``
    epochs; attach it before the handlers that use the network at these times.

    Args:
        network: network whose batch norms are updated.
        loader: batches of undistorted images, of the size that training uses.
        device: where to compute.
        num_batches: largest number of batches to average.
        between: the same at the start and after all epochs of a trainer but the last, where only monitors use the
            statistics; None: ``num_batches``.
        interval: epochs of a trainer between two measurements; the last epoch is always measured.
        amp: compute in mixed precision, with ``amp_kwargs`` for ``torch.autocast``.
        precision: precision of the run, instead of ``amp`` and ``amp_kwargs``.

    Source:
        Wu & Johnson, Rethinking "Batch" in BatchNorm, sec. 3: https://arxiv.org/abs/2105.07576
    """

    def __init__(
        self,
        network: nn.Module,
        loader: Iterable[dict[str, Any]],
        device: str | torch.device,
        num_batches: int = 8,
        between: int | None = None,
        amp: bool = False,
        amp_kwargs: dict[str, Any] | None = None,
        precision: PrecisionChoice | None = None,
        interval: int = 1,
    ) -> None:
        self.network = network
        self.loader = loader
        self.device = torch.device(device)
        self.num_batches = num_batches
        self.between = num_batches if between is None else between
        self.amp = amp
        self.amp_kwargs = amp_kwargs
        self.precision = precision
        self.interval = interval

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer or an evaluator."""
        if isinstance(engine, Evaluator):
            engine.add_event_handler(Events.STARTED, self.update)
            return
        for event in (Events.STARTED, every_epochs(self.interval)):
            engine.add_event_handler(event, self._update_of_epoch, engine)

    def update(self) -> None:
        """Measure the statistics now."""
        self._measure(self.num_batches)

    def _update_of_epoch(self, engine: Workflow) -> None:
        self._measure(self.num_batches if engine.state.epoch == engine.state.max_epochs else self.between)

    def _measure(self, num_batches: int) -> None:
        batches = (prepare_images(batch, self.device)[0] for batch in islice(self.loader, num_batches))
        with autocast_of(self.device, self.precision, self.amp, self.amp_kwargs):
            update_bn(_without_small_batches(batches), StageVectors(unwrap(self.network)))


def _without_small_batches(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Leave out batches that are less than half as large as the first.

    All batches count alike in the average, and batch norm can't compute with a single vector.
    """
    first = 0
    for batch in batches:
        first = first or len(batch)
        if 2 * len(batch) >= first:
            yield batch
