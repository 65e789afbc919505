# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Header of a JPEG, JPEG-LS or JPEG 2000 codestream, read without decoding the image."""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["Codestream", "read_codestream_header"]

START_OF_FRAME = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header. Source: ITU-T T.81, table B.1; ITU-T T.87, C.1.1 for 0xF7 (JPEG-LS)."""
START_OF_SCAN = 0xDA
WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))
JPEG2000 = b"\xff\x4f\xff\x51"
"""Start of codestream, and its SIZ segment. Source: ITU-T T.800, A.4.1 and A.5.1."""
JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
"""Start of a file with boxes, such as profiles of any length, before the codestream. Source: ITU-T T.800, I.5.1."""


class Codestream(NamedTuple):
    """Size of a picture, number of samples of a pixel, and bits of the deepest sample."""

    rows: int
    columns: int
    samples: int
    bits: int


def read_codestream_header(data: bytes) -> Codestream | None:
    """Read the frame header.

    Args:
        data: a frame, maybe with the boxes of a JP2 file around it.

    Returns:
        Values of the header. None when there is no such header, as in RLE, or when it is damaged or cut off.
    """
    if data.startswith(b"\xff\xd8"):
        return _read_jpeg(data)
    start = _skip_boxes(data) if data.startswith(JP2) else data.find(JPEG2000, 0, 4096)
    if start < 0 or len(data) < start + 43:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (samples,) = struct.unpack_from(">H", data, start + 40)
    bits = max(bits & 0x7F for bits in data[start + 42 : start + 42 + 3 * samples : 3]) + 1
    return Codestream(bottom - top, right - left, samples, bits)


def _skip_boxes(data: bytes) -> int:
    """Place of the codestream in a JP2 file; -1: a box before it is damaged, with which pydicom would never end."""
    position = len(JP2)
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"jp2c":
            # With a length of 1, the real one follows in 8 bytes; ITU-T T.800, I.4.
            return data.find(JPEG2000, position + 8, position + 20)
        if length < 8:
            return -1
        position += length
    return -1


def _read_jpeg(data: bytes) -> Codestream | None:
    """Follow the segments up to the first scan. None if one does not begin where the one before it ends."""
    position, found = 2, None
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in WITHOUT_LENGTH:
            position += 2
            continue
        if marker == START_OF_SCAN:
            return found
        if marker in START_OF_FRAME and position + 10 <= len(data):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", data, position + 4)
            found = Codestream(rows, columns, samples, bits)
        # The length counts its own two bytes.
        length = struct.unpack_from(">H", data, position + 2)[0]
        if length < 2:
            return None
        position += 2 + length
    return None
