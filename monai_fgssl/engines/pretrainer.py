# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Self-supervised pre-training: puzzles of one view against a distortion of the same image, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from monai_fgssl.engines.hierarchical import HierarchicalTrainer
from monai_fgssl.functional import jigsaw

__all__ = ["PreTrainer"]

View = Callable[[Tensor, torch.Generator], Tensor]


class PreTrainer(HierarchicalTrainer):
    """FG-SSL pre-training (Park & Ryu, sec. 3).

    At step k = 1..K the vectors ``z_k`` of a jigsaw puzzle of the regularised view, cut with grid ``n_k``, and of the
    distorted view of the same images are compared; at step K+1 the concat vectors of the whole regularised view and of
    the distorted view, with weight 2. The network needs its labels nowhere.

    Args:
        regularized_view: callable ``(images (B, C, *spatial) in [0, 1], generator) -> images`` of light changes; the
            puzzles are cut from its result. For example ``RandRegularizedView().batch``.
        distorted_view: the same of stronger changes. For example ``RandDistortedView().batch``.
        loss_function: of two feature matrices ``(B, features)``, see :class:`~monai_fgssl.losses.CrossCorrelationLoss`.
        kwargs: those of :class:`HierarchicalTrainer`.

    Source:
        Park & Ryu, Fine-Grained Self-Supervised Learning with Jigsaw Puzzles for Medical Image Classification,
        https://arxiv.org/abs/2308.05770
    """

    def __init__(self, *, regularized_view: View, distorted_view: View, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.regularized_view = regularized_view
        self.distorted_view = distorted_view

    def make_step_inputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The regularised and the distorted view."""
        return self.regularized_view(images, self.generator), self.distorted_view(images, self.generator)

    def step_loss(self, step: int, inputs: tuple[Tensor, Tensor], labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Vectors of the regularised side ``(B, features)``, and the loss against the distorted side."""
        regularized, distorted = inputs
        whole = step == self.num_steps
        if not whole:
            regularized = jigsaw(regularized, self.grids[step - 1], self.permutation, generator=self.generator)
        # Two forwards: each view is normalised with its own statistics.
        features = self.forward_step(regularized, step, project=True, update_statistics=whole)
        other = self.forward_step(distorted, step, project=True, update_statistics=False)
        return features, self.loss_function(features, other)
