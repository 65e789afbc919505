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
from types import FunctionType
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from ignite import distributed as idist
from torch.optim import Optimizer

from monai_fgssl.data import CachedImages, PreparedData
from monai_fgssl.networks.weights import read_checkpoint
from monai_fgssl.transforms import RandView
from monai_fgssl.utils.errors import SettingsError
from monai_fgssl.utils.files import atomic_write, remove_leftovers, storage_errors
from monai_fgssl.utils.tensors import hash_of_weights

from .settings_table import SETTINGS

__all__ = ["OutputInUseError", "is_locked", "lock_output", "phase_hyperparameters", "phase_identity"]

HASHED_IMAGES = 256
"""Number of images in a part whose pixels are compared. Names and labels are compared for all."""

FILES_OF_WEIGHTS = ("weights", "pretrained")
"""Settings that may name a file of weights."""

LOCK = ".run.lock"
"""File in an output folder that a run locks."""
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
    # A file may have been replaced under its name. The probe of an ensemble would start from the new weights.
    identity |= {f"content of {name}": _hash_of_file(settings.get(name)) for name in FILES_OF_WEIGHTS if name in names}
    identity |= {f"view {i + 1}": _describe(view) for i, view in enumerate(views)}
    # Pre-training uses no labels.
    identity["training images"] = _digest(data.train, with_labels=phase == "train")
    if phase == "train":
        identity["classes"] = json.dumps(list(data.class_names))
        identity["validation images"] = _digest(data.validation, with_labels=True)
    identity["test images"] = _digest(data.test, with_labels=phase == "train")
    return identity


def phase_hyperparameters(phase: str, settings: Mapping[str, Any], **parts: object) -> dict[str, str]:
    """Settings and parts that may differ when a phase is resumed. The run prints the ones that changed.

    Args:
        phase: ``"pretrain"`` or ``"train"``.
        settings: values by the names of the settings.
        parts: loss, optimizer and schedule by the names of their ids. A config or a nested id of the command, such as
            ``--train#loss#label_smoothing``, may change what no setting names.
    """
    names = [setting.name for setting in SETTINGS if setting.hyperparameter == phase]
    changeable = {name: json.dumps(settings.get(name), default=str) for name in names}
    return changeable | {f"{phase}#{name}": _describe_part(part) for name, part in parts.items()}


OF_THE_GROUPS = ("lr", "weight_decay", "initial_lr")
"""Defaults of an optimizer that no parameter uses: each group has its own."""
OF_THE_PLACE = ("training", "last_epoch", "verbose")
"""Attributes that a training changes."""


def _describe_part(part: object) -> str:
    """Class of a part and its plain values. A number is told with 6 digits, a tensor as its numbers."""
    if isinstance(part, Optimizer):
        values = {name: value for name, value in part.defaults.items() if name not in OF_THE_GROUPS}
    else:
        values = dict(vars(part)) if hasattr(part, "__dict__") else {}
        values |= {name: value.tolist() for name, value in getattr(part, "_buffers", {}).items() if value is not None}
    told = {
        name: value
        for name, value in values.items()
        if not name.startswith("_") and name not in OF_THE_PLACE and _is_plain(value)
    }
    kind = part if isinstance(part, type | FunctionType) else type(part)
    return f"{kind.__qualname__}({', '.join(f'{name}={_rounded(value)}' for name, value in sorted(told.items()))})"


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _rounded(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_rounded, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _hash_of_file(value: object) -> str:
    """Hash of the weights in a file, which does not depend on how it was written; ``"null"`` if it is no file."""
    if not (isinstance(value, str) and Path(value).is_file()):
        return json.dumps(None)
    return ", ".join(f"{name} {hash_of_weights(state)[:16]}".strip() for name, state in read_checkpoint(value).items())


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


def is_locked(output_dir: str | Path) -> bool:
    """True if a run uses this output folder now; see :func:`lock_output`."""
    path = Path(output_dir).resolve() / LOCK
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


class OutputInUseError(SettingsError):
    """Another run uses the output folder."""


def lock_output(output_dir: str | Path, wait: bool = False) -> None:
    """Lock an output folder against other runs until this process ends, in any way.

    The operating system frees the lock of a process that was killed.

    Args:
        output_dir: folder of the run.
        wait: True: wait until a run that uses the folder has ended.

    Raises:
        OutputInUseError: when another run uses the folder. The message has its host, process and start.
        StorageError: when the folder can't be written to.
    """
    path = Path(output_dir).resolve() / LOCK
    if path in _locks or idist.get_rank() != 0:
        return
    lock, owner = FileLock(path), path.with_suffix(".json")
    try:
        with storage_errors(output_dir):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        used_by = owner.read_text(encoding="utf-8").strip() if owner.is_file() else "another process"
        raise OutputInUseError(
            f"another run uses {path.parent} ({used_by}): wait for it, or give this one its own --output_dir."
        ) from None
    _locks[path] = lock
    started = time.strftime("%Y-%m-%d %H:%M:%S")
    with atomic_write(owner) as temporary:
        temporary.write_text(f"host {platform.node()}, process {os.getpid()}, since {started}\n", encoding="utf-8")
    # The lock is ours, so no living process uses these files.
    remove_leftovers(path.parent, depth=2)
