# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure doubt on the test part: sets of possible classes, and images that are referred to a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import binomial_interval, risk_coverage

from .style import COLORS, INK, literal, save_figure, style

__all__ = ["measure_abstention", "plot_risk_coverage", "sentence_on_abstention"]


def measure_abstention(predictions: PredictionCollector, class_names: Sequence[str]) -> dict[str, Any] | None:
    """Measure the sets of possible classes on labeled images.

    An image is kept (``triage`` is ``predict``) when its set has one class, and referred otherwise.

    Args:
        predictions: predictions of the test part, with ``prediction_sets``.
        class_names: names of the classes, one for each score.

    Returns:
        ``wanted`` (coverage), ``covered`` (share of sets with the true class), ``kept`` (share of images with one
        possible class), ``accuracy`` of all and ``accuracy_kept`` (None when nothing is kept), each with ``value``,
        ``low``, ``high`` (95 %, Clopper-Pearson) and ``images``; ``mean_size`` of the sets; ``covered_by_class``; and
        ``risk_area`` under the risk-coverage curve. None without ``prediction_sets``.
    """
    sets = predictions.prediction_sets
    if sets is None:
        return None
    probabilities, labels = predictions.probabilities.double().numpy(), predictions.labels.numpy()
    decided = predictions.predicted
    inside = sets.contains(probabilities, decided)
    covered = inside[np.arange(len(labels)), labels]
    kept = inside.sum(1) == 1
    right = decided == labels
    return {
        "wanted": sets.coverage,
        "covered": _share(covered),
        "kept": _share(kept),
        "accuracy": _share(right),
        "accuracy_kept": _share(right[kept]) if kept.any() else None,
        "mean_size": float(inside.sum(1).mean()),
        "covered_by_class": {
            name: _share(covered[labels == k]) for k, name in enumerate(class_names) if (labels == k).any()
        },
        "risk_area": risk_coverage(_confidence(probabilities, decided), right)[2],
    }


def _confidence(probabilities: NDArray[np.float64], decided: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of the class that is decided for, ``(N,)``."""
    return probabilities[np.arange(len(decided)), decided]


def _share(hits: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, float]:
    low, high = binomial_interval(int(hits.sum()), len(hits))
    return {"value": float(hits.mean()), "low": low, "high": high, "images": len(hits)}


def sentence_on_abstention(found: Mapping[str, Any]) -> str:
    """Put the result of :func:`measure_abstention` into words."""
    covered, kept = found["covered"], found["kept"]
    text = (
        f"The set of possible classes held the true class of {_percent(covered)} of the test images "
        f"({found['wanted']:.0%} were wanted) and had {found['mean_size']:.1f} classes on average. "
    )
    if found["accuracy_kept"] is None:
        return text + "No image had only one possible class: a person should look at all of them."
    return text + (
        f"Only one class was possible for {kept['value']:.0%} of the images, and it was right for "
        f"{_percent(found['accuracy_kept'])} of these; of all images {found['accuracy']['value']:.0%} were right."
    )


def _percent(share: Mapping[str, float]) -> str:
    return f"{share['value']:.0%} [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"


def plot_risk_coverage(predictions: PredictionCollector, path: str | Path | None = None, title: str = "") -> Figure:
    """Draw the error of the kept images over the share of kept images. The surest images are kept first.

    Args:
        predictions: predictions of labeled images. Where they have ``prediction_sets``, a point shows the images with
            one possible class.
        path: file to save to; the suffix chooses the format.
        title: text above the figure.

    Returns:
        The figure.
    """
    probabilities, labels = predictions.probabilities.double().numpy(), predictions.labels.numpy()
    decided = predictions.predicted
    right = decided == labels
    kept, risk, area = risk_coverage(_confidence(probabilities, decided), right)
    with style():
        figure = Figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(kept, risk, color=COLORS[0], label=f"surest images first (area {area:.3f})")
        axes.axhline(1 - right.mean(), color=INK, linewidth=0.8, linestyle=":", label="all images")
        if predictions.prediction_sets is not None:
            alone = predictions.prediction_sets.contains(probabilities, decided).sum(1) == 1
            if alone.any():
                axes.plot(alone.mean(), 1 - right[alone].mean(), "o", color=COLORS[1], label="one possible class")
        axes.set(xlabel="share of the images that is kept", ylabel="error among them", xlim=(0, 1.02))
        axes.set_ylim(bottom=0)
        axes.set_title(literal(title) or f"{len(labels)} images")
        axes.legend(loc="upper left", fontsize=8)
        if path is not None:
            save_figure(figure, path)
    return figure
