# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Errors for too little memory: recognize them, and name the setting to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import SettingsError

__all__ = ["is_out_of_memory", "naming_setting"]

PHRASES = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "_ALLOC_FAILED",
    "bad allocation",
    "bad_alloc",
    "Failed to allocate memory",
)
"""Parts of messages of torch on a CPU, of GPU libraries and of ITK, which raise a plain RuntimeError for lack of
memory."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if an error means that the memory of the computer or of a GPU was not enough."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in PHRASES)


@contextmanager
def naming_setting(what: str, setting: str) -> Iterator[None]:
    """Name the setting to lower when memory is not enough.

    Args:
        what: name of the step, such as ``"pre-training"``.
        setting: setting on the command line, with its value.

    Raises:
        SettingsError: in place of the errors of :func:`is_out_of_memory`.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        on_gpu = isinstance(error, torch.OutOfMemoryError) or "CUDA" in str(error)
        raise SettingsError(
            f"{what} needs more memory than the {'GPU' if on_gpu else 'computer'} has free: lower {setting}, or "
            "--image_size."
        ) from error
