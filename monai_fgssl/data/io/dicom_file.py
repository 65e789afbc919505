# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Recognize DICOM files by their content, and open them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import IO

import pydicom
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from monai_fgssl.utils.errors import DataError

from .limits import check_inflated

__all__ = [
    "decode_header",
    "encode_header",
    "is_dicom",
    "open_dicom",
    "read_dicom_header",
    "sop_class",
    "starts_as_dicom",
]

FIRST_ELEMENTS = (0x0000, 0x0001, 0x0005, 0x0006, 0x0008, 0x0012, 0x0013, 0x0014, 0x0016, 0x0018, 0x0020)
"""Elements of group 0008 that a file without preamble and file meta information may begin with."""
LONGEST = 1024
"""Bytes of the longest of these elements in use."""


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM, whatever its name; see :func:`starts_as_dicom`."""
    with open(path, "rb") as file:
        return starts_as_dicom(file.read(132))


def starts_as_dicom(head: bytes) -> bool:
    """Tell whether bytes are the first 132 of a DICOM file.

    Files have 128 bytes of preamble and ``DICM`` (DICOM PS3.10, section 7.1). Old files, and those of some tools,
    begin with the file meta information or with the data set itself; dcmtk, GDCM and ITK read these too.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 132:
        return False
    for order in "<>":
        group, element = struct.unpack_from(f"{order}2H", head)
        is_explicit = head[4:6].isalpha() and head[4:6].isupper()
        if group == 2:
            return element in (0, 1, 2) and head[4:6] in (b"UL", b"OB", b"UI") and order == "<"
        if group == 8 and element in FIRST_ELEMENTS:
            (length,) = struct.unpack_from(f"{order}H", head, 6) if is_explicit else struct.unpack_from("<I", head, 4)
            return length % 2 == 0 and length <= LONGEST and (is_explicit or order == "<")
    return False


def sop_class(path: Path) -> str:
    """Return the SOP Class UID in the file meta information; empty if there is none.

    Raises:
        OSError: when the file can't be opened.
    """
    with open(path, "rb") as file:
        if file.read(132)[128:] != b"DICM":
            return ""
    try:
        return str(read_file_meta_info(path).get("MediaStorageSOPClassUID", ""))
    except Exception:
        # A damaged file may raise any error in pydicom. It is reported when the file is read.
        return ""


def read_dicom_header(path: Path, tags: Sequence[str]) -> Dataset:
    """Read a few attributes of a file that is DICOM by :func:`is_dicom`.

    Raises:
        Exception: when it is damaged; pydicom raises almost any.
    """
    return pydicom.dcmread(path, specific_tags=list(tags), stop_before_pixels=True, force=True)


def open_dicom(path: Path, headers_only: bool = False) -> Dataset:
    """Read a file, and check that it is an image.

    Args:
        path: file to read.
        headers_only: leave out the pixels.

    Raises:
        DataError: when the file is not an image. The message continues a sentence that begins with the file's name.
    """
    _check_deflated(path)
    dataset = pydicom.dcmread(path, stop_before_pixels=headers_only, force=True)
    # pydicom 3 returns an empty data set when compressed pixels are cut off.
    if len(dataset) and "Rows" not in dataset:
        kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
        raise DataError(f"is a DICOM file without an image ({getattr(kind, 'name', None) or 'no SOP class'}).")
    keys = ("Rows",) if headers_only else ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    if not any(key in dataset for key in keys):
        raise DataError("has no pixels (7FE0,0010): the file may have been cut off.")
    if "TransferSyntaxUID" not in dataset.file_meta:
        if len(dataset.file_meta):
            raise DataError("has no Transfer Syntax UID (0002,0010), so it is not known how to decode its pixels.")
        # Without file meta information, pixels are not compressed.
        dataset.file_meta.TransferSyntaxUID = _syntax_of(dataset)
    return dataset


def _syntax_of(dataset: Dataset) -> UID:
    """Return the transfer syntax that pydicom has guessed for a data set that does not name it."""
    if hasattr(dataset, "original_encoding"):
        is_implicit, is_little_endian = dataset.original_encoding
    else:
        is_implicit, is_little_endian = dataset.is_implicit_VR, dataset.is_little_endian
    if is_implicit:
        return ImplicitVRLittleEndian
    # A data set that was made in memory has neither.
    return ExplicitVRBigEndian if is_little_endian is False else ExplicitVRLittleEndian


def encode_header(header: Dataset) -> bytes:
    """Encode attributes as in a file, for :func:`decode_header` in another process."""
    syntax = _syntax_of(header)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = syntax.is_implicit_VR, syntax.is_little_endian
    write_dataset(buffer, header)
    return f"{syntax}\n".encode() + buffer.getvalue()


def decode_header(content: bytes) -> Dataset:
    """Decode the result of :func:`encode_header`."""
    name, _, attributes = content.partition(b"\n")
    syntax = UID(name.decode())
    return read_dataset(BytesIO(attributes), syntax.is_implicit_VR, syntax.is_little_endian)


def _check_deflated(path: Path) -> None:
    """Refuse a deflated data set that needs too much memory, since pydicom unpacks all of it at once."""
    with open(path, "rb") as file:
        head = file.read(1024)
        if head[128:132] != b"DICM" or DeflatedExplicitVRLittleEndian.encode() not in head:
            return
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return
        # Skip the preamble, DICM, and the group length with its own 12 bytes.
        file.seek(144 + int(meta.get("FileMetaInformationGroupLength", 0)))
        _check_stream(file)


def _check_stream(file: IO[bytes]) -> None:
    """Unpack a stream without keeping it, to count its bytes. Damage is reported later, by the reader."""
    stream, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    data = file.read(1 << 16)
    while data and not stream.eof:
        try:
            size += len(stream.decompress(data, 1 << 24))
        except zlib.error:
            return
        check_inflated(size)
        data = stream.unconsumed_tail or file.read(1 << 16)
