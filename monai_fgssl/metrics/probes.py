# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Classifiers on frozen features, which measure how good the features are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import normalize, one_hot

__all__ = ["LinearProbe", "knn_accuracy", "knn_votes", "nearest_neighbors", "solve_linear_probe"]

PENALTIES = tuple(10.0**exponent for exponent in range(-4, 2))
"""Inverse strengths of the L2 penalty, as scikit-learn's ``C``, that cross-validation chooses from."""
NUM_FOLDS = 5
PATIENCE = 2
"""Number of successive penalties worse than the best after which no weaker penalty is tried."""
ELEMENTS_FOR_THREADS = 10_000_000
"""Size of a feature matrix from which several threads pay. Below it, the products of a solver's many short steps take
less time than the threads need to wait for each other, above all on busy cores: see ``benchmarks/probe_threads.py``."""
MIN_PROBABILITY = 1e-6
"""Probability in the held-out loss of a class that the other folds lack, so that the loss is finite for all
penalties."""


def nearest_neighbors(known_features: Tensor, features: Tensor, neighbors: int) -> tuple[Tensor, Tensor]:
    """Find the nearest known samples by cosine similarity.

    All features are first standardized with the mean and standard deviation of the known samples, so that no feature
    outweighs the others by its scale.

    Args:
        known_features: features of the known samples, ``(N, D)``.
        features: features of the samples whose neighbors are wanted, ``(M, D)``.
        neighbors: number of neighbors, k; at most N are found.

    Returns:
        Cosine similarities in [-1, 1] and indices of the known samples, both ``(M, k)``, nearest first.
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
    """Count the votes for each class from the k :func:`nearest_neighbors` among the training samples.

    Each neighbor votes for its class with ``exp(similarity / temperature)``.

    Args:
        train_features: features of the training samples, ``(N, D)``.
        train_labels: classes of the training samples, ``(N,)``, integers from 0.
        features: features of the samples to classify, ``(M, D)``.
        num_classes: number of classes; it is greater than all labels.
        neighbors: number of neighbors, k; at most N are used.
        temperature: temperature of the votes; the smaller it is, the more the nearest neighbors count.

    Returns:
        Votes ``(M, num_classes)``, not negative; rows do not add up to 1.

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
    """Accuracy of the classifier that chooses the class with the most :func:`knn_votes`.

    Args:
        train_features: features of the training samples, ``(N, D)``.
        train_labels: classes of the training samples, ``(N,)``.
        val_features: features of the validation samples, ``(M, D)``.
        val_labels: classes of the validation samples, ``(M,)``.
        neighbors: number of neighbors, k; at most N are used.
        temperature: temperature of the votes; the smaller it is, the more the nearest neighbors count.

    Returns:
        ``accuracy`` and ``balanced_accuracy`` (mean recall of the classes in ``val_labels``). For findings, with labels
        ``(N, num_classes)``, the share of right answers among those that are known, and the mean recall of images with
        and without a finding over all findings.
    """
    if train_labels.ndim == 2:
        return _knn_findings(train_features, train_labels, val_features, val_labels, neighbors, temperature)
    num_classes = int(train_labels.max()) + 1
    votes = knn_votes(train_features, train_labels, val_features, num_classes, neighbors, temperature)
    hit = votes.argmax(1) == val_labels
    recalls = torch.stack([hit[val_labels == label].float().mean() for label in val_labels.unique()])
    return {"accuracy": float(hit.float().mean()), "balanced_accuracy": float(recalls.mean())}


def _knn_findings(
    train_features: Tensor,
    train_labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    neighbors: int,
    temperature: float,
) -> dict[str, float]:
    """Let the neighbors whose answer is known vote for and against each finding."""
    nearest, indices = nearest_neighbors(train_features, val_features, neighbors)
    weights, answers = (nearest / temperature).exp()[..., None], train_labels[indices]
    predicted = (weights * (answers == 1)).sum(1) > (weights * (answers == 0)).sum(1)
    known = val_labels >= 0
    hit = predicted == (val_labels == 1)
    recalls = [hit[val_labels[:, k] == value, k].float().mean() for k in range(hit.shape[1]) for value in (0, 1)]
    return {
        "accuracy": float(hit[known].float().mean()),
        "balanced_accuracy": float(torch.stack(recalls).nanmean()),
    }


@dataclass(frozen=True)
class LinearProbe:
    """Linear classifier of features: its logits are ``features @ weight.T + bias``.

    Attributes:
        weight: weights ``(num_classes, D)`` float32, which include the standardization: they apply to the original
            features.
        bias: bias of each class, ``(num_classes,)`` float32.
        penalty: chosen value of ``C``; for findings the geometric mean of those of all findings.
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

    The search chooses the penalty with the lowest cross-entropy on held-out folds. All images of a lesion or patient
    are in one fold. Otherwise the search would favor a classifier that remembers lesions. The candidates are tried from
    the strongest penalty to the weakest, each starting from the solution of the previous candidate. Weak penalties take
    by far the most time, so the search ends after two successive candidates that are worse than the best.

    Args:
        features: features of the images, ``(N, D)``.
        labels: classes of the images, ``(N,)``, integers from 0 to ``num_classes - 1``. For findings,
            ``(N, num_classes)`` with 1, 0 and -1 (not known): each is solved by itself on the images where it is known.
        groups: lesion or patient of each of the ``N`` images.
        num_classes: number of classes, and of rows of the result. A class without an image gets weights of 0, and a
            bias below all others.
        penalties: candidates for ``C``.
        num_folds: largest number of folds of the cross-validation; there are never more folds than groups.
        class_weights: weight of an image of each class, ``(num_classes,)``, see
            :func:`~monai_fgssl.data.class_weights`. Only their ratios matter. For findings: weight of an image that has
            the finding, if one without it has 1. None: all images count the same.

    Raises:
        ValueError: when fewer than two classes have an image.
    """
    if labels.ndim == 2:
        return _solve_findings(features, labels, groups, penalties, num_folds, class_weights)
    x, y = features.double().cpu().numpy(), labels.cpu().numpy()
    counts = np.ones(len(y)) if class_weights is None else class_weights.double().cpu().numpy()[y]
    # The mean is 1, so that a penalty is as strong as without weights.
    counts = counts / counts.mean()
    found = np.unique(y)
    if len(found) < 2:
        raise ValueError(f"a linear probe needs labeled images of at least two classes, got {len(found)}.")
    with threadpool_limits(1 if x.size < ELEMENTS_FOR_THREADS else None, user_api="blas"):
        penalty = _choose_penalty(x, y, counts, np.asarray(groups), num_classes, penalties, num_folds)
        scaler = StandardScaler().fit(x)
        solved = LogisticRegression(C=penalty, max_iter=1000).fit(scaler.transform(x), y, counts)
    coefficients, intercepts = solved.coef_, solved.intercept_
    if len(found) == 2:
        # For two classes, scikit-learn returns one row: the logit of the second class.
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    coefficients = coefficients / scaler.scale_
    intercepts = intercepts - coefficients @ scaler.mean_
    weight = np.zeros((num_classes, x.shape[1]))
    bias = np.full(num_classes, intercepts.min() - np.log(len(y)))
    weight[found], bias[found] = coefficients, intercepts
    return LinearProbe(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), penalty)


def _solve_findings(
    features: Tensor,
    labels: Tensor,
    groups: Sequence[str],
    penalties: Sequence[float],
    num_folds: int,
    positive_weights: Tensor | None,
) -> LinearProbe:
    """Solve a probe for each finding. One that is always or never there gets its share as a constant answer."""
    weights, biases, chosen = [], [], []
    for finding, column in enumerate(labels.unbind(1)):
        rows = (column >= 0).nonzero().flatten()
        truth = column[rows]
        if len(truth.unique()) < 2:
            share = (truth.sum() + 1) / (len(truth) + 2)
            weights.append(torch.zeros(features.shape[1]))
            biases.append(share.logit())
            continue
        pair = None if positive_weights is None else torch.tensor([1.0, float(positive_weights[finding])])
        of_rows = [groups[row] for row in rows.tolist()]
        probe = solve_linear_probe(features[rows.to(features.device)], truth, of_rows, 2, penalties, num_folds, pair)
        # The softmax of two logits is the sigmoid of their difference.
        weights.append(probe.weight[1] - probe.weight[0])
        biases.append(probe.bias[1] - probe.bias[0])
        chosen.append(probe.penalty)
    if not chosen:
        raise ValueError("a linear probe needs a finding that some labeled images have, and others do not.")
    return LinearProbe(torch.stack(weights), torch.stack(biases), float(np.exp(np.mean(np.log(chosen)))))


def _choose_penalty(
    x: NDArray[np.float64],
    y: NDArray[np.int64],
    counts: NDArray[np.float64],
    groups: NDArray[np.str_],
    num_classes: int,
    penalties: Sequence[float],
    num_folds: int,
) -> float:
    """Return the penalty with the lowest mean cross-entropy on held-out images, weighted by ``counts``."""
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
