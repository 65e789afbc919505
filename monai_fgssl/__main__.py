# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Command line: ``python -m monai_fgssl``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from monai_fgssl import __version__


def make_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m monai_fgssl", description="Fine-grained self-supervised learning for medical images, on MONAI."
    )
    parser.add_argument("--version", action="version", version=f"monai-fgssl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    bundle = commands.add_parser(
        "bundle",
        help="copy a MONAI bundle out of the package, to run and to change it",
        description="Copy a MONAI bundle out of the package, to run and to change it.",
    )
    bundle.add_argument("name", help="name of the bundle, e.g. fgssl")
    bundle.add_argument("folder", nargs="?", help="new folder to copy it to (default: its name, in the working folder)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    options = make_parser().parse_args(arguments)
    # Only now: MONAI takes seconds to import, and `--help` should not.
    from monai_fgssl.bundle import copy_bundle

    try:
        folder = copy_bundle(options.name, options.folder or options.name)
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"Copied to {folder}. Run it with\n\n  python -m monai.bundle run --config_file {folder / 'train.json'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
