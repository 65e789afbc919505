# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The commands of ``python -m monai_fgssl``: each returns its exit status."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import monai_fgssl
from monai_fgssl.utils.bundles import copy_bundle

from . import features
from .doctor import print_checks
from .packages import check_packages

__all__ = ["run"]

# Small enough for one to three minutes on two cores, and enough to see what pre-training changes. The frozen network
# has learned little by then, so its linear probe would only add a table that says nothing.
DEMO_SETTINGS = {
    "synthetic_images": 420,
    "label_fraction": 0.5,
    "pretrain_epochs": 8,
    "max_epochs": 12,
    "linear_probe": "false",
    "seeds": 1,
}

DEMO_NEXT = """
The demo is done. The sentence above says what pre-training has changed.
Files in {folder}:
  output/report.html            the whole result on one page: begin here
  output/comparison.png         how fast the network learns with pre-training and without
  output/views.png              what pre-training compares: puzzles and views
  output/learning_curves.png    every loss and diagnostic
  output/metrics.json           all figures with their 95 % intervals
  output/predictions.csv        one row per test image
  models/model.pt               the trained network

Next:
  your own images     python -m monai_fgssl doctor --dataset_dir DIR
                      python -m monai.bundle run --config_file {train} --dataset_dir DIR
  predict new ones    python -m monai.bundle run --config_file {inference} --dataset_dir DIR --heat_maps true
  the default size    python -m monai.bundle run --config_file {train}"""


def run(options: argparse.Namespace, settings: Sequence[str] = ()) -> int:
    """Run the command that the options name.

    Args:
        options: options of the command line.
        settings: rest of the command line, for the commands that take settings of the bundle.
    """
    if options.command in features.COMMANDS:
        return features.COMMANDS[options.command](options, settings)
    if options.command == "demo":
        return demo(Path(options.folder))
    if options.command == "doctor":
        return doctor(options.dataset_dir, options.spatial_dims, settings)
    if options.command == "bundle":
        return bundle(options.name, options.folder or options.name)
    if options.command == "release":
        return release(options.bundle, options.folder, options.url)
    return label()


def release(bundle_root: str, folder: str, address: str) -> int:
    """Make a trained bundle ready to be published."""
    from monai_fgssl.bundle import write_release

    written = write_release(bundle_root, folder, address)
    print(
        f"Written to {folder}. Upload {Path(folder) / 'weights' / 'model.pt'} to {address}, and publish {written}.\n"
        f"To download the weights into a copy of it:\n\n  python -m monai.bundle download_large_files --bundle_path "
        f"{written.name}\n"
    )
    return 0


def bundle(name: str, folder: str | Path) -> int:
    """Copy a bundle out of the package."""
    copied = copy_bundle(name, folder)
    print(f"Copied to {copied}. Run it with\n\n  python -m monai.bundle run --config_file {copied / 'train.json'}\n")
    return 0


def demo(folder: Path) -> int:
    """Train the default bundle in a small size in a folder of its own."""
    train = copy_bundle("fgssl", folder) / "train.json"
    settings = [text for name, value in DEMO_SETTINGS.items() for text in (f"--{name}", str(value))]
    command = ["-m", "monai.bundle", "run", "--config_file", str(train), *settings]
    print(f"python {' '.join(command)}\n", flush=True)
    status = subprocess.run([sys.executable, *command], check=False).returncode
    if status:
        print("error: the demo failed. To find the reason, run `python -m monai_fgssl doctor`.", file=sys.stderr)
        return 1
    print(DEMO_NEXT.format(folder=folder, train=train, inference=folder / "configs" / "inference.json"))
    return 0


def doctor(dataset_dir: str | None, spatial_dims: int, settings: Sequence[str] = ()) -> int:
    """Check the computer and a data set. The exit status is 1 if something must be fixed.

    Args:
        dataset_dir: data set to check; None: only the computer is checked.
        spatial_dims: 2 for pictures, 3 for volumes.
        settings: settings of the run, ``--name value``.
    """
    checks = check_packages()
    # These checks import the packages, so all packages must be there.
    if not any(check.mark == "fix" for check in checks):
        from .data_checks import check_data
        from .environment import check_environment

        checks += check_environment(Path.cwd())
        from .planned_run import as_settings

        given = as_settings(settings)
        if dataset_dir is not None:
            checks += check_data(dataset_dir, spatial_dims, given)
    return 1 if print_checks(checks) else 0


def label() -> int:
    """Print the folder of the MONAI Label app."""
    app = Path(monai_fgssl.__file__).parent / "label" / "app"
    if not (app / "main.py").is_file():
        raise FileNotFoundError(
            f"this installation has no MONAI Label app (looked for {app / 'main.py'}): install a newer monai-fgssl."
        )
    print(app)
    return 0
