# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""One line instead of a traceback for a mistake in the input."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["print_user_error"]

PACKAGE = Path(__file__).resolve().parents[1]


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def print_user_error(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """``sys.excepthook`` that prints one line for a mistake in the input, and a traceback for any other error."""
    root = list(_causes(error))[-1]
    frames = traceback.extract_tb(root.__traceback__)
    # MONAI's own error for a value that is no choice is readable too.
    ours = bool(frames) and (Path(frames[-1].filename).is_relative_to(PACKAGE) or frames[-1].name == "look_up_option")
    # A TypeError that Python itself raises is a bug.
    raised = bool(frames) and (frames[-1].line or "").startswith("raise ")
    if ours and (isinstance(root, (ValueError, OSError, ImportError)) or (raised and isinstance(root, TypeError))):
        print(f"error: {root}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
