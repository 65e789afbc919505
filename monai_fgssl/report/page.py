# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write the report of a run as one page that needs nothing else: no server, no network, no other file."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from monai_fgssl.report.abstention import sentence_on_abstention
from monai_fgssl.report.agreement import sentence_on_agreement
from monai_fgssl.report.chance import sentence_on_chance, sentence_on_folds, sentence_on_joined
from monai_fgssl.report.decision import sentence_on_decision
from monai_fgssl.report.subgroups import MIN_SUBGROUP, sentences_on_subgroups
from monai_fgssl.tasks import task_named
from monai_fgssl.utils.files import atomic_write
from monai_fgssl.utils.words import capitalized, interval_text, readable

__all__ = ["write_page"]

TEMPLATE = "report.html.jinja"
# Of the plot of intervals, in pixels.
PLOT_WIDTH, ROW_HEIGHT = 420, 30
PICTURES = {
    "confusion_matrix.png": "Confusion matrix: color is the share of the true class, figures are numbers of images.",
    "roc.png": "ROC curve of each class against all others.",
    "risk_coverage.png": "Error when the least sure images are referred to a person. The point: not referred.",
    "agreement.png": "Accuracy by the number of steps that agree with the prediction. Bars: 95 % intervals.",
    "comparison.png": "Validation images during fine-tuning, with pre-training and without. Thin lines: single seeds.",
    "learning_curves.png": "Course of the training. Epoch 0 is the network before the first step.",
    "views.png": "Views that pre-training compares: puzzles cut from a regularized view, and a distorted view.",
}
"""Pictures that the page includes, with their captions."""


@dataclass(frozen=True)
class Mark:
    """A method in the plot of intervals. Positions are in pixels from the left.

    Attributes:
        method: name of the method.
        low: lower end of the interval.
        value: mean.
        high: upper end of the interval.
        seeds: value of each seed.
        text: text that appears when the pointer rests on it.
    """

    method: str
    low: float
    value: float
    high: float
    seeds: list[float]
    text: str


def write_page(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write the page. It is never there half-written.

    Args:
        path: file of the page. The pictures of the run are taken from the same folder, if they are there.
        content: content of ``metrics.json``, see :meth:`monai_fgssl.report.Report.write`.
    """
    path = Path(path)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "readable": readable,
        "number": _number,
        "interval": interval_text,
        "thousands": "{:,}".format,
    }
    template = environment.from_string(files("monai_fgssl.report").joinpath(TEMPLATE).read_text(encoding="utf-8"))
    given = set(re.findall(r"--([\w#:]+)", content["command"]))
    settings, task = content["settings"], task_named(content["task"])
    page = template.render(
        **content,
        metrics=task.metrics,
        tiles=task.tiles,
        key_metric=capitalized(readable(task.key_metric)),
        on_abstention=sentence_on_abstention(content["abstention"]) if content["abstention"] else None,
        on_agreement=sentence_on_agreement(content["agreement"]) if content["agreement"] else None,
        on_chance=sentence_on_chance(content["chance"], task.key_metric, content["seeds"])
        if content["chance"]
        else None,
        on_joined=sentence_on_joined(content, task.key_metric) if content["joined"] else None,
        on_folds=sentence_on_folds(content["folds"], content["fold_chance"], task.key_metric)
        if content["folds"]
        else None,
        on_decision=sentence_on_decision(content["decision"]) if content["decision"] else None,
        on_subgroups=sentences_on_subgroups(content["subgroups"], task.key_metric),
        min_subgroup=MIN_SUBGROUP,
        marks=list(_marks(content, task.key_metric)),
        plot_width=PLOT_WIDTH,
        row_height=ROW_HEIGHT,
        date=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        title=_title(settings),
        folder=str(path.resolve().parent),
        pictures={name: _data_uri(path.with_name(name)) for name in PICTURES if path.with_name(name).is_file()},
        captions=PICTURES,
        given={name: value for name, value in settings.items() if name in given},
        others={name: value for name, value in settings.items() if name not in given},
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _marks(content: Mapping[str, Any], metric: str) -> Iterator[Mark]:
    """A metric of each method on an axis from 0 to 1. Values below 0, which kappa may have, are drawn at 0."""

    def position(value: float) -> float:
        return round(PLOT_WIDTH * max(0.0, value), 1)

    for method, intervals in content.get("methods", {}).items():
        row = intervals[metric]
        seeds = [of_seed[metric] for of_seed in content["by_seed"][method]]
        low, value, high = (position(row[name]) for name in ("low", "value", "high"))
        text = f"{method}: {interval_text(row)}, seeds {', '.join(map(_number, seeds))}"
        yield Mark(method, low, value, high, [position(seed) for seed in seeds], text)


def _title(settings: Mapping[str, Any]) -> str:
    """The name of the data set; its whole path is among the settings."""
    if settings.get("dataset_dir"):
        return Path(settings["dataset_dir"]).name
    return "Synthetic volumes" if settings.get("spatial_dims") == 3 else "Synthetic lesions"


def _number(value: float | None) -> str:
    """Three decimals; a dash for a missing value."""
    return "-" if value is None or value != value else f"{value:.3f}"


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
