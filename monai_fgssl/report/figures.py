# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of how well a classifier does, and of how it got there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix, roc_auc_score, roc_curve

from .style import COLORS, INK, save_figure, style

__all__ = ["plot_confusion", "plot_learning_curves", "plot_roc"]

# A panel of the learning curves shows the series whose names begin with one of these.
PANELS = (
    ("loss of each step", ("loss_",)),
    ("accuracy", ("knn_", "val_")),
    ("effective rank", ("rank_",)),
    ("growth of weights", ("weight_growth",)),
)


def plot_confusion(labels: ArrayLike, predictions: ArrayLike, class_names: Sequence[str], path: str | Path) -> None:
    """Draw the confusion matrix: colour is the share of the true class, figures are numbers of images.

    Args:
        labels: ``(N,)``, true classes.
        predictions: ``(N,)``, predicted classes.
        class_names: names of the classes.
        path: of the picture.
    """
    counts = confusion_matrix(np.asarray(labels), np.asarray(predictions), labels=range(len(class_names)))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = 1.8 + 0.55 * len(class_names)
    with style():
        figure = Figure(figsize=(size, size))
        axes = figure.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.55 else INK
            axes.text(column, row, str(count), ha="center", va="center", color=color)
        axes.set_xticks(range(len(class_names)), class_names, rotation=45, ha="right")
        axes.set_yticks(range(len(class_names)), class_names)
        axes.set(xlabel="predicted", ylabel="true")
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        save_figure(figure, path)


def plot_roc(labels: ArrayLike, probabilities: ArrayLike, class_names: Sequence[str], path: str | Path) -> None:
    """Draw the ROC curve of each class against the rest, with its area; classes without images are left out.

    Args:
        labels: ``(N,)``, true classes.
        probabilities: ``(N, num_classes)``.
        class_names: names of the classes.
        path: of the picture.
    """
    truth, scores = np.asarray(labels), np.asarray(probabilities)
    with style():
        figure = Figure(figsize=(4.6, 4.6))
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=0.8)
        for index, name in enumerate(class_names):
            positive = truth == index
            if not positive.any() or positive.all():
                continue
            false_rate, true_rate, _ = roc_curve(positive, scores[:, index])
            area = roc_auc_score(positive, scores[:, index])
            line = "-" if index < len(COLORS) else "--"
            axes.plot(false_rate, true_rate, line, color=COLORS[index % len(COLORS)], label=f"{name} {area:.3f}")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.005), aspect=1)
        axes.legend(title="area under the curve", loc="lower right")
        save_figure(figure, path)


def plot_learning_curves(history: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]], path: str | Path) -> None:
    """Draw the losses, accuracies and diagnostics of every phase over its epochs: a row per phase.

    Args:
        history: by phase and by name of the series, (epoch, value) pairs.
        path: of the picture.
    """
    with style():
        figure = Figure(figsize=(3.1 * len(PANELS), 2.6 * max(1, len(history))), layout="constrained")
        grid = figure.subplots(max(1, len(history)), len(PANELS), squeeze=False)
        for row, (phase, series) in zip(grid, history.items(), strict=False):
            for axes, (title, prefixes) in zip(row, PANELS, strict=True):
                shown = [name for name in series if name.startswith(prefixes)]
                axes.set_visible(bool(shown))
                for name, color in zip(shown, COLORS, strict=False):
                    epochs, values = zip(*series[name], strict=True)
                    axes.plot(epochs, values, "o-", color=color, markersize=2.5, linewidth=1.2, label=name)
                axes.set_title(f"{phase}: {title}")
                axes.set_xlabel("epoch")
                axes.xaxis.get_major_locator().set_params(integer=True)
                if shown:
                    axes.legend(fontsize=7)
        save_figure(figure, path)
