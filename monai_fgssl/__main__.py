# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Command line: ``python -m monai_fgssl``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

# Before torch is loaded: see monai_fgssl/utils/processors.py. Programs that are started from here inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from monai_fgssl import __version__
from monai_fgssl.cli.commands import run
from monai_fgssl.cli.features import COMMANDS, OWN_OPTIONS, add_arguments, split_settings
from monai_fgssl.utils.command import stop_quietly

DOCTOR_OPTIONS = {"--help", "--dataset_dir", "--spatial_dims"}
"""Options of ``doctor``; all others are settings of the training."""

EPILOG = """\
begin with:
  python -m monai_fgssl demo                        one to three minutes on synthetic images
  python -m monai_fgssl doctor --dataset_dir DIR    is this computer ready, are my images?
  python -m monai_fgssl bundle fgssl                a folder to train in
  python -m monai_fgssl probe DIR                   a classifier in seconds, from a published network
"""


def make_parser() -> argparse.ArgumentParser:
    """Parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m monai_fgssl",
        description="Fine-grained self-supervised learning for medical images, on MONAI.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"monai-fgssl {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")

    demo = add("demo", "train on a few synthetic images, to see how everything works")
    demo.add_argument("folder", nargs="?", default="fgssl_demo", help="new folder to work in (default: fgssl_demo)")

    doctor = add("doctor", "check this computer and a data set, and say what to fix")
    doctor.add_argument("--dataset_dir", help="folder, .csv or .json file with your images")
    doctor.add_argument("--spatial_dims", type=int, choices=(2, 3), default=2, help="2: pictures (default), 3: volumes")
    doctor.epilog = "Further settings are those of the training, such as --image_size 128, --window or --frame."

    bundle = add("bundle", "copy a MONAI bundle out of the package, to run and to change it")
    bundle.add_argument("name", help="fgssl (pictures) or fgssl_volume (volumes)")
    bundle.add_argument("folder", nargs="?", help="new folder to copy it to (default: its name, in the working folder)")

    for name, text in (
        ("embed", "write the features of your images from any backbone: NPZ, CSV, Parquet"),
        ("similar", "find the images that are most like a given image"),
        ("probe", "fit a linear classifier on the features of a frozen backbone, in seconds"),
    ):
        add_arguments(name, add(name, text))

    release = add("release", "make a trained bundle ready to be published: its folder, and its weights to upload")
    release.add_argument("bundle", help="folder of the bundle, in which a model was trained")
    release.add_argument("folder", help="new folder to write to")
    release.add_argument("--url", required=True, help="address of the folder on a server where the weights will be")

    add("label", "print the folder of the MONAI Label app in this installation")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    parser = make_parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    settings: list[str] = []
    if given and (given[0] == "doctor" or given[0] in COMMANDS):
        own, settings = split_settings(given[1:], DOCTOR_OPTIONS if given[0] == "doctor" else OWN_OPTIONS)
        given = [given[0], *own]
    options = parser.parse_args(given)
    if options.command is None:
        parser.print_help()
        return 2
    try:
        status = run(options, settings)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The program that reads the output, such as `head`, has ended. Without this, Python would print an error at
        # exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    stop_quietly()
    sys.exit(main())
