# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The course of the trainings: what each gave on its test images, and how many labels make the next one worth it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_fgssl.utils.files import atomic_write

__all__ = ["labels_until_better", "read_trainings", "remember_training"]

FIGURES = ("accuracy", "balanced_accuracy")
FIRST_EXPONENT = 0.5
"""Exponent of the learning curve while there is one training only: the error falls with the root of the labels."""

SMALLEST_EXPONENT = 0.05
"""Below it, the curve is flat: twice as many labels take 3 % of the errors away."""


def remember_training(bundle_root: Path, num_labels: int) -> None:
    """Add the figures of the training that has just ended to those of the trainings before.

    Args:
        bundle_root: the bundle's folder.
        num_labels: labeled images that the training had, the test images included.
    """
    content = json.loads((_output(bundle_root) / "train" / "metrics.json").read_text(encoding="utf-8"))
    metrics = next(iter(content["methods"].values()), None)
    # Without test images there is nothing to compare.
    if metrics is None or any(metrics.get(name, {}).get("value") is None for name in FIGURES):
        return
    entry = {"num_labels": num_labels, "num_test_images": content["num_test_images"]}
    entry |= {name: metrics[name] for name in FIGURES}
    with atomic_write(_output(bundle_root) / "trainings.json") as temporary:
        temporary.write_text(json.dumps([*read_trainings(bundle_root), entry], indent=2), encoding="utf-8")


def read_trainings(bundle_root: Path) -> list[dict[str, Any]]:
    """Trainings so far, the last at the end: ``num_labels``, ``num_test_images``, and figures with their intervals."""
    try:
        content = json.loads((_output(bundle_root) / "trainings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return content if isinstance(content, list) and all(map(_is_training, content)) else []


def _is_training(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name), int) for name in ("num_labels", "num_test_images"))
        and all(
            isinstance(entry.get(name), dict) and {"value", "low", "high"} <= entry[name].keys() for name in FIGURES
        )
    )


def labels_until_better(trainings: Sequence[Mapping[str, Any]], num_labels: int, gain: float = 0.01) -> int | None:
    """Number of further labels that let a training gain something.

    A power law through the errors of the trainings says it; with one training, the law of :data:`FIRST_EXPONENT`.

    Args:
        trainings: result of :func:`read_trainings`.
        num_labels: number of labels now.
        gain: accuracy that is worth a training.

    Returns:
        0 when a training pays now; None when nothing is known, or when more labels change little.

    Source:
        Cortes et al., "Learning curves: asymptotic values and rate of convergence", NeurIPS 1993.
    """
    if not trainings:
        return None
    counts = np.array([entry["num_labels"] for entry in trainings], float)
    # Without a mistake in n images the error is not 0: half a mistake is counted.
    errors = np.array([max(1 - entry["accuracy"]["value"], 0.5 / entry["num_test_images"]) for entry in trainings])
    exponent = FIRST_EXPONENT
    if len(set(counts)) > 1:
        exponent = -float(np.polyfit(np.log(counts), np.log(errors), 1)[0])
    if exponent < SMALLEST_EXPONENT or errors[-1] <= gain:
        return None
    wanted = counts[-1] * (1 - gain / errors[-1]) ** (-1 / exponent)
    return max(0, math.ceil(wanted) - num_labels)


def _output(bundle_root: Path) -> Path:
    return bundle_root / "output"
