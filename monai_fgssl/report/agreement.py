# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure on the test part how far the agreement of the stages can be believed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import binomial_interval, decide
from monai_fgssl.utils.words import percent_text

from .style import BLUE, VERMILION, literal, save_figure, style

__all__ = ["count_agreeing", "measure_agreement", "plot_agreement", "sentence_on_agreement"]


def count_agreeing(predictions: PredictionCollector) -> NDArray[np.int64]:
    """Number of steps that alone decide for the class that the whole network decides for, ``(N,)``.

    The steps are the stages and their concatenation.
    """
    of_steps = predictions.task.probabilities(predictions.stage_logits).unbind(1)
    alone = np.stack([decide(step, predictions.adjustment) for step in of_steps], axis=1)
    return (alone == predictions.predicted[:, None]).sum(1)


def measure_agreement(predictions: PredictionCollector) -> dict[str, Any] | None:
    """Measure the accuracy of the images on which a number of steps agree with the prediction.

    Args:
        predictions: predictions of labeled images, one class for each image.

    Returns:
        ``steps``: number of steps. ``rows``: for each number of agreeing steps that occurs, from all down to none,
        ``agreeing``, ``images``, ``accuracy`` with ``value``, ``low`` and ``high`` (95 %, Clopper-Pearson), and
        ``probability``, the mean of the predicted class. ``ranking``: the chance that a right prediction has a higher
        value than a wrong one (AUC; equal values count half), for ``agreement`` and for ``probability``; None when all
        predictions are right or all are wrong. None for a single step.
    """
    steps = predictions.stage_logits.shape[1]
    if steps == 1 or predictions.task.independent:
        return None
    agreeing, right, confidence = _columns(predictions)
    rows = []
    for number in sorted(np.unique(agreeing), reverse=True):
        here = agreeing == number
        low, high = binomial_interval(int(right[here].sum()), int(here.sum()))
        rows.append(
            {
                "agreeing": int(number),
                "images": int(here.sum()),
                "accuracy": {"value": float(right[here].mean()), "low": low, "high": high},
                "probability": float(confidence[here].mean()),
            }
        )
    ranking = None
    if 0 < right.sum() < len(right):
        ranking = {
            "agreement": float(roc_auc_score(right, agreeing)),
            "probability": float(roc_auc_score(right, confidence)),
        }
    return {"steps": steps, "rows": rows, "ranking": ranking}


def _columns(predictions: PredictionCollector) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Agreeing steps, whether the prediction is right, and its probability, each ``(N,)``."""
    decided, probabilities = np.asarray(predictions.predicted), predictions.probabilities.double().numpy()
    right = decided == predictions.labels.numpy()
    return count_agreeing(predictions), right, probabilities[np.arange(len(decided)), decided]


def sentence_on_agreement(found: Mapping[str, Any]) -> str:
    """Put the result of :func:`measure_agreement` into words."""
    first = found["rows"][0]
    text = (
        f"Where {first['agreeing']} of {found['steps']} steps agree with the prediction ({first['images']:,} images), "
        f"it is right for {percent_text(first['accuracy'])}"
    )
    rest = found["rows"][1:]
    if rest:
        images = sum(row["images"] for row in rest)
        right = round(sum(row["images"] * row["accuracy"]["value"] for row in rest))
        low, high = binomial_interval(right, images)
        share = {"value": right / images, "low": low, "high": high}
        text += f"; where fewer agree ({images:,} images), for {percent_text(share)}"
    text += "."
    if found["ranking"]:
        text += (
            " To tell right from wrong predictions, the number of agreeing steps has an AUC of "
            f"{found['ranking']['agreement']:.2f}, and the probability has {found['ranking']['probability']:.2f}."
        )
    return text


def plot_agreement(found: Mapping[str, Any], path: str | Path | None = None, title: str = "") -> Figure:
    """Draw the accuracy and the mean probability over the number of steps that agree with the prediction.

    Args:
        found: result of :func:`measure_agreement`.
        path: file to save to; the suffix chooses the format.
        title: text above the figure.

    Returns:
        The figure.
    """
    rows, steps = found["rows"], found["steps"]
    numbers = [row["agreeing"] for row in rows]
    images = {row["agreeing"]: row["images"] for row in rows}
    values, low, high = (np.array([row["accuracy"][name] for row in rows]) for name in ("value", "low", "high"))
    with style():
        figure = Figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.subplots()
        ends = np.stack([values - low, high - values])
        axes.errorbar(numbers, values, ends, fmt="o", color=BLUE, capsize=3, label="share that is right")
        means = [row["probability"] for row in rows]
        axes.plot(numbers, means, "_", color=VERMILION, markersize=16, mew=2, label="mean probability")
        axes.set(xlabel="steps that agree with the prediction", xlim=(-0.5, steps + 0.5), ylim=(0, 1.02))
        axes.set_xticks(range(steps + 1), [f"{number}\nn={images.get(number, 0):,}" for number in range(steps + 1)])
        axes.set_title(literal(title) or f"{sum(images.values())} images")
        figure.legend(loc="outside lower center", ncols=2, fontsize=8)
        if path is not None:
            save_figure(figure, path)
    return figure
