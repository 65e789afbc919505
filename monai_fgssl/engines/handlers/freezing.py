# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Freezing the backbone while the new layers on top of it learn."""

from __future__ import annotations

from ignite.engine import Events
from monai.engines import Workflow
from torch import nn

from monai_fgssl.networks import unwrap

__all__ = ["BackboneFreezer"]


class BackboneFreezer:
    """Freezes the backbone for the first epochs of a training.

    Classifiers start from random weights. Were the backbone to follow their gradients from the first step, it would
    lose what it learned in pre-training before they know anything. The weights are frozen; the statistics of batch
    norms are not. An epoch with a frozen backbone is faster: nothing goes back through the backbone.

    Args:
        network: has the attribute ``backbone``; may be wrapped by ``DistributedDataParallel``.
        share: share of the trainer's epochs with a frozen backbone, in [0, 1), rounded down to whole epochs; 0: the
            backbone is never frozen.

    Raises:
        ValueError: when ``share`` is out of range.

    Source:
        Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022,
        sec. 4: https://arxiv.org/abs/2202.10054
    """

    def __init__(self, network: nn.Module, share: float) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"share must be from 0 to less than 1, got {share!r}: the backbone must learn too.")
        self.network = network
        self.share = share

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._freeze_or_unfreeze)
        engine.add_event_handler(Events.COMPLETED, self._unfreeze)

    def _freeze_or_unfreeze(self, engine: Workflow) -> None:
        frozen = engine.state.epoch <= int(self.share * engine.state.max_epochs)
        unwrap(self.network).backbone.requires_grad_(not frozen)

    def _unfreeze(self) -> None:
        unwrap(self.network).backbone.requires_grad_(True)
