# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures, runs and tables as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .methods import FINE_TUNINGS, PRETRAININGS, Run, default
from .questions import ONE_VIEW_LIGHT, ONE_VIEW_LIGHT_NAME, SCALES
from .scoring import Interval

__all__ = ["SCALE_TITLES", "TITLES", "cell", "chance", "in_words", "label", "listed", "pixels", "table"]

SCALE_TITLES = {
    "small": "64 px, 20 epochs of pre-training (a CPU will do)",
    "medium": "128 px, 80 epochs of pre-training (minutes of a GPU)",
    "large": "ResNet-50, 224 px, 100 epochs of pre-training (hours of a GPU)",
}
TITLES = {"isic2018": "ISIC 2018", "isic2017": "ISIC 2017", "aptos2019": "APTOS 2019"}


def cell(value: Interval | None, signed: bool = False) -> str:
    """Value with its interval; a dash if the value is missing or not defined."""
    if value is None or np.isnan(value["value"]):
        return "-"
    form = "{:+.3f} [{:+.3f}, {:+.3f}]" if signed else "{:.3f} [{:.3f}, {:.3f}]"
    return form.format(value["value"], value["low"], value["high"])


def chance(p: float) -> str:
    """P-value as text. With 1000 resamples no p-value is between 0 and 0.002."""
    return f", p = {p:.3f}" if p else ", p < 0.002"


def label(x: str | float) -> str:
    """Label of a point."""
    return x if isinstance(x, str) else f"{x:g}"


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def in_words(run: Run) -> str:
    """Pre-training, fine-tuning and labels of a run."""
    light = run.pretraining == "jigsaw" and ONE_VIEW_LIGHT.items() <= run.changes().items()
    pretraining = ONE_VIEW_LIGHT_NAME if light else PRETRAININGS[run.pretraining].label
    kind = f"{pretraining}, {FINE_TUNINGS[run.fine_tuning].label}"
    return f"{kind}, {100 * run.budget:g} % of the labels"


def listed(words: Sequence[str]) -> str:
    """Words separated by commas, with "and" before the last word."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def pixels(scale: str) -> str:
    """Image size of a scale."""
    return f"{SCALES[scale].get('image_size', default('image_size'))} px"
