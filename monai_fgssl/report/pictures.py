# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Draw images for a screen, with any window, and any slice of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from monai.transforms import Orientation
from numpy.typing import NDArray
from PIL import Image

from monai_fgssl.data.io.display import LookupTable, StoredImage, Window
from monai_fgssl.data.io.reader import read_shown

from .heat_maps import axial_slices

__all__ = [
    "GrayLevels",
    "Picture",
    "Region",
    "Slices",
    "cut",
    "draw_image",
    "draw_picture",
    "read_slices",
    "shrunk",
]

Region: TypeAlias = tuple[int, int, int, int]
"""Left edge, upper edge, width and height of a part of a picture, in pixels."""

Scalar = TypeVar("Scalar", bound=np.generic)

PERCENTILES = (0.5, 99.5)
"""Percentiles of a volume's values that are shown as black and white, if nothing names a window."""


@dataclass(frozen=True)
class GrayLevels:
    """Choices for the brightness of a gray image, in the units of its modality.

    Attributes:
        window: first window that the image is shown with, ``(center, width)``.
        values: lowest and highest value.
    """

    window: tuple[float, float]
    values: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that was drawn.

    Attributes:
        pixels: ``(H, W, 3)``.
        size: width and height of the image, of which the pixels may be a smaller copy.
        levels: choices for the brightness; None: nothing can be chosen.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    levels: GrayLevels | None


@dataclass(frozen=True, eq=False)
class Slices:
    """Slices of a volume, see :func:`~monai_fgssl.report.heat_maps.axial_slices`.

    Attributes:
        values: ``(Z, Y, X)`` float32, in the units of the modality.
        levels: choices for the brightness, see :class:`GrayLevels`.
        extent: size in millimeters from edge to edge: to the patient's right, to the front, to the head.
        inverted: True if small values are bright.
    """

    values: NDArray[np.float32]
    levels: GrayLevels
    extent: tuple[float, float, float]
    inverted: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a slice in voxels."""
        _, height, width = self.values.shape
        return width, height

    def draw(
        self,
        index: int | None = None,
        window: Sequence[float] | None = None,
        max_size: int = 1024,
        region: Region | None = None,
    ) -> NDArray[np.uint8]:
        """Draw a slice, or a region of it.

        Args:
            index: number of the slice, from 0 at the feet; None: the middle slice.
            window: window ``(center, width)``; None: that of :attr:`levels`.
            max_size: largest height and width of the result in pixels.
            region: part of the slice to draw, see :func:`cut`; None: the whole slice.

        Returns:
            ``(H, W, 3)``.

        Raises:
            IndexError: when the slice does not exist, or the region is not inside it.
        """
        index = len(self.values) // 2 if index is None else index
        if not 0 <= index < len(self.values):
            raise IndexError(f"slice {index} does not exist: the volume has slices 0 to {len(self.values) - 1}.")
        center, width = window or self.levels.window
        values = self.values[index] if region is None else cut(self.values[index], region)
        shown = Window(center, width, "LINEAR_EXACT")(values)
        return shrunk(_to_bytes(torch.from_numpy(np.asarray(1 - shown if self.inverted else shown))[None]), max_size)


def draw_image(
    path: str | Path,
    spatial_dims: int = 2,
    window: str | Sequence[float] | None = None,
    max_size: int = 1024,
    **others: Any,
) -> NDArray[np.uint8]:
    """Draw an image as the loader reads it; of a volume, draw the middle slice.

    Args:
        path: file, or folder of a DICOM series.
        spatial_dims: 2 for pictures, 3 for volumes.
        window: see :func:`~monai_fgssl.data.read_medical_image`.
        max_size: largest height and width in pixels.
        others: ``frame``, ``channel``, ``time`` and ``max_pixels`` of that function.

    Returns:
        ``(H, W, 3)``.

    Raises:
        DataError: when it can't be read.
    """
    if spatial_dims == 3:
        return read_slices(path, window, **others).draw(max_size=max_size)
    return draw_picture(path, window, max_size, **others).pixels


def draw_picture(
    path: str | Path, window: str | Sequence[float] | None = None, max_size: int | None = 1024, **others: Any
) -> Picture:
    """Draw a picture as :func:`draw_image` does, and tell its size and the choices for its brightness too.

    Arguments and errors are those of :func:`draw_image`; without ``max_size`` all pixels are drawn. There are no
    choices for color pictures, nor for gray pictures of 8 bits that are not DICOM.
    """
    shown, stored = read_shown(path, 2, 3, window, **others)
    pixels = _to_bytes(shown.as_tensor())
    height, width, _ = pixels.shape
    drawn = pixels if max_size is None else shrunk(pixels, max_size)
    return Picture(drawn, (width, height), _levels_of(stored, window))


def read_slices(path: str | Path, window: str | Sequence[float] | None = None, **others: Any) -> Slices:
    """Read a volume to look at its slices.

    Args:
        path: see :func:`draw_image`.
        window: first window: ``(center, width)``, or ``"dicom"`` for the window of the file; None: the window of the
            file if it has one, else the range of the values without the lowest and the highest 0.5 %.
        others: see :func:`draw_image`; volumes have no ``frame``.

    Raises:
        DataError: when it can't be read.
    """
    volume, stored = read_shown(path, 3, 1, None, **others)
    volume = Orientation("RAS", labels=None)(volume)
    right, front, head = (size * step for size, step in zip(volume.shape[1:], volume.pixdim.tolist(), strict=True))
    values = axial_slices(volume.as_tensor())[0].contiguous().numpy()
    if isinstance(window, Sequence) and not isinstance(window, str):
        first = float(window[0]), float(window[1])
    elif isinstance(stored.voi, Window):
        first = stored.voi.center, stored.voi.width
    else:
        low, high = np.percentile(values, PERCENTILES).tolist()
        if not low < high:
            low, high = float(values.min()), float(values.max())
        first = (low + high) / 2, max(high - low, 1e-6)
    levels = GrayLevels(first, (float(values.min()), float(values.max())))
    return Slices(values, levels, (right, front, head), stored.inverted)


def _levels_of(stored: StoredImage, window: str | Sequence[float] | None) -> GrayLevels | None:
    values = stored.values
    if len(values) != 1 or not (stored.headers or values.dtype.itemsize > 1):
        return None
    if isinstance(window, Sequence) and not isinstance(window, str):
        first = float(window[0]), float(window[1])
    elif isinstance(stored.voi, Window):
        first = stored.voi.center, stored.voi.width
    elif isinstance(stored.voi, LookupTable):
        first = stored.voi.first + len(stored.voi.entries) / 2, float(len(stored.voi.entries))
    elif stored.value_range is not None:
        low, high = stored.value_range
        first = (low + high + 1) / 2, high - low + 1.0
    else:
        return None
    return GrayLevels(first, (float(values.min()), float(values.max())))


def cut(values: NDArray[Scalar], region: Region) -> NDArray[Scalar]:
    """Cut a part out of a picture.

    Args:
        values: ``(H, W, ...)``.
        region: left edge, upper edge, width and height in pixels.

    Raises:
        IndexError: when the region is empty, or not inside the picture.
    """
    left, top, width, height = region
    whole_height, whole_width = values.shape[:2]
    inside = left >= 0 and top >= 0 and left + width <= whole_width and top + height <= whole_height
    if not (inside and width > 0 and height > 0):
        raise IndexError(f"the region is not inside the image, which has {whole_width} x {whole_height} pixels.")
    return values[top : top + height, left : left + width]


def shrunk(pixels: NDArray[np.uint8], max_size: int) -> NDArray[np.uint8]:
    """Make a picture ``(H, W, 3)`` no larger than ``max_size`` in height and width; a small one stays as it is."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((max_size, max_size))
    return np.asarray(picture)


def _to_bytes(values: torch.Tensor) -> NDArray[np.uint8]:
    """Picture ``(H, W, 3)`` of ``(C, H, W)`` in [0, 1]."""
    # In place after the first copy: a large picture has hundreds of megabytes.
    bytes_ = values.clamp(0, 1).mul_(255).round_().byte()
    return np.ascontiguousarray(bytes_.expand(3, -1, -1).permute(1, 2, 0).numpy())
