# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""State of all random number generators of a process."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

__all__ = ["get_random_state", "set_random_state"]


def get_random_state(generator: torch.Generator) -> dict[str, Any]:
    """Return the state of a generator and of the global generators of PyTorch, NumPy and Python.

    The state consists of tensors and plain numbers only.

    Args:
        generator: generator of the training.
    """
    # NumPy's global state, which MONAI's transforms may use.
    name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "generator": generator.get_state(),
        "torch": torch.get_rng_state(),
        # The current device only: a process has one.
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "python": random.getstate(),
    }


def set_random_state(generator: torch.Generator, state: Mapping[str, Any]) -> None:
    """Restore the state that :func:`get_random_state` returned."""
    generator.set_state(state["generator"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
