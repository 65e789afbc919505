# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Thumbnails of images, kept in memory once they were drawn."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .pictures import as_jpeg

__all__ = ["Thumbnails"]

MAX_BYTES = 64_000_000


class Thumbnails:
    """Thumbnails as JPEG files. Safe for several threads.

    Args:
        draw: function that draws the small picture of a file or folder.
        max_bytes: largest number of bytes to keep. The thumbnails that were not used for the longest time go first.
    """

    def __init__(self, draw: Callable[[str], NDArray[np.uint8]], max_bytes: int = MAX_BYTES) -> None:
        self._draw = draw
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()

    def of(self, path: str) -> bytes:
        """Return the thumbnail of a file or folder.

        Raises:
            DataError: when it can't be read.
        """
        key = path, Path(path).stat().st_mtime_ns
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        content = as_jpeg(self._draw(path))
        with self._lock:
            if key not in self._kept:
                self._kept[key] = content
                self._num_bytes += len(content)
            while self._num_bytes > self._max_bytes:
                self._num_bytes -= len(self._kept.popitem(last=False)[1])
        return content
