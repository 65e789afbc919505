# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures that Pillow reads: JPEG, PNG, TIFF, BMP, GIF, WebP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from monai_fgssl.utils.errors import DataError

from .display import StoredImage, choose_frame, natural_range
from .grids import slice_of
from .itk import read_itk

__all__ = ["is_tiff", "read_photo"]

ORIENTATION, BITS_PER_SAMPLE, PHOTOMETRIC = 274, 258, 262
"""Tags of EXIF and TIFF 6.0."""


def is_tiff(path: Path) -> bool:
    """Tell whether a file begins as TIFF or BigTIFF, whatever its name."""
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_photo(path: Path, frame: int | None = None) -> StoredImage:
    """Read a picture upright, as a viewer shows it.

    Bilevel and grey pictures have one channel, all others three: palette, CMYK and YCbCr become RGB and transparency
    is dropped, all as Pillow's ``convert("RGB")`` does it. Colour of 16 bits per channel and floats keep their depth.
    Colour profiles (ICC) are not applied.

    Args:
        path: a file.
        frame: number of the page or frame, from 0, where there are several. The further pictures in a phone's JPEG
            (MPO: previews, depth) don't count.

    Returns:
        ``(1 or 3, rows, columns)``, uint8, uint16, int32 or float32, and its range.

    Raises:
        DataError: when a frame must be chosen; the message starts after the name of the file.
        OSError: when the file is damaged, or none that Pillow knows.
    """
    try:
        image = Image.open(path)
    except Image.UnidentifiedImageError:
        if not is_tiff(path):
            raise
        # Pillow doesn't know all combinations of samples and depths in TIFF.
        return _read_by_itk(path, frame)
    with image:
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        number = choose_frame(count, frame)
        if count > 1:
            image.seek(number)
        raw = _raw_mode(image)
        if "16" in raw and image.mode not in ("I", "I;16", "I;16B", "I;16L", "CMYK"):
            # Pillow would take the upper 8 of the 16 bits.
            if image.getexif().get(ORIENTATION, 1) != 1:
                raise DataError("has 16 bits per colour and an orientation tag: turn it upright and save it without.")
            return _read_by_itk(path, number)
        tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
        upright = ImageOps.exif_transpose(image)
        inverted, value_range = False, None
        if image.mode.startswith("I") or image.mode == "F":
            values = np.asarray(upright)
            values = values.astype(values.dtype.newbyteorder("="))
            value_range = natural_range(values)
            if image.mode != "F" and ("16" in raw or "12" in raw):
                bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
                value_range = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if "S" in raw else (0, 2**bits - 1)
            # Pillow inverts WhiteIsZero at 1 to 8 bits, but not at 12 and 16.
            inverted = tags.get(PHOTOMETRIC) == 0
        else:
            values = np.asarray(upright.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))
            value_range = (0, 255)
    values = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    return StoredImage(values, np.eye(4), value_range, inverted=inverted, frame=number)


def _read_by_itk(path: Path, frame: int | None) -> StoredImage:
    values, _ = read_itk(path)
    # Resolutions are those of a print or a screen: they say nothing about the patient.
    return slice_of(values, np.eye(4), frame)


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """How PNG and TIFF pack the samples, in Pillow's words, such as ``"RGB;16B"``; empty for others."""
    if image.format not in ("PNG", "TIFF") or not image.tile:
        return ""
    arguments = image.tile[0][3] or ("",)
    return str(arguments if isinstance(arguments, str) else arguments[0])
