# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Check before a run begins that its folders can be written to and have enough room."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from torch import nn

from monai_fgssl.utils.errors import SettingsError
from monai_fgssl.utils.files import file_size

__all__ = ["check_folder", "check_room"]

COPIES = 25
"""Size of all files of a long run, as a multiple of the size of its weights.

A checkpoint has the weights and their two moments; in fine-tuning it has the best weights too. A phase keeps up to
three checkpoints, and one after its end. In addition there are pretrained.pt, best.pt and model.pt. The comparison
without pre-training has its own files."""


def check_room(settings: Mapping[str, Any], network: nn.Module | None = None) -> None:
    """Check that the folders of a run can be written to, and that there is room for its checkpoints and models.

    The first process of each machine checks.

    Args:
        settings: settings of the run: ``output_dir``, and perhaps ``model_path`` and ``cache_dir``. Missing folders are
            not made.
        network: network whose weights are saved; None: the room is not checked.

    Raises:
        SettingsError: when a check fails; the message names the setting and the folder.
    """
    # Processes of one machine see the same disks.
    if idist.get_local_rank() != 0:
        return
    output = Path(settings["output_dir"])
    check_folder("output_dir", output)
    for name in ("model_path", "cache_dir"):
        if (path := settings.get(name)) is not None:
            check_folder(name, Path(path).parent if name == "model_path" else Path(path))
    if network is not None:
        needed = COPIES * sum(value.numel() * value.element_size() for value in network.state_dict().values())
        free = shutil.disk_usage(_existing(output)).free
        if free < needed:
            raise SettingsError(
                f"the disk of {output} has {file_size(free)} left, but checkpoints and models may take "
                f"{file_size(needed)}: free some space, or name a folder on another disk (--output_dir)."
            )


def check_folder(name: str, folder: Path) -> None:
    """Try to write a file into a folder, or into the place where the folder will be made.

    Args:
        name: name of the setting that names the folder.
        folder: folder, which need not exist.

    Raises:
        SettingsError: when a check fails; the message names the setting and the folder.
    """
    existing = _existing(folder)
    try:
        if not existing.is_dir():
            raise NotADirectoryError(f"{existing} is a file")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise SettingsError(
            f"{folder} can't be written to ({error.strerror or error}): name another folder (--{name})."
        ) from error


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    folder = Path(os.path.abspath(folder))
    while not os.path.lexists(folder):
        folder = folder.parent
    return folder
