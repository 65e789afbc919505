# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics as a table for the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from monai_fgssl.metrics.classification import METRICS
from monai_fgssl.utils.files import atomic_write, to_json
from monai_fgssl.utils.run_log import tell
from monai_fgssl.utils.words import interval_text, readable

__all__ = ["print_metrics", "write_metrics"]

Intervals = Mapping[str, Mapping[str, float]]
# The width is the same for a terminal and for a file.
WIDTH = 100


def print_metrics(
    rows: Mapping[str, Intervals],
    title: str,
    differences: Mapping[str, Intervals] | None = None,
    metrics: Sequence[str] = METRICS,
) -> None:
    """Print a table with one row per method and one column per metric, each value with its interval.

    Args:
        rows: for each method ``value``, ``low`` and ``high`` of each metric, as
            :func:`~monai_fgssl.metrics.bootstrap_intervals` returns them.
        title: text above the table.
        differences: differences between methods in the same form; they are printed below a line, with their signs.
        metrics: metrics that get a column.
    """
    table = Table(title=title, title_justify="left", box=SIMPLE)
    table.add_column("", no_wrap=True)
    for metric in metrics:
        table.add_column(readable(metric), no_wrap=True)
    for entries, sign in ((rows, ""), (differences or {}, "+")):
        for method, intervals in entries.items():
            cells = (intervals[metric] for metric in metrics)
            table.add_row(method, *(interval_text(cell, sign) for cell in cells))
        table.add_section()
    console = Console(width=WIDTH)
    with console.capture() as capture:
        console.print(table)
    tell("\n".join(line.rstrip() for line in capture.get().splitlines()))


def write_metrics(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write results as JSON, with null for NaN and infinity. The file is never there half-written."""
    with atomic_write(path) as temporary:
        Path(temporary).write_text(to_json(content, indent=2) + "\n", encoding="utf-8")
