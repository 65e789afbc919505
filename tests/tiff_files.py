# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""TIFF of any layout, written from the specification (TIFF 6.0 and its Technical Notes) without a library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
"""Values of Compression."""
UINT, INT, FLOAT = 1, 2, 3
"""Values of SampleFormat."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5
"""Values of PhotometricInterpretation."""


def write_tiff(
    path: Path,
    pages: NDArray[Any] | Sequence[NDArray[Any]],
    photometric: int,
    *,
    bits: int | None = None,
    planar: int = 1,
    rows_per_strip: int | None = None,
    tile: tuple[int, int] | None = None,
    compression: int = NONE,
    predictor: int = 1,
    byte_order: str = "<",
    fill_order: int = 1,
    big: bool = False,
    tags: Mapping[int, tuple[int, Sequence[int]]] | None = None,
) -> Path:
    """Write a file.

    Args:
        path: of the file.
        pages: ``(rows, columns, samples)``, one or several; their type gives SampleFormat and, without ``bits``,
            BitsPerSample.
        photometric: interpretation.
        bits: fewer than those of the type, such as 1, 2, 4 or 12.
        planar: 1 for samples beside each other, 2 for one plane after the other.
        rows_per_strip: all rows without it.
        tile: rows and columns of a tile, multiples of 16; strips without it.
        compression: one of the above.
        predictor: 1, 2 (horizontal differences) or 3 (floats).
        byte_order: ``"<"`` or ``">"``.
        fill_order: 2 reverses the bits of each byte.
        big: BigTIFF.
        tags: others, as number to type (3: short, 4: long) and values.
    """
    pages = [pages] if isinstance(pages, np.ndarray) else list(pages)
    head = struct.pack(f"{byte_order}HHHQ" if big else f"{byte_order}HI", *((43, 8, 0, 16) if big else (42, 8)))
    out = bytearray((b"II" if byte_order == "<" else b"MM") + head)
    for number, page in enumerate(pages):
        rows, columns, samples = page.shape
        width = bits or 8 * page.dtype.itemsize
        blocks = list(_blocks(page, planar, rows_per_strip or rows, tile))
        encoded = [_encode(block, width, compression, predictor, byte_order, fill_order) for block in blocks]
        directory: dict[int, tuple[int, Sequence[int]]] = {
            256: (4, [columns]),
            257: (4, [rows]),
            258: (3, [width] * samples),
            259: (3, [compression]),
            262: (3, [photometric]),
            266: (3, [fill_order]),
            277: (3, [samples]),
            284: (3, [planar]),
            317: (3, [predictor]),
            339: (3, [{"u": UINT, "i": INT, "f": FLOAT}[page.dtype.kind]] * samples),
        }
        sizes = [len(block) for block in encoded]
        if tile:
            directory |= {322: (3, [tile[1]]), 323: (3, [tile[0]]), 324: (4, [0] * len(sizes)), 325: (4, sizes)}
        else:
            directory |= {273: (4, [0] * len(sizes)), 278: (4, [rows_per_strip or rows]), 279: (4, sizes)}
        directory |= tags or {}
        _append(out, directory, encoded, byte_order, big, is_last=number == len(pages) - 1)
    path.write_bytes(out)
    return path


def _blocks(
    page: NDArray[Any], planar: int, rows_per_strip: int, tile: tuple[int, int] | None
) -> Iterator[NDArray[Any]]:
    """Strips or tiles in the order of the file, ``(rows, columns, samples)``; tiles are filled with the value 1."""
    planes = [page] if planar == 1 else [page[..., sample : sample + 1] for sample in range(page.shape[2])]
    for plane in planes:
        rows, columns, samples = plane.shape
        for top in range(0, rows, tile[0] if tile else rows_per_strip):
            if tile is None:
                yield plane[top : top + rows_per_strip]
                continue
            for left in range(0, columns, tile[1]):
                block = np.ones((*tile, samples), plane.dtype)
                part = plane[top : top + tile[0], left : left + tile[1]]
                block[: part.shape[0], : part.shape[1]] = part
                yield block


def _encode(
    block: NDArray[Any], bits: int, compression: int, predictor: int, byte_order: str, fill_order: int
) -> bytes:
    rows, columns, samples = block.shape
    if predictor == 2:
        unsigned = block.view(f"u{block.dtype.itemsize}")
        before = np.concatenate([np.zeros((rows, 1, samples), unsigned.dtype), unsigned[:, :-1]], axis=1)
        block = (unsigned - before).view(block.dtype)
    data = block.astype(block.dtype.newbyteorder(byte_order)).tobytes()
    if predictor == 3:
        # Technical Note 3: the most significant bytes of the row first, whatever the file's order, then differences.
        size = block.dtype.itemsize
        planes = np.frombuffer(block.astype(block.dtype.newbyteorder(">")).tobytes(), np.uint8)
        planes = planes.reshape(rows, columns * samples, size).transpose(0, 2, 1).reshape(rows, -1)
        before = np.concatenate([np.zeros((rows, samples), np.uint8), planes[:, :-samples]], axis=1)
        data = (planes - before).tobytes()
    if bits != 8 * block.dtype.itemsize:
        # Each row begins at a byte.
        values = block.reshape(rows, -1, 1).astype(np.uint16)
        flags = (values >> np.arange(bits - 1, -1, -1, dtype=np.uint16) & 1).astype(np.uint8)
        data = np.packbits(flags.reshape(rows, -1), axis=1).tobytes()
    data = {NONE: bytes, LZW: _lzw, DEFLATE: zlib.compress, PACKBITS: _packbits}[compression](data)
    return bytes(int(f"{byte:08b}"[::-1], 2) for byte in data) if fill_order == 2 else data


def _lzw(data: bytes) -> bytes:
    """Codes of 9 bits only: the table is cleared before it needs the tenth."""
    codes = []
    for start in range(0, len(data), 200):
        codes += [256, *data[start : start + 200]]
    text = "".join(f"{code:09b}" for code in [*codes, 257])
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _packbits(data: bytes) -> bytes:
    """Runs that repeat nothing."""
    parts = [data[start : start + 128] for start in range(0, len(data), 128)]
    return b"".join(bytes([len(part) - 1]) + part for part in parts)


def _append(
    out: bytearray,
    directory: dict[int, tuple[int, Sequence[int]]],
    blocks: Sequence[bytes],
    byte_order: str,
    big: bool,
    is_last: bool,
) -> None:
    """Append a directory, then its values, then its pixels; the next directory follows them."""
    count, offset, room = ("Q", "Q", 8) if big else ("H", "I", 4)
    kinds = {3: "H", 4: "I"}
    start = len(out)
    entry = 20 if big else 12
    position = start + struct.calcsize(f"<{count}") + entry * len(directory) + room
    places = {}
    for tag, (kind, values) in sorted(directory.items()):
        size = struct.calcsize(f"<{len(values)}{kinds[kind]}")
        if size > room:
            places[tag] = position
            position += size + size % 2
    starts = []
    for block in blocks:
        starts.append(position)
        position += len(block) + len(block) % 2
    where = 273 if 273 in directory else 324
    directory[where] = (4, starts)

    out += struct.pack(byte_order + count, len(directory))
    outside = bytearray()
    for tag, (kind, values) in sorted(directory.items()):
        raw = struct.pack(f"{byte_order}{len(values)}{kinds[kind]}", *values)
        out += struct.pack(f"{byte_order}HH{offset}", tag, kind, len(values))
        if tag in places:
            out += struct.pack(byte_order + offset, places[tag])
            outside += raw + b"\0" * (len(raw) % 2)
        else:
            out += raw.ljust(room, b"\0")
    out += struct.pack(byte_order + offset, 0 if is_last else position)
    out += outside
    for block in blocks:
        out += block + b"\0" * (len(block) % 2)
