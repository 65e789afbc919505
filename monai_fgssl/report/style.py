# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""One look for all figures, safe for color-blind readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure

from monai_fgssl.utils.files import atomic_write
from monai_fgssl.utils.words import readable

__all__ = ["BLUE", "COLORS", "INK", "MARKERS", "VERMILION", "literal", "readable", "save_figure", "style"]

# The palette of Okabe and Ito (2008).
INK, BLUE, VERMILION = "#333333", "#0072B2", "#D55E00"
COLORS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "*", "<")
"""Shapes of points. Their number and that of the colors have no common factor, so 72 classes differ."""


@contextmanager
def style() -> Iterator[None]:
    """Settings of matplotlib for the figures that are drawn within."""
    with rc_context(
        {
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 10,
            "font.size": 9,
            "legend.frameon": False,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
        }
    ):
        yield


def literal(name: str) -> str:
    r"""Escape a text for a figure, which then shows it as it is.

    Matplotlib takes text between two dollars for a formula, and fails if it is not a formula. It leaves names that
    begin with an underscore out of the legend.

    Example:
        >>> literal("$a^b$") == r"\$a^b\$", literal("_other")
        (True, ' _other')
    """
    return (" " if name.startswith("_") else "") + name.replace("$", r"\$")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a picture. It is never there half-written."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150, bbox_inches="tight")
