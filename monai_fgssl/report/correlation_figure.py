# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figure of the cross-correlation matrices, which pre-training pulls toward the identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from monai_fgssl.engines.hierarchical import frozen_running_statistics, step_names
from monai_fgssl.functional import cross_correlation, jigsaw
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.transforms import RandDistortedView, RandRegularizedView, RandView

from .style import save_figure, style

__all__ = ["plot_correlations", "step_correlations"]

PANEL_INCHES = 2.0
# Blue and red differ for all color-blind readers; white is 0.
COLORMAP = "RdBu_r"


@torch.no_grad()
def step_correlations(
    network: HierarchicalNet,
    images: Tensor,
    grids: Sequence[int | Sequence[int]],
    regularized: RandView | None = None,
    distorted: RandView | None = None,
    seed: int = 0,
) -> Tensor:
    """Compute the cross-correlation matrix of every step as :class:`~monai_fgssl.engines.PreTrainer` does for a batch.

    Args:
        network: network of the run; neither its mode nor its running statistics change.
        images: ``(B, C, *spatial)``, float in [0, 1] or uint8, on the network's device. Give more images than features;
            otherwise chance correlations hide the others.
        grids: grids of the puzzles, one for each stage.
        regularized: view with small changes; None: the defaults of ``RandRegularizedView``.
        distorted: view with strong changes; None: the defaults of ``RandDistortedView``.
        seed: seed of views and puzzles.

    Returns:
        Matrices ``(K + 1, embedding_dim, embedding_dim)``, float32 in [-1, 1].
    """
    generator = torch.Generator().manual_seed(seed)
    light = (regularized or RandRegularizedView()).batch(images, generator)
    strong = (distorted or RandDistortedView()).batch(images, generator)
    training = network.training
    network.train()
    try:
        with frozen_running_statistics(network):
            matrices = []
            for step, grid in enumerate([*grids, 1], start=1):
                puzzle = jigsaw(light, grid, generator=generator)
                ours, other = (network.vectors_at_step(view, step) for view in (puzzle, strong))
                matrices.append(cross_correlation(ours, other))
    finally:
        network.train(training)
    return torch.stack(matrices)


def plot_correlations(correlations: Mapping[str, ArrayLike | Tensor], path: str | Path | None = None) -> Figure:
    """Draw the matrix of every step, one row for each state of the network.

    The numbers below a panel are the terms of the loss: the mean of the diagonal, which should become 1, and the
    root mean square off it, which should become 0.

    Args:
        correlations: correlations by name, e.g. ``before`` and ``after`` pre-training: ``(K + 1, embedding_dim,
            embedding_dim)``, see :func:`step_correlations`.
        path: file to save to; the suffix chooses the format.

    Returns:
        The figure.

    Example:
        >>> figure = plot_correlations({"ideal": torch.eye(8).expand(4, 8, 8)})
    """
    rows = {name: np.asarray(values) for name, values in correlations.items()}
    num_steps = len(next(iter(rows.values())))
    with style():
        figure = Figure((PANEL_INCHES * num_steps + 0.6, (PANEL_INCHES + 0.35) * len(rows)), layout="constrained")
        panels = figure.subplots(len(rows), num_steps, squeeze=False)
        for line, (name, matrices) in zip(panels, rows.items(), strict=True):
            for axes, step, matrix in zip(line, step_names(num_steps), matrices, strict=True):
                picture = axes.imshow(matrix, cmap=COLORMAP, vmin=-1, vmax=1, interpolation="nearest")
                others = matrix[~np.eye(len(matrix), dtype=bool)]
                axes.set(xticks=[], yticks=[], title=f"{name}: {step}")
                axes.set_xlabel(f"on {matrix.diagonal().mean():.2f}, off {np.sqrt(np.mean(others**2)):.2f}")
                axes.spines[:].set_visible(False)
        figure.colorbar(picture, ax=panels, shrink=0.6, label="correlation")
        if path is not None:
            save_figure(figure, path)
    return figure
