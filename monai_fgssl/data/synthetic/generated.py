# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders of generated files. A folder is made once, all or nothing, and used again by runs with the same settings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from monai_fgssl.utils.errors import DataError
from monai_fgssl.utils.files import temporary_folder

__all__ = ["make_generated"]

SETTINGS_FILE = "synthetic.json"


def make_generated(folder: str | Path, settings: Mapping[str, int | str], write: Callable[[Path], None]) -> Path:
    """Make a folder, unless it was made with the same settings before. A folder with other settings is replaced.

    Args:
        folder: folder to write to; it must be new, empty or generated.
        settings: everything that the files depend on. It is written beside them.
        write: function that writes the files into an existing folder.

    Returns:
        The folder.

    Raises:
        DataError: when there is something else in the folder.
    """
    folder = Path(folder)
    if _is_made(folder, settings):
        return folder
    if folder.exists() and not (folder / SETTINGS_FILE).is_file() and (folder.is_file() or any(folder.iterdir())):
        raise DataError(
            f"{folder} has other files than synthetic lesions: name a new folder for the synthetic lesions."
        )

    try:
        with temporary_folder(folder) as temporary:
            write(temporary)
            (temporary / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
            # If several processes start together (one per GPU), the first that is ready wins.
            if not _is_made(folder, settings):
                shutil.rmtree(folder, ignore_errors=True)
                temporary.rename(folder)
    except OSError:
        if not _is_made(folder, settings):
            raise
    return folder


def _is_made(folder: Path, settings: Mapping[str, int | str]) -> bool:
    file = folder / SETTINGS_FILE
    try:
        return json.loads(file.read_text(encoding="utf-8")) == settings
    except (OSError, ValueError):
        return False
