# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Print all entries of some runs in the table: command, settings, metrics, history, machine, versions and commit.

    python -m benchmarks.accuracy show 'isic2018_fgssl_linear_10_s*_*'

The pages name the runs of each figure, with ``*`` in place of the seed if there are several seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from . import PACKAGE
from .methods import Run
from .store import TABLE, load_table, run_text

__all__ = ["main"]


def main(words: Sequence[str]) -> None:
    """Print the runs whose name matches."""
    parser = argparse.ArgumentParser(
        f"python -m {PACKAGE} show", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="+", help="of runs; * stands for anything")
    parser.add_argument("--table_dir", type=Path, default=TABLE, help="has the table")
    arguments = parser.parse_args(words)
    runs = load_table(arguments.table_dir).runs
    found = [content for name, content in runs.items() if any(fnmatchcase(name, words) for words in arguments.names)]
    if not found:
        sys.exit(f"error: no run of the {len(runs)} in {arguments.table_dir} is named {' or '.join(arguments.names)}.")
    for content in found:
        run = Run.of(content["run"])
        first = {"name": content["name"], "command": run.command()}
        changed = ["defaults have changed"] if run.name() != content["name"] else []
        changed += [f"{part} was removed" for part in run.former_parts()]
        if changed:
            first["note"] = (
                f"{' and '.join(changed)} since: the command makes this run at commit {content['commit']} only"
            )
        print(run_text(first | content), end="")
