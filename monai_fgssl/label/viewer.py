# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Large pictures for the page, with any window, of any slice of a volume, and of any region."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_fgssl.data.io.decoder_pool import DecoderPool
from monai_fgssl.report.pictures import (
    GrayLevels,
    Picture,
    Region,
    Slices,
    cut,
    draw_picture,
    read_slices,
    shrunk,
)

__all__ = ["View", "Viewer"]

MAX_BYTES = 1_000_000_000
"""Largest number of bytes of volumes and pictures kept in memory. The last one is kept whatever its size."""

LARGE = 4_000_000
"""Smallest number of pixels of a picture that is kept as soon as it is drawn. Of a smaller picture, the pixels are kept
when a request asks for a region."""


@dataclass(frozen=True)
class View:
    """A picture of an image, and which other windows and slices there are.

    Attributes:
        pixels: picture ``(H, W, 3)`` of the whole image or of a region. It may have fewer pixels than the image.
        size: width and height of the whole image, in pixels.
        levels: the window, and the range of values to choose from; None: the brightness can't be changed.
        slices: number of slices of a volume; 1 for a picture.
        index: number of the slice that is shown, from 0.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    levels: GrayLevels | None = None
    slices: int = 1
    index: int = 0

    def choices(self) -> dict[str, Any]:
        """Return all but the pixels, for JSON."""
        window, values = (self.levels.window, self.levels.values) if self.levels else (None, None)
        return {"size": self.size, "window": window, "values": values, "slices": self.slices, "slice": self.index}


class Viewer:
    """Draws images in separate processes, and keeps the last volumes and large pictures in memory.

    Safe for several threads.

    Args:
        pool: processes that decode the images.
        spatial_dims: function that returns 2 for pictures, 3 for volumes.
        options: function that returns the options of :func:`~monai_fgssl.report.pictures.draw_image`.
        max_bytes: largest number of bytes of volumes and pictures to keep.
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
        self._kept: OrderedDict[tuple[str, int, str], Slices | Picture] = OrderedDict()
        # Held while a file is read, so that a request for its next slice or region waits instead of reading it again.
        self._reading = threading.Lock()

    def draw(
        self,
        path: str | Path,
        max_size: int = 1024,
        window: Sequence[float] | None = None,
        index: int | None = None,
        region: Region | None = None,
    ) -> View:
        """Draw a picture or a slice, or a region of it.

        Args:
            path: file, or folder of a series.
            max_size: largest height and width of the result, in pixels.
            window: ``(center, width)`` of gray images; None: the window of the file, or of the training.
            index: number of the slice of a volume, from 0; None: the middle one.
            region: part of the image to draw, in pixels of the whole image; None: the whole image.

        Raises:
            DataError: when it can't be read.
            IndexError: when there is no such slice, or the region is not inside the image.
        """
        if self._spatial_dims() == 3:
            slices = self.slices(path)
            shown = len(slices.values) // 2 if index is None else index
            pixels = slices.draw(shown, window, max_size, region)
            return View(pixels, slices.size, slices.levels, len(slices.values), shown)
        if index:
            raise IndexError("a picture has one slice, 0.")
        options = self._options() | ({"window": tuple(window)} if window else {})
        picture = self._picture(path, max_size, options, region is not None)
        pixels = picture.pixels if region is None else cut(picture.pixels, region)
        return View(shrunk(pixels, max_size), picture.size, picture.levels)

    def _picture(self, path: str | Path, max_size: int, options: Mapping[str, Any], all_pixels: bool) -> Picture:
        """Read a picture with all of its pixels; without ``all_pixels`` a small picture has at most ``max_size``."""

        def read(whole_from: int) -> Picture:
            pixels, (content,) = self._pool.call(_draw_picture, path, whole_from, max_size=max_size, **options)
            size, levels = json.loads(content)
            return Picture(pixels, tuple(size), GrayLevels(*map(tuple, levels)) if levels else None)

        if all_pixels or _key(path, "picture", options) in self._kept:
            kept = self._keep(path, "picture", options, lambda: read(0))
            assert isinstance(kept, Picture)
            return kept
        # Without the lock: people who look at different images do not wait for each other.
        picture = read(LARGE)
        if picture.size[0] * picture.size[1] >= LARGE:
            # Decoding takes seconds, and the page may ask for regions soon.
            self._keep(path, "picture", options, lambda: picture)
        return picture

    def slices(self, path: str | Path) -> Slices:
        """Return the slices of a volume.

        Raises:
            DataError: when it can't be read.
        """
        options = self._options()

        def read() -> Slices:
            values, (others,) = self._pool.call(_read_slices, path, **options)
            levels, extent, inverted = json.loads(others)
            return Slices(values, GrayLevels(*map(tuple, levels)), tuple(extent), inverted)

        slices = self._keep(path, "slices", options, read)
        assert isinstance(slices, Slices)
        return slices

    def _keep(
        self, path: str | Path, kind: str, options: Mapping[str, Any], read: Callable[[], Slices | Picture]
    ) -> Slices | Picture:
        """Return what is kept of a file that was read with these options; otherwise read it, and keep it."""
        key = _key(path, kind, options)
        with self._reading:
            if key not in self._kept:
                self._kept[key] = read()
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and sum(map(_num_bytes, self._kept.values())) > self._max_bytes:
                self._kept.popitem(last=False)
            return self._kept[key]


def _key(path: str | Path, kind: str, options: Mapping[str, Any]) -> tuple[str, int, str]:
    return str(path), Path(path).stat().st_mtime_ns, f"{kind} {options}"


def _num_bytes(kept: Slices | Picture) -> int:
    return kept.values.nbytes if isinstance(kept, Slices) else kept.pixels.nbytes


def _draw_picture(path: str, whole_from: int, max_size: int, **options: Any) -> tuple[NDArray[np.uint8], list[bytes]]:
    """Draw a picture. It is not shrunk if it has at least ``whole_from`` pixels."""
    picture = draw_picture(path, max_size=None, **options)
    width, height = picture.size
    pixels = picture.pixels if width * height >= whole_from else shrunk(picture.pixels, max_size)
    return pixels, [json.dumps((picture.size, astuple(picture.levels) if picture.levels else None)).encode()]


def _read_slices(path: str, **options: Any) -> tuple[NDArray[np.float32], list[bytes]]:
    slices = read_slices(path, **options)
    others = astuple(slices.levels), slices.extent, slices.inverted
    return slices.values, [json.dumps(others).encode()]
