# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Print one line instead of a traceback for a mistake in the input."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monai_fgssl.utils.files import is_full_or_read_only
from monai_fgssl.utils.memory import is_out_of_memory

__all__ = ["print_user_error"]

PACKAGE = Path(__file__).resolve().parents[1]
MEMORY_SETTINGS = (
    "lower --batch_size, --pretrain_batch_size or --image_size, or keep the images on disk with --cache_dir"
)


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def print_user_error(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """``sys.excepthook`` that prints one line for a mistake in the input, and a traceback for any other error."""
    causes = list(_causes(error))
    told = next(filter(_is_readable, causes), None)
    if told is not None:
        print(f"error: {told}", file=sys.stderr)
    elif any(map(is_out_of_memory, causes)):
        print(f"error: there is not enough memory: {MEMORY_SETTINGS}.", file=sys.stderr)
    elif (disk := next((one for one in causes if _is_of_disk(one)), None)) is not None:
        print(f"error: {disk}. Make room, name another folder, or allow this user to write there.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _is_of_disk(error: BaseException) -> bool:
    return isinstance(error, OSError) and is_full_or_read_only(error)


def _is_readable(error: BaseException) -> bool:
    """True for an error that this package raises on purpose, False for a bug in it."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    # MONAI's own check of a value against a list of choices is as readable.
    ours = Path(frames[-1].filename).is_relative_to(PACKAGE) or frames[-1].name == "look_up_option"
    # A TypeError that nobody raised is a bug.
    raised = (frames[-1].line or "").startswith("raise ")
    return ours and (isinstance(error, (ValueError, OSError, ImportError)) or (raised and isinstance(error, TypeError)))
