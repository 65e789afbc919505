# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write a picture, such as a heat map over an image, as a DICOM Secondary Capture."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from monai_fgssl.utils.files import atomic_write

from .header import (
    CHARACTER_SET,
    NOT_FOR_DIAGNOSIS,
    ModelDescription,
    add_processing_equipment,
    as_sources,
    copy_patient_and_study,
    import_highdicom,
    referenced_frames,
)

__all__ = ["SERIES_DESCRIPTION", "write_secondary_capture"]

SERIES_DESCRIPTION = "AI heat map, not for primary diagnosis"
SERIES_NUMBER = 9002
"""High, so that viewers list the picture after the images and the report."""

INHERITED = (
    "BurnedInAnnotation",
    "Laterality",
    "ImageLaterality",
    "RecognizableVisualFeatures",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
"""Attributes that also hold for a heat map, which neither adds nor hides a name that is written in the pixels."""


def write_secondary_capture(
    path: str | Path,
    source: Dataset | Sequence[Dataset],
    picture: NDArray[np.uint8],
    description: str,
    model: ModelDescription,
    frame: int | None = None,
) -> None:
    """Write a picture in the study of the image that it was made from.

    The result is marked as derived and secondary, and refers to its source. Three places say that it is not for
    diagnosis: the series description, the image comments, and the Content Qualification RESEARCH. If the source says
    whether a name is written in the pixels, the result repeats that. The result has no spacing, position or
    orientation, since the picture may be cut, scaled and turned, and a measurement on it would be wrong. Like a report,
    each picture is a new object in a new series.

    Args:
        path: file to write; it is never there half-written.
        source: header of the image, or headers of all slices of a volume.
        picture: RGB picture ``(H, W, 3)``, 0 to 255.
        description: text that says how the picture was made, e.g. ``"Grad-CAM of stage 2 for MEL over the image"``; at
            most 900 characters, without anything about the patient.
        model: model that made the picture.
        frame: the number of the frame, from 0, if the source is a multi-frame image and only one was looked at.

    Raises:
        DataError: when the header lacks an identifier. The message continues a sentence that begins with the file's
            name.
        ValueError: when the picture is not an RGB picture of bytes.
        ImportError: without highdicom.

    Source:
        DICOM PS3.3, sections A.8.1, C.7.6.1 and C.8.6.
    """
    hd = import_highdicom()
    sources = as_sources(source)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(f"picture must be uint8 (H, W, 3), got {picture.dtype} {picture.shape}.")
    image = hd.sc.SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        # highdicom requires a value; see below.
        patient_orientation=("L", "F"),
        study_instance_uid=sources[0].StudyInstanceUID,
        series_instance_uid=generate_uid(prefix=None),
        series_number=SERIES_NUMBER,
        sop_instance_uid=generate_uid(prefix=None),
        instance_number=1,
        manufacturer=model.manufacturer,
        manufacturer_model_name=model.name,
        software_versions=model.version,
        series_description=SERIES_DESCRIPTION,
        content_qualification="RESEARCH",
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    image.PatientOrientation = None
    image.ConversionType = "WSD"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.DerivationDescription = description
    image.ImageComments = f"{NOT_FOR_DIAGNOSIS} {description}"
    image.SourceImageSequence = [_source_image(header, frame) for header in sources]
    for keyword in INHERITED:
        if keyword in sources[0]:
            image[keyword] = deepcopy(sources[0][keyword])
    if "ImageLaterality" not in image:
        # Empty means that the side of a paired body part is not known.
        image.setdefault("Laterality", None)
    image.SpecificCharacterSet = CHARACTER_SET
    add_processing_equipment(image, model)
    copy_patient_and_study(image, sources[0])
    with atomic_write(path) as temporary:
        image.save_as(temporary)


def _source_image(header: Dataset, frame: int | None) -> Dataset:
    """Item of the Source Image Sequence; DICOM PS3.3, table C.7-9."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frames := referenced_frames(header, frame):
        item.ReferencedFrameNumber = frames
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = [import_highdicom().sr.CodedConcept.from_code(purpose)]
    return item
