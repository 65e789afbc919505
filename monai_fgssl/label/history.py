# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""History of the trainings: their test metrics, and how many more labels make the next one worthwhile."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_fgssl.utils.files import atomic_write

__all__ = ["labels_until_better", "read_trainings", "remember_training"]

FIGURES = {False: ("accuracy", "balanced_accuracy"), True: ("macro_auc", "macro_f1")}
"""Metrics that are remembered: of trainings with one class for each image, and of those with several findings. The
first one tells how good a training is."""

FIRST_EXPONENT = 0.5
"""Exponent of the learning curve after one training: the error falls with the square root of the number of labels."""

SMALLEST_EXPONENT = 0.05
"""Below this exponent the curve is flat: twice as many labels remove only 3 % of the errors."""


def remember_training(bundle_root: Path, num_labels: int, several: bool = False) -> None:
    """Append the metrics of the training that has just ended to the history.

    Args:
        bundle_root: the bundle's folder.
        num_labels: number of labeled images of the training, test images included.
        several: True if an image may have several findings.
    """
    content = json.loads((_output(bundle_root) / "train" / "metrics.json").read_text(encoding="utf-8"))
    metrics = next(iter(content["methods"].values()), None)
    # Without test images there is nothing to compare.
    if metrics is None or any(metrics.get(name, {}).get("value") is None for name in FIGURES[several]):
        return
    entry = {"num_labels": num_labels, "num_test_images": content["num_test_images"]}
    entry |= {name: metrics[name] for name in FIGURES[several]}
    with atomic_write(_output(bundle_root) / "trainings.json") as temporary:
        temporary.write_text(json.dumps([*_read_all(bundle_root), entry], indent=2), encoding="utf-8")


def read_trainings(bundle_root: Path, several: bool = False) -> list[dict[str, Any]]:
    """Read the trainings so far, oldest first: ``num_labels``, ``num_test_images``, and metrics with intervals.

    Args:
        bundle_root: the bundle's folder.
        several: see :func:`remember_training`. Trainings of the other kind are left out.
    """
    return [entry for entry in _read_all(bundle_root) if FIGURES[several][0] in entry]


def _read_all(bundle_root: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads((_output(bundle_root) / "trainings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return content if isinstance(content, list) and all(map(_is_training, content)) else []


def _is_training(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and all(isinstance(entry.get(name), int) for name in ("num_labels", "num_test_images"))
        and any(
            all(isinstance(entry.get(name), dict) and {"value", "low", "high"} <= entry[name].keys() for name in names)
            for names in FIGURES.values()
        )
    )


def labels_until_better(trainings: Sequence[Mapping[str, Any]], num_labels: int, gain: float = 0.01) -> int | None:
    """Estimate how many more labels let a training gain accuracy, or macro AUC if images have several findings.

    A power law is fitted to the errors of the trainings. After one training, its exponent is :data:`FIRST_EXPONENT`.

    Args:
        trainings: result of :func:`read_trainings`.
        num_labels: number of labels now.
        gain: smallest gain of accuracy that is worth a training.

    Returns:
        Number of labels; 0 if a training is worthwhile now; None before the first training, or if more labels would
        change little.

    Source:
        Cortes et al., "Learning curves: asymptotic values and rate of convergence", NeurIPS 1993.
    """
    if not trainings:
        return None
    counts = np.array([entry["num_labels"] for entry in trainings], float)
    # No mistake in n images does not mean that the error is 0: count half a mistake.
    values = [next(entry[names[0]]["value"] for names in FIGURES.values() if names[0] in entry) for entry in trainings]
    least = [0.5 / entry["num_test_images"] for entry in trainings]
    errors = np.maximum(1 - np.array(values), least)
    exponent = FIRST_EXPONENT
    if len(set(counts)) > 1:
        exponent = -float(np.polyfit(np.log(counts), np.log(errors), 1)[0])
    if exponent < SMALLEST_EXPONENT or errors[-1] <= gain:
        return None
    wanted = counts[-1] * (1 - gain / errors[-1]) ** (-1 / exponent)
    return max(0, math.ceil(wanted) - num_labels)


def _output(bundle_root: Path) -> Path:
    return bundle_root / "output"
