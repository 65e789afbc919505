# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Tell how much of a result is due to the seed of the fine-tuning or the fold, and how much to the test images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_fgssl.tasks import Task
from monai_fgssl.utils.words import capitalized, interval_text, readable

from .stored import Stored

__all__ = ["measure_chance", "measure_folds", "sentence_on_chance", "sentence_on_folds", "sentence_on_joined"]

STANDARD_DEVIATIONS = 2 * 1.959964
"""Width of the 95 % interval of a normal distribution."""


def measure_chance(
    task: Task,
    probabilities: NDArray[np.float64],
    labels: Tensor,
    groups: Sequence[str],
    predicted: NDArray[np.int64],
) -> dict[str, dict[str, float]]:
    """Standard deviation of each metric over the seeds, and over test images like these.

    Args:
        task: task of the predictions.
        probabilities: of each seed, ``(S, N, num_classes)``.
        labels: labels of the ``N`` images.
        groups: their lesions or patients.
        predicted: decisions of each seed, ``(S, N)`` or ``(S, N, num_classes)``.

    Returns:
        ``seeds`` and ``images`` for each metric. ``seeds`` is the standard deviation of the S values. ``images`` is
        that of the bootstrap over lesions or patients for one seed, the mean over the seeds: the width of its 95 %
        interval divided by 3.92. Empty for a single seed.
    """
    if len(probabilities) < 2:
        return {}
    values, images = _of_seeds(task, probabilities, labels, groups, predicted)
    return {
        name: {"seeds": float(seed), "images": float(image)}
        for name, seed, image in zip(task.metrics, values.std(0, ddof=1), images, strict=True)
    }


def measure_folds(task: Task, parts: Sequence[Stored]) -> tuple[list[dict[str, float]], dict[str, dict[str, float]]]:
    """Metrics of each fold, and what they vary with.

    Args:
        task: task of the predictions.
        parts: predictions of each fold.

    Returns:
        Metrics of each fold, means over its seeds. And standard deviations for each metric: ``folds`` is that of the
        folds' metrics. ``images`` is that of one fold's metric by the choice of its test images, as in
        :func:`measure_chance`, and with several seeds ``seeds`` is that of one fold's metric over them; both are root
        mean squares over the folds.
    """
    found = [_of_seeds(task, p.probabilities, torch.from_numpy(p.labels), p.groups, p.predicted) for p in parts]
    means = np.stack([values.mean(0) for values, _ in found])
    rows = {"folds": means.std(0, ddof=1), "images": _root_mean_square([images for _, images in found])}
    if all(len(values) > 1 for values, _ in found):
        rows["seeds"] = _root_mean_square([values.std(0, ddof=1) for values, _ in found])
    folds = [dict(zip(task.metrics, of_fold.tolist(), strict=True)) for of_fold in means]
    return folds, {
        name: {kind: float(values[place]) for kind, values in rows.items()} for place, name in enumerate(task.metrics)
    }


def _of_seeds(
    task: Task,
    probabilities: NDArray[Any],
    labels: Tensor,
    groups: Sequence[str],
    predicted: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metrics of each seed, ``(S, M)``, and the standard deviation of each by the choice of the images, ``(M,)``."""
    values, widths = [], []
    for of_seed, decided in zip(probabilities, predicted, strict=True):
        rows = task.intervals(of_seed[None], labels, groups, predicted=decided[None])
        values.append([rows[name]["value"] for name in task.metrics])
        widths.append([rows[name]["high"] - rows[name]["low"] for name in task.metrics])
    return np.array(values), np.mean(widths, axis=0) / STANDARD_DEVIATIONS


def _root_mean_square(values: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.sqrt(np.mean(np.square(values), axis=0))


def sentence_on_chance(found: Mapping[str, Mapping[str, float]], metric: str, seeds: int) -> str:
    """Put the result of :func:`measure_chance` for a metric into words."""
    one = found[metric]
    return (
        f"Chance, as a standard deviation of {readable(metric)}: {one['seeds']:.3f} from the seed of the fine-tuning "
        f"({seeds} seeds), {one['images']:.3f} from the choice of the test images."
    )


def sentence_on_folds(
    folds: Sequence[Mapping[str, float]], found: Mapping[str, Mapping[str, float]], metric: str
) -> str:
    """Put the result of :func:`measure_folds` for a metric into words."""
    one, values = found[metric], ", ".join(f"{fold[metric]:.3f}" for fold in folds)
    seed = f", the seed of the fine-tuning one of {one['seeds']:.3f}" if "seeds" in one else ""
    return (
        f"{capitalized(readable(metric))} of each fold: {values}; standard deviation {one['folds']:.3f}. The choice of "
        f"a fold's test images alone makes a standard deviation of {one['images']:.3f}{seed}."
    )


def sentence_on_joined(content: Mapping[str, Any], metric: str) -> str:
    """Compare the one model of all seeds with its members.

    Args:
        content: content of ``metrics.json`` with ``joined``.
        metric: name of the metric.
    """
    row, single = content["joined"]["metrics"][metric], next(iter(content["methods"].values()))[metric]
    return (
        f"The one model of all {content['seeds']} seeds ({content['joined']['file']}) has a {readable(metric)} of "
        f"{interval_text(row)}; its members have {single['value']:.3f} on average."
    )
