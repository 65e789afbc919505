# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Convert arrays on a grid in space to pictures (one slice) or volumes, from any file format."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from monai.data.utils import to_affine_nd
from numpy.typing import NDArray

from monai_fgssl.utils.errors import DataError

from .display import StoredImage, natural_range
from .selection import Selection, choose, choose_channel

__all__ = ["Grid", "in_millimeters", "make_grid", "padded", "slice_of", "volume_of"]

MILLIMETERS = {
    "m": 1e3,
    "meter": 1e3,
    "meters": 1e3,
    "metre": 1e3,
    "metres": 1e3,
    "cm": 10.0,
    "centimeter": 10.0,
    "centimeters": 10.0,
    "mm": 1.0,
    "millimeter": 1.0,
    "millimeters": 1.0,
    "millimetre": 1.0,
    "millimetres": 1.0,
    "um": 1e-3,
    "\u00b5m": 1e-3,
    "\u03bcm": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "micrometers": 1e-3,
    "nm": 1e-6,
    "nanometer": 1e-6,
    "nanometers": 1e-6,
}
"""Units of length, in mm."""


class Grid(NamedTuple):
    """Content of a file.

    Attributes:
        values: ``(X, Y, Z, T, C)``: three axes in space, points in time, channels.
        affine: ``(4, 4)`` in RAS.
        may_be_times: the header has a unit of time, so the channels may be points in time.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]
    may_be_times: bool = False


def padded(shape: tuple[int, ...], length: int) -> tuple[int, ...]:
    """Add axes of length 1 at the end until there are ``length``."""
    return shape + (1,) * (length - len(shape))


def make_grid(values: NDArray[Any], meta: dict[str, Any]) -> Grid:
    """Make a grid from the result of one of MONAI's readers.

    Args:
        values: array with up to four axes, X, Y, Z and T, and the channels last.
        meta: metadata from the reader.

    Raises:
        DataError: when there are more axes.
    """
    axes = values.shape[:-1]
    if len(axes) > 4:
        raise DataError(f"has the axes {values.shape}; at most X, Y, Z, times and channels can be read.")
    affine = np.asarray(to_affine_nd(3, np.asarray(meta["affine"], dtype=np.float64)))
    return Grid(values.reshape(*padded(axes, 4), values.shape[-1]), affine)


def in_millimeters(affine: Any, unit: str) -> NDArray[np.float64]:
    """Affine in mm of one in another unit.

    Args:
        affine: ``(N, N)``.
        unit: key of :data:`MILLIMETERS`, in any case.

    Raises:
        DataError: when the unit is not known.
    """
    factor = MILLIMETERS.get(unit.strip().lower())
    if factor is None:
        raise DataError(f"has lengths in {unit.strip()!r}, a unit that is not known: save it in mm.")
    affine = np.array(affine, dtype=np.float64)
    affine[:-1] *= factor
    return affine


def slice_of(grid: Grid, selection: Selection) -> StoredImage:
    """Make a picture from a slice along Z: X runs along the columns, to the right, and Y along the rows, down.

    So a file that ITK or MONAI writes from a picture gives that picture again, whatever its affine.

    Args:
        grid: content of a file. Of 2 or 4 channels of 8 bits, the last one is transparency, which is dropped. The
            result keeps only the spacing of X and Y from the affine.
        selection: slice, channel and point in time.

    Returns:
        ``(1 or 3, rows, columns)`` with the range of its type.

    Raises:
        DataError: when a slice, a time or a channel must be chosen.
    """
    number = choose(grid.values.shape[2], selection.frame, "frame", "slices")
    if grid.may_be_times and selection.channel is None and selection.time is None:
        # Three points in time would look like a color.
        choose(grid.values.shape[-1], None, "time", "points in time or channels")
    values = _select_time(grid.values, selection)[:, :, number]
    if selection.channel is None:
        colors = {1: 1, 3: 3}
        if values.dtype == np.uint8:
            colors |= {2: 1, 4: 3}
        count = colors.get(values.shape[-1])
        if count is None:
            choose(values.shape[-1], None, "channel", f"channels of {values.dtype.name}, which are not colors")
        values = values[..., :count]
    picture = choose_channel(values.transpose(2, 1, 0), selection.channel)
    column_spacing, row_spacing = np.linalg.norm(grid.affine[:3, :2], axis=0)
    return StoredImage(picture, np.diag([row_spacing, column_spacing, 1, 1]), natural_range(picture), frame=number)


def volume_of(grid: Grid, selection: Selection) -> StoredImage:
    """Return the whole volume, ``(C, X, Y, Z)``, copied from ITK's memory or from the mapped file.

    Raises:
        DataError: when a time must be chosen.
    """
    values = choose_channel(np.moveaxis(_select_time(grid.values, selection), -1, 0), selection.channel)
    return StoredImage(values.copy(), grid.affine, None)


def _select_time(values: NDArray[Any], selection: Selection) -> NDArray[Any]:
    """Select one point in time, ``(X, Y, Z, C)``.

    If there is a single axis besides X, Y and Z, it holds times in some files and channels in others, whatever the
    format says. So both ``time`` and ``channel`` choose from it.

    Args:
        values: ``(X, Y, Z, T, C)``.
        selection: time and channel.

    Raises:
        DataError: when a time must be chosen.
    """
    times, channels = values.shape[3:]
    time, channel = selection.time, selection.channel
    is_channels = times == 1 and time is not None and channel is None
    is_times = channels == 1 and time is None and channel is not None
    if (is_channels and channels > 1) or (is_times and times > 1):
        values = values.swapaxes(3, 4)
    return values[:, :, :, choose(values.shape[3], time, "time", "points in time")]
