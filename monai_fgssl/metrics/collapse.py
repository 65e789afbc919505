# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Signs of collapse in self-supervised features."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["effective_rank", "feature_std"]


def effective_rank(features: Tensor) -> float:
    """Number of directions that centered features really use: the exponential of the entropy of their singular values.

    Args:
        features: feature vectors, ``(N, D)``.

    Returns:
        Rank, from 1 (all samples on one line) to ``min(N - 1, D)``; 0 when all samples are equal.

    Source:
        Roy & Vetterli, The effective rank, EUSIPCO 2007; used for self-supervised features in Garrido et al., RankMe,
        ICML 2023: https://arxiv.org/abs/2210.02885
    """
    centered = features.double() - features.double().mean(0)
    singular_values = torch.linalg.svdvals(centered)
    total = singular_values.sum()
    if total <= torch.finfo(torch.float32).eps * features.abs().max():
        return 0.0
    share = singular_values / total
    return float(torch.special.entr(share).sum().exp())


def feature_std(features: Tensor) -> float:
    """Standard deviation over samples, averaged over features, times ``sqrt(D)``. Rows are first scaled to length 1.

    Args:
        features: feature vectors, ``(N, D)``.

    Returns:
        About 1 for features that spread evenly over the sphere, 0 when every sample has the same direction.

    Source:
        Chen & He, Exploring Simple Siamese Representation Learning, CVPR 2021, sec. 4.1:
        https://arxiv.org/abs/2011.10566
    """
    directions = torch.nn.functional.normalize(features.double(), dim=1)
    return float(directions.std(0, correction=0).mean() * features.shape[1] ** 0.5)
