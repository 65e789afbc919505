# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The class that a person gave an image, as a DICOM structured report in the image's study."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

from monai_fgssl.report.dicom.codes import class_codes
from monai_fgssl.report.dicom.header import as_sources, import_highdicom
from monai_fgssl.report.dicom.structured_report import make_measurement_report

__all__ = ["SERIES_DESCRIPTION", "make_label_report", "read_label_report"]

SERIES_DESCRIPTION = "FGSSL_CLASS_LABEL"
"""Series description by which an archive finds the reports. It has no spaces, since Orthanc can't search for them."""

SERIES_NUMBER = 9003
OBSERVER = "Annotator^MONAI Label"
TRACKING_IDENTIFIER = "112039"


def make_label_report(
    source: Dataset | Sequence[Dataset],
    class_name: str,
    class_names: Sequence[str] = (),
    observer: str | None = None,
    when: datetime | None = None,
) -> Dataset:
    """Make a report with the class as its finding.

    The tracking identifier is the class as the annotator knows it. The finding may be a standard code, which has
    another name.

    Args:
        source: header of the image, or those of all images of its series.
        class_name: the class.
        class_names: all classes to choose from. If they are those of a known data set, the report uses standard codes;
            see :func:`~monai_fgssl.report.dicom.codes.class_codes`.
        observer: name of the annotator; None: not known.
        when: local time of the choice; None: now.

    Raises:
        DataError: when a header lacks an identifier, or no report can refer to this kind of object.
        ImportError: without highdicom.

    Source:
        DICOM PS3.16, TID 1500 and 1501.
    """
    hd = import_highdicom()
    sources = as_sources(source)
    known = class_names if class_name in class_names else [class_name]
    group = hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(generate_uid(prefix=None), class_name),
        finding_type=class_codes(known)[known.index(class_name)],
        source_images=[
            hd.sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID) for header in sources
        ],
    )
    person = hd.sr.PersonObserverIdentifyingAttributes(name=_person_name(observer) or OBSERVER)
    document = make_measurement_report(
        sources,
        hd.sr.ObserverContext(codes.DCM.Person, person),
        [group],
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        manufacturer="monai-fgssl",
    )
    if when is not None:
        document.ContentDate, document.ContentTime = DA(when.date()), TM(when.time())
    return document


def _person_name(name: str | None) -> str:
    """Convert a name to the value representation PN (DICOM PS3.5, section 6.2), as one component of unknown order."""
    plain = " ".join(re.sub(r"[\\^=\x00-\x1f]", " ", name or "").split())
    return f"{plain[:63]}^" if plain else ""


def read_label_report(report: Dataset) -> tuple[str, str, str] | None:
    """Read a report of :func:`make_label_report`.

    Returns:
        Series Instance UID of the image, class, and time as ``YYYYMMDDHHMMSS.ffffff``; None for any other report.
    """
    if report.get("SeriesDescription") != SERIES_DESCRIPTION:
        return None
    evidence = report.get("CurrentRequestedProcedureEvidenceSequence") or report.get("PertinentOtherEvidenceSequence")
    name = _text_of(report, TRACKING_IDENTIFIER)
    if not evidence or name is None:
        return None
    series = evidence[0].ReferencedSeriesSequence[0].SeriesInstanceUID
    return str(series), name, f"{report.get('ContentDate', '')}{report.get('ContentTime', '')}"


def _text_of(item: Dataset, code: str) -> str | None:
    """Return the text of the first item of the content tree whose concept has the code."""
    concept = item.get("ConceptNameCodeSequence")
    if concept and concept[0].get("CodeValue") == code:
        return str(item.TextValue)
    for child in item.get("ContentSequence", ()):
        if (found := _text_of(child, code)) is not None:
            return found
    return None
