# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or not there, and weights that are data and never code."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .errors import SettingsError

__all__ = ["atomic_write", "read_state_dict", "to_json"]


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``, which becomes ``path`` when the block ends without an error.

    A reader never meets a half-written file, and an interrupted run leaves the previous one as it was. Missing parent
    folders are made.

    Args:
        path: the file to write or to replace.

    Yields:
        Where to write. It has the suffix of ``path``, for writers that choose their format by it.

    Example:
        >>> with atomic_write("metrics.json") as temporary:
        ...     size = temporary.write_text("{}")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def to_json(value: Any, indent: int | None = None) -> str:
    """Write a value as JSON that every reader takes: what is no finite number becomes null.

    Python alone writes ``NaN`` and ``Infinity``, which browsers, R and databases refuse.

    Example:
        >>> to_json({"macro_auc": float("nan"), "n": 3})
        '{"macro_auc": null, "n": 3}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read weights that ``torch.save`` wrote, whoever sent them: nothing in the file can run.

    Args:
        path: of a state dict, plain or under ``"model"`` as ``monai.handlers.CheckpointSaver`` may write it.

    Raises:
        SettingsError: when the file is missing, damaged, holds anything but tensors by name, or more than data.
    """
    if not Path(path).is_file():
        raise SettingsError(f"there are no weights at {path}: train first, or name the right file.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:
        # torch tells of a damaged file in many ways, and suggests to load what could run code.
        reason = (str(error).splitlines() or [""])[0][:120]
        raise SettingsError(
            f"{path} is damaged or holds more than weights, and is not loaded ({type(error).__name__}: {reason})"
        ) from error
    state = state.get("model", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise SettingsError(
            f"{path} holds no state dict (name to tensor) but {type(state).__name__}: save model.state_dict()."
        )
    return dict(state)
