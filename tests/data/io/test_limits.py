# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A small file that claims to be a large picture is refused before it uses memory. The smallest real files are read."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from dicom_files import write_dicom
from PIL import Image
from pydicom.uid import JPEGBaseline8Bit, RLELossless

from monai_fgssl.data import DataError, read_image, read_medical_image

SIDE = 15_000


def png(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"x")) + chunk(b"IEND", b"")
    )


def with_size(content: bytes, position: int, form: str) -> bytes:
    return content[:position] + struct.pack(form, SIDE, SIDE) + content[position + struct.calcsize(form) :]


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, kind)
    return buffer.getvalue()


def jpeg(path: Path) -> None:
    content = encoded("JPEG")
    path.write_bytes(with_size(content, content.index(b"\xff\xc0") + 5, ">HH"))


def gif(path: Path) -> None:
    content = with_size(encoded("GIF"), 6, "<HH")
    path.write_bytes(with_size(content, content.rindex(b",\0\0\0\0") + 5, "<HH"))


def bmp(path: Path) -> None:
    path.write_bytes(with_size(encoded("BMP"), 18, "<ii"))


def pnm(path: Path) -> None:
    path.write_bytes(f"P6 {SIDE} {SIDE} 255\n".encode() + bytes(100))


def tiff(compression: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        tags = [
            *[(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)],
            *[(273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, SIDE), (279, 4, 1, 100)],
        ]
        entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)
        path.write_bytes(head.ljust(200, b"\0") + bytes(100))

    return write


def dicom(syntax: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        pixels = np.zeros((16, 16), np.uint8)
        stream = bytes(64) if syntax == RLELossless else encoded("JPEG")
        if syntax == JPEGBaseline8Bit:
            buffer = io.BytesIO()
            Image.new("L", (16, 16)).save(buffer, "JPEG")
            content = buffer.getvalue()
            stream = with_size(content, content.index(b"\xff\xc0") + 5, ">HH")
        write_dicom(path, pixels, syntax, [stream], Rows=SIDE, Columns=SIDE)

    return write


@pytest.mark.parametrize(
    ("name", "write"),
    [
        *[("a.png", png), ("a.jpg", jpeg), ("a.gif", gif), ("a.bmp", bmp), ("a.ppm", pnm)],
        *[(f"{number}.tif", tiff(number)) for number in (1, 5, 7, 8, 32773)],
        *[("a.dcm", dicom(syntax)) for syntax in (RLELossless, JPEGBaseline8Bit)],
    ],
)
def test_a_small_file_with_a_large_claim_is_refused(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / name)
    with pytest.raises(DataError, match=r"is cut off: its header promises \d+ bytes of pixels, and it has \d+"):
        read_medical_image(tmp_path / name)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "PPM"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_the_smallest_true_picture_is_read(kind: str, mode: str, tmp_path: Path) -> None:
    if (kind, mode) in (("JPEG", "1"), ("JPEG", "P"), ("PPM", "P")):
        pytest.skip("this kind has no such pixels")
    # One color: what compresses best.
    picture = Image.new(mode, (3000, 2000))
    options = {"PNG": {"compress_level": 9}, "JPEG": {"quality": 1, "optimize": True, "progressive": True}}
    picture.save(tmp_path / "a.img", kind, **options.get(kind, {}))
    assert read_medical_image(tmp_path / "a.img").shape[1:] == (2000, 3000)


@pytest.mark.parametrize("compression", ["lzw", "packbits", "deflate", "jpeg"])
def test_the_smallest_true_tiff_is_read(compression: str, tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs", reason="packs pixels for this test (extra tiff)")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2000, 3000), np.uint8), compression=compression)
    assert read_medical_image(tmp_path / "a.tif").shape == (1, 2000, 3000)


def test_a_damaged_jpeg_in_dicom_is_refused(tmp_path: Path) -> None:
    """GDCM, which pydicom would ask next, ends the process on some of these."""
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64), dtype=np.uint8)).save(buffer, "JPEG")
    stream = buffer.getvalue()
    path = write_dicom(tmp_path / "a.dcm", np.zeros((64, 64), np.uint8), JPEGBaseline8Bit, [stream[: len(stream) // 2]])
    with pytest.raises(DataError, match=r"a\.dcm is damaged"):
        read_image(path, 8)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("this system has no pipes with a name")
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is not a file, but a folder, a pipe or a device"):
        read_image(tmp_path / "a.png", 8)
