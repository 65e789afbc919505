# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoded pixels of a DICOM frame, the same from pydicom 2.4 and from pydicom 3."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit

from monai_fgssl.utils.errors import DataError

try:
    from pydicom.pixels import apply_color_lut, apply_modality_lut, get_decoder

    IS_PYDICOM_2 = False
except ImportError:
    from pydicom.encaps import generate_pixel_data_frame
    from pydicom.pixel_data_handlers.util import apply_color_lut, apply_modality_lut  # type: ignore[no-redef]

    IS_PYDICOM_2 = True

__all__ = ["apply_modality_lut", "decode_frame", "number_of_frames", "palette_colours"]

JPEG, HTJ2K, VIDEO = (
    tuple(f"1.2.840.10008.1.2.4.{number}" for number in numbers)
    for numbers in ((50, 51, 57, 70, 80, 81, 90, 91), range(201, 204), range(100, 109))
)
"""Transfer syntaxes: JPEG, JPEG-LS and JPEG 2000; High-Throughput JPEG 2000; MPEG. DICOM PS3.6, table A-1."""


def number_of_frames(dataset: Dataset) -> int:
    """Number of frames, which may be missing or empty."""
    return int(dataset.get("NumberOfFrames") or 1)


def decode_frame(dataset: Dataset, frame: int) -> NDArray[Any]:
    """Stored values of a frame, with YBR_FULL, YBR_FULL_422, YBR_ICT and YBR_RCT made RGB.

    A baseline JPEG comes out bit for bit as Pillow decodes it from a file.

    Args:
        dataset: with its pixels.
        frame: number, from 0.

    Returns:
        ``(rows, columns)``, or ``(rows, columns, 3)`` for colour; palette indices stay indices.

    Raises:
        DataError: when the transfer syntax needs a decoder that is not installed.
        Exception: when the pixels are damaged; pydicom and its plug-ins raise almost any.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        decode = _decode_by_pydicom2 if IS_PYDICOM_2 else _decode_by_pydicom3
        pixels, photometric = decode(dataset, frame)
    except Exception as error:
        missing = _missing_decoder(syntax, int(dataset.get("BitsStored") or 0))
        if missing:
            raise DataError(missing) from error
        raise
    return _ybr_to_rgb(pixels) if photometric in ("YBR_FULL", "YBR_FULL_422") else pixels


def _decode_by_pydicom3(dataset: Dataset, frame: int) -> tuple[NDArray[Any], str]:
    """Pixels, and their Photometric Interpretation."""
    decode = get_decoder(dataset.file_meta.TransferSyntaxUID).as_array
    if dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit:
        # Gives what GDCM gives, which pydicom prefers, in a tenth of the time.
        with suppress(Exception):
            pixels, properties = decode(dataset, index=frame, raw=True, decoding_plugin="pillow")
            return pixels, str(properties["photometric_interpretation"])
    pixels, properties = decode(dataset, index=frame, raw=True)
    return pixels, str(properties["photometric_interpretation"])


def _decode_by_pydicom2(dataset: Dataset, frame: int) -> tuple[NDArray[Any], str]:
    """What pydicom 3 does by itself: one frame, unused bits cleared, the colours that the JPEG data have."""
    count, syntax = number_of_frames(dataset), dataset.file_meta.TransferSyntaxUID
    # Before decoding, which may change it.
    photometric = str(dataset.PhotometricInterpretation)
    pixels = dataset.pixel_array[frame] if count > 1 else dataset.pixel_array
    if photometric == "RGB" and syntax == JPEGBaseline8Bit:
        with Image.open(BytesIO(next(generate_pixel_data_frame(dataset.PixelData, count)))) as image:
            photometric = "YBR_FULL" if "jfif" in image.info else photometric
    if "PixelData" in dataset and not syntax.is_compressed:
        unused = dataset.BitsAllocated - dataset.BitsStored
        pixels = pixels << unused >> unused
    return pixels, photometric


def _ybr_to_rgb(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert as libjpeg does, in 16-bit fixed point; pydicom's floats round some sums the other way.

    Source: DICOM PS3.3, C.7.6.3.1.2; ITU-T T.871, section 7.
    """
    if pixels.dtype != np.uint8:
        raise DataError(f"has YBR colours of {8 * pixels.itemsize} bits, which are not supported.")
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
    """Say what it takes to decode a transfer syntax, or ``None`` when nothing is missing."""
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


def palette_colours(dataset: Dataset, indices: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Look palette indices up.

    Args:
        dataset: with the palette.
        indices: ``(rows, columns)``.

    Returns:
        ``(rows, columns, 3)``, and the value of full intensity.

    Source: DICOM PS3.3, C.7.6.3.1.5 and C.7.6.3.1.6.
    """
    count, first, bits = dataset.RedPaletteColorLookupTableDescriptor
    count = count or 2**16
    tables = [dataset.get(f"{name}PaletteColorLookupTableData") for name in ("Red", "Green", "Blue")]
    if bits == 8 and all(table is not None and len(table) == count + count % 2 for table in tables):
        # pydicom (up to 3.0.2) takes indices modulo 256, and refuses tables with a byte of padding.
        positions = np.clip(indices.astype(np.int64) - first, 0, count - 1)
        return np.stack([np.frombuffer(table, np.uint8)[positions] for table in tables], axis=-1), 255
    colours = apply_color_lut(indices, dataset)[..., :3]
    if bits == 8:
        return colours, 255
    # Many devices store 8 bits as the upper half of 16: their white is 0xFF00.
    return (colours, 65535) if (colours & 0xFF).any() else (colours >> 8, 255)
