# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of tensors, from ``torch.save`` or in the format safetensors. They are read as data, never as code."""

from __future__ import annotations

import hashlib
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from .errors import SettingsError
from .files import atomic_write

__all__ = ["hash_of_weights", "is_safetensors", "read_metadata", "read_state_dict", "save_safetensors", "save_tensors"]

WEIGHTS_HASH = "sha256"
"""Name of the hash in the metadata of a safetensors file; see :func:`hash_of_weights`."""
LONGEST_HEADER = 100_000_000
"""Largest number of bytes of a safetensors header. Source: the format's own limit,
https://github.com/huggingface/safetensors."""


def save_tensors(content: Any, path: str | Path, durable: bool = False) -> None:
    """Write a file with ``torch.save``, complete or not at all; see :func:`~monai_fgssl.utils.files.atomic_write`.

    Args:
        content: dictionary of tensors and plain values.
        path: file to write.
        durable: see :func:`~monai_fgssl.utils.files.atomic_write`.

    Raises:
        StorageError: when the disk has too little room, before anything is written; or when the file can't be written.
    """
    with atomic_write(path, _num_bytes(content), durable) as temporary:
        torch.save(content, temporary)


def _num_bytes(content: Any) -> int:
    """Number of bytes of all tensors in ``content``."""
    if isinstance(content, torch.Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, Mapping):
        return sum(map(_num_bytes, content.values()))
    return sum(map(_num_bytes, content)) if isinstance(content, (list, tuple)) else 0


def hash_of_weights(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, types, shapes and values of the weights. It does not depend on the format of their file.

    Args:
        state: a state dict, on any device.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_safetensors(state: Mapping[str, torch.Tensor], path: str | Path, metadata: Mapping[str, str]) -> None:
    """Write weights and their metadata to one safetensors file, with the hash of the weights.

    Args:
        state: a state dict.
        path: file to write.
        metadata: names and texts to store beside the weights.

    Raises:
        StorageError: see :func:`save_tensors`.
    """
    # Each tensor is a contiguous copy: the format has no strides, and no tensors that share memory.
    tensors = {name: value.detach().cpu().clone().contiguous() for name, value in state.items()}
    entries = {"format": "pt", **metadata, WEIGHTS_HASH: hash_of_weights(tensors)}
    with atomic_write(path, _num_bytes(tensors), durable=True) as temporary:
        safetensors.torch.save_file(tensors, temporary, entries)


def is_safetensors(path: str | Path) -> bool:
    """Recognize a safetensors file by its content: a length, and a JSON object of that length."""
    with open(path, "rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] <= LONGEST_HEADER


def read_metadata(path: str | Path) -> dict[str, str]:
    """Read the text entries of a safetensors file, without its tensors.

    Raises:
        SettingsError: when the file is damaged or cut off.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise SettingsError(f"{path} is damaged or cut off, and is not loaded ({_first_line(error)})") from error


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read weights from any source: no code in the file can run.

    Args:
        path: a safetensors file, or a file that ``torch.save`` wrote with a state dict, plain or under ``"model"``, as
            ``monai.handlers.CheckpointSaver`` may write it. The format is recognized by the content.

    Raises:
        SettingsError: when the file is missing or damaged, or contains anything other than tensors by name.
        MemoryError: when the file needs more memory than there is; the message names the file.
    """
    if not Path(path).is_file():
        raise SettingsError(f"there are no weights at {path}: train first, or name the right file.")
    if is_safetensors(path):
        return _read_safetensors(path)
    try:
        _check_stored(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError as error:
        # A length in a damaged file may ask for gigabytes.
        raise MemoryError(f"{path} is damaged, or needs more memory than there is") from error
    except Exception as error:
        # torch raises many kinds of errors for a damaged file, and suggests loading it in a way that could run code.
        raise SettingsError(
            f"{path} is damaged or holds more than weights, and is not loaded ({type(error).__name__}: "
            f"{_first_line(error)})"
        ) from error
    state = state.get("model", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise SettingsError(
            f"{path} holds no state dict (name to tensor) but {type(state).__name__}: save model.state_dict()."
        )
    return dict(state)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:120]


def _check_stored(path: str | Path) -> None:
    """Refuse compressed members: torch writes none, and a small compressed file could fill the whole memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            if any(member.compress_type != zipfile.ZIP_STORED for member in file.infolist()):
                raise ValueError("it is compressed, which torch.save never does")


def _read_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    recorded = read_metadata(path).get(WEIGHTS_HASH)
    try:
        state = safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise SettingsError(f"{path} is damaged or cut off, and is not loaded ({_first_line(error)})") from error
    # Files of other programs have no hash.
    if recorded is not None and recorded != hash_of_weights(state):
        raise SettingsError(f"{path} is damaged or was changed: its weights are not those that its hash was made of.")
    return state
