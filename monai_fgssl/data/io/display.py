# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Convert stored values to those of a screen, by windows, lookup tables, ranges and channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy.special import expit

from monai_fgssl.utils.errors import DataError

__all__ = ["LookupTable", "StoredImage", "Window", "match_channels", "natural_range", "to_display"]

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luminance of ITU-R BT.601-7, section 2.5.1, as in Pillow and JPEG."""


@dataclass(frozen=True)
class Window:
    """A window of values that is shown from black to white.

    Args:
        center: middle of the window, in the units of the values.
        width: width from black to white, in the same units.
        function: ``"LINEAR"``, ``"LINEAR_EXACT"`` or ``"SIGMOID"``.

    Source: DICOM PS3.3, C.11.2.1.2.1 (LINEAR), C.11.2.1.3.2 (LINEAR_EXACT), C.11.2.1.3.1 (SIGMOID).

    Example:
        >>> Window(40, 400)(np.array([-160.0, 39.5, 239.0]))
        array([0. , 0.5, 1. ])
    """

    center: float
    width: float
    function: str = "LINEAR"

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Map values of any shape to [0, 1].

        Raises:
            DataError: when the width is too small for the function, or the function is unknown.
        """
        if self.function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
            raise DataError(
                f"has the VOI LUT Function {self.function}, which is not known: give window=(center, width)."
            )
        if self.width <= 0 or (self.function == "LINEAR" and self.width < 1):
            raise DataError(
                f"has a window of width {self.width:g}, too small for {self.function}: give window=(center, width)."
            )
        if self.function == "SIGMOID":
            return expit(4 * (values - self.center) / self.width)
        center, width = (self.center - 0.5, self.width - 1) if self.function == "LINEAR" else (self.center, self.width)
        if width == 0:
            return (values > center).astype(np.float32)
        return np.clip((values - center) / width + 0.5, 0, 1)


@dataclass(frozen=True, eq=False)
class LookupTable:
    """A table from values to brightness.

    pydicom's ``apply_voi`` can't take its place: up to 3.0.2 it looks up modulo 256 when the entries have 8 bits.

    Args:
        first: value of the first entry. Smaller values get the first entry, and larger values than the table has get
            the last.
        entries: ``(N,)``, from 0 (black) to ``2 ** bits - 1`` (white).
        bits: number of bits of an entry.

    Source: DICOM PS3.3, C.11.2.1.1.
    """

    first: int
    entries: NDArray[Any]
    bits: int

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Map values of any shape to [0, 1]."""
        return self.look_up(values) / (2**self.bits - 1)

    def look_up(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the entries for values of any shape."""
        positions = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return self.entries[positions]


@dataclass
class StoredImage:
    """Image as its file holds it, before it is made ready for a screen or for a network.

    Args:
        values: ``(C, *spatial)``: rows and columns of a picture, X, Y and Z of a volume; gray values in the units of
            the modality.
        affine: ``(4, 4)``, from indices to mm; see :func:`~monai_fgssl.data.read_medical_image`.
        value_range: values of black and white; ``None``: not known.
        voi: the window or lookup table that the file asks for.
        inverted: True if small values are bright (MONOCHROME1, WhiteIsZero).
        padding: True where a gray picture of DICOM has no data; it is shown black. None: nowhere, or not known.
        frame: number of the frame, page or slice that was read.
        headers: headers of the DICOM files that the image comes from, see
            :func:`~monai_fgssl.data.io.dicom.source_header`; empty for other files.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]
    value_range: tuple[float, float] | None
    voi: Window | LookupTable | None = None
    inverted: bool = False
    padding: NDArray[np.bool_] | None = None
    frame: int = 0
    headers: list[Dataset] = field(default_factory=list)

    @property
    def is_color(self) -> bool:
        """True for a picture with several channels; those of a volume are gray."""
        return len(self.values) > 1 and self.values.ndim < 4


def natural_range(values: NDArray[Any]) -> tuple[float, float] | None:
    """Find the values of black and white from the array alone.

    For integers of 8 and 16 bits, these are the range of the type. Wider integers have no natural white. Floats in
    [0, 1] are from black to white, and whole numbers from 0 to 255 are a picture of 8 bits (MONAI's ``SaveImage``
    stores it as float32).

    Returns:
        Black and white, or ``None`` for other values.
    """
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        limits = np.iinfo(values.dtype)
        return int(limits.min), int(limits.max)
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]
        if not values.size:
            return None
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1 and values.dtype.kind == "f":
        return 0, 1
    if low >= 0 and high <= 255 and (values == np.rint(values)).all():
        return 0, 255
    return None


def _window_for(values: NDArray[Any], center: float, width: float) -> Window:
    """Make the window that a user gives: LINEAR for whole numbers and a width of 1 or more, else LINEAR_EXACT."""
    is_whole = width >= 1 and bool((values == np.rint(values)).all())
    return Window(center, width, "LINEAR" if is_whole else "LINEAR_EXACT")


def to_display(image: StoredImage, window: str | Sequence[float] | None = None) -> NDArray[np.float32]:
    """Convert values to those that a screen shows, from 0 (black) to 1 (white).

    Args:
        image: a picture, or a volume with a window.
        window: ``(center, width)``, instead of the window of the file: LINEAR if all values are whole numbers, else
            LINEAR_EXACT. Color is scaled by its range, without a window.

    Returns:
        float32, of the shape of ``image.values``; for 8 bits exactly ``values / 255``.

    Raises:
        DataError: when black and white are not known.
    """
    values = image.values
    # float32 is exact for integers of up to 16 bits, float64 for up to 32 bits.
    values = values.astype(np.result_type(values.dtype, np.float32), copy=False)
    voi = image.voi if window is None or isinstance(window, str) else _window_for(values, *map(float, window))
    if not image.is_color and voi is not None:
        shown = voi(values)
    elif window == "dicom" and image.values.ndim == 4:
        raise DataError("has no window for the whole volume: give window=(center, width).")
    elif image.value_range is not None:
        low, high = image.value_range
        if not low < high:
            raise DataError(f"has no contrast: after its rescale, its values range from {low:g} to {high:g}.")
        shown = (values - low) / (high - low)
    else:
        raise DataError(
            f"has {image.values.dtype.name} values from {values.min():g} to {values.max():g}, and nothing tells which "
            "are black and white: give window=(center, width)."
        )
    shown = np.asarray(1 - shown if image.inverted else shown, dtype=np.float32)
    if image.padding is not None:
        shown[image.padding] = 0
    return shown


def match_channels(values: NDArray[np.float32], channels: int | None) -> NDArray[np.float32]:
    """Bring an image to 1 or 3 channels.

    Gray becomes three equal channels. A color picture becomes its luminance, ``0.299 R + 0.587 G + 0.114 B``
    (ITU-R BT.601), not rounded.

    Args:
        values: ``(C, *spatial)``.
        channels: 1, 3, or ``None`` for those that there are.

    Raises:
        DataError: when there is no such conversion.
    """
    if channels is None or len(values) == channels:
        return values
    if len(values) == 1:
        return np.repeat(values, channels, axis=0)
    if len(values) == 3 and values.ndim == 3:
        return np.tensordot(np.array([LUMINANCE], dtype=np.float32), values, axes=1)
    raise DataError(
        f"has {len(values)} channels, which can't be made {channels}: choose one, channel=0 to {len(values) - 1} "
        "(--channel)."
    )
