# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""How sure a hierarchical network is of an image, from the probabilities of its stages."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["margin", "predictive_entropy", "stage_disagreement"]


def predictive_entropy(probabilities: Tensor) -> Tensor:
    """Entropy of each prediction as a share of the largest possible one.

    Args:
        probabilities: ``(..., num_classes)``, adding up to 1 over the last axis, at least 2 classes.

    Returns:
        ``(...)`` in [0, 1]; 0: one class is certain, 1: all are equally likely.
    """
    entropy = torch.special.entr(probabilities).sum(-1)
    return entropy / torch.log(torch.tensor(float(probabilities.shape[-1])))


def margin(probabilities: Tensor) -> Tensor:
    """Probability of the likeliest class less that of the second.

    Args:
        probabilities: ``(..., num_classes)``, at least 2 classes.

    Returns:
        ``(...)`` in [0, 1]; small: the network hesitates between two classes.
    """
    first, second = probabilities.topk(2, dim=-1).values.unbind(-1)
    return first - second


def stage_disagreement(stage_probabilities: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the stages' predictions, as a share of the largest possible one.

    It is the mutual information between the prediction and the stage that made it, as BALD's between prediction and
    weights (Houlsby et al., 2011, eq. 2): high where stages are each sure, and sure of different classes.

    Args:
        stage_probabilities: ``(..., num_stages, num_classes)``, at least 2 stages and 2 classes.

    Returns:
        ``(...)`` in [0, 1].

    Source:
        Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 1991, eq. 5.1.
    """
    num_stages, num_classes = stage_probabilities.shape[-2:]
    of_mean = torch.special.entr(stage_probabilities.mean(-2)).sum(-1)
    mean_of = torch.special.entr(stage_probabilities).sum(-1).mean(-1)
    # Rounding can take the difference of two equal entropies below zero.
    return ((of_mean - mean_of) / torch.log(torch.tensor(float(min(num_stages, num_classes))))).clamp(0, 1)
