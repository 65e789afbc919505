# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Self-supervised pre-training: it compares puzzles of an image with a distorted view of it, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from monai_fgssl.engines.hierarchical import HierarchicalTrainer
from monai_fgssl.functional import jigsaw

__all__ = ["PreTrainer"]

View = Callable[[Tensor, torch.Generator], Tensor]


@dataclass
class Views:
    """Views and results that the steps of an iteration share.

    Attributes:
        regularized: regularized view ``(B, C, *spatial)``.
        distorted: distorted view ``(B, C, *spatial)``.
        features: vectors of the distorted view at every step, ``(B, K + 1, embedding_dim)``, once they are computed.
    """

    regularized: Tensor
    distorted: Tensor
    features: Tensor | None = None


class PreTrainer(HierarchicalTrainer):
    """FG-SSL pre-training (Park & Ryu, sec. 3).

    Step k = 1..K compares the vectors ``z_k`` of two images: of a jigsaw puzzle of the regularized view, cut with grid
    ``n_k``, and of the distorted view. Step K+1 compares the concat vectors of the whole regularized view and of the
    distorted view, with weight 2. No labels are used.

    With ``schedule="joint"`` the weights are the same at every step, so the distorted view goes through the network
    only once: with three stages, 5 forward passes instead of 8.

    Args:
        regularized_view: callable ``(images (B, C, *spatial) in [0, 1], generator) -> images`` that makes small
            changes; the puzzles are cut from its result. For example ``RandRegularizedView().batch``.
        distorted_view: callable of the same form that makes stronger changes. For example
            ``RandDistortedView().batch``.
        loss_function: function of two feature matrices ``(B, embedding_dim)``, see
            :class:`~monai_fgssl.losses.CrossCorrelationLoss`.
        kwargs: arguments of :class:`HierarchicalTrainer`.

    Source:
        Park & Ryu, Fine-Grained Self-Supervised Learning with Jigsaw Puzzles for Medical Image Classification,
        https://arxiv.org/abs/2308.05770
    """

    activity = "pre-training"
    batch_size_setting = "--pretrain_batch_size"

    def __init__(self, *, regularized_view: View, distorted_view: View, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.regularized_view = regularized_view
        self.distorted_view = distorted_view

    def make_step_inputs(self, images: Tensor) -> Views:
        """Make the regularized and the distorted view."""
        return Views(self.regularized_view(images, self.generator), self.distorted_view(images, self.generator))

    def step_loss(self, step: int, inputs: Views, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the vectors of the regularized view ``(B, embedding_dim)``, and their loss against the distorted."""
        regularized = inputs.regularized
        whole = step == self.num_steps
        if not whole:
            regularized = jigsaw(regularized, self.grids[step - 1], self.permutation, generator=self.generator)
        # Two forwards: each view is normalized with its own statistics.
        features = self.forward(self.module.vectors_at_step, regularized, step, update_statistics=whole)
        return features, self.loss_function(features, self._distorted_features(step, inputs))

    def _distorted_features(self, step: int, inputs: Views) -> Tensor:
        if self.schedule != "joint" or self.num_steps == 1:
            return self.forward(self.module.vectors_at_step, inputs.distorted, step, update_statistics=False)
        if inputs.features is None:
            inputs.features = self.forward(self.module.stage_vectors, inputs.distorted, update_statistics=False)
        return inputs.features[:, step - 1]
