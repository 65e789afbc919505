# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Readers of an input, and their outcomes: an image in range, or an error that names the file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz_seeds import SMALL_NET
from PIL import Image
from torch import nn

from monai_fgssl.bundle.model_file import load_weights, make_network
from monai_fgssl.data import read_image, read_medical_image, read_table
from monai_fgssl.networks import HierarchicalNet, OnnxNet
from monai_fgssl.utils.errors import DataError, SettingsError

__all__ = ["FINE", "TARGETS", "TOLD", "outcome_of"]

FINE, TOLD = "fine", "told"


def outcome_of(target: str, path: Path) -> str:
    """Read a file.

    Args:
        target: a key of :data:`TARGETS`.
        path: of the file.

    Returns:
        :data:`FINE`, :data:`TOLD` (an error of this package that names the file), or what was wrong, beginning with
        ``"out of memory"``, ``"foreign error"``, ``"without the name"`` or ``"wrong result"``.
    """
    try:
        wrong = TARGETS[target](path)
    except MemoryError as error:
        # Told by name, as where the limit of memory is a low one.
        return TOLD if path.name in str(error) else "out of memory"
    except (DataError, SettingsError) as error:
        text = str(error)
        return TOLD if path.name in text or path.stem in text else f"without the name: {text[:200]}"
    except Exception as error:
        return f"foreign error: {type(error).__name__}: {str(error)[:200]}"
    return f"wrong result: {wrong}" if wrong else FINE


def _picture(path: Path) -> str | None:
    try:
        shown = read_medical_image(path, channels=3)
    except DataError as error:
        if "frame=" not in str(error):
            raise
        shown = read_medical_image(path, channels=3, frame=0)
    if shown.ndim != 3 or len(shown) != 3 or not bool(torch.isfinite(shown).all()):
        return f"shape {tuple(shown.shape)} or values that are not numbers"
    if float(shown.min()) < 0 or float(shown.max()) > 1:
        return f"values from {float(shown.min())} to {float(shown.max())}"
    return None


def _volume(path: Path) -> str | None:
    volume = read_medical_image(path, 3)
    if volume.ndim != 4 or not bool(torch.isfinite(volume).all()) or not bool(torch.isfinite(volume.affine).all()):
        return f"shape {tuple(volume.shape)}, or values or an affine that are not numbers"
    if len(volume) > 1:
        return None
    small = read_image(path, 8, 3)
    return None if small.shape == (1, 8, 8, 8) else f"shape {tuple(small.shape)}"


def _list(path: Path) -> str | None:
    folder = path.parent
    for name in "abcdef":
        if not (folder / f"{name}.png").exists():
            Image.fromarray(np.zeros((2, 2), np.uint8)).save(folder / f"{name}.png")
    table = read_table(path)
    for item in table.items:
        # They may lie anywhere: a list is the user's own.
        if not Path(item["image"]).is_file():
            return f"an image that does not exist: {item['image']}"
        label, count = item["label"], len(table.class_names)
        if not _is_label(label, count):
            return f"label {label} of {count} classes"
    return None


def _is_label(label: Any, count: int) -> bool:
    """True for a class number, -1 for none, or as many answers as there are findings."""
    if isinstance(label, tuple):
        return len(label) == count and set(label) <= {-1, 0, 1}
    return bool(-1 <= label < count)


def _record(path: Path) -> str | None:
    network = make_network(path.parent, path.with_suffix(".pt"))
    return None if isinstance(network, nn.Module) else f"a network of type {type(network).__name__}"


@cache
def _network() -> HierarchicalNet:
    return HierarchicalNet(**SMALL_NET)


def _weights(path: Path) -> str | None:
    network = _network()
    load_weights(network, path)
    return None


def _onnx(path: Path) -> str | None:
    network = OnnxNet(path, num_threads=1)
    return None if network.num_steps > 0 else f"{network.num_steps} steps"


TARGETS: dict[str, Callable[[Path], str | None]] = {
    "picture": _picture,
    "volume": _volume,
    "list": _list,
    "record": _record,
    "weights": _weights,
    "onnx": _onnx,
}
"""Readers by name; each gives what is wrong with its result, or None."""
