# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Uncertainty of a prediction: entropy, margin, and disagreement."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["disagreement", "margin", "predictive_entropy", "yes_and_no"]


def predictive_entropy(probabilities: Tensor) -> Tensor:
    """Entropy of each prediction as a share of the largest possible one.

    Args:
        probabilities: predictions ``(..., num_classes)`` that add up to 1 over the last axis, at least 2 classes.

    Returns:
        Entropy ``(...)`` in [0, 1]; 0: one class is certain, 1: all classes are equally likely.
    """
    entropy = torch.special.entr(probabilities).sum(-1)
    return entropy / math.log(probabilities.shape[-1])


def yes_and_no(probabilities: Tensor) -> Tensor:
    """Probabilities of each finding and of its absence, ``(..., 2)``, for the measures of this module.

    Args:
        probabilities: probabilities of findings, of any shape.
    """
    return torch.stack([probabilities, 1 - probabilities], dim=-1)


def margin(probabilities: Tensor) -> Tensor:
    """Difference between the two highest probabilities of each prediction.

    Args:
        probabilities: predictions ``(..., num_classes)``, at least 2 classes.

    Returns:
        Margin ``(...)`` in [0, 1]; small: the network hesitates between two classes.
    """
    first, second = probabilities.topk(2, dim=-1).values.unbind(-1)
    return first - second


def disagreement(probabilities: Tensor) -> Tensor:
    """Jensen-Shannon divergence of several predictions of one image, as a share of the largest possible one.

    The predictions may be those of the stages, or of the image's orientations. The result is the mutual information
    between the class and the choice of the prediction, as in BALD between class and weights (Houlsby et al., 2011, eq.
    2). It is high if each prediction is sure, and they are sure of different classes.

    Args:
        probabilities: predictions ``(..., num_predictions, num_classes)``, at least 2 classes.

    Returns:
        Disagreement ``(...)`` in [0, 1]; 0 for a single prediction.

    Source:
        Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Inf. Theory 1991, eq. 5.1.
    """
    num_predictions, num_classes = probabilities.shape[-2:]
    of_mean = torch.special.entr(probabilities.mean(-2)).sum(-1)
    mean_of = torch.special.entr(probabilities).sum(-1).mean(-1)
    if num_predictions == 1:
        return torch.zeros_like(of_mean)
    # Rounding can take the difference of two equal entropies below zero.
    return ((of_mean - mean_of) / math.log(min(num_predictions, num_classes))).clamp(0, 1)
