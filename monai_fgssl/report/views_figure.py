# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figure of the input of pre-training: the views of an image and the puzzles cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from monai.utils import ensure_tuple_rep
from torch import Tensor

from monai_fgssl.functional import jigsaw
from monai_fgssl.transforms import RandDistortedView, RandRegularizedView, RandView

from .heat_maps import middle_slice
from .style import BLUE, INK, VERMILION, save_figure

__all__ = ["plot_views"]

PANEL_INCHES = 1.55


def plot_views(
    image: Tensor,
    grids: Sequence[int | Sequence[int]] = (8, 4, 2),
    regularized: RandView | None = None,
    distorted: RandView | None = None,
    spatial_dims: int = 2,
    seed: int = 0,
    path: str | Path | None = None,
) -> Figure:
    """Draw an image, its regularized view, the puzzles of that view for each stage, and its distorted view.

    In step k of pre-training, the loss compares the features of stage k for the puzzle and for the distorted view. In
    the last step it compares the features of all stages for the regularized and the distorted view. A batch gives one
    row per image; a volume ``(C, X, Y, Z)`` is shown by its middle axial slice.

    Args:
        image: (C, *spatial) or a batch (B, C, *spatial), floating point in [0, 1] or uint8. 3 channels in 2D are
            shown as red, green, blue; otherwise the first channel in gray.
        grids: tiles per axis of the puzzles, one number or one per axis for each stage.
        regularized: view with small changes; None: the defaults of ``RandRegularizedView``.
        distorted: view with strong changes; None: the defaults of ``RandDistortedView``.
        spatial_dims: number of spatial axes, 2 or 3.
        seed: seed of everything random in the picture.
        path: file to save to; the suffix chooses the format.

    Returns:
        The figure.

    Raises:
        ValueError: when ``image`` has not 1 or 2 axes before the spatial ones.

    Example:
        >>> figure = plot_views(torch.rand(3, 64, 64), path="views.png")
    """
    if image.ndim not in (spatial_dims + 1, spatial_dims + 2):
        raise ValueError(
            f"plot_views needs an image (C, *spatial) or a batch (B, C, *spatial) with spatial_dims={spatial_dims} "
            f"spatial axes, got shape {tuple(image.shape)}."
        )
    images = image if image.ndim == spatial_dims + 2 else image[None]
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    generator = torch.Generator().manual_seed(seed)
    light = (regularized or RandRegularizedView()).batch(images, generator)
    strong = (distorted or RandDistortedView()).batch(images, generator)
    puzzles = [jigsaw(light, grid, generator=generator) for grid in grids]

    sizes = [" \N{MULTIPLICATION SIGN} ".join(map(str, ensure_tuple_rep(grid, spatial_dims))) for grid in grids]
    columns = [
        (images, "Image", "$x$", INK),
        (light, "Regularized view", "$x'$  ·  all stages", BLUE),
        *(
            (puzzle, f"Puzzle {size}", f"$J_{{n_{stage}}}(x')$  ·  stage {stage}", BLUE)
            for stage, (size, puzzle) in enumerate(zip(sizes, puzzles, strict=True), start=1)
        ),
        (strong, "Distorted view", "$x''$  ·  every step", VERMILION),
    ]
    height, width = _as_picture(images[0]).shape[:2]
    num_rows, num_columns = len(images), len(columns)
    figure = Figure((PANEL_INCHES * num_columns, PANEL_INCHES * height / width * num_rows + 0.5))
    figure.set_layout_engine("constrained", h_pad=0.02, w_pad=0.03, hspace=0.02, wspace=0.02)
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    for (batch, title, note, color), column in zip(columns, axes.T, strict=True):
        for panel, ax in zip(batch, column, strict=True):
            ax.imshow(_as_picture(panel), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        column[0].set_title(title, fontsize=9, color=color, fontweight="bold")
        column[-1].set_xlabel(note, fontsize=8, color=color)
    if path is not None:
        save_figure(figure, path)
    return figure


def _as_picture(image: Tensor) -> Tensor:
    if image.ndim == 4:
        image = middle_slice(image)
    # A view may exceed 1 by a rounding error, and matplotlib would warn.
    return (image.movedim(0, -1) if len(image) == 3 else image[0]).clamp(0, 1).cpu()
