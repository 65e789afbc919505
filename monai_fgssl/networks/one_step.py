# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Base of the networks with one classifier and so one step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .base import StagedNet

__all__ = ["OneStepNet"]


class OneStepNet(StagedNet):
    """Network with one classifier and the interface of :class:`~monai_fgssl.networks.HierarchicalNet`.

    Its only step is the whole network, so the trainers of this package can train it like a network with several steps.
    A subclass adds the classifier with ``_add_classifier``. It defines the features that the classifier reads
    (``_features``) and the vectors that the self-supervised loss compares (``_vectors``). The arguments are those of
    :class:`StagedNet`.

    Attributes:
        num_steps: 1.
        classifier: the linear classifier.
    """

    # For the type checker only: TorchScript can't resolve annotations of attributes that are strings.
    if TYPE_CHECKING:
        classifier: nn.Linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores (B, num_classes) of images (B, in_channels, *spatial) in [0, 1]."""
        return self.classifier(self._features(x))

    @torch.jit.export
    def logits_at_step(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """Class scores (B, num_classes); ``step`` must be 1."""
        self._check_step(step)
        return self.forward(x)

    @torch.jit.export
    def vectors_at_step(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """Vectors ``z`` (B, D), which the self-supervised loss compares; ``step`` must be 1."""
        self._check_step(step)
        return self._vectors(self._features(x))

    @torch.jit.export
    def stage_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Class scores as (B, 1, num_classes)."""
        return self.forward(x).unsqueeze(1)

    @torch.jit.export
    def stage_vectors(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors ``z`` as (B, 1, D)."""
        return self._vectors(self._features(x)).unsqueeze(1)

    def classifiers(self) -> dict[str, nn.Linear]:
        """The classifier, by the name of its module."""
        return {"classifier": self.classifier}

    def definition(self) -> dict[str, Any]:
        """See :meth:`StagedNet.definition`."""
        return super().definition() | {"num_classes": self.classifier.out_features}

    def _add_classifier(self, num_features: int, num_classes: int) -> None:
        self.classifier = nn.Linear(num_features, num_classes)
        # An attribute of the object, since TorchScript ignores attributes of the class.
        self.num_steps = 1

    def _check_step(self, step: int) -> None:
        if step != 1:
            raise ValueError(f"step must be 1, got {step}.")

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, D) of images, which the classifier reads."""
        raise NotImplementedError

    def _vectors(self, features: torch.Tensor) -> torch.Tensor:
        """Vectors ``z`` of features (B, D)."""
        raise NotImplementedError
