# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Decode the pixels of a DICOM frame, with the same result from pydicom 2.4 and pydicom 3."""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from io import BytesIO
from itertools import islice
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit

from monai_fgssl.utils.errors import DataError

from .codestream import Codestream, read_codestream_header
from .limits import MAX_JPEG_RATIO, MAX_PACKBITS_RATIO, check_stored_size

try:
    from pydicom.encaps import get_frame
    from pydicom.pixels import get_decoder

    IS_PYDICOM_2 = False
except ImportError:
    from pydicom.encaps import generate_pixel_data_frame

    IS_PYDICOM_2 = True

__all__ = ["decode_frame", "number_of_frames"]

JPEG, HTJ2K, VIDEO = (
    tuple(f"1.2.840.10008.1.2.4.{number}" for number in numbers)
    for numbers in ((50, 51, 57, 70, 80, 81, 90, 91), range(201, 204), range(100, 109))
)
"""Transfer syntaxes: JPEG, JPEG-LS and JPEG 2000; High-Throughput JPEG 2000; MPEG. DICOM PS3.6, table A-1."""


MAX_RATIOS = {
    "1.2.840.10008.1.2.5": MAX_PACKBITS_RATIO,
    "1.2.840.10008.1.2.4.50": MAX_JPEG_RATIO,
    "1.2.840.10008.1.2.4.51": MAX_JPEG_RATIO,
}
"""Largest compression ratio, by transfer syntax (RLE, JPEG Baseline and Extended)."""


PADDING = 4096
"""Bytes after the last frame that may be there to fill a block."""


def number_of_frames(dataset: Dataset) -> int:
    """Return the number of frames; 1 if the attribute is missing or empty."""
    return int(dataset.get("NumberOfFrames") or 1)


def decode_frame(dataset: Dataset, frame: int) -> NDArray[Any]:
    """Decode the stored values of a frame. YBR_FULL, YBR_FULL_422, YBR_ICT and YBR_RCT become RGB.

    A baseline JPEG is decoded bit for bit as Pillow decodes it from a file.

    Args:
        dataset: data set with its pixels.
        frame: number, from 0.

    Returns:
        ``(rows, columns)``, or ``(rows, columns, 3)`` for color; palette indices stay indices.

    Raises:
        DataError: when no installed decoder knows the transfer syntax, or when the header doesn't fit the pixels.
        Exception: when the pixels are damaged; pydicom and its plug-ins raise almost any.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        _check_length(dataset)
        codestream = _check_codestream(dataset, frame)
        if not syntax.is_little_endian and dataset.BitsAllocated == 1 and dataset["PixelData"].VR == "OW":
            # Big endian: the bytes of words are swapped. pydicom (up to 3.0.2) undoes that for 8 bits only.
            dataset = copy(dataset)
            dataset.PixelData = np.frombuffer(dataset.PixelData, "u2").byteswap().tobytes()
        decode = _decode_by_pydicom2 if IS_PYDICOM_2 else _decode_by_pydicom3
        pixels, photometric = decode(dataset, frame, codestream)
    except Exception as error:
        missing = _missing_decoder(syntax, int(dataset.get("BitsStored") or 0))
        if missing:
            raise DataError(missing) from error
        raise
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if dataset.get("SamplesPerPixel", 1) > 1:
        # Colors are never negative, whatever Pixel Representation says; DICOM PS3.3, C.7.6.3.1.2.
        pixels = pixels.view(f"u{pixels.itemsize}")
    if "PixelData" in dataset and dataset.BitsAllocated > 1:
        pixels = _cut_stored_bits(pixels, dataset, codestream)
    return _ybr_to_rgb(pixels) if photometric in ("YBR_FULL", "YBR_FULL_422") else pixels


def _check_length(dataset: Dataset) -> None:
    """Refuse uncompressed pixels of more frames than the header tells: nothing says which of the two is wrong."""
    if dataset.file_meta.TransferSyntaxUID.is_compressed or "PixelData" not in dataset:
        return
    samples, frames = int(dataset.get("SamplesPerPixel") or 1), number_of_frames(dataset)
    frame = int(dataset.Rows) * int(dataset.Columns) * samples * int(dataset.BitsAllocated) // 8
    found = len(dataset.PixelData) // max(frame, 1)
    if found > frames and len(dataset.PixelData) - frame * frames > PADDING:
        raise DataError(
            f"has the pixels of {found} frames, and its header tells of {frames}: correct Number of Frames "
            "(0028,0008), or the size and the bits of the picture."
        )


def _check_codestream(dataset: Dataset, frame: int) -> Codestream | None:
    """Check that the DICOM header fits the header of a JPEG, JPEG-LS or JPEG 2000. Decoders silently mix both."""
    if not dataset.file_meta.TransferSyntaxUID.is_compressed or "PixelData" not in dataset:
        return None
    count, codestream, data = number_of_frames(dataset), None, None
    # Without a header, the decoder reports the error.
    with suppress(Exception):
        if IS_PYDICOM_2:
            data = next(islice(generate_pixel_data_frame(dataset.PixelData, count), frame, None))
        else:
            data = get_frame(dataset.PixelData, frame, number_of_frames=count)
        codestream = read_codestream_header(data)
    ratio = MAX_RATIOS.get(str(dataset.file_meta.TransferSyntaxUID))
    if data is not None and ratio is not None:
        bits = int(dataset.Rows) * int(dataset.Columns) * int(dataset.get("SamplesPerPixel", 1))
        check_stored_size(bits * int(dataset.BitsAllocated) // 8, len(data), ratio)
    if codestream is None and data is not None and dataset.file_meta.TransferSyntaxUID in JPEG:
        # Some damage here ends the process in GDCM.
        raise DataError("is damaged: its compressed pixels have no complete header.")
    if codestream is not None:
        promised = int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel", 1))
        # In JPEG, 0 rows mean that the number follows later.
        if promised != (codestream.rows or promised[0], codestream.columns, codestream.samples):
            raise DataError(
                f"has a header for {promised[1]} x {promised[0]} pixels with {promised[2]} sample(s), and holds a "
                f"picture of {codestream.columns} x {codestream.rows} with {codestream.samples}."
            )
    return codestream


def _cut_stored_bits(pixels: NDArray[Any], dataset: Dataset, codestream: Codestream | None) -> NDArray[Any]:
    """Keep only the stored bits, which end at High Bit. The other bits may hold overlays, also in compressed pixels.

    Source: DICOM PS3.5, 8.1.1; High Bit other than Bits Stored - 1 is of earlier editions.
    """
    size, stored = 8 * pixels.itemsize, int(dataset.BitsStored)
    high = int(dataset.get("HighBit") or stored - 1)
    if high < stored - 1 or (codestream is not None and codestream.bits <= stored):
        # High Bit is wrong, or describes the pixels before compression: the values are in the lower bits.
        high = stored - 1
    if high >= size or stored >= size:
        return pixels
    unsigned = pixels.view(f"u{pixels.itemsize}")
    below = high + 1 - stored
    if below and (unsigned & (1 << below) - 1).any() and unsigned.max() < 1 << stored:
        raise DataError(
            f"has High Bit (0028,0102) {high} with {stored} Bits Stored, but its values seem to be in the lower bits: "
            f"set it to {stored - 1}, or move them."
        )
    return pixels << (size - 1 - high) >> (size - stored)


def _decode_by_pydicom3(dataset: Dataset, frame: int, codestream: Codestream | None) -> tuple[NDArray[Any], str]:
    """Return the decoded pixels and their Photometric Interpretation."""
    decode = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array
    if dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit:
        # Pillow gives the same result as GDCM, which pydicom prefers, in a tenth of the time.
        try:
            pixels, properties = decode(dataset, index=frame, raw=True, decoding_plugin="pillow")
            return pixels, str(properties["photometric_interpretation"])
        except Exception:
            # GDCM guesses damaged pixels, or ends the process. Pillow can't decode more bits.
            if codestream is None or codestream.bits == 8:
                raise
    # pydicom itself corrects the bits of some transfer syntaxes only. Its annotations want one type for all options.
    options: Any = {"correct_unused_bits": False}
    pixels, properties = decode(dataset, index=frame, raw=True, **options)
    return pixels, str(properties["photometric_interpretation"])


def _decode_by_pydicom2(dataset: Dataset, frame: int, codestream: Codestream | None) -> tuple[NDArray[Any], str]:
    """Decode one frame and name the colors of its JPEG data, as pydicom 3 does by itself."""
    count, syntax = number_of_frames(dataset), dataset.file_meta.TransferSyntaxUID
    # Read before decoding, which may change it.
    photometric = str(dataset.PhotometricInterpretation)
    pixels = dataset.pixel_array[frame] if count > 1 else dataset.pixel_array
    if photometric == "RGB" and syntax == JPEGBaseline8Bit:
        with Image.open(BytesIO(next(generate_pixel_data_frame(dataset.PixelData, count)))) as image:
            photometric = "YBR_FULL" if "jfif" in image.info else photometric
    return pixels, photometric


def _ybr_to_rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert as libjpeg does, in 16-bit fixed point; pydicom's floats round some sums the other way.

    Source: DICOM PS3.3, C.7.6.3.1.2; ITU-T T.871, section 7.
    """
    if pixels.dtype != np.uint8:
        raise DataError(f"has YBR colors of {8 * pixels.itemsize} bits, which are not supported.")
    y, blue, red = (np.ascontiguousarray(pixels[..., channel]) for channel in range(3))
    chroma, half = np.arange(256) - 128, 1 << 15
    red_of_red, blue_of_blue = (((factor * chroma + half) >> 16).astype(np.int16) for factor in (91881, 116130))
    green_of_blue, green_of_red = (-22554 * chroma).astype(np.int32), (-46802 * chroma + half).astype(np.int32)
    offsets = (red_of_red[red], (green_of_blue[blue] + green_of_red[red]) >> 16, blue_of_blue[blue])
    rgb = np.empty_like(pixels)
    for channel, offset in enumerate(offsets):
        rgb[..., channel] = np.clip(y.astype(np.int16) + offset.astype(np.int16), 0, 255)
    return rgb


def _missing_decoder(syntax: UID, bits: int) -> str | None:
    """Return what is missing to decode a transfer syntax; ``None`` if nothing is missing."""
    if syntax in VIDEO:
        return f"is a video ({syntax.name}): export its frames as images."
    if syntax == JPEGExtended12Bit and bits > 8:
        return (
            f"is compressed as {syntax.name} with {bits} bits: convert it with dcmtk's dcmdjpeg, or `pip install "
            "pylibjpeg pylibjpeg-libjpeg` (GPL v3)."
        )
    if IS_PYDICOM_2:
        handlers = pydicom.config.pixel_data_handlers
        is_available = any(handler.supports_transfer_syntax(syntax) and handler.is_available() for handler in handlers)
    else:
        try:
            is_available = get_decoder(syntax).is_available
        except NotImplementedError:
            is_available = False
    if is_available:
        return None
    if syntax in HTJ2K:
        return f"is compressed as {syntax.name}, which needs `pip install 'pydicom>=3' pylibjpeg pylibjpeg-openjpeg`."
    if syntax in JPEG:
        return f"is compressed as {syntax.name}, for which no decoder is installed: `pip install 'monai-fgssl[dicom]'`."
    return f"is stored as {syntax.name}, which is not supported."
