# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Help with classes of unequal size: weights for the loss, and epochs in which all classes are equally frequent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_fgssl.data.layouts.table import UNLABELED
from monai_fgssl.utils.errors import DataError

__all__ = ["balanced_order", "class_weights", "loss_weights"]


def class_weights(
    labels: Tensor | Sequence[int], num_classes: int, method: str = "balanced", beta: float = 0.999
) -> Tensor:
    r"""Weights for a loss such as ``torch.nn.CrossEntropyLoss(weight=...)``: the rarer a class, the larger its weight.

    - ``"balanced"``: ``1 / n`` for a class of ``n`` images, so that every class counts the same in the loss.
    - ``"square_root"``: ``1 / sqrt(n)``, halfway between: a class counts ``sqrt(n)`` in the loss.
    - ``"effective_number"``: ``(1 - beta) / (1 - beta^n)``: each further image of a class adds less information, up
      to ``1 / (1 - beta)`` in all. ``beta = 0`` gives equal weights, ``beta -> 1`` gives ``"balanced"``.

    Args:
        labels: labels of the training images; -1 (not known) is ignored.
        num_classes: number of classes.
        method: ``"balanced"``, ``"square_root"`` or ``"effective_number"``.
        beta: number in [0, 1) of the formula above; only ``"effective_number"`` uses it.

    Returns:
        Weights ``(num_classes,)``, float32, with mean 1.

    Raises:
        DataError: when a class has no labeled image.
        ValueError: when an argument is out of range.

    Example:
        >>> class_weights([0, 0, 0, 1], num_classes=2)
        tensor([0.5000, 1.5000])

    Source:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, eq. 2 and sec. 4.
        https://arxiv.org/abs/1901.05555
    """
    if method not in ("balanced", "square_root", "effective_number"):
        raise ValueError(f"method must be 'balanced', 'square_root' or 'effective_number', got {method!r}.")
    if not 0 <= beta < 1:
        raise ValueError(f"beta must be in [0, 1), got {beta}.")
    values = np.asarray(labels)
    known = values[values != UNLABELED]
    if len(known) and not 0 <= known.min() <= known.max() < num_classes:
        raise ValueError(f"labels must be in 0...{num_classes - 1}, got {known.min()}...{known.max()}.")
    counts = np.bincount(known, minlength=num_classes)
    if missing := np.flatnonzero(counts == 0).tolist():
        raise DataError(f"no image of class {', '.join(map(str, missing))} has a label, so it can't be weighted.")
    if method == "effective_number":
        weights = (1 - beta) / (1 - beta**counts)
    else:
        weights = 1 / counts if method == "balanced" else counts**-0.5
    return torch.from_numpy(weights * num_classes / weights.sum()).float()


def balanced_order(labels: Tensor | Sequence[int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the order of an epoch in which all classes are equally frequent.

    An epoch has as many images as the data set. Each class has the same number of images, up to one. The images of a
    class are drawn in a random order, and all of them are drawn once before any is drawn again. So an epoch leaves out
    some images of a frequent class, and repeats images of a rare class.

    Args:
        labels: labels of all images, from 0 up; classes without an image are left out.
        rng: source of randomness; ``np.random.default_rng([seed, epoch])`` gives every epoch its own order.

    Returns:
        Positions, ``(N,)``.

    Raises:
        ValueError: when there is no image, or an image has no label.

    Example:
        >>> labels = np.array([0] * 90 + [1] * 10)
        >>> np.bincount(labels[balanced_order(labels, np.random.default_rng(0))])
        array([50, 50])
    """
    values = np.asarray(labels)
    classes = np.unique(values)
    if len(values) == 0 or classes[0] < 0:
        raise ValueError("a balanced order needs images, and a label for each of them.")
    shares = np.full(len(classes), len(values) // len(classes))
    shares[rng.permutation(len(classes))[: len(values) % len(classes)]] += 1
    chosen = []
    for label, share in zip(classes, shares, strict=True):
        positions = np.flatnonzero(values == label)
        rounds = [rng.permutation(positions) for _ in range(share // len(positions) + 1)]
        chosen.append(np.concatenate(rounds)[:share])
    return rng.permutation(np.concatenate(chosen))


def loss_weights(balance: str | None, labels: Tensor, num_classes: int, device: str | torch.device) -> Tensor | None:
    """Weights of the classes in the loss, see :func:`class_weights`; or those of positive images for each finding.

    For a finding, ``"weights"`` is the number of images without it divided by the number with it, so that both count
    the same, and ``"sqrt_weights"`` is the square root of that.

    A class without a labeled image never occurs in the loss; its weight is 1.

    Args:
        balance: ``"weights"`` or ``"sqrt_weights"``; anything else gives no weights.
        labels: labels of the images of fine-tuning, int64 ``(N,)``; -1 for an unknown label. For findings
            ``(N, num_classes)`` with 1, 0 and -1.
        num_classes: number of classes of the network.
        device: device of the weights.

    Returns:
        Weights ``(num_classes,)``, or None.
    """
    methods = {"weights": "balanced", "sqrt_weights": "square_root"}
    if labels.ndim == 2:
        positives, negatives = (labels == 1).sum(0), (labels == 0).sum(0)
        if balance not in methods or not len(labels):
            return None
        # A finding that is always or never there has weight 1.
        ratio = torch.where((positives > 0) & (negatives > 0), negatives / positives.clamp_min(1), torch.ones(()))
        return (ratio if balance == "weights" else ratio.sqrt()).float().to(device)
    seen, positions = torch.unique(labels[labels != UNLABELED], return_inverse=True)
    if balance not in methods or not len(seen):
        return None
    weights = torch.ones(num_classes)
    weights[seen] = class_weights(positions, len(seen), methods[balance])
    return weights.to(device)
