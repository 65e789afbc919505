# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Large pictures for the page, with any window and of any slice of a volume."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_fgssl.data.io.decoder_pool import DecoderPool
from monai_fgssl.report.pictures import GrayLevels, Slices, draw_picture, read_slices

__all__ = ["View", "Viewer"]

MAX_BYTES = 1_000_000_000
"""Largest number of bytes of volumes kept in memory. The volume on the screen is kept whatever its size."""


@dataclass(frozen=True)
class View:
    """A picture of an image, and which other windows and slices there are.

    Attributes:
        pixels: picture ``(H, W, 3)``.
        levels: the window, and the range of values to choose from; None: the brightness can't be changed.
        slices: number of slices of a volume; 1 for a picture.
        index: number of the slice that is shown, from 0.
    """

    pixels: NDArray[np.uint8]
    levels: GrayLevels | None = None
    slices: int = 1
    index: int = 0

    def choices(self) -> dict[str, Any]:
        """Return all but the pixels, for JSON."""
        window, values = (self.levels.window, self.levels.values) if self.levels else (None, None)
        return {"window": window, "values": values, "slices": self.slices, "slice": self.index}


class Viewer:
    """Draws images in separate processes, and keeps the last volumes in memory. Safe for several threads.

    Args:
        pool: processes that decode the images.
        spatial_dims: function that returns 2 for pictures, 3 for volumes.
        options: function that returns the options of :func:`~monai_fgssl.report.pictures.draw_image`.
        max_bytes: largest number of bytes of volumes to keep.
    """

    def __init__(
        self,
        pool: DecoderPool,
        spatial_dims: Callable[[], int],
        options: Callable[[], dict[str, Any]],
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._pool = pool
        self._spatial_dims = spatial_dims
        self._options = options
        self._max_bytes = max_bytes
        self._kept: OrderedDict[tuple[Any, ...], Slices] = OrderedDict()
        # Held while a volume is read, so that a request for its next slice waits instead of reading it again.
        self._reading = threading.Lock()

    def draw(
        self,
        path: str | Path,
        max_size: int = 1024,
        window: Sequence[float] | None = None,
        index: int | None = None,
    ) -> View:
        """Draw a picture or a slice.

        Args:
            path: file, or folder of a series.
            max_size: largest height and width, in pixels.
            window: ``(center, width)`` of gray images; None: the window of the file, or of the training.
            index: number of the slice of a volume, from 0; None: the middle one.

        Raises:
            DataError: when it can't be read.
            IndexError: when there is no such slice.
        """
        if self._spatial_dims() == 3:
            slices = self.slices(path)
            shown = len(slices.values) // 2 if index is None else index
            return View(slices.draw(shown, window, max_size), slices.levels, len(slices.values), shown)
        if index:
            raise IndexError("a picture has one slice, 0.")
        options = self._options() | ({"window": tuple(window)} if window else {})
        pixels, (content,) = self._pool.call(_draw_picture, path, max_size=max_size, **options)
        levels = json.loads(content)
        return View(pixels, GrayLevels(*map(tuple, levels)) if levels else None)

    def slices(self, path: str | Path) -> Slices:
        """Return the slices of a volume.

        Raises:
            DataError: when it can't be read.
        """
        options = self._options()
        key = str(path), Path(path).stat().st_mtime_ns, str(options)
        with self._reading:
            if key not in self._kept:
                values, (others,) = self._pool.call(_read_slices, path, **options)
                levels, extent, inverted = json.loads(others)
                self._kept[key] = Slices(values, GrayLevels(*map(tuple, levels)), tuple(extent), inverted)
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(one.values.nbytes for one in self._kept.values()) > self._max_bytes:
                self._kept.popitem(last=False)
            return self._kept[key]


def _draw_picture(path: str, **options: Any) -> tuple[NDArray[np.uint8], list[bytes]]:
    pixels, levels = draw_picture(path, **options)
    return pixels, [json.dumps(astuple(levels) if levels else None).encode()]


def _read_slices(path: str, **options: Any) -> tuple[NDArray[np.float32], list[bytes]]:
    slices = read_slices(path, **options)
    others = astuple(slices.levels), slices.extent, slices.inverted
    return slices.values, [json.dumps(others).encode()]
