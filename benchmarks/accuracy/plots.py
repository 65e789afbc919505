# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Plot a question: lines if x is a number, else a row for each x."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from monai_fgssl.report.style import COLORS, INK, readable, save_figure, style

from .questions import Entry, Question
from .results import Results
from .scoring import Interval
from .words import label

__all__ = ["draw"]


def draw(results: Results, question: Question, entries: Sequence[Entry], metric: str, path: Path, title: str) -> None:
    """Draw the entries of a question: lines if x is a number, else a row for each x."""
    series = list(dict.fromkeys(entry.series for entry in entries))
    numeric = all(not isinstance(entry.x, str) for entry in entries)
    names = list(dict.fromkeys(entry.x for entry in entries))
    with style():
        figure = Figure(figsize=(8.5, 4.0 if numeric else 1.4 + 0.45 * len(names)), layout="constrained")
        axes = figure.subplots()
        for number, (name, color) in enumerate(zip(series, cycle(COLORS), strict=False)):
            of_series = [entry for entry in entries if entry.series == name]
            points = [results.interval(entry.run, metric) for entry in of_series]
            shift = (number - (len(series) - 1) / 2) / (len(series) + 1)
            draw_series(axes, [entry.x for entry in of_series], points, names, shift, numeric, color, name)
        if numeric:
            if question.log_x:
                axes.set_xscale("log")
            # Leave out labels that would overlap.
            values = sorted(float(x) for x in names)
            shown = [x for before, x in zip([0.0, *values], values, strict=False) if x > 1.3 * before]
            axes.set_xticks(shown, [label(x) for x in shown])
            axes.minorticks_off()
            axes.set(xlabel=question.x_name, ylabel=f"{readable(metric)}, test part")
        else:
            axes.set_yticks(range(len(names)), [label(x) for x in names])
            axes.invert_yaxis()
            axes.set(xlabel=f"{readable(metric)}, test part")
        axes.set_title(f"{title}: {question.title}")
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        save_figure(figure, path)


def draw_series(
    axes: Axes,
    xs: Sequence[str | float],
    points: Sequence[Interval],
    names: Sequence[str | float],
    shift: float,
    numeric: bool,
    color: str,
    name: str,
) -> None:
    """Draw one line, or one dot in each row."""
    values = np.array([[p["value"], p["value"] - p["low"], p["high"] - p["value"]] for p in points])
    reach = values[:, 1:].T.clip(0)
    if numeric:
        # Shift the points of each series, so that no interval hides another.
        places = [float(x) * (1 + 0.15 * shift) for x in xs]
        axes.errorbar(places, values[:, 0], reach, fmt="o-", color=color, ms=4, lw=1.2, elinewidth=0.8, label=name)
    else:
        rows = [names.index(x) + shift for x in xs]
        axes.errorbar(values[:, 0], rows, xerr=reach, fmt="o", color=color, ms=4, elinewidth=1, label=name)
        axes.grid(axis="x", color="#DDDDDD", lw=0.5)
    axes.tick_params(colors=INK)
