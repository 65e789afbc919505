# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Classifiers on frozen features that tell how good the features are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

__all__ = ["knn_accuracy"]


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    neighbors: int = 20,
    temperature: float = 0.07,
) -> dict[str, float]:
    """Accuracy of a weighted k-nearest-neighbours classifier by cosine similarity.

    Features are standardised with mean and standard deviation of the training ones first, so that no feature outweighs
    the others by its scale. Each of the k nearest training samples votes for its class with
    ``exp(similarity / temperature)``.

    Args:
        train_features: ``(N, D)``.
        train_labels: ``(N,)``.
        val_features: ``(M, D)``.
        val_labels: ``(M,)``.
        neighbors: k; at most N are used.
        temperature: the smaller, the more the nearest count.

    Returns:
        ``accuracy`` and ``balanced_accuracy`` (mean recall of the classes in ``val_labels``).

    Source:
        Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, sec. 3.4:
        https://arxiv.org/abs/1805.01978
    """
    mean, std = train_features.mean(0), train_features.std(0, correction=0).clamp_min(1e-6)
    similarity = normalize((val_features - mean) / std) @ normalize((train_features - mean) / std).T
    nearest, indices = similarity.topk(min(neighbors, len(train_features)))
    votes = one_hot(train_labels[indices]) * (nearest / temperature).exp()[..., None]
    hit = votes.sum(1).argmax(1) == val_labels
    recalls = torch.stack([hit[val_labels == label].float().mean() for label in val_labels.unique()])
    return {"accuracy": float(hit.float().mean()), "balanced_accuracy": float(recalls.mean())}
