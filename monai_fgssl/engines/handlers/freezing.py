# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Freeze the backbone for the first epochs, or its first stages for the whole training."""

from __future__ import annotations

from ignite.engine import Events
from monai.engines import Workflow
from torch import nn

from monai_fgssl.networks import unwrap
from monai_fgssl.utils.errors import SettingsError

__all__ = ["BackboneFreezer"]


class BackboneFreezer:
    """Freezes the backbone for the first epochs of a training, and its first stages for the whole training.

    Classifiers start from random weights. If the backbone followed their gradients from the first step, it would lose
    what it learned in pre-training before the classifiers have learned anything. Weights are frozen; the statistics of
    batch norms are not. An epoch with a frozen backbone is faster, since there is no backward pass through it.

    Weights that were frozen before the training, such as weights under adapters, stay frozen. When the training ends,
    all others can learn again.

    Args:
        network: network with the attribute ``backbone``; it may be wrapped by ``DistributedDataParallel``.
        share: share of the trainer's epochs with a frozen backbone, in [0, 1), rounded down to whole epochs; 0: the
            backbone is never frozen as a whole.
        stages: number of stages of the backbone, from the first, that are frozen in all epochs, together with the
            stem; 0: neither stages nor stem.
        train_norms: True: the norms of these stages learn. They have few parameters, and change every feature.

    Raises:
        ValueError: when ``share`` is out of range.
        SettingsError: when the backbone has fewer ``stages``.

    Source:
        Kumar et al., Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022,
        sec. 4: https://arxiv.org/abs/2202.10054
    """

    def __init__(self, network: nn.Module, share: float = 0.0, stages: int = 0, train_norms: bool = False) -> None:
        if not 0 <= share < 1:
            raise ValueError(f"share must be from 0 to less than 1, got {share!r}: the backbone must learn too.")
        backbone = unwrap(network).backbone
        self.share = share
        self._trainable = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
        self._frozen: set[int] = set()
        if stages:
            parts = backbone.parts()
            if stages >= len(parts):
                raise SettingsError(f"--freeze_stages {stages}: the backbone has {len(parts) - 1} stages in use.")
            norms = _parameters_of_norms(backbone) if train_norms else set()
            self._frozen = {id(parameter) for part in parts[: stages + 1] for parameter in part} - norms

    def attach(self, engine: Workflow) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._freeze_or_unfreeze)
        engine.add_event_handler(Events.COMPLETED, self._unfreeze)

    def _freeze_or_unfreeze(self, engine: Workflow) -> None:
        everything = engine.state.epoch <= int(self.share * engine.state.max_epochs)
        for parameter in self._trainable:
            parameter.requires_grad_(not everything and id(parameter) not in self._frozen)

    def _unfreeze(self) -> None:
        for parameter in self._trainable:
            parameter.requires_grad_(True)


def _parameters_of_norms(network: nn.Module) -> set[int]:
    """Find the ids of the parameters of all norms. A norm is known by the name of its class, as in torch and timm."""
    return {
        id(parameter)
        for module in network.modules()
        if "norm" in type(module).__name__.lower()
        for parameter in module.parameters(recurse=False)
    }
