# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The class that a person gave an image, as a DICOM structured report in the image's study."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from pydicom.valuerep import DA, TM

from monai_fgssl.report.dicom.codes import class_codes
from monai_fgssl.report.dicom.header import as_sources, import_highdicom
from monai_fgssl.report.dicom.structured_report import make_measurement_report, yes_or_no

from .answers import Answers

if TYPE_CHECKING:
    from highdicom import sr

__all__ = ["SERIES_DESCRIPTION", "make_label_report", "read_label_report"]

SERIES_DESCRIPTION = "FGSSL_CLASS_LABEL"
"""Series description by which an archive finds the reports. It has no spaces, since Orthanc can't search for them."""

SERIES_NUMBER = 9003
OBSERVER = "Annotator^MONAI Label"
TRACKING_IDENTIFIER = "112039"


def make_label_report(
    source: Dataset | Sequence[Dataset],
    label: str | Answers,
    class_names: Sequence[str] = (),
    observer: str | None = None,
    when: datetime | None = None,
) -> Dataset:
    """Make a report with the class as its finding, or with a measurement group for each finding.

    The tracking identifier is the class as the annotator knows it. The finding may be a standard code, which has
    another name. If an image may have several findings, each group says Yes or No, and has a finding only with Yes.

    Args:
        source: header of the image, or those of all images of its series.
        label: the class; or the findings that were asked for, True for those that are there.
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

    def group(name: str, answer: bool | None = None) -> sr.MeasurementsAndQualitativeEvaluations:
        known = class_names if name in class_names else [name]
        term = class_codes(known)[known.index(name)]
        evaluations = [] if answer is None else [hd.sr.QualitativeEvaluation(term, yes_or_no(answer))]
        return hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(generate_uid(prefix=None), name),
            finding_type=None if answer is False else term,
            qualitative_evaluations=evaluations or None,
            source_images=[
                hd.sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID) for header in sources
            ],
        )

    groups = [group(label)] if isinstance(label, str) else [group(name, answer) for name, answer in label.items()]
    person = hd.sr.PersonObserverIdentifyingAttributes(name=_person_name(observer) or OBSERVER)
    document = make_measurement_report(
        sources,
        hd.sr.ObserverContext(codes.DCM.Person, person),
        groups,
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


def read_label_report(report: Dataset) -> tuple[str, str | Answers, str] | None:
    """Read a report of :func:`make_label_report`.

    Returns:
        Series Instance UID of the image, class or answers, and time as ``YYYYMMDDHHMMSS.ffffff``; None for any other
        report.
    """
    if report.get("SeriesDescription") != SERIES_DESCRIPTION:
        return None
    evidence = report.get("CurrentRequestedProcedureEvidenceSequence") or report.get("PertinentOtherEvidenceSequence")
    answers = dict(_answers_in(report))
    if not evidence or not answers:
        return None
    series = evidence[0].ReferencedSeriesSequence[0].SeriesInstanceUID
    name = next(iter(answers))
    label = name if answers[name] is None else {name: bool(answer) for name, answer in answers.items()}
    return str(series), label, f"{report.get('ContentDate', '')}{report.get('ContentTime', '')}"


def _answers_in(item: Dataset) -> Iterator[tuple[str, bool | None]]:
    """Name and answer of each group of the content tree; None: the group says neither Yes nor No."""
    children = item.get("ContentSequence", ())
    name = next((str(child.TextValue) for child in children if _concept_of(child) == TRACKING_IDENTIFIER), None)
    if name is None:
        for child in children:
            yield from _answers_in(child)
        return
    values = {child.ConceptCodeSequence[0].get("CodeValue") for child in children if "ConceptCodeSequence" in child}
    answers = [answer for answer in (True, False) if yes_or_no(answer).value in values]
    yield name, answers[0] if answers else None


def _concept_of(item: Dataset) -> str | None:
    concept = item.get("ConceptNameCodeSequence")
    return str(concept[0].get("CodeValue")) if concept else None
