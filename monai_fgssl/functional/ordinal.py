# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Probabilities of ordered classes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cumulative_logits"]


def cumulative_logits(logits: Tensor) -> Tensor:
    """Logits of "the class is above k", for each k, from the logits of the classes.

    The probabilities of the classes are the softmax of ``logits``, so the results fall with k, whatever the logits are.
    They are computed in float32 at least: a sum over many classes loses too much in half precision.

    Args:
        logits: logits of ordered classes, from the lowest to the highest, ``(..., num_classes)``.

    Returns:
        Logits ``(..., num_classes - 1)``; their sigmoid is the sum of the probabilities of the classes above k.

    Example:
        >>> cumulative_logits(torch.tensor([0.25, 0.25, 0.5]).log()).sigmoid()
        tensor([0.7500, 0.5000])
    """
    values = logits if logits.dtype == torch.float64 else logits.float()
    below = values.logcumsumexp(-1)
    above = values.flip(-1).logcumsumexp(-1).flip(-1)
    return above[..., 1:] - below[..., :-1]
