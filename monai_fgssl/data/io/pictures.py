# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read pictures with Pillow: JPEG, PNG, BMP, GIF, WebP, JPEG 2000 and PNM. TIFF has a module of its own."""

from __future__ import annotations

import struct
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from monai.utils import optional_import
from numpy.typing import NDArray
from PIL import Image, ImageFile

from monai_fgssl.utils.errors import DataError

from .codestream import read_codestream_header
from .display import StoredImage, natural_range
from .limits import MAX_DEFLATE_RATIO, MAX_JPEG_RATIO, MAX_LZW_RATIO, check_size, check_stored_size
from .orientation import ORIENTATION, upright
from .selection import choose

__all__ = ["count_frames", "read_photo"]

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "JPEG2000", "PPM")
"""Pillow's names of the formats that are read. Some other formats of Pillow run other programs, or hold layers."""

OTHERS = (
    (0, b"8BPS", "a Photoshop document"),
    (0, b"%!PS", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript"),
    (0, b"%PDF", "PDF"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypavif", "AVIF"),
)
"""Position, first bytes and name of common formats that are not read."""


MAX_RATIOS = {
    "PNG": MAX_DEFLATE_RATIO,
    "GIF": MAX_LZW_RATIO,
    "JPEG": MAX_JPEG_RATIO,
    "MPO": MAX_JPEG_RATIO,
    "BMP": 1.5,
    "PPM": 8,
}
"""Largest compression ratio of a format. BMP may hold a color of three bytes in two, and the text of PNM has at least a
character for each bit. WebP and JPEG 2000 have no bound."""
FEW_BITS = ("1", "P", "L")
"""Pillow's modes whose samples may be single bits in the file."""
SHORT_TEXT = 512
"""Bytes of a text that unpacks to half a megabyte at most, 1,000 times as much."""
RUN_LENGTHS = (1, 2)
"""Compressions of BMP that can skip any number of pixels."""


def read_photo(path: Path, frame: int | None = None) -> StoredImage:
    """Read a picture upright, as a viewer shows it.

    Bilevel and gray pictures have one channel, all others three: palette, CMYK and YCbCr become RGB and transparency
    is dropped, all as Pillow's ``convert("RGB")`` does it. Color of more than 8 bits per channel in PNG and JPEG 2000
    keeps its depth.
    Color profiles (ICC) are not applied.

    Args:
        path: a file.
        frame: number of the frame, from 0, if there are several. The additional pictures in a phone's JPEG (MPO:
            previews, depth) are ignored.

    Returns:
        ``(1 or 3, rows, columns)``, uint8, uint16, int32 or float32, and its range.

    Raises:
        DataError: when a frame must be chosen, or the format is not supported. The message continues a sentence that
            begins with the file's name.
        OSError: when the file is damaged, or of a format that Pillow does not know.
    """
    with open(path, "rb") as file:
        try:
            return _read(file, frame)
        except ValueError as error:
            if "MAX_TEXT" not in str(error):
                raise
            return _read(_without_text(file), frame)


def count_frames(path: Path) -> int:
    """Count the frames; the additional pictures in a phone's JPEG don't count.

    Raises:
        DataError: when the format is not supported. The message continues a sentence that begins with the file's name.
        OSError: see :func:`read_photo`.
    """
    with open(path, "rb") as file, _opened(file) as image:
        return _count_frames(image)


def _count_frames(image: ImageFile.ImageFile) -> int:
    return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)


def _read(file: IO[bytes], frame: int | None) -> StoredImage:
    with _opened(file) as image:
        check_size((image.height, image.width, len(image.getbands())))
        _check_ratio(image, file)
        number = choose(_count_frames(image), frame, "frame", "frames")
        if number:
            image.seek(number)
        is_deep = "16" in _raw_mode(image)
        orientation = int(image.getexif().get(ORIENTATION, 1))
        value_range: tuple[float, float] | None = (0, 255)
        bits = _bits_of_jpeg2000(file) if image.format == "JPEG2000" else 8
        if bits > 8:
            values, value_range = _deep_jpeg2000(file, image, bits), (0, 2**bits - 1)
        elif image.mode == "F":
            # Portable float maps. Pillow would clip them at 255 to make colors of them.
            values = np.asarray(image)
            value_range = natural_range(values)
        elif image.mode.startswith("I"):
            values = np.asarray(image)
            values = values.astype(values.dtype.newbyteorder("="))
            # Pillow gives the 16 bits of PNM as 32.
            value_range = (0, 65535) if image.format in ("PNG", "PPM") else natural_range(values)
        elif is_deep:
            if number:
                raise DataError("has several frames of 16 bits per color, which are not supported.")
            values, value_range = _deep_colors(file), (0, 65535)
        else:
            values = np.asarray(image.convert("L" if image.mode in ("1", "L", "LA", "La") else "RGB"))
    values = upright(values if values.ndim == 3 else values[..., None], orientation)
    return StoredImage(np.moveaxis(values, -1, 0), np.eye(4), value_range, frame=number)


def _bits_of_jpeg2000(file: IO[bytes]) -> int:
    file.seek(0)
    header = read_codestream_header(file.read())
    return 8 if header is None else header.bits


def _deep_jpeg2000(file: IO[bytes], image: ImageFile.ImageFile, bits: int) -> NDArray[np.uint16]:
    """All bits of a JPEG 2000 with more than 8.

    Pillow moves gray values to the upper bits of 16. It rounds colors, and gray of 9 bits, to 8 bits; so white
    overflows, and becomes black (Pillow 12 and 13).

    Returns:
        ``(rows, columns)`` or ``(rows, columns, 1 or 3)``, without transparency.
    """
    if image.mode == "I;16" and bits <= 16:
        return (np.asarray(image).astype(np.uint16) >> 16 - bits).astype(np.uint16)
    if image.mode not in ("L", "LA", "RGB", "RGBA") or bits > 16:
        raise DataError(f"has {bits} bits for a sample of {image.mode}, which is not supported: save it as TIFF.")
    decode, is_there = optional_import("imagecodecs", name="jpeg2k_decode")
    if not is_there:
        raise DataError(f"has {bits} bits for a color: `pip install 'monai-fgssl[tiff]'`, or save it as PNG or TIFF.")
    file.seek(0)
    samples = decode(file.read())
    values = samples.astype(np.int64) + (1 << bits - 1 if samples.dtype.kind == "i" else 0)
    colors = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3}[image.mode]
    return values.reshape(*values.shape[:2], -1)[..., :colors].astype(np.uint16)


def _deep_colors(file: IO[bytes]) -> NDArray[np.uint16]:
    """All 16 bits of a PNG with several channels, of which Pillow gives 8. Transparency is dropped.

    ITK can't take its place: it shifts the values by the depth that a chunk sBIT tells.

    Returns:
        ``(rows, columns, 1 or 3)``.
    """
    with _opened(file) as image:
        raw_mode = _raw_mode(image)
    if raw_mode == "LA;16B":
        # Four bytes for a pixel: the upper and the lower one of its brightness, and two of its transparency.
        upper, lower = np.moveaxis(_decoded_as(file, "RGBA"), -1, 0)[:2, ..., None]
    else:
        # Little-endian samples have their upper byte where big-endian ones have the lower.
        upper, lower = (_decoded_as(file, raw_mode[:-1] + order)[..., :3] for order in "BL")
    return upper.astype(np.uint16) << 8 | lower


def _decoded_as(file: IO[bytes], raw_mode: str) -> NDArray[np.uint8]:
    """Pixels of a PNG whose samples are taken for others of the same number of bits."""
    with _opened(file) as image:
        # Tuples, whose names Pillow has from 11 on.
        image.tile = [(*one[:3], raw_mode) for one in image.tile]
        return np.array(image)


def _check_ratio(image: ImageFile.ImageFile, file: IO[bytes]) -> None:
    """Refuse a file that is too small for its picture, before Pillow takes memory for it."""
    ratio = MAX_RATIOS.get(image.format or "")
    if ratio is None or (image.format == "BMP" and image.info.get("compression") in RUN_LENGTHS):
        return
    bits = 1 if image.mode in FEW_BITS and image.format not in ("JPEG", "MPO") else 8 * len(image.getbands())
    position = file.tell()
    check_stored_size(image.height * image.width * bits // 8, file.seek(0, SEEK_END), ratio)
    file.seek(position)


def _opened(file: IO[bytes]) -> ImageFile.ImageFile:
    """Open a file as ``Image.open`` does, without its limit of pixels for the whole process; ours is checked next."""
    Image.init()
    file.seek(0)
    head = file.read(16)
    for name in FORMATS:
        make, accept = Image.OPEN[name]
        accepted = accept is None or accept(head)
        # A text instead of a decoder says why Pillow was built without it.
        if not accepted or isinstance(accepted, str):
            continue
        file.seek(0)
        try:
            return make(file, "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue
    for position, start, name in OTHERS:
        if head[position:].startswith(start):
            raise DataError(f"is {name}, which is not supported: save it as PNG or TIFF.")
    raise Image.UnidentifiedImageError


def _without_text(file: IO[bytes]) -> BytesIO:
    """Remove long texts and the profile of a PNG. Pillow refuses pictures with a megabyte of them, viewers do not.

    Short ones are kept, since they may hold the orientation.
    """
    file.seek(0)
    data = file.read()
    kept, position = bytearray(data[:8]), 8
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        if length <= SHORT_TEXT or data[position + 4 : position + 8] not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept += data[position : position + 12 + length]
        position += 12 + length
    return BytesIO(kept)


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Return Pillow's name for the samples of a PNG file, such as ``"RGB;16B"``; empty for other formats."""
    if image.format != "PNG" or not image.tile:
        return ""
    arguments = image.tile[0][3] or ("",)
    return str(arguments if isinstance(arguments, str) else arguments[0])
