# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The commands ``embed``, ``similar`` and ``probe``, which run the bundle's configs with the given settings."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from monai_fgssl.utils.bundles import copy_bundle, shipped_bundle

__all__ = ["COMMANDS", "EXAMPLES", "OWN_OPTIONS", "add_arguments", "embed", "probe", "similar", "split_settings"]

EXAMPLES = {
    "embed": """\
examples:
  monai-fgssl embed my_images --backbone resnet18 --weights resnet18.pth --image_size 224
  monai-fgssl embed my_images --model_path bundles/fgssl/models/model.pt
""",
    "similar": """\
example:
  monai-fgssl similar new.png my_images -k 9 --backbone resnet18 --weights resnet18.pth --image_size 224
""",
    "probe": """\
examples:
  monai-fgssl probe my_images --backbone resnet18 --weights resnet18.pth --image_size 224
  monai-fgssl probe my_images --pretrained bundles/fgssl/output/pretrained.pt
""",
}

OWN_OPTIONS = {"--help", "--neighbors", "--folder", "--output_dir", "--model_path", "--pretrained", "--backbone"}
OWN_OPTIONS |= {"--weights", "--image_size", "--spatial_dims", "--cache_dir"}
"""Options of :func:`add_arguments`; all others are settings of the bundle."""

PROBE_NEXT = """
The model is {model}. Next:
  predict new images  python -m monai.bundle run --config_file {folder}/configs/inference.json --dataset_dir DIR
  as ONNX             python -m monai.bundle run --config_file \
"['{plain}/configs/inference.json','{plain}/configs/export_onnx.json']"
  continue training   python -m monai.bundle run --config_file {folder}/train.json {settings} \
--pretrained {model} --pretrain_epochs 0 --fine_tuning lp_ft"""

OF_THE_PROBE = ("output_dir", "model_path", "pretrained", "command")
"""Options that a training that continues from the probe does not take over."""


def add_arguments(command: str, parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a command. The arguments that choose the network are the same for all three commands.

    Args:
        command: key of :data:`EXAMPLES`.
        parser: parser of the command.
    """
    parser.epilog = EXAMPLES[command] + "\nEvery other setting of the bundle is an option too, see docs/settings.md."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    if command == "similar":
        parser.add_argument("query", metavar="FILE", help="image that others are compared with")
    parser.add_argument("dataset_dir", metavar="DIR", help="folder, .csv or .json file with your images")
    if command == "similar":
        parser.add_argument("-k", "--neighbors", type=int, default=9, help="number of images to find (default: 9)")
    if command == "probe":
        parser.add_argument("--folder", default="fgssl_probe", help="folder for all results (default: fgssl_probe)")
    output = None if command == "probe" else "fgssl_features"
    parser.add_argument(
        "--output_dir", default=output, help=f"folder for the results (default: {output or 'output in the folder'})"
    )
    parser.add_argument(
        "--model_path",
        help="file of the model (default: models/model.pt in the folder)"
        if command == "probe"
        else "model.pt of an earlier run, with its model.json in the same folder",
    )
    parser.add_argument("--pretrained", help="pretrained.pt of an earlier run with that backbone")
    parser.add_argument("--backbone", help="resnet18 (default), timm:NAME, ...")
    parser.add_argument("--weights", help="pretrained, imagenet, hf-hub:OWNER/NAME or a file (default: random weights)")
    parser.add_argument("--image_size", help="pixels along each axis, one number or a list (default: 64)")
    parser.add_argument("--spatial_dims", type=int, choices=(2, 3), default=2, help="2: pictures (default), 3: volumes")
    parser.add_argument("--cache_dir", help="folder that keeps decoded images and features for the next run")


def split_settings(
    arguments: Sequence[str], own_options: Collection[str] = frozenset(OWN_OPTIONS)
) -> tuple[list[str], list[str]]:
    """Divide a command's arguments into its own options, and settings of the bundle with their values.

    Args:
        arguments: arguments after the name of the command.
        own_options: options of the command, with ``--``.

    Example:
        >>> split_settings(["--spacing", "2", "volumes", "--weights", "file.pt", "--window=dicom"])
        (['volumes', '--weights', 'file.pt'], ['--spacing', '2', '--window=dicom'])
    """
    own: list[str] = []
    settings: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("--") or argument.partition("=")[0] in own_options:
            own.append(argument)
            continue
        settings.append(argument)
        if "=" not in argument:
            settings += [value for value in [next(rest, None)] if value is not None]
    return own, settings


def embed(options: argparse.Namespace, others: Sequence[str]) -> int:
    """Write the features of all images."""
    return _run_configs(options, ("embed",), others)


def similar(options: argparse.Namespace, others: Sequence[str]) -> int:
    """Find the images that are most like a given image."""
    return _run_configs(options, ("embed", "similar"), others)


def probe(options: argparse.Namespace, others: Sequence[str]) -> int:
    """Fit a linear classifier in a folder that is a bundle, so that the model can be used like any other."""
    folder = Path(options.folder)
    if not (folder / "configs" / "probe.json").is_file():
        copy_bundle(_bundle(options), folder)
    del options.folder
    status = _run_configs(options, ("train", "probe"), others, folder)
    if status == 0:
        # The same network and form of the images, or the weights would not fit.
        given = {name: value for name, value in vars(options).items() if name not in OF_THE_PROBE}
        settings = shlex.join([*_as_arguments(given), *others])
        model = options.model_path or f"{folder}/models/model.pt"
        print(
            PROBE_NEXT.format(
                folder=shlex.quote(str(folder)), plain=folder, settings=settings, model=shlex.quote(model)
            )
        )
    return status


COMMANDS: dict[str, Callable[[argparse.Namespace, Sequence[str]], int]] = {
    "embed": embed,
    "similar": similar,
    "probe": probe,
}
"""Commands that take settings of the bundle."""


def _bundle(options: argparse.Namespace) -> str:
    return "fgssl" if options.spatial_dims == 2 else "fgssl_volume"


def _run_configs(
    options: argparse.Namespace, configs: Sequence[str], others: Sequence[str], root: Path | None = None
) -> int:
    """Run configs of a bundle in a process of their own, as a user would."""
    folder = (shipped_bundle(_bundle(options)) if root is None else root) / "configs"
    files = [str(folder / f"{name}.json") for name in configs]
    settings = {name: value for name, value in vars(options).items() if name != "command"}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files), *_as_arguments(settings)]
    # The bundle's run prints its own errors.
    return subprocess.run([*command, *others], check=False).returncode


def _as_arguments(settings: Mapping[str, object]) -> list[str]:
    """Options of a command line; None is left out."""
    given = {name: value for name, value in settings.items() if value is not None}
    return [text for name, value in given.items() for text in (f"--{name}", str(value))]
