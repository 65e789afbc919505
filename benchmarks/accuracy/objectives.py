# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Losses of other methods from lightly for the package's pre-trainer, and puzzles without hierarchy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from monai_fgssl.functional import jigsaw

__all__ = ["PuzzleView", "SimSiamLoss", "VICRegLoss"]


class VICRegLoss(nn.Module):
    """VICReg (Bardes et al., ICLR 2022) of two feature matrices ``(B, D)``, with its published weights, in float32."""

    def __init__(self) -> None:
        super().__init__()
        from lightly.loss import VICRegLoss as LightlyLoss

        self.loss = LightlyLoss()

    def forward(self, features_a: Tensor, features_b: Tensor) -> Tensor:
        """Scalar loss."""
        with torch.autocast(features_a.device.type, enabled=False):
            return self.loss(features_a.float(), features_b.float())


class SimSiamLoss(nn.Module):
    """SimSiam (Chen & He, CVPR 2021, alg. 1): predictor, stop-gradient, negative cosine similarity, both ways.

    Args:
        features: number D of features of the projector. The hidden layer of the predictor has D / 4, as in the paper.
        device: device of the predictor.
    """

    def __init__(self, features: int, device: str | torch.device = "cpu") -> None:
        super().__init__()
        from lightly.loss import NegativeCosineSimilarity
        from lightly.models.modules import SimSiamPredictionHead

        # SimSiam's projector ends with this norm. The projector of Barlow Twins and VICReg does not have it.
        self.norm = nn.BatchNorm1d(features, affine=False)
        self.predictor = SimSiamPredictionHead(features, features // 4, features)
        self.similarity = NegativeCosineSimilarity()
        self.to(device)

    def forward(self, features_a: Tensor, features_b: Tensor) -> Tensor:
        """Scalar loss of two feature matrices ``(B, D)``."""
        with torch.autocast(features_a.device.type, enabled=False):
            a, b = self.norm(features_a.float()), self.norm(features_b.float())
            first = self.similarity(self.predictor(a), b.detach())
            return (first + self.similarity(self.predictor(b), a.detach())) / 2


class PuzzleView:
    """A view that is cut into a puzzle, for pre-training with puzzles but without stages.

    Args:
        view: view from which the puzzle is cut.
        grids: grids of the puzzle; one is drawn for each batch.
        permutation: see :func:`monai_fgssl.functional.random_permutations`.
    """

    def __init__(
        self, view: Callable[[Tensor, torch.Generator], Tensor], grids: Sequence[int], permutation: str
    ) -> None:
        self.view, self.grids, self.permutation = view, list(grids), permutation

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Cut images ``(B, C, *spatial)`` into puzzles."""
        grid = self.grids[int(torch.randint(len(self.grids), (), generator=generator))]
        return jigsaw(self.view(images, generator), grid, self.permutation, generator=generator)
