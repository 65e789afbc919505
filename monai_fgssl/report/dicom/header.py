# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Header of all results in DICOM: patient, study, and the model that made the result."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag

from monai_fgssl.data.io.dicom import UID_KEYS
from monai_fgssl.utils.errors import DataError

if TYPE_CHECKING:
    from highdicom.base import SOPClass

__all__ = [
    "CHARACTER_SET",
    "NOT_FOR_DIAGNOSIS",
    "ModelDescription",
    "add_processing_equipment",
    "as_sources",
    "copy_patient_and_study",
    "import_highdicom",
    "name_based_uid",
    "referenced_frames",
]

NOT_FOR_DIAGNOSIS = "Result of a machine learning model, not verified by a person. Not for primary diagnosis."

CHARACTER_SET = "ISO_IR 192"
"""UTF-8, which can hold the patient's name in any script together with any name of a class."""


@dataclass(frozen=True)
class ModelDescription:
    """Model that made a result.

    Args:
        name: name of the model, at most 64 characters, as for the next two.
        version: version of the model, not of this package.
        manufacturer: company or person responsible for the model.
        checksum: checksum of the file of its weights, e.g. SHA-256 as hexadecimal digits.
        parameters: other settings that change its results, one text each, such as ``"image_size=224"``.
    """

    name: str
    version: str
    manufacturer: str
    checksum: str
    parameters: tuple[str, ...] = ()

    @property
    def device_uid(self) -> str:
        """Identifier that changes when the weights change, as IHE AIR, section 6.5.3.1 asks."""
        return name_based_uid(self.manufacturer, self.name, self.version, self.checksum, *self.parameters)


def import_highdicom() -> ModuleType:
    """Import highdicom, which this package needs for writing DICOM only.

    Raises:
        ImportError: when it is not installed.
    """
    try:
        import highdicom
    except ImportError as error:
        raise ImportError('writing DICOM needs highdicom: pip install "monai-fgssl[dicom]"') from error
    # highdicom logs identifiers of images at the level of information.
    logging.getLogger("highdicom").setLevel(logging.WARNING)
    return highdicom


def name_based_uid(*names: str) -> str:
    """Make a UID that is always the same for the same names.

    Source:
        DICOM PS3.5, section B.2; RFC 9562, section 5.5.
    """
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(0).join(names)).int}"


def as_sources(source: Dataset | Sequence[Dataset]) -> list[Dataset]:
    """Check that a result can refer to its source, and return the source as a list.

    Args:
        source: header of the image, or headers of all slices of a volume.

    Raises:
        DataError: when an identifier is missing, or the slices belong to several studies.
    """
    sources = [source] if isinstance(source, Dataset) else list(source)
    if not sources:
        raise DataError("has no header of the source image, so no result can refer to it: give at least one.")
    for header in sources:
        for keyword in UID_KEYS:
            if not header.get(keyword):
                tag = Tag(tag_for_keyword(keyword) or 0)
                raise DataError(
                    f"has no {dictionary_description(tag)} {tag}, so no DICOM result can refer to it: have the file "
                    "sent or converted again with it, or write the result as CSV or JSON."
                )
    if len({header.StudyInstanceUID for header in sources}) > 1:
        raise DataError(
            "has slices with different Study Instance UIDs (0020,000D): one result belongs to one study, so write one "
            "for each."
        )
    return sources


def referenced_frames(header: Dataset, frame: int | None) -> list[int] | None:
    """Numbers of frames as DICOM counts them, from 1; None for an image that is not a multi-frame image."""
    return [frame + 1] if frame is not None and int(header.get("NumberOfFrames") or 1) > 1 else None


def copy_patient_and_study(result: SOPClass, source: Dataset) -> None:
    """Copy patient and study from the source, so that an archive files the result with it.

    Values are copied without checks or corrections: an archive would file a corrected result under another patient.

    Args:
        result: result of highdicom, which has its attributes of types 1 and 2 already; it is changed in place.
        source: header of the image.
    """
    # Warnings and errors about invalid values would print the values.
    with disable_value_validation():
        header = deepcopy(source[0x00080000:0x00500000])
        # The modules are the same for all images, and highdicom does not know every kind.
        header.SOPClassUID = result.SOPClassUID
        result.copy_patient_and_study_information(header)


def add_processing_equipment(result: Dataset, model: ModelDescription) -> None:
    """Add the model to the Contributing Equipment Sequence, as IHE AIR, section 6.5.3.1 asks.

    highdicom adds it by itself from version 0.23 on, but MONAI Label 0.8.5 needs an older version.
    """
    equipment = Dataset()
    purpose = import_highdicom().sr.CodedConcept.from_code(codes.DCM.ProcessingEquipment)
    equipment.PurposeOfReferenceCodeSequence = [purpose]
    equipment.Manufacturer = model.manufacturer
    equipment.ManufacturerModelName = model.name
    equipment.SoftwareVersions = model.version
    equipment.ContributionDescription = NOT_FOR_DIAGNOSIS
    equipment.DeviceUID = model.device_uid
    result.ContributingEquipmentSequence = [*result.get("ContributingEquipmentSequence", ()), equipment]
