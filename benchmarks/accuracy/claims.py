# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Let several processes share the runs: while one process works on a run, the others skip that run."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["claim"]


@contextmanager
def claim(file: Path) -> Iterator[bool]:
    """Claim a piece of work: the first process gets True, and all others get False until the first has finished.

    A process that is killed loses its claims.

    Args:
        file: lock file that represents the work.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
