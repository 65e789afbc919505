# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Data for reviewers: the model's suggestions and doubts, similar images, and agreement between people."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from sklearn.metrics import cohen_kappa_score

from monai_fgssl.metrics import DecisionRule, decide, nearest_neighbors
from monai_fgssl.metrics.acquisition import entropy_scores
from monai_fgssl.metrics.uncertainty import yes_and_no
from monai_fgssl.tasks import MULTICLASS, TASKS, Task

from .answers import Label
from .scores import Scores

__all__ = ["agreements", "similar", "suggestions"]


def suggestions(
    scores: Scores,
    class_names: Sequence[str],
    temperature: float = 1.0,
    adjustment: DecisionRule | None = None,
    task: Task = TASKS[MULTICLASS],
) -> dict[str, tuple[Label, float]]:
    """Return what is predicted for each scored image, and the model's doubt: 0 (sure) to 1 (all classes alike).

    Args:
        scores: scores of one model.
        class_names: names of the classes of the same model.
        temperature: see :func:`~monai_fgssl.report.results.describe`.
        adjustment: see :func:`~monai_fgssl.report.results.describe`.
        task: task of the model.
    """
    # A copy: the scorer adds to it meanwhile.
    logits = dict(scores.stage_logits)
    if not logits:
        return {}
    # The mean of the logits, as pick() uses it for the next image.
    stacked = torch.stack(list(logits.values()))
    prob = task.probabilities(stacked.mean(1))
    doubts = entropy_scores(yes_and_no(prob) if task.independent else prob)
    decided = decide(task.probabilities(stacked.sum(1) / temperature), adjustment)
    return {
        name: (_label_from(one, class_names), round(doubt, 4))
        for name, one, doubt in zip(logits, decided.tolist(), doubts.tolist(), strict=True)
    }


def _label_from(decided: int | list[bool], class_names: Sequence[str]) -> Label:
    """Name the class of a number, or the findings that are True."""
    if isinstance(decided, list):
        return tuple(name for name, there in zip(class_names, decided, strict=True) if there)
    return class_names[decided]


def similar(scores: Scores, image: str, labeled: Mapping[str, Label], neighbors: int) -> list[dict[str, Any]]:
    """Find the labeled images whose features are most similar to those of an image.

    See :func:`~monai_fgssl.metrics.nearest_neighbors`.

    Args:
        scores: scores of a model, with its features.
        image: image to compare with; it is never one of its own neighbors.
        labeled: class or findings of each labeled image.
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


def agreements(
    readings: Mapping[str, Mapping[str, Label]], findings: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Compute the agreement of each pair of people on the images that both have labeled.

    Args:
        readings: for each image, the class or the findings that each person gave.
        findings: names of the findings; None: each image has one class.

    Returns:
        For each pair with an image in common: ``people``, ``images`` (how many), ``agreed`` (how many), ``kappa``
        (None if both have named one class only, since they then agree by chance too), and ``differ`` (their images).
        With findings, ``kappa`` is None, images are those with the same findings, and ``findings`` has for each of them
        ``name``, ``agreed`` and ``kappa``.

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
        pairs = list(common.values())
        pair: dict[str, Any] = {
            "people": [first, second],
            "images": len(common),
            "agreed": len(common) - len(differ),
            "kappa": _kappa(pairs) if findings is None else None,
            "differ": differ,
        }
        if findings is not None:
            pair["findings"] = [
                {"name": name, "agreed": sum(a == b for a, b in answers), "kappa": _kappa(answers)}
                for name in findings
                for answers in [[(name in a, name in b) for a, b in pairs]]
            ]
        found.append(pair)
    return found


def _kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Cohen's kappa of pairs of answers; None if there is one answer only."""
    if len({answer for pair in pairs for answer in pair}) < 2:
        return None
    first, second = zip(*pairs, strict=True)
    return round(float(cohen_kappa_score(first, second)), 4)


def _both(own: Collection[str], people: Collection[str]) -> bool:
    return all(person in own for person in people)
