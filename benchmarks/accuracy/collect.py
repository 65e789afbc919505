# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Add the files of new runs to the table that the pages are made from.

    python -m benchmarks.accuracy collect
    python -m benchmarks.accuracy collect --runs_dir DIR

The files are not moved, and may be added again: the table keeps each run once. Commit ``runs.csv.xz`` and
``predictions.npz`` together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from monai_fgssl.data import DataError

from . import PACKAGE
from .store import NEW_RUNS, TABLE, collect

__all__ = ["main"]


def main(words: Sequence[str]) -> None:
    """Add new runs to the table, and report the files that can't be added."""
    parser = argparse.ArgumentParser(
        f"python -m {PACKAGE} collect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs_dir", type=Path, default=NEW_RUNS, help="has the files of the new runs")
    parser.add_argument("--table_dir", type=Path, default=TABLE, help="has the table")
    arguments = parser.parse_args(words)
    files = sorted(arguments.runs_dir.glob("*.json"))
    if not files:
        sys.exit(f"error: there are no files of runs in {arguments.runs_dir}: name their folder with --runs_dir.")
    try:
        new, problems = collect(files, arguments.table_dir)
    except DataError as error:
        sys.exit(f"error: {error}")
    print(f"{len(files)} files: {len(new)} new runs, {len(problems)} that can't be folded in")
    if problems:
        sys.exit("\n".join(f"error: {problem}" for problem in problems))
