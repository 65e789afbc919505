# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics as a table for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from monai_fgssl.metrics.classification import METRICS
from monai_fgssl.utils.files import atomic_write, to_json

from .style import readable

__all__ = ["print_metrics", "write_metrics"]

Intervals = Mapping[str, Mapping[str, float]]
# Wide enough for every row, also when the output goes to a file.
WIDTH = 120


def print_metrics(rows: Mapping[str, Intervals], title: str) -> None:
    """Print a table with one row per method and one column per metric, each value with its interval.

    Args:
        rows: by method, ``value``, ``low`` and ``high`` of each metric, as
            :func:`~monai_fgssl.metrics.bootstrap_intervals` returns them.
        title: printed above.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for metric in METRICS:
        table.add_column(readable(metric), no_wrap=True)
    for method, intervals in rows.items():
        cells = (intervals[metric] for metric in METRICS)
        table.add_row(method, *(f"{c['value']:.3f} [{c['low']:.3f}, {c['high']:.3f}]" for c in cells))
    Console(width=WIDTH).print(table)


def write_metrics(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write results as JSON, with null for NaN and infinity; the file is complete or not there."""
    with atomic_write(path) as temporary:
        Path(temporary).write_text(to_json(content, indent=2) + "\n", encoding="utf-8")
