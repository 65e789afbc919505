# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read state dicts from files of any training code, as data only: nothing in a file can run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from monai_fgssl.utils.errors import SettingsError

__all__ = ["WEIGHT_SUFFIXES", "read_checkpoint"]

WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
MAX_DEPTH = 3
"""Largest depth of nested dictionaries."""

HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "?")},
    # This function makes a NumPy scalar from its bytes. Its module has another name in NumPy 1.
    np.float64(0).__reduce__()[0],
]
"""Classes of other values in checkpoints, such as a command line. They hold only data, and run nothing."""


def read_checkpoint(path: str | Path) -> dict[str, dict[str, Tensor]]:
    """Read all state dicts in a file.

    Args:
        path: safetensors file, or file of ``torch.save`` with a state dict, alone or inside other dictionaries.

    Returns:
        State dicts by their place: ``""`` for the file itself, ``"teacher"``, ``"model.state_dict"``.

    Raises:
        SettingsError: when the file is missing or damaged, holds more than data, or has no state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise SettingsError(f"weights: there is no file {str(path)!r}.")
    try:
        if path.suffix == ".safetensors":
            content = _read_safetensors(path)
        else:
            with torch.serialization.safe_globals(HARMLESS):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise SettingsError(
            f"weights: {path} is damaged or holds more than weights, and is not loaded ({type(error).__name__}: "
            f"{reason}). If you trust its author, save only its state dict, as safetensors."
        ) from error
    found: dict[str, dict[str, Tensor]] = {}
    _collect(content, "", found, MAX_DEPTH)
    if not found:
        raise SettingsError(f"weights: {path} holds no state dict (name to tensor) but {type(content).__name__}.")
    return found


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(
            f"weights: {path} needs safetensors, which can't be imported: pip install 'monai-fgssl[timm]'."
        ) from error
    return load_file(path)


def _collect(content: Any, name: str, found: dict[str, dict[str, Tensor]], depth: int) -> None:
    if not isinstance(content, Mapping):
        return
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if tensors:
        found[name] = tensors
    if depth:
        for key, value in content.items():
            _collect(value, f"{name}.{key}" if name else str(key), found, depth - 1)
