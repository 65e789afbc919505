# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Bundles of the package, and copies of them. This module imports nothing slow, since the command line uses it."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["BUNDLES", "copy_bundle", "shipped_bundle"]

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
        name: name of the bundle, one of :data:`BUNDLES`.
        folder: new folder to copy to; it must not exist yet.

    Returns:
        The new folder.

    Raises:
        FileExistsError: when there is something at ``folder`` already.
    """
    target = Path(folder)
    if target.exists():
        raise FileExistsError(f"{target} exists already: name a new folder, nothing is overwritten.")
    # Links are followed: a copy must not point back into the package.
    shutil.copytree(
        shipped_bundle(name), target, symlinks=False, ignore=shutil.ignore_patterns("output", "*.pt", "model.json")
    )
    return target
