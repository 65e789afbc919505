# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Classifiers on frozen features that tell how good the features are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.nn.functional import normalize, one_hot

__all__ = ["LinearProbe", "knn_accuracy", "knn_votes", "nearest_neighbors", "solve_linear_probe"]

PENALTIES = tuple(10.0**exponent for exponent in range(-4, 2))
"""Inverse strengths of the L2 penalty, as scikit-learn's ``C``, that cross-validation chooses from."""
NUM_FOLDS = 5
PATIENCE = 2
"""Penalties in a row that are worse than the best, after which no weaker ones are tried."""
MIN_PROBABILITY = 1e-6
"""In the held-out loss, of a class that the other folds lack: finite, and the same for all penalties."""


def nearest_neighbors(known_features: Tensor, features: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
    """Find the nearest known samples by cosine similarity.

    Features are standardized with mean and standard deviation of the known ones first, so that no feature outweighs
    the others by its scale.

    Args:
        known_features: ``(N, D)``.
        features: ``(M, D)``, of the samples whose neighbors are asked for.
        neighbors: k; at most N are found.

    Returns:
        Cosine similarities in [-1, 1] and indices of the known samples, both ``(M, k)``, from the nearest on.
    """
    mean, std = known_features.mean(0), known_features.std(0, correction=0).clamp_min(1e-6)
    similarity = normalize((features - mean) / std) @ normalize((known_features - mean) / std).T
    nearest, indices = similarity.topk(min(neighbors, len(known_features)))
    return nearest, indices


def knn_votes(
    train_features: Tensor,
    train_labels: Tensor,
    features: Tensor,
    num_classes: int,
    neighbors: int = 20,
    temperature: float = 0.07,
) -> Tensor:
    """Votes for each class from the k :func:`nearest_neighbors` among the training samples.

    Each neighbor votes for its class with ``exp(similarity / temperature)``.

    Args:
        train_features: ``(N, D)``.
        train_labels: ``(N,)``, integers from 0.
        features: ``(M, D)``, of the samples to classify.
        num_classes: classes, above all labels.
        neighbors: k; at most N are used.
        temperature: the smaller, the more the nearest count.

    Returns:
        ``(M, num_classes)``, not negative; rows do not add up to 1.

    Source:
        Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination, CVPR 2018, sec. 3.4:
        https://arxiv.org/abs/1805.01978
    """
    nearest, indices = nearest_neighbors(train_features, features, neighbors)
    votes = one_hot(train_labels[indices], num_classes) * (nearest / temperature).exp()[..., None]
    return votes.sum(1)


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    neighbors: int = 20,
    temperature: float = 0.07,
) -> dict[str, float]:
    """Accuracy of the classifier that takes the class with most :func:`knn_votes`.

    Args:
        train_features: ``(N, D)``.
        train_labels: ``(N,)``.
        val_features: ``(M, D)``.
        val_labels: ``(M,)``.
        neighbors: k; at most N are used.
        temperature: the smaller, the more the nearest count.

    Returns:
        ``accuracy`` and ``balanced_accuracy`` (mean recall of the classes in ``val_labels``).
    """
    num_classes = int(train_labels.max()) + 1
    votes = knn_votes(train_features, train_labels, val_features, num_classes, neighbors, temperature)
    hit = votes.argmax(1) == val_labels
    recalls = torch.stack([hit[val_labels == label].float().mean() for label in val_labels.unique()])
    return {"accuracy": float(hit.float().mean()), "balanced_accuracy": float(recalls.mean())}


@dataclass(frozen=True)
class LinearProbe:
    """Logits of features are ``features @ weight.T + bias``.

    Attributes:
        weight: ``(num_classes, D)`` float32, of features as they are: their standardization is part of it.
        bias: ``(num_classes,)`` float32.
        penalty: the chosen ``C``.
    """

    weight: Tensor
    bias: Tensor
    penalty: float


def solve_linear_probe(
    features: Tensor,
    labels: Tensor,
    groups: Sequence[str],
    num_classes: int,
    penalties: Sequence[float] = PENALTIES,
    num_folds: int = NUM_FOLDS,
    class_weights: Tensor | None = None,
) -> LinearProbe:
    """Fit a multinomial logistic regression with an L2 penalty on standardized features until it converges.

    The penalty is the one with the lowest cross-entropy on held-out folds. All images of a lesion or patient are in
    one fold: were they in two, the penalty would be chosen by what is remembered. The candidates are tried from the
    strongest penalty to the weakest, each from the solution of the one before it. The weak ones take by far the most
    time, so the search ends once two in a row have been worse than the best.

    Args:
        features: ``(N, D)``.
        labels: ``(N,)``, integers from 0 to ``num_classes - 1``.
        groups: lesion or patient of each of the ``N`` images.
        num_classes: rows of the result. A class without an image gets weights of 0, and a bias below all others.
        penalties: the candidates for ``C``.
        num_folds: largest number of folds of the cross-validation; there are never more folds than groups.
        class_weights: ``(num_classes,)``, how much an image of each class counts, see
            :func:`~monai_fgssl.data.class_weights`. Only their ratios matter. None: all images count the same.

    Raises:
        ValueError: when fewer than two classes have an image.
    """
    x, y = features.double().cpu().numpy(), labels.cpu().numpy()
    counts = np.ones(len(y)) if class_weights is None else class_weights.double().cpu().numpy()[y]
    # On average 1, so that a penalty is as strong as without weights.
    counts = counts / counts.mean()
    found = np.unique(y)
    if len(found) < 2:
        raise ValueError(f"a linear probe needs labeled images of at least two classes, got {len(found)}.")
    penalty = _choose_penalty(x, y, counts, np.asarray(groups), num_classes, penalties, num_folds)
    scaler = StandardScaler().fit(x)
    solved = LogisticRegression(C=penalty, max_iter=1000).fit(scaler.transform(x), y, counts)
    coefficients, intercepts = solved.coef_, solved.intercept_
    if len(found) == 2:
        # scikit-learn has one row for two classes: the logit of the second one.
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    coefficients = coefficients / scaler.scale_
    intercepts = intercepts - coefficients @ scaler.mean_
    weight = np.zeros((num_classes, x.shape[1]))
    bias = np.full(num_classes, intercepts.min() - np.log(len(y)))
    weight[found], bias[found] = coefficients, intercepts
    return LinearProbe(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), penalty)


def _choose_penalty(
    x: NDArray[np.float64],
    y: NDArray[np.int64],
    counts: NDArray[np.float64],
    groups: NDArray[np.str_],
    num_classes: int,
    penalties: Sequence[float],
    num_folds: int,
) -> float:
    """The penalty with the lowest mean cross-entropy of held-out images, of which each counts as often as given."""
    num_folds = min(num_folds, len(np.unique(groups)), int(np.bincount(y).max()))
    if len(penalties) == 1 or num_folds < 2:
        return float(np.median(penalties))
    folds = [
        (train, held_out, LogisticRegression(max_iter=1000, warm_start=True))
        for train, held_out in StratifiedGroupKFold(num_folds, shuffle=True, random_state=0).split(x, y, groups)
        if len(held_out) and len(np.unique(y[train])) >= 2
    ]

    def held_out_loss(penalty: float) -> float:
        total = 0.0
        for train, held_out, classifier in folds:
            # Standardized again for each penalty: copies of all folds would take several times the memory.
            scaler = StandardScaler().fit(x[train])
            classifier.set_params(C=penalty).fit(scaler.transform(x[train]), y[train], counts[train])
            probabilities = np.zeros((len(held_out), num_classes))
            probabilities[:, classifier.classes_] = classifier.predict_proba(scaler.transform(x[held_out]))
            of_truth = probabilities[np.arange(len(held_out)), y[held_out]]
            total -= float(counts[held_out] @ np.log(of_truth.clip(MIN_PROBABILITY)))
        return total

    best, lowest, worse = float(np.median(penalties)), np.inf, 0
    for penalty in sorted(penalties):
        loss = held_out_loss(penalty)
        worse = 0 if loss < lowest else worse + 1
        if loss < lowest:
            best, lowest = float(penalty), loss
        if worse == PATIENCE:
            break
    return best
