# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Data for reviewers: the model's suggestions and doubts, similar images, and agreement between people."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from sklearn.metrics import cohen_kappa_score

from monai_fgssl.metrics import LogitAdjustment, decide, nearest_neighbors
from monai_fgssl.metrics.acquisition import entropy_scores

from .scores import Scores

__all__ = ["agreements", "similar", "suggestions"]


def suggestions(
    scores: Scores, class_names: Sequence[str], temperature: float = 1.0, adjustment: LogitAdjustment | None = None
) -> dict[str, tuple[str, float]]:
    """Return the predicted class of each scored image, and the model's doubt: 0 (sure) to 1 (all classes alike).

    Args:
        scores: scores of one model.
        class_names: names of the classes of the same model.
        temperature: see :func:`~monai_fgssl.report.results.describe`.
        adjustment: see :func:`~monai_fgssl.report.results.describe`.
    """
    # A copy: the scorer adds to it meanwhile.
    logits = dict(scores.stage_logits)
    if not logits:
        return {}
    # The mean of the logits, as pick() uses it for the next image.
    stacked = torch.stack(list(logits.values()))
    doubts = entropy_scores(stacked.mean(1).softmax(1))
    decided = decide((stacked.sum(1) / temperature).softmax(1), adjustment)
    return {
        name: (class_names[index], round(doubt, 4))
        for name, index, doubt in zip(logits, decided.tolist(), doubts.tolist(), strict=True)
    }


def similar(scores: Scores, image: str, labeled: Mapping[str, str], neighbors: int) -> list[dict[str, Any]]:
    """Find the labeled images whose features are most similar to those of an image.

    See :func:`~monai_fgssl.metrics.nearest_neighbors`.

    Args:
        scores: scores of a model, with its features.
        image: image to compare with; it is never one of its own neighbors.
        labeled: class of each labeled image.
        neighbors: largest number of neighbors.

    Returns:
        ``id``, ``class`` and ``similarity`` of each, the most similar first; empty while there are no features.
    """
    known = [name for name in labeled if name != image and name in scores.features]
    if not known or image not in scores.features:
        return []
    features = torch.stack([scores.features[name] for name in known])
    similarity, indices = nearest_neighbors(features, scores.features[image][None], neighbors)
    return [
        {"id": known[index], "class": labeled[known[index]], "similarity": round(value, 4)}
        for index, value in zip(indices[0].tolist(), similarity[0].tolist(), strict=True)
    ]


def agreements(readings: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
    """Compute the agreement of each pair of people on the images that both have labeled.

    Args:
        readings: for each image, the class that each person gave.

    Returns:
        For each pair with an image in common: ``people``, ``images`` (how many), ``agreed`` (how many), ``kappa``
        (None if both have named one class only, since they then agree by chance too), and ``differ`` (their images).

    Source:
        Cohen, "A coefficient of agreement for nominal scales", 1960.
    """
    people = sorted({person for own in readings.values() for person in own})
    found = []
    for first, second in combinations(people, 2):
        common = {name: (own[first], own[second]) for name, own in readings.items() if _both(own, (first, second))}
        if not common:
            continue
        differ = [name for name, (a, b) in common.items() if a != b]
        labels = list(zip(*common.values(), strict=True))
        is_defined = len({*labels[0], *labels[1]}) > 1
        found.append(
            {
                "people": [first, second],
                "images": len(common),
                "agreed": len(common) - len(differ),
                "kappa": round(float(cohen_kappa_score(*labels)), 4) if is_defined else None,
                "differ": differ,
            }
        )
    return found


def _both(own: Collection[str], people: Collection[str]) -> bool:
    return all(person in own for person in people)
