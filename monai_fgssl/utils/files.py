# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_write"]


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the folder of ``path``, which becomes ``path`` when the block ends without an error.

    A reader never meets a half-written file, and an interrupted run leaves the previous one as it was. Missing parent
    folders are made.

    Args:
        path: the file to write or to replace.

    Yields:
        Where to write. It has the suffix of ``path``, for writers that choose their format by it.

    Example:
        >>> with atomic_write("metrics.json") as temporary:
        ...     size = temporary.write_text("{}")
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
