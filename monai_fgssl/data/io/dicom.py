# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read a frame of a DICOM file as a picture: its colors, or its gray values in the units of the modality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from monai_fgssl.utils.errors import DataError

from .dicom_file import open_dicom
from .dicom_luts import apply_modality_lut, find_padding, palette_colors, read_voi
from .dicom_pixels import decode_frame, number_of_frames
from .display import StoredImage, natural_range
from .limits import check_size
from .selection import choose

__all__ = ["UID_KEYS", "frame_module", "identifiers", "is_inverted", "read_dicom", "read_frame", "source_header"]

UID_KEYS = ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID")
"""Identifiers that a report needs to refer to an image."""

FRAME_KEYS = (
    "DoseGridScaling",
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
PLACE_KEYS = (
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "PixelSpacing",
    "SliceThickness",
    "SpacingBetweenSlices",
)
"""Keys of :data:`FRAME_KEYS` that only volumes need."""
FRAME_MACROS = (
    "FrameVOILUTSequence",
    "PixelMeasuresSequence",
    "PixelValueTransformationSequence",
    "PlaneOrientationSequence",
    "PlanePositionSequence",
)
"""Functional groups that hold :data:`FRAME_KEYS` in multi-frame images; DICOM PS3.3, C.7.6.16.2."""

MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
COLORS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")


def read_dicom(path: Path, frame: int | None = None) -> StoredImage:
    """Read a picture.

    Args:
        path: file to read.
        frame: number of the frame if there are several, from 0 (DICOM itself counts from 1).

    Returns:
        ``(1 or 3, rows, columns)``, with the spacing of rows and columns where the file has it.

    Raises:
        DataError: when there is no image, it can't be decoded or shown, or a frame must be chosen. The message
            continues a sentence that begins with the name of the file.
    """
    dataset = open_dicom(path)
    # Copy the header before decoding, which may change the data set.
    header = source_header(dataset)
    image = read_frame(dataset, choose(number_of_frames(dataset), frame, "frame", "frames"))
    image.headers = [header]
    return image


def source_header(dataset: Dataset) -> Dataset:
    """Copy the attributes of patient, study, series and image, which a DICOM result takes over from its source.

    Functional groups of frames, overlays and pixels are left out, since they may take megabytes.

    Args:
        dataset: data set of :func:`open_dicom`.

    Returns:
        Groups 0008 to 004F.
    """
    return dataset[0x00080000:0x00500000]


def identifiers(header: Dataset) -> Dataset:
    """Copy the identifiers of a header: those of :data:`UID_KEYS` that it has."""
    result = Dataset()
    for keyword in UID_KEYS:
        if keyword in header:
            result[keyword] = header[keyword]
    return result


def frame_module(dataset: Dataset, frame: int) -> Dataset:
    """Collect the attributes of a frame from the image itself and from its functional groups.

    Args:
        dataset: data set of an image.
        frame: number, from 0.

    Returns:
        Attributes of :data:`FRAME_KEYS` that have a value.

    Raises:
        DataError: when an attribute that affects brightness is not a number, or not all frames have functional
            groups.
    """
    module = Dataset()
    module.file_meta = dataset.file_meta
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    if 0 < len(per_frame) < number_of_frames(dataset):
        raise DataError(
            f"has {number_of_frames(dataset)} frames and the functional groups (5200,9230) of {len(per_frame)} only."
        )
    groups = [*shared[:1], *per_frame[frame : frame + 1]]
    items = [item for group in groups for macro in FRAME_MACROS for item in (group.get(macro) or [])[:1]]
    for source in (dataset, *items):
        for key in FRAME_KEYS:
            # Empty windows and spacings are common.
            if source.get(key) in (None, ""):
                continue
            if _is_number(source[key]):
                module.add(source[key])
            elif key not in PLACE_KEYS:
                # A picture does not need its position, but its brightness must not be guessed.
                raise DataError(f"has a {key} that is not a number.")
    return module


def is_inverted(dataset: Dataset) -> bool:
    """True if small gray values are bright: MONOCHROME1, unless the Presentation LUT Shape tells otherwise.

    Source: DICOM PS3.3, C.7.6.3.1.2 and C.11.6.1.2. Where the two contradict each other, dcmtk and dcm4che take the
    shape too.
    """
    shape = dataset.get("PresentationLUTShape")
    if shape in ("IDENTITY", "INVERSE"):
        return bool(shape == "INVERSE")
    return dataset.get("PhotometricInterpretation") == "MONOCHROME1"


def _is_number(element: DataElement) -> bool:
    """True if a decimal string (DS) is a finite number. Decimal commas are common, but not valid numbers."""
    try:
        return element.VR != "DS" or bool(np.isfinite(np.ravel(element.value).astype(np.float64)).all())
    except ValueError:
        return False


def read_frame(dataset: Dataset, frame: int) -> StoredImage:
    """Decode a frame.

    Args:
        dataset: data set of :func:`open_dicom`.
        frame: number, from 0.

    Returns:
        ``(3, rows, columns)``, RGB; or ``(1, rows, columns)``: gray values after the Modality LUT or rescale, with
        their range, the VOI LUT or window of the file, and its padding. Color profiles (ICC) and overlays are not
        applied.

    Raises:
        DataError: see :func:`read_dicom`.
    """
    photometric = str(dataset.get("PhotometricInterpretation"))
    if photometric not in (*MONOCHROME, *COLORS, "PALETTE COLOR"):
        raise DataError(f"has the Photometric Interpretation (0028,0004) {photometric}, which is not supported.")
    samples = int(dataset.get("SamplesPerPixel") or 1)
    if samples != (3 if photometric in COLORS else 1):
        raise DataError(
            f"has {samples} sample(s) for each pixel, which {photometric} can't have: one of the two is wrong."
        )
    check_size((int(dataset.Rows), int(dataset.Columns), samples))
    module = frame_module(dataset, frame)
    affine = np.diag([*_spacing(module), 1, 1])
    # These are read before decoding, since pydicom 2.4 may change them then. Float pixels have no Bits Stored.
    bits, is_signed = int(dataset.get("BitsStored") or 0), bool(dataset.get("PixelRepresentation"))
    stored = decode_frame(dataset, frame)
    if photometric not in MONOCHROME:
        is_palette = photometric == "PALETTE COLOR"
        colors, white = palette_colors(dataset, stored, is_signed) if is_palette else (stored, 2**bits - 1)
        return StoredImage(np.moveaxis(colors, -1, 0), affine, (0, white), frame=frame)
    values, table_bits = apply_modality_lut(stored, module, is_signed)
    value_range: tuple[float, float] | None
    if table_bits is not None:
        value_range = (0, 2**table_bits - 1)
    elif bits:
        lowest = -(2 ** (bits - 1)) if is_signed else 0
        ends = apply_modality_lut(np.array([lowest, lowest + 2**bits - 1]), module, is_signed)[0]
        # A negative slope swaps the ends.
        low, high = sorted(ends.tolist())
        value_range = (low, high)
    else:
        value_range = natural_range(stored)
    voi = read_voi(module, is_signed=value_range is None or value_range[0] < 0)
    padding = find_padding(dataset, stored, is_signed)
    return StoredImage(
        values[None],
        affine,
        value_range,
        voi=voi,
        inverted=is_inverted(dataset),
        padding=None if padding is None else padding[None],
        frame=frame,
    )


def _spacing(module: Dataset) -> tuple[float, float]:
    """Return the spacing of rows and columns in mm; 1 if the file has none, since a picture does not need it."""
    spacing = np.ravel(module.get("PixelSpacing", ())).astype(np.float64)
    return (
        (spacing[0], spacing[1]) if len(spacing) == 2 and np.isfinite(spacing).all() and spacing.min() > 0 else (1, 1)
    )
