# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Running statistics of batch norms, measured anew before they are used."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Workflow
from monai.networks.utils import train_mode
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from monai_fgssl.engines.hierarchical import prepare_images
from monai_fgssl.networks import unwrap

__all__ = ["BatchNormUpdater"]


class BatchNormUpdater:
    """Measures the running statistics of all batch norms on whole images, at the start and after every epoch.

    The running averages of a short or fast training lag behind the weights. Attach this before the handlers that
    evaluate: they then see the statistics of the weights as they are.

    Args:
        network: network whose batch norms are updated.
        loader: batches of undistorted images, of the size that training uses.
        device: where to compute.
        num_batches: how many batches are averaged at most.
        amp: compute in mixed precision, with ``amp_kwargs`` for ``torch.autocast``.

    Source:
        Wu & Johnson, Rethinking "Batch" in BatchNorm, sec. 3: https://arxiv.org/abs/2105.07576
    """

    def __init__(
        self,
        network: nn.Module,
        loader: Iterable[dict[str, Any]],
        device: str | torch.device,
        num_batches: int = 8,
        amp: bool = False,
        amp_kwargs: dict[str, Any] | None = None,
    ) -> None:
        self.network = network
        self.loader = loader
        self.device = torch.device(device)
        self.num_batches = num_batches
        self.amp = amp
        self.amp_kwargs = amp_kwargs or {}

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.STARTED | Events.EPOCH_COMPLETED, self.update)

    @torch.no_grad()
    def update(self) -> None:
        """Measure now."""
        network = unwrap(self.network)
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            # Without a momentum a norm keeps the plain mean over all batches.
            norm.momentum = None
        try:
            with train_mode(network), torch.autocast(self.device.type, enabled=self.amp, **self.amp_kwargs):
                for batch in islice(self.loader, self.num_batches):
                    images, _ = prepare_images(batch, self.device)
                    network.stage_vectors(images)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
