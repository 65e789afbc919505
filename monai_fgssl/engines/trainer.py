# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning with labels, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_fgssl.engines.hierarchical import HierarchicalTrainer
from monai_fgssl.functional import Mixture, jigsaw, mixed_loss, mixup

__all__ = ["ProgressiveTrainer"]


@dataclass
class Augmented:
    """Images and results that the steps of an iteration share.

    Attributes:
        images: images ``(B, C, *spatial)``.
        mixture: record of how the images were mixed; None: they were not mixed.
        logits: logits of every step, ``(B, K + 1, num_classes)``, once they are computed.
    """

    images: Tensor
    mixture: Mixture | None = None
    logits: Tensor | None = None


class ProgressiveTrainer(HierarchicalTrainer):
    """Progressive training with labels (PMG, sec. 3.3; the second phase of FG-SSL).

    At step k = 1..K the classifier of stage k learns from a puzzle cut with grid ``n_k``. At step K+1 the concat
    classifier learns from the whole image, with weight 2. ``pred`` holds the logits of the last step.

    With ``schedule="joint"`` and grids of 1 every classifier sees the whole image with the same weights, so one forward
    pass is enough for all.

    Args:
        view: augmentation of all steps, a callable ``(images (B, C, *spatial) in [0, 1], generator) -> images``.
        loss_function: function of logits ``(B, num_classes)`` and labels ``(B,)``.
        mixup: alpha of :func:`~monai_fgssl.functional.mixup`, before puzzles are cut; 0: images are not mixed.
        kwargs: arguments of :class:`HierarchicalTrainer`.

    Source:
        Du et al., Fine-Grained Visual Classification via Progressive Multi-Granularity Training of Jigsaw Patches,
        ECCV 2020, eq. 4-5: https://arxiv.org/abs/2003.03836
    """

    def __init__(self, *, view: Callable[[Tensor, torch.Generator], Tensor], mixup: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.view = view
        self.mixup = mixup

    def make_step_inputs(self, images: Tensor) -> Augmented:
        """Augment the images."""
        images = self.view(images, self.generator)
        return Augmented(*mixup(images, self.mixup, self.generator)) if self.mixup else Augmented(images)

    def step_loss(self, step: int, inputs: Augmented, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the logits ``(B, num_classes)`` and their loss."""
        if labels is None:
            raise ValueError(f"fine-tuning needs labels: the batches have no entry {Keys.LABEL.value!r}.")
        if self._one_pass_serves_all:
            if inputs.logits is None:
                inputs.logits = self.forward(self.module.stage_logits, inputs.images, update_statistics=True)
            logits = inputs.logits[:, step - 1]
            return logits, mixed_loss(self.loss_function, logits, labels, inputs.mixture)
        whole, images = step == self.num_steps, inputs.images
        if not whole:
            images = jigsaw(images, self.grids[step - 1], self.permutation, generator=self.generator)
        logits = self.forward(self.module.logits_at_step, images, step, update_statistics=whole)
        return logits, mixed_loss(self.loss_function, logits, labels, inputs.mixture)

    @property
    def _one_pass_serves_all(self) -> bool:
        tiles = (math.prod(grid) if isinstance(grid, Sequence) else grid for grid in self.grids)
        return self.schedule == "joint" and self.num_steps > 1 and all(number == 1 for number in tiles)
