# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The commands of this benchmark: ``python -m benchmarks.accuracy run --help`` and so on."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from . import PACKAGE

COMMANDS = {
    "run": "make the runs that are missing",
    "collect": "fold new runs into the table of runs",
    "show": "print all that the table has of some runs",
    "report": "make the pages from the table",
    "model_card": "make the card of a model from the table",
    "recipes": "compare ways to fine-tune with few labels",
}
"""Modules of this package. Each has a function ``main``, which takes the words after the name of the module."""


def main() -> None:
    """Pass the command line on to a command."""
    lines = [f"  {name:<12}{meaning}" for name, meaning in COMMANDS.items()]
    parser = argparse.ArgumentParser(
        f"python -m {PACKAGE}",
        description=__doc__,
        epilog="\n".join(["commands:", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=list(COMMANDS))
    chosen = parser.parse_args(sys.argv[1:2])
    import_module(f".{chosen.command}", PACKAGE).main(sys.argv[2:])


if __name__ == "__main__":
    main()
