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
from monai_fgssl.metrics import FindingSets, binomial_interval, risk_coverage
from monai_fgssl.metrics.triage import is_unlike
from monai_fgssl.utils.errors import first_names
from monai_fgssl.utils.words import percent_text

from .style import COLORS, INK, literal, save_figure, style

__all__ = ["measure_abstention", "plot_risk_coverage", "sentence_on_abstention"]


def measure_abstention(predictions: PredictionCollector, class_names: Sequence[str]) -> dict[str, Any] | None:
    """Measure the sets of possible classes on labeled images.

    An image is kept (``triage`` is ``predict``) when its set has one class, and it is not unlike the training images if
    the model can tell that; otherwise it is referred.

    Args:
        predictions: predictions of the test part, with ``prediction_sets``.
        class_names: names of the classes, one for each score.

    Returns:
        ``wanted`` (coverage), ``covered`` (share of sets with the true class), ``kept`` (share of images that are
        kept), ``unlike`` (share of images unlike the training images, None without ``feature_distances``),
        ``accuracy`` of all and ``accuracy_kept`` (None when nothing is kept), each with ``value``,
        ``low``, ``high`` (95 %, Clopper-Pearson) and ``images``; ``mean_size`` of the sets; ``covered_by_class``; and
        ``risk_area`` under the risk-coverage curve. None without ``prediction_sets``.
    """
    sets = predictions.prediction_sets
    if sets is None:
        return None
    if isinstance(sets, FindingSets):
        return _measure_findings(predictions, sets, class_names)
    probabilities, labels = predictions.probabilities.double().numpy(), predictions.labels.numpy()
    decided = predictions.predicted
    inside = sets.contains(probabilities, decided)
    covered = inside[np.arange(len(labels)), labels]
    kept, scores = _kept(predictions), predictions.distance_scores
    right = decided == labels
    return {
        "wanted": sets.coverage,
        "covered": _share(covered),
        "kept": _share(kept),
        "unlike": None if scores is None else _share(is_unlike(scores)),
        "accuracy": _share(right),
        "accuracy_kept": _share(right[kept]) if kept.any() else None,
        "mean_size": float(inside.sum(1).mean()),
        "covered_by_class": {
            name: _share(covered[labels == k]) for k, name in enumerate(class_names) if (labels == k).any()
        },
        "risk_area": risk_coverage(*_answers(predictions)[:2])[2],
    }


def _measure_findings(
    predictions: PredictionCollector, sets: FindingSets, class_names: Sequence[str]
) -> dict[str, Any] | None:
    """Measure possible answers about findings; shares are those of all answers that are known.

    Returns:
        As :func:`measure_abstention`, where an answer about a finding takes the place of an image: ``covered``,
        ``covered_by_class`` (by finding; only those with a rule), ``accuracy`` and ``accuracy_kept`` are shares of
        answers, ``mean_size`` is the mean number of undecided findings of an image. ``without_rule`` names the findings
        that had too few images for a rule. None if no finding has a rule.
    """
    ruled = np.array([limit is not None for limit in sets.lowest])
    probabilities, labels = predictions.probabilities.double().numpy(), predictions.labels.numpy()
    decided = predictions.predicted
    known = (labels >= 0) & ruled
    if not known.any():
        return None
    present, absent = sets.contains(probabilities, decided), sets.may_be_absent(probabilities, decided)
    covered = np.where(labels == 1, present, absent)
    kept, scores = _kept(predictions), predictions.distance_scores
    right = decided == (labels == 1)
    sure = known & kept[:, None]
    return {
        "wanted": sets.coverage,
        "covered": _share(covered[known]),
        "kept": _share(kept),
        "unlike": None if scores is None else _share(is_unlike(scores)),
        "accuracy": _share(right[known]),
        "accuracy_kept": _share(right[sure]) if sure.any() else None,
        "mean_size": float((present & absent).sum(1).mean()),
        "covered_by_class": {
            name: _share(covered[known[:, k], k]) for k, name in enumerate(class_names) if known[:, k].any()
        },
        "without_rule": [name for name, has in zip(class_names, ruled, strict=True) if not has],
        "risk_area": risk_coverage(*_answers(predictions)[:2])[2],
    }


def _kept(predictions: PredictionCollector) -> NDArray[np.bool_]:
    """True for each image that need not be referred, ``(N,)``."""
    return np.array([not reasons for reasons in predictions.reasons or ()])


def _answers(predictions: PredictionCollector) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.intp]]:
    """Probability of each answer, True where it is right, and the number of its image, each ``(M,)``.

    The answer for an image is the class that is decided for. For findings, each one that is known of an image has an
    answer: it is there or it is not.
    """
    probabilities, labels = predictions.probabilities.double().numpy(), predictions.labels.numpy()
    decided = predictions.predicted
    if not predictions.task.independent:
        images = np.arange(len(labels))
        return probabilities[images, decided], decided == labels, images
    known = labels >= 0
    confidence = np.where(decided, probabilities, 1 - probabilities)
    return confidence[known], (decided == (labels == 1))[known], known.nonzero()[0]


def _share(hits: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, float]:
    low, high = binomial_interval(int(hits.sum()), len(hits))
    return {"value": float(hits.mean()), "low": low, "high": high, "images": len(hits)}


def sentence_on_abstention(found: Mapping[str, Any]) -> str:
    """Put the result of :func:`measure_abstention` into words."""
    covered, kept = found["covered"], found["kept"]
    if "without_rule" in found:
        return _sentence_on_findings(found)
    text = (
        f"The set of possible classes held the true class of {percent_text(covered)} of the test images "
        f"({found['wanted']:.0%} were wanted) and had {found['mean_size']:.1f} classes on average. "
    )
    if found["unlike"] is not None:
        text += f"Unlike the training images were {percent_text(found['unlike'])}. "
    alone = "only one possible class" if found["unlike"] is None else "only one possible class and no such doubt"
    if found["accuracy_kept"] is None:
        return text + f"No image had {alone}: a person should look at all of them."
    return text + (
        f"There was {alone} for {kept['value']:.0%} of the images, and it was right for "
        f"{percent_text(found['accuracy_kept'])} of these; of all images {found['accuracy']['value']:.0%} were right."
    )


def _sentence_on_findings(found: Mapping[str, Any]) -> str:
    text = (
        f"Of the known answers about findings, the true one was possible for {percent_text(found['covered'])} "
        f"({found['wanted']:.0%} were wanted), and {found['mean_size']:.1f} findings of an image were undecided on "
        "average. "
    )
    if found["unlike"] is not None:
        text += f"Unlike the training images were {percent_text(found['unlike'])}. "
    if found["accuracy_kept"] is None:
        text += "No image had only decided findings and no such doubt: a person should look at all of them."
    else:
        text += (
            f"There was no such doubt for {found['kept']['value']:.0%} of the images, and "
            f"{percent_text(found['accuracy_kept'])} of the answers about these were right; of all answers "
            f"{found['accuracy']['value']:.0%} were right."
        )
    if found["without_rule"]:
        text += f" Too few images for a rule: {first_names(found['without_rule'])}."
    return text


def plot_risk_coverage(predictions: PredictionCollector, path: str | Path | None = None, title: str = "") -> Figure:
    """Draw the error of the kept images over the share of kept images. The surest images are kept first.

    With findings, answers about findings take the place of images.

    Args:
        predictions: predictions of labeled images. Where they have ``prediction_sets``, a point shows the images that
            are not referred.
        path: file to save to; the suffix chooses the format.
        title: text above the figure.

    Returns:
        The figure.
    """
    confidence, right, images = _answers(predictions)
    of = "answers" if predictions.task.independent else "images"
    kept, risk, area = risk_coverage(confidence, right)
    with style():
        figure = Figure(figsize=(4.6, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(kept, risk, color=COLORS[0], label=f"surest {of} first (area {area:.3f})")
        axes.axhline(1 - right.mean(), color=INK, linewidth=0.8, linestyle=":", label=f"all {of}")
        if predictions.prediction_sets is not None:
            not_referred = _kept(predictions)[images]
            if not_referred.any():
                error = 1 - right[not_referred].mean()
                axes.plot(not_referred.mean(), error, "o", color=COLORS[1], label="not referred")
        axes.set(xlabel=f"share of the {of} that is kept", ylabel="error among them", xlim=(0, 1.02))
        axes.set_ylim(bottom=0)
        axes.set_title(literal(title) or f"{len(right)} {of}")
        axes.legend(loc="upper left", fontsize=8)
        if path is not None:
            save_figure(figure, path)
    return figure
