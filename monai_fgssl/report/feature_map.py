# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Draw the feature vectors of every stage as points in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from monai_fgssl.engines.hierarchical import step_names

from .style import COLORS, MARKERS, literal, save_figure, style

__all__ = ["embed_features", "plot_feature_map"]

METHODS = ("tsne", "pca")
PANEL_INCHES = 2.1


def embed_features(features: ArrayLike, method: str = "tsne", seed: int = 0) -> NDArray[np.float64]:
    """Map feature vectors to the plane.

    Args:
        features: feature vectors ``(N, D)``; each feature is standardized first, as for kNN.
        method: ``"tsne"`` keeps neighbors together (far distances mean nothing), ``"pca"`` shows the two directions
            of largest variance.
        seed: seed of t-SNE.

    Returns:
        Points ``(N, 2)``.

    Raises:
        ValueError: on another method, or fewer than 3 vectors.

    Example:
        >>> embed_features(np.eye(8), "pca").shape
        (8, 2)

    Source:
        van der Maaten & Hinton, "Visualizing Data using t-SNE", JMLR 2008.
    """
    values = np.asarray(features, dtype=np.float64)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    if values.ndim != 2 or len(values) < 3:
        raise ValueError(f"features must be (N, D) with N of at least 3, got {values.shape}.")
    values = StandardScaler().fit_transform(values)
    if method == "pca":
        return PCA(2, svd_solver="full").fit_transform(values)
    # With few points t-SNE needs fewer neighbors than its default.
    perplexity = min(30.0, (len(values) - 1) / 3)
    return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(values).astype(np.float64)


def plot_feature_map(
    vectors: Mapping[str, ArrayLike],
    labels: ArrayLike,
    class_names: Sequence[str],
    method: str = "tsne",
    seed: int = 0,
    path: str | Path | None = None,
) -> Figure:
    """Draw the vectors of every step, one row of panels for each state of the network.

    Args:
        vectors: vectors by name, e.g. ``before`` and ``after`` pre-training: ``(N, K + 1, embedding_dim)`` of the same
            images, see :meth:`~monai_fgssl.networks.HierarchicalNet.stage_vectors`.
        labels: labels ``(N,)`` of these images; they decide the colors only.
        class_names: names of the classes.
        method: see :func:`embed_features`.
        seed: see :func:`embed_features`.
        path: file to save to; the suffix chooses the format.

    Returns:
        The figure.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> states = {"before": rng.normal(size=(12, 4, 8)), "after": rng.normal(size=(12, 4, 8))}
        >>> figure = plot_feature_map(states, [0, 1] * 6, ["nevus", "melanoma"], method="pca")
    """
    rows = {name: np.asarray(values) for name, values in vectors.items()}
    truth = np.asarray(labels)
    num_steps = next(iter(rows.values())).shape[1]
    with style():
        figure = Figure((PANEL_INCHES * num_steps, PANEL_INCHES * len(rows) + 0.5), layout="constrained")
        panels = figure.subplots(len(rows), num_steps, squeeze=False)
        for line, (name, values) in zip(panels, rows.items(), strict=True):
            for axes, step, index in zip(line, step_names(num_steps), range(num_steps), strict=True):
                points = embed_features(values[:, index], method, seed)
                for label, class_name in enumerate(class_names):
                    axes.scatter(
                        *points[truth == label].T,
                        s=9,
                        color=COLORS[label % len(COLORS)],
                        marker=MARKERS[label % len(MARKERS)],
                        linewidths=0,
                        label=literal(class_name),
                    )
                axes.set(xticks=[], yticks=[], title=f"{name}: {step}")
                axes.spines[:].set_visible(True)
                axes.spines[:].set_color("#CCCCCC")
        handles, names = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=min(7, len(names)), markerscale=2)
        if path is not None:
            save_figure(figure, path)
    return figure
