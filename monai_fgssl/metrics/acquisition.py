# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Active learning: choose the images to label next by uncertainty, by diversity of features, or by both."""

from __future__ import annotations

import torch
from torch import Tensor

from .uncertainty import disagreement, margin, predictive_entropy

__all__ = ["STRATEGIES", "choose", "core_set", "disagreement_scores", "entropy_scores", "margin_scores", "mix"]

STRATEGIES = ("random", "entropy", "margin", "disagreement", "core_set", "mix")
"""Names of the strategies of :func:`choose`."""

# Largest number of distances in memory at once: 64 MB.
BLOCK = 2**24
PREFILTER = 10
"""Factor of :func:`mix`: to choose k images, it considers the ``PREFILTER * k`` most uncertain images."""


def entropy_scores(prob: Tensor) -> Tensor:
    """Entropy of each prediction; a high value means that the network is unsure between all classes.

    Args:
        prob: probabilities ``(N, num_classes)`` that add up to 1 in each row, at least 2 classes; or, of findings,
            ``(N, num_findings, 2)``, see :func:`~monai_fgssl.metrics.uncertainty.yes_and_no`.

    Returns:
        Scores ``(N,)`` in [0, 1]; of findings the mean over the findings.

    Source:
        Settles, "Active Learning Literature Survey", 2009, sec. 3.1.
    """
    scores = predictive_entropy(prob)
    return scores.mean(1) if scores.ndim == 2 else scores


def margin_scores(prob: Tensor) -> Tensor:
    """Closeness of the two highest probabilities; a high value means that the network hesitates between two classes.

    Args:
        prob: probabilities ``(N, num_classes)``, at least 2 classes; or, of findings, ``(N, num_findings, 2)``.

    Returns:
        Scores ``(N,)`` in [0, 1]; of findings that of the finding which the network hesitates about most.

    Source:
        Scheffer et al., "Active Hidden Markov Models for Information Extraction", IDA 2001, sec. 3.
    """
    scores = 1 - margin(prob)
    return scores.amax(1) if scores.ndim == 2 else scores


def disagreement_scores(stage_prob: Tensor) -> Tensor:
    """Disagreement between the stages of one network, as in query by committee, but without more networks.

    Args:
        stage_prob: probabilities of each stage, ``(N, num_stages, num_classes)``, at least 2 classes; or, of findings,
            ``(N, num_findings, num_stages, 2)``.

    Returns:
        Scores ``(N,)`` in [0, 1]; high: the stages are sure of different classes. Of findings the mean over the
        findings. See :func:`~monai_fgssl.metrics.disagreement`.

    Source:
        McCallum & Nigam, "Employing EM and Pool-Based Active Learning for Text Classification", ICML 1998, sec. 4.
    """
    scores = disagreement(stage_prob)
    return scores.mean(1) if scores.ndim == 2 else scores


def core_set(features: Tensor, labeled_features: Tensor, k: int) -> Tensor:
    """Choose one image after another, each time the farthest from all labeled and chosen images (greedy k-center).

    Memory is bounded: distances to the labeled images are computed block by block.

    Args:
        features: features of the images to choose from, ``(N, D)``; distances are Euclidean.
        labeled_features: features of the labeled images, ``(M, D)``; with M = 0 the image nearest to the mean of all
            comes first.
        k: number of images, at most N.

    Returns:
        int64 ``(k,)``, positions in the order in which they were chosen.

    Raises:
        ValueError: when there are fewer than k images.

    Source:
        Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
        algorithm 1: https://arxiv.org/abs/1708.00489
    """
    _check_count(k, len(features))
    if k == 0:
        return torch.empty(0, dtype=torch.int64)
    chosen: list[int] = []
    if len(labeled_features):
        nearest = _nearest_distance(features, labeled_features)
    else:
        chosen.append(int((features - features.mean(0)).norm(dim=1).argmin()))
        nearest = (features - features[chosen[0]]).norm(dim=1)
        # A chosen image must not be chosen again, even if several images have the same features.
        nearest[chosen[0]] = -1
    while len(chosen) < k:
        farthest = int(nearest.argmax())
        chosen.append(farthest)
        nearest = torch.minimum(nearest, (features - features[farthest]).norm(dim=1))
        nearest[farthest] = -1
    return torch.tensor(chosen)


def _nearest_distance(features: Tensor, labeled_features: Tensor) -> Tensor:
    """Distance of each row of features to the nearest row of labeled features."""
    rows = max(1, BLOCK // len(labeled_features))
    return torch.cat([torch.cdist(block, labeled_features).amin(1) for block in features.split(rows)])


def mix(prob: Tensor, features: Tensor, labeled_features: Tensor, k: int, prefilter: int = PREFILTER) -> Tensor:
    """Choose diverse images among uncertain images: the core set of the images with the highest :func:`margin_scores`.

    Uncertainty alone picks near-copies of one hard case in the same batch. The core set alone picks outliers that the
    network is sure of.

    Args:
        prob: probabilities, as in :func:`margin_scores`.
        features: features of the same images, ``(N, D)``.
        labeled_features: features of the labeled images, ``(M, D)``.
        k: number of images, at most N.
        prefilter: factor; the core set is chosen from the ``prefilter * k`` most uncertain images.

    Returns:
        int64 ``(k,)``, positions in the order in which they were chosen.

    Raises:
        ValueError: when there are fewer than k images.

    Source:
        Zhdanov, "Diverse mini-batch Active Learning", 2019, sec. 3 (margin, prefilter of 10 times the batch):
        https://arxiv.org/abs/1901.05954; with the core set in place of its k-means.
    """
    _check_count(k, len(features))
    uncertain = _highest(margin_scores(prob), min(prefilter * k, len(prob)))
    return uncertain[core_set(features[uncertain], labeled_features, k)]


def choose(
    strategy: str,
    num_images: int,
    k: int,
    *,
    prob: Tensor | None = None,
    stage_prob: Tensor | None = None,
    features: Tensor | None = None,
    labeled_features: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Choose the images to label next.

    Args:
        strategy: one of :data:`STRATEGIES`.
        num_images: number of unlabeled images to choose from, N.
        k: number of images to choose, at most N.
        prob: probabilities as in :func:`entropy_scores`; for ``"entropy"``, ``"margin"`` and ``"mix"``.
        stage_prob: probabilities of each stage as in :func:`disagreement_scores`; for ``"disagreement"``.
        features: features ``(N, D)``; for ``"core_set"`` and ``"mix"``.
        labeled_features: features of the labeled images, ``(M, D)``, M may be 0; for ``"core_set"`` and ``"mix"``.
        generator: random generator for ``"random"``; None: torch's global generator.

    Returns:
        int64 ``(k,)``, positions, with the most useful image first.

    Raises:
        ValueError: when the strategy is unknown, an argument that it needs is missing or has another length, or k
            exceeds N.

    Example:
        >>> choose("margin", 3, 2, prob=torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.7, 0.3]]))
        tensor([1, 2])
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}.")
    _check_count(k, num_images)

    def need(name: str, values: Tensor | None, per_image: bool = True) -> Tensor:
        if values is None:
            raise ValueError(f"strategy {strategy!r} needs {name}.")
        if per_image and len(values) != num_images:
            raise ValueError(f"{name} must have a row for each of the {num_images} images, got {len(values)}.")
        return values

    if strategy == "random":
        return torch.randperm(num_images, generator=generator)[:k]
    if strategy == "entropy":
        return _highest(entropy_scores(need("prob", prob)), k)
    if strategy == "margin":
        return _highest(margin_scores(need("prob", prob)), k)
    if strategy == "disagreement":
        return _highest(disagreement_scores(need("stage_prob", stage_prob)), k)
    known = need("labeled_features", labeled_features, per_image=False)
    if strategy == "core_set":
        return core_set(need("features", features), known, k)
    return mix(need("prob", prob), need("features", features), known, k)


def _highest(scores: Tensor, k: int) -> Tensor:
    """Positions of the k highest scores. Among equal scores, the first positions are chosen, on every machine."""
    return scores.argsort(descending=True, stable=True)[:k]


def _check_count(k: int, num_images: int) -> None:
    if not 0 <= k <= num_images:
        raise ValueError(f"k must be from 0 to the number of images, {num_images}, got {k}.")
