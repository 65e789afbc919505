# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures of the results of a classifier and of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from .style import COLORS, INK, literal, readable, save_figure, style

__all__ = ["plot_comparison", "plot_confusion", "plot_learning_curves", "plot_roc"]

# Panels of the learning curves: title, and the prefixes of the series in it.
PANELS = (
    ("loss of each step", "loss_"),
    ("kNN on validation images", "knn_"),
    ("validation images", "val_"),
    ("effective rank of the features", "rank_"),
    ("growth of the weights' norms", "weight_growth"),
)
MOST_DOTS = 30
"""Largest number of points of a curve that are drawn as dots. More dots would touch each other."""


def plot_confusion(
    labels: ArrayLike,
    predictions: ArrayLike,
    class_names: Sequence[str],
    path: str | Path | None = None,
    title: str = "",
) -> Figure:
    """Draw the confusion matrix. Colors show shares of the true class, figures are numbers of images.

    Args:
        labels: ``(N,)``, true classes.
        predictions: ``(N,)``, predicted classes.
        class_names: names of the classes.
        path: file to save to; the suffix chooses the format.
        title: text above the figure; by default the number of images.

    Returns:
        The figure.
    """
    counts = confusion_matrix(np.asarray(labels), np.asarray(predictions), labels=range(len(class_names)))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shown = [literal(name) for name in class_names]
    size = 1.8 + 0.55 * len(class_names)
    with style():
        figure = Figure(figsize=(size, size), layout="constrained")
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, str(count), ha="center", va="center", color=color)
        axes.set_xticks(range(len(class_names)), shown, rotation=45, ha="right")
        axes.set_yticks(range(len(class_names)), shown)
        axes.set(xlabel="predicted", ylabel="true", title=literal(title) or f"{counts.sum()} images")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if path is not None:
            save_figure(figure, path)
    return figure


def plot_roc(
    labels: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str], path: str | Path, title: str = ""
) -> None:
    """Draw the ROC curve of each class against the rest, with its area; classes without images are left out.

    Args:
        labels: ``(N,)``, true classes; or findings, ``(N, num_classes)`` with 1, 0 and -1 (not known).
        probabilities: probabilities ``(N, num_classes)``.
        class_names: names of the classes.
        path: file of the picture.
        title: text above the figure; by default the number of images.
    """
    truth, scores = np.asarray(labels), np.asarray(probabilities)
    with style():
        figure = Figure(figsize=(4.6, 4.6))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.8)
        for index, name in enumerate(class_names):
            known = truth[:, index] >= 0 if truth.ndim == 2 else np.ones(len(truth), dtype=bool)
            positive = (truth[:, index] == 1 if truth.ndim == 2 else truth == index)[known]
            if not positive.any() or positive.all():
                continue
            false_rate, true_rate, _ = roc_curve(positive, scores[known, index])
            area = roc_auc_score(positive, scores[known, index])
            line = "-" if index < len(COLORS) else "--"
            label = f"{literal(name)} ({positive.sum()}) {area:.3f}"
            axes.plot(false_rate, true_rate, line, color=COLORS[index % len(COLORS)], label=label)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.005), aspect=1)
        axes.set_title(literal(title) or f"{len(truth)} images")
        axes.legend(title="class, images, area", loc="lower right", fontsize=8)
        save_figure(figure, path)


def plot_learning_curves(history: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], path: str | Path) -> None:
    """Draw losses, accuracies and diagnostics over the epochs, one row for each phase.

    Args:
        history: series by phase and name, each a list of (epoch, value) pairs. Series that belong to no panel (losses,
            ``knn_``, ``val_``, ``rank_``, ``weight_growth``) are left out.
        path: file of the picture.
    """
    rows = {
        phase: [(title, prefix) for title, prefix in PANELS if any(name.startswith(prefix) for name in series)]
        for phase, series in history.items()
    }
    num_columns = max([1, *map(len, rows.values())])
    with style():
        figure = Figure(figsize=(3.9 * num_columns, 2.5 * max(1, len(rows))), layout="constrained")
        grid = figure.subplots(max(1, len(rows)), num_columns, squeeze=False)
        for axes in grid.flat:
            axes.set_visible(False)
        for row, (phase, panels) in zip(grid, rows.items(), strict=False):
            for axes, (title, prefix) in zip(row, panels, strict=False):
                axes.set_visible(True)
                shown = {name: pairs for name, pairs in history[phase].items() if name.startswith(prefix)}
                for number, ((name, pairs), color) in enumerate(zip(shown.items(), cycle(COLORS), strict=False)):
                    epochs, values = zip(*pairs, strict=True)
                    label = readable(name.removeprefix(prefix).strip("_")) or "median"
                    # Later curves are thinner, so that an earlier curve below them stays visible.
                    width = 1.2 + 2.4 * (len(shown) - 1 - number) / max(1, len(shown) - 1)
                    dot = 1.5 * width if len(epochs) <= MOST_DOTS else 0
                    axes.plot(epochs, values, "o-", color=color, markersize=dot, linewidth=width, label=label)
                before = ", 0: before the first step" if any(pairs[0][0] == 0 for pairs in shown.values()) else ""
                axes.set(title=f"{phase}: {title}", xlabel=f"epoch{before}")
                axes.xaxis.get_major_locator().set_params(integer=True)
                # The legend is outside the axes, since inside it might hide a curve.
                axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=1)
        save_figure(figure, path)


def plot_comparison(
    courses: Mapping[str, Sequence[Sequence[tuple[int, float]]]], path: str | Path, metric: str = "macro F1"
) -> None:
    """Draw a metric on the validation part over the epochs of the fine-tuning, one color for each method.

    With several seeds, a thick line is the mean over the seeds and a thin line is one seed.

    Args:
        courses: by method, for each seed a list of (epoch, value) pairs.
        path: file of the picture.
        metric: name of the metric, whose values are at most 1.
    """
    with style():
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.subplots()
        for (method, seeds), color, mark in zip(courses.items(), cycle(COLORS), cycle("os^D"), strict=False):
            values: dict[int, list[float]] = {}
            for pairs in seeds:
                for epoch, value in pairs:
                    values.setdefault(epoch, []).append(value)
                if len(seeds) > 1:
                    axes.plot(*zip(*pairs, strict=True), color=color, linewidth=0.8, alpha=0.5)
            epochs = sorted(values)
            size = 4 if len(epochs) <= MOST_DOTS else 0
            means = [float(np.mean(values[epoch])) for epoch in epochs]
            axes.plot(epochs, means, f"{mark}-", color=color, markersize=size, linewidth=2.2, label=literal(method))
        axes.set(title="fine-tuning, validation images", xlabel="epoch", ylabel=metric)
        axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.5)
        save_figure(figure, path)
