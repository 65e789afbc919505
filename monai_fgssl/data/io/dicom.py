# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A frame of a DICOM file as a picture: its colours, or its grey values in the units of the modality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from monai_fgssl.utils.errors import DataError

from .dicom_pixels import apply_modality_lut, decode_frame, number_of_frames, palette_colours
from .display import LookupTable, StoredImage, Window, choose_frame, natural_range

__all__ = ["UID_KEYS", "frame_module", "is_dicom", "open_dicom", "read_dicom", "read_frame"]

UID_KEYS = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")
"""What a report needs to refer to an image. Nothing else about the patient or the study leaves this package."""

FRAME_KEYS = (
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ModalityLUTSequence",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "SliceThickness",
    "SpacingBetweenSlices",
    "VOILUTFunction",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
)
FRAME_MACROS = (
    "FrameVOILUTSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
)
"""Functional groups that hold :data:`FRAME_KEYS` in multi-frame images; DICOM PS3.3, C.7.6.16.2."""

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def is_dicom(path: Path) -> bool:
    """Tell whether a file begins as DICOM PS3.10, section 7.1 says, whatever its name."""
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def open_dicom(path: Path, headers_only: bool = False) -> Dataset:
    """Read a file, and check that it is an image.

    Args:
        path: of the file.
        headers_only: leave out the pixels.

    Raises:
        DataError: when it is none; the message starts after the name of the file.
    """
    dataset = pydicom.dcmread(path, stop_before_pixels=headers_only)
    # pydicom 3 gives nothing at all when compressed pixels are cut off.
    if len(dataset) and "Rows" not in dataset:
        kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
        raise DataError(f"is a DICOM file without an image ({getattr(kind, 'name', None) or 'no SOP class'}).")
    keys = ("Rows",) if headers_only else ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    if not any(key in dataset for key in keys):
        raise DataError("has no pixels (7FE0,0010): the file may have been cut off.")
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise DataError("has no Transfer Syntax UID (0002,0010), so nothing tells how to decode its pixels.")
    return dataset


def read_dicom(path: Path, frame: int | None = None) -> StoredImage:
    """Read a picture.

    Args:
        path: of the file.
        frame: its number where there are several, from 0 (DICOM itself counts from 1).

    Returns:
        ``(1 or 3, rows, columns)``, with the spacing of rows and columns where the file has it.

    Raises:
        DataError: when there is no image, it can't be decoded or shown, or a frame must be chosen; the message starts
            after the name of the file.
    """
    dataset = open_dicom(path)
    image = read_frame(dataset, choose_frame(number_of_frames(dataset), frame))
    image.uids = {key: str(dataset.get(key, "")) for key in UID_KEYS}
    return image


def frame_module(dataset: Dataset, frame: int) -> Dataset:
    """Attributes of a frame, from wherever they are: the image itself, or its functional groups.

    Args:
        dataset: of an image.
        frame: number, from 0.

    Returns:
        Those of :data:`FRAME_KEYS` that have a value.
    """
    module = Dataset()
    module.file_meta = dataset.file_meta
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*shared[:1], *per_frame[frame : frame + 1]]
    items = [item for group in groups for macro in FRAME_MACROS for item in (group.get(macro) or [])[:1]]
    for source in (dataset, *items):
        for key in FRAME_KEYS:
            # Empty windows and spacings are common.
            if source.get(key) not in (None, ""):
                module.add(source[key])
    return module


def read_frame(dataset: Dataset, frame: int) -> StoredImage:
    """Decode a frame.

    Args:
        dataset: of :func:`open_dicom`.
        frame: number, from 0.

    Returns:
        ``(3, rows, columns)``, RGB; or ``(1, rows, columns)``: grey values after the Modality LUT or rescale, with
        their range and the VOI LUT or window of the file. Colour profiles (ICC) and overlays are not applied.

    Raises:
        DataError: see :func:`read_dicom`.
    """
    photometric = str(dataset.get("PhotometricInterpretation"))
    if photometric not in (*MONOCHROME, *COLOURS, "PALETTE COLOR"):
        raise DataError(f"has the Photometric Interpretation (0028,0004) {photometric}, which is not supported.")
    module = frame_module(dataset, frame)
    affine = np.diag([*(float(spacing) for spacing in module.get("PixelSpacing", (1, 1))), 1, 1])
    # Before decoding, since pydicom 2.4 may change them then. Float pixels have no Bits Stored.
    bits, is_signed = int(dataset.get("BitsStored") or 0), bool(dataset.get("PixelRepresentation"))
    stored = decode_frame(dataset, frame)
    if photometric not in MONOCHROME:
        colours, white = palette_colours(dataset, stored) if photometric == "PALETTE COLOR" else (stored, 2**bits - 1)
        return StoredImage(np.moveaxis(colours, -1, 0), affine, (0, white), frame=frame)
    value_range: tuple[float, float] | None
    if "ModalityLUTSequence" in module:
        value_range = (0, 2 ** int(module.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    elif bits:
        lowest = -(2 ** (bits - 1)) if is_signed else 0
        # A falling rescale turns the ends around.
        low, high = sorted(apply_modality_lut(np.array([lowest, lowest + 2**bits - 1]), module).tolist())
        value_range = (low, high)
    else:
        value_range = natural_range(stored)
    values = apply_modality_lut(stored, module)[None]
    is_inverted = photometric == "MONOCHROME1"
    return StoredImage(values, affine, value_range, voi=_voi(module), inverted=is_inverted, frame=frame)


def _voi(module: Dataset) -> Window | LookupTable | None:
    """The first VOI LUT, or else the first window; DICOM PS3.3, C.11.2.1 leaves the choice to the viewer."""
    if "VOILUTSequence" in module:
        table = module.VOILUTSequence[0]
        count, first, bits = (int(value) for value in table.LUTDescriptor)
        entries = table.LUTData
        if isinstance(entries, bytes):
            entries = np.frombuffer(entries, "<u2" if module.file_meta.TransferSyntaxUID.is_little_endian else ">u2")
        return LookupTable(first, np.asarray(entries)[: count or 2**16], bits)
    if "WindowCenter" in module and "WindowWidth" in module:
        center, width = (float(np.ravel(module[key].value)[0]) for key in ("WindowCenter", "WindowWidth"))
        return Window(center, width, str(module.get("VOILUTFunction", "LINEAR")))
    return None
