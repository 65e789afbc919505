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
    """Whether this process may work at something; as long as it does, no other one gets True for the same file.

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
