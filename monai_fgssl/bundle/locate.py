# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Bundles on disk: those that the package ships, copies of them, and the one that is being run."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "BUNDLES",
    "command_line_overrides",
    "copy_bundle",
    "find_root",
    "in_bundle_command",
    "read_defaults",
    "shipped_bundle",
]

BUNDLES = ("fgssl", "fgssl_volume")
"""Names of the bundles that come with the package."""


def shipped_bundle(name: str) -> Path:
    """Folder of a bundle: inside the installed package, or beside it in a clone."""
    package = Path(__file__).parents[1]
    for folder in (package / "bundles" / name, package.parent / "bundles" / name):
        if (folder / "configs" / "metadata.json").is_file():
            return folder
    raise FileNotFoundError(f"bundle {name!r} is not part of this installation of monai-fgssl; there are: {BUNDLES}.")


def copy_bundle(name: str, folder: str | Path) -> Path:
    """Copy a bundle out of the installed package, to run and to change it.

    Args:
        name: one of :data:`BUNDLES`.
        folder: where to; must not exist yet.

    Returns:
        The new folder.

    Raises:
        FileExistsError: when there is something at ``folder`` already.
    """
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"{target} exists already: name a new folder, nothing is overwritten.")
    # Links are followed: a folder that stands alone must not point back into the package.
    shutil.copytree(
        shipped_bundle(name), target, symlinks=False, ignore=shutil.ignore_patterns("output", "*.pt", "model.json")
    )
    return target


def command_line_overrides(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """Settings that the command line of ``python -m monai.bundle run`` overrides, as text."""
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


def in_bundle_command() -> bool:
    """Whether this process was started as ``python -m monai.bundle``."""
    return Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py")


def find_root(name: str = "fgssl") -> str:
    """Folder of the bundle that is being run.

    Looked for, in this order: where ``--config_file`` of the command lies, the working folder, ``bundles/<name>`` in
    it, the bundle that came with the package.
    """
    folders = [Path.cwd(), Path.cwd() / "bundles" / name]
    if in_bundle_command():
        config_file = command_line_overrides().get("config_file", "").strip("[]'\" ").split(",")[0].strip("'\" ")
        # Links are not followed: the configs of a bundle may be another's.
        parent = Path(os.path.abspath(config_file)).parent
        folders[:0] = [parent, parent.parent]
    for folder in folders:
        metadata = folder / "configs" / "metadata.json"
        if metadata.is_file():
            return str(folder)
    return str(shipped_bundle(name))


def read_defaults(bundle_root: str | Path) -> dict[str, Any]:
    """Defaults in which a bundle differs from ``train.json``, which all bundles share: ``configs/defaults.json``."""
    file = Path(bundle_root) / "configs" / "defaults.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
