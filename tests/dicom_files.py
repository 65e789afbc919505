# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""DICOM files for tests. pydicom 2.4 and 3 write equal files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

DERMOSCOPY = "1.2.840.10008.5.1.4.1.1.77.1.7"
CT = "1.2.840.10008.5.1.4.1.1.2"
PATIENT = {"PatientName": "Doe^Jane", "PatientID": "ID4711", "PatientBirthDate": "19700102", "StudyDate": "20240229"}


def write_dicom(
    path: Path,
    pixels: NDArray[Any],
    syntax: str = ExplicitVRLittleEndian,
    codestreams: Sequence[bytes] = (),
    sop_class: str = DERMOSCOPY,
    **attributes: Any,
) -> Path:
    """Write an image.

    Args:
        path: where to.
        pixels: ``(rows, columns)`` or ``(rows, columns, 3)``, or several of these when NumberOfFrames is given.
        syntax: transfer syntax UID.
        codestreams: compressed frames, which are stored instead of the pixels.
        sop_class: SOP Class UID.
        **attributes: more attributes, or other values than those that follow from the pixels; ``None`` leaves one out.
    """
    frame = pixels[0] if attributes.get("NumberOfFrames", 1) > 1 else pixels
    is_color = frame.ndim == 3
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = syntax
    is_little_endian, is_implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
    preamble = b"\0" * 128
    dataset = FileDataset(str(path), {}, preamble, meta, is_implicit, is_little_endian)
    values: dict[str, Any] = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        "Modality": "DMS",
        **PATIENT,
        "Rows": frame.shape[0],
        "Columns": frame.shape[1],
        "SamplesPerPixel": 3 if is_color else 1,
        "PhotometricInterpretation": "RGB" if is_color else "MONOCHROME2",
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": 8 * pixels.itemsize,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        **({"PlanarConfiguration": 0} if is_color else {}),
        **attributes,
    }
    values.setdefault("HighBit", (values["BitsStored"] or 1) - 1)
    for key, value in values.items():
        if value is not None:
            setattr(dataset, key, value)
    if codestreams:
        dataset.add_new("PixelData", "OB", encapsulate(list(codestreams)))
        dataset["PixelData"].is_undefined_length = True
    else:
        stored = np.moveaxis(pixels, -1, -3) if values.get("PlanarConfiguration") == 1 else pixels
        data = stored.astype(stored.dtype.newbyteorder("<" if is_little_endian else ">")).tobytes()
        floats = {"f4": ("FloatPixelData", "OF"), "f8": ("DoubleFloatPixelData", "OD")}
        key, representation = floats.get(pixels.dtype.str[1:], ("PixelData", "OB" if pixels.itemsize == 1 else "OW"))
        dataset.add_new(key, representation, data + b"\0" * (len(data) % 2))
    with warnings.catch_warnings():
        # pydicom 3 has another name for the argument.
        warnings.simplefilter("ignore", DeprecationWarning)
        dataset.save_as(path, write_like_original=False)
    return path


def write_ct_series(file: Path, folder: Path, name: Callable[[int], str], **attributes: Any) -> str:
    """Write a NIfTI volume with voxels of 1 x 1 x 2 mm as a series of a CT.

    Args:
        file: of the volume.
        folder: of the slices.
        name: of the file of a slice, by its number from 0.
        **attributes: more attributes of all slices.

    Returns:
        Series Instance UID.
    """
    source = nibabel.as_closest_canonical(nibabel.load(file))
    values, corner = np.asarray(source.dataobj), source.affine[:3, 3]
    uids = {key: generate_uid() for key in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")}
    for z in range(values.shape[2]):
        write_dicom(
            folder / name(z),
            np.ascontiguousarray(values[:, :, z].T),
            sop_class=CT,
            Modality="CT",
            **uids,
            InstanceNumber=z + 1,
            # From RAS to DICOM's LPS.
            ImagePositionPatient=[f"{-corner[0]:.6f}", f"{-corner[1]:.6f}", f"{corner[2] + 2 * z:.6f}"],
            ImageOrientationPatient=["-1", "0", "0", "0", "-1", "0"],
            PixelSpacing=["1", "1"],
            RescaleSlope=1,
            RescaleIntercept=0,
            **attributes,
        )
    return uids["SeriesInstanceUID"]


def sequence_item(**attributes: Any) -> list[Dataset]:
    """A sequence with one item."""
    item = Dataset()
    for key, value in attributes.items():
        setattr(item, key, value)
    return [item]


def run_length_encoded(frame: NDArray[Any]) -> bytes:
    """PS3.5, annex G, of runs that repeat nothing: a segment for each byte of each sample, the highest first."""
    samples = frame[..., None] if frame.ndim == 2 else frame
    segments = []
    for sample in range(samples.shape[-1]):
        plane = samples[..., sample].astype(frame.dtype.newbyteorder(">")).tobytes()
        for byte in range(frame.itemsize):
            data = plane[byte :: frame.itemsize]
            parts = [data[start : start + 128] for start in range(0, len(data), 128)]
            segment = b"".join(bytes([len(part) - 1]) + part for part in parts)
            segments.append(segment + b"\0" * (len(segment) % 2))
    starts = 64 + np.cumsum([0, *map(len, segments)])[:-1]
    header = np.zeros(16, "<u4")
    header[0], header[1 : 1 + len(starts)] = len(starts), starts
    return header.tobytes() + b"".join(segments)
