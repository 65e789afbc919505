# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Header of a JPEG, JPEG-LS or JPEG 2000 codestream, read without decoding the image."""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["Codestream", "read_codestream_header"]

START_OF_FRAME = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header. Source: ITU-T T.81, table B.1; ITU-T T.87, C.1.1 for 0xF7 (JPEG-LS)."""
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
        Values of the header. None when there is no such header, as in RLE, or when it is cut off.
    """
    if data.startswith(b"\xff\xd8"):
        return _read_jpeg(data)
    start = data.find(JPEG2000, 0, None if data.startswith(JP2) else 4096)
    if start < 0 or len(data) < start + 43:
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (samples,) = struct.unpack_from(">H", data, start + 40)
    bits = max(bits & 0x7F for bits in data[start + 42 : start + 42 + 3 * samples : 3]) + 1
    return Codestream(bottom - top, right - left, samples, bits)


def _read_jpeg(data: bytes) -> Codestream | None:
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in WITHOUT_LENGTH:
            position += 2
        elif marker in START_OF_FRAME and position + 10 <= len(data):
            bits, rows, columns, samples = struct.unpack_from(">BHHB", data, position + 4)
            return Codestream(rows, columns, samples, bits)
        else:
            position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None
