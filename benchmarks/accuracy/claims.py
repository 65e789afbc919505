# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Several processes share the runs to make: what one of them works at, the others leave to it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["claim"]


@contextmanager
def claim(file: Path) -> Iterator[bool]:
    """Claim a piece of work: True for one process at a time, False for all others until that one is done.

    A process that is killed loses its claims.

    Args:
        file: stands for the work.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
