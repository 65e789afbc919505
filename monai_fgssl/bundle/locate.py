# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Bundles on disk: the bundles of the package, their copies, and the bundle that is running."""

from __future__ import annotations

import gc
import inspect
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import ensure_tuple

from monai_fgssl.utils.bundles import BUNDLES, copy_bundle, shipped_bundle
from monai_fgssl.utils.command import in_bundle_command

__all__ = [
    "BUNDLES",
    "command_config_files",
    "command_line_overrides",
    "config_path",
    "copy_bundle",
    "find_root",
    "read_defaults",
    "shipped_bundle",
    "workflows",
]

CONFIG_SUFFIXES = (".json", ".yaml", ".yml")


def command_line_overrides(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """Read the settings that the command line of ``python -m monai.bundle run`` gives, as text."""
    arguments = sys.argv[1:] if arguments is None else arguments
    overrides: dict[str, str] = {}
    for position, argument in enumerate(arguments):
        if not argument.startswith("--"):
            continue
        name, equals, value = argument[2:].partition("=")
        if not equals and position + 1 < len(arguments):
            value = arguments[position + 1]
        overrides[name.replace("-", "_")] = value
    return overrides


def command_config_files() -> list[Path]:
    """Config files that the command line names, or the file after ``--args_file``."""
    overrides = command_line_overrides()
    files: Any = overrides.get("config_file")
    if files is None and Path(overrides.get("args_file", "")).is_file():
        files = ConfigParser.load_config_file(overrides["args_file"]).get("config_file")
    if isinstance(files, str) and files.startswith("["):
        files = [name.strip("'\" ") for name in files.strip("[]").split(",")]
    # Links are not followed, since a bundle may link to the configs of another.
    return [Path(os.path.abspath(file)) for file in ensure_tuple(files)] if files else []


def workflows() -> Iterator[Mapping[str, Any]]:
    """Attributes of the workflows that evaluate a config now, also from Python and in ``monai.bundle.load``.

    MONAI passes neither the place of a config nor its parser to an expression in it. The workflow knows both, so we
    look for it in the callers.
    """
    frame = inspect.currentframe()
    while frame is not None:
        parser = frame.f_locals.get("self")
        if isinstance(parser, ConfigParser):
            for holder in gc.get_referrers(parser):
                # Either the workflow, or the dictionary of its attributes.
                attributes = vars(holder) if isinstance(holder, ConfigWorkflow) else holder
                if isinstance(attributes, dict) and attributes.get("parser") is parser:
                    yield attributes
        frame = frame.f_back


def find_root(name: str = "fgssl") -> str:
    """Folder of the bundle that is running.

    It is looked for in this order: the folder of the config that is being evaluated, the folders of the config files on
    the command line, the working folder, ``bundles/<name>`` in the working folder, the bundle of the package.
    """
    places = [attributes.get("config_root_path") for attributes in workflows()]
    folders = [Path(os.path.abspath(place)) for place in places if place is not None]
    if in_bundle_command():
        folders += [file.parent for file in command_config_files()[:1]]
    folders = [place for folder in folders for place in (folder, folder.parent)]
    for folder in [*folders, Path.cwd(), Path.cwd() / "bundles" / name]:
        if (folder / "configs" / "metadata.json").is_file():
            return str(folder)
    return str(shipped_bundle(name))


def config_path(bundle_root: str | Path, name: str) -> Path:
    """Find a config of a bundle by its name, as JSON or YAML.

    Raises:
        FileNotFoundError: when neither file exists.
    """
    folder = Path(bundle_root) / "configs"
    for suffix in CONFIG_SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise FileNotFoundError(f"there is no config {name}.json or {name}.yaml in {folder}.")


def read_defaults(bundle_root: str | Path) -> dict[str, Any]:
    """Read ``configs/defaults.json``: the defaults of a bundle that differ from ``train.json``, which bundles share."""
    file = Path(bundle_root) / "configs" / "defaults.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
