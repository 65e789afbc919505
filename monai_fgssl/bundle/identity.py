# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Lock an output folder for one run, and tie checkpoints to their data and settings."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from ignite import distributed as idist

from monai_fgssl.data import CachedImages, PreparedData
from monai_fgssl.transforms import RandView
from monai_fgssl.utils.errors import SettingsError
from monai_fgssl.utils.files import atomic_write, remove_leftovers, storage_errors

from .settings_table import SETTINGS

__all__ = ["lock_output", "phase_hyperparameters", "phase_identity"]

HASHED_IMAGES = 256
"""Number of images in a part whose pixels are compared. Names and labels are compared for all."""

_locks: dict[Path, FileLock] = {}


def phase_identity(
    phase: str, settings: Mapping[str, Any], data: PreparedData, views: Sequence[object]
) -> dict[str, str]:
    """Describe the data and settings that the checkpoints of a phase belong to.

    A checkpoint that continues with other data or settings would give wrong results.

    Args:
        phase: ``"pretrain"`` or ``"train"``. ``"train"`` includes the data and settings of pre-training.
        settings: values by the names of the settings.
        data: images of the run.
        views: views of the phase. If a view is not a :class:`~monai_fgssl.transforms.RandView`, only its class is
            compared.

    Returns:
        Entries as text, by their names.
    """
    names = [setting.name for setting in SETTINGS if phase in setting.identity]
    identity = {name: json.dumps(settings.get(name), default=str) for name in names}
    identity |= {f"view {i + 1}": _describe(view) for i, view in enumerate(views)}
    # Pre-training uses no labels.
    identity["training images"] = _digest(data.train, with_labels=phase == "train")
    if phase == "train":
        identity["classes"] = json.dumps(list(data.class_names))
        identity["validation images"] = _digest(data.validation, with_labels=True)
    identity["test images"] = _digest(data.test, with_labels=phase == "train")
    return identity


def phase_hyperparameters(phase: str, settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings that may differ when a phase is resumed. The run prints the ones that changed.

    Args:
        phase: ``"pretrain"`` or ``"train"``.
        settings: values by the names of the settings.
    """
    names = [setting.name for setting in SETTINGS if setting.hyperparameter == phase]
    return {name: json.dumps(settings.get(name), default=str) for name in names}


def _describe(view: object) -> str:
    return json.dumps(asdict(view.settings)) if isinstance(view, RandView) else type(view).__qualname__


def _digest(images: CachedImages, with_labels: bool) -> str:
    """Number of images, and a checksum of their names, groups, labels and pixels."""
    digest = hashlib.blake2b(digest_size=8)
    labels = images.labels.tolist() if with_labels else []
    digest.update(json.dumps([images.names, images.groups, labels]).encode())
    for position in np.unique(np.linspace(0, len(images) - 1, min(len(images), HASHED_IMAGES)).astype(int)).tolist():
        digest.update(images[position]["image"].numpy().tobytes())
    return f"{len(images)} ({digest.hexdigest()})"


def lock_output(output_dir: str | Path) -> None:
    """Lock an output folder against other runs until this process ends, in any way.

    The operating system frees the lock of a process that was killed.

    Args:
        output_dir: folder of the run.

    Raises:
        SettingsError: when another run uses the folder. The message has its host, process and start.
        StorageError: when the folder can't be written to.
    """
    path = Path(output_dir).resolve() / ".run.lock"
    if path in _locks or idist.get_rank() != 0:
        return
    lock, owner = FileLock(path), path.with_suffix(".json")
    try:
        with storage_errors(output_dir):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
    except Timeout:
        used_by = owner.read_text(encoding="utf-8").strip() if owner.is_file() else "another process"
        raise SettingsError(
            f"another run uses {path.parent} ({used_by}): wait for it, or give this one its own --output_dir."
        ) from None
    _locks[path] = lock
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    with atomic_write(owner) as temporary:
        temporary.write_text(f"host {platform.node()}, process {os.getpid()}, since {started}\n", encoding="utf-8")
    # The lock is ours, so no living process uses these files.
    remove_leftovers(path.parent, depth=2)
