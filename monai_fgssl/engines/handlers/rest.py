# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A backbone that rests while what is new on top of it learns."""

from __future__ import annotations

from ignite.engine import Events
from monai.engines import Workflow
from torch import nn

from monai_fgssl.networks import unwrap

__all__ = ["BackboneRest"]


class BackboneRest:
    """Lets the backbone learn only after a share of the epochs.

    Classifiers start from random weights. Were the backbone to follow their gradients from the first step, it would
    lose what it learnt in pre-training before they know anything. The weights rest; the statistics of batch norms do
    not. While they rest an epoch is faster: nothing goes back through the backbone.

    Args:
        network: has the attribute ``backbone``; may be wrapped by :func:`~monai_fgssl.networks.distribute`.
        share: of the trainer's epochs, in [0, 1), rounded down to whole epochs; 0: the backbone never rests.

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
        engine.add_event_handler(Events.EPOCH_STARTED, self._rest_or_learn)
        engine.add_event_handler(Events.COMPLETED, self._learn)

    def _rest_or_learn(self, engine: Workflow) -> None:
        rests = engine.state.epoch <= int(self.share * engine.state.max_epochs)
        unwrap(self.network).backbone.requires_grad_(not rests)

    def _learn(self) -> None:
        unwrap(self.network).backbone.requires_grad_(True)
