# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write a prediction as a DICOM structured report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from monai_fgssl.data.io.dicom import identifiers
from monai_fgssl.metrics import decide
from monai_fgssl.utils.errors import DataError
from monai_fgssl.utils.files import atomic_write

from .codes import (
    POSSIBLE_CLASS,
    REFER,
    STAGES_AGREE,
    THRESHOLD,
    UNDECIDED,
    UNLIKE_IMAGE,
    class_codes,
    coding_scheme,
    uncertainty_code,
)
from .header import (
    CHARACTER_SET,
    NOT_FOR_DIAGNOSIS,
    ModelDescription,
    add_processing_equipment,
    as_sources,
    copy_patient_and_study,
    import_highdicom,
    name_based_uid,
    referenced_frames,
)

if TYPE_CHECKING:
    from highdicom import sr

__all__ = ["Prediction", "make_measurement_report", "write_sr", "yes_or_no"]

SERIES_NUMBER = 9001
"""High, so that viewers list the report after the images."""

PATIENT_KEYS = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
"""Attributes that highdicom needs of the images that a report refers to."""


@dataclass(frozen=True)
class Prediction:
    """Prediction of a model for an image.

    Args:
        class_names: names of the ``C`` classes.
        probabilities: one number in [0, 1] for each class.
        stage_probabilities: probabilities of each classifier by itself, in the order of
            :meth:`~monai_fgssl.networks.HierarchicalNet.stage_logits`: stages from shallow to deep, then all of them
            together; none for a network that has one classifier.
        uncertainty: measures by name, see :func:`~monai_fgssl.report.dicom.codes.uncertainty_code`; numbers in [0, 1].
        prediction_set: names of the possible classes, see :class:`~monai_fgssl.metrics.PredictionSets`; empty if the
            model makes no sets.
        decided: name of the class that the model decides for, which is the finding; "": the likeliest class.
        unlike_training: True if the image is unlike the training images; None if the model can't tell.
        found: names of the findings that the model decides for, of a model whose classes are findings that an image may
            have several of, or none; None: each image has one class.
        thresholds: probability from which each finding is decided for, one number in [0, 1] for each class; none:
            they are not told.
        undecided: names of the findings that may be there or not, see :class:`~monai_fgssl.metrics.FindingSets`; None
            without this rule.

    Raises:
        ValueError: when the numbers do not fit the classes, or are not probabilities, or the decision is no class.
    """

    class_names: Sequence[str]
    probabilities: Sequence[float]
    stage_probabilities: Sequence[Sequence[float]] = ()
    uncertainty: Mapping[str, float] = field(default_factory=dict)
    prediction_set: Sequence[str] = ()
    decided: str = ""
    unlike_training: bool | None = None
    found: Sequence[str] | None = None
    thresholds: Sequence[float] = ()
    undecided: Sequence[str] | None = None

    def __post_init__(self) -> None:
        for row in (
            self.probabilities,
            *self.stage_probabilities,
            *([self.thresholds] if len(self.thresholds) else []),
        ):
            if np.shape(row) != (len(self.class_names),):
                raise ValueError(f"{len(self.class_names)} classes need as many probabilities, got {np.shape(row)}.")
        numbers = (self.probabilities, np.ravel(self.stage_probabilities), self.uncertainty.values(), self.thresholds)
        values = np.array([*chain.from_iterable(numbers)], float)
        # The report rounds by as much. For example, the entropy of equal probabilities in float32 may be above 1.
        outside = values[~((values >= -5e-7) & (values <= 1 + 5e-7))]
        if len(outside):
            raise ValueError(f"probabilities and uncertainties must be in [0, 1], got {outside.tolist()}.")
        if self.decided and self.decided not in self.class_names:
            raise ValueError(f"the decision must be one of the classes, got {self.decided!r}.")
        if unknown := sorted(set(self.found or ()) - set(self.class_names)):
            raise ValueError(f"the findings must be among the classes, got {unknown}.")

    @property
    def finding(self) -> int:
        """Position of the class that the model decides for."""
        return list(self.class_names).index(self.decided) if self.decided else int(decide([self.probabilities])[0])


def write_sr(
    path: str | Path,
    source: Dataset | Sequence[Dataset],
    prediction: Prediction,
    model: ModelDescription,
    frame: int | None = None,
) -> None:
    """Write a prediction as Comprehensive 3D SR in the study of its image, with the template Measurement Report.

    The report is complete (it has everything that the model says), preliminary and unverified (nobody has looked at
    it). Three places say that it is not for diagnosis: the series description, each measurement group, and the Content
    Qualification RESEARCH. Each report is a new object in a new series, since two objects with one UID must be equal
    (DICOM PS3.5, chapter 9) and a later run may have another result. The subject keeps its Tracking Unique Identifier,
    so that reports of several runs can be compared.

    If an image may have several findings, each has a measurement group: its probability, its threshold, and Yes or No.
    Only findings with Yes are a Finding (121071) of their group, so that a program that lists the findings of a report
    lists no absent one.

    Args:
        path: file to write; it is never there half-written.
        source: header of the image, or headers of all slices of a volume.
        prediction: content of the report.
        model: model that made the prediction.
        frame: the number of the frame, from 0, if the source is a multi-frame image and only one was looked at.

    Raises:
        DataError: when the header lacks an identifier, or no report can refer to this kind of object; the message
            starts after the name of the file.
        ImportError: without highdicom.

    Example:
        >>> from pydicom import dcmread
        >>> prediction = Prediction(["MEL", "NV"], [0.8, 0.2])
        >>> model = ModelDescription("fgssl", "1", "Ours", "0a1b")
        >>> write_sr("result.dcm", dcmread("lesion.dcm"), prediction, model)

    Source:
        DICOM PS3.16, TID 1500, 1501, 300, 1004 and 4019. IHE Radiology, supplement AI Results (AIR), section 6.5.3.
    """
    sources = as_sources(source)
    document = make_measurement_report(
        sources,
        _observer(model),
        _measurement_groups(sources, prediction, model, frame),
        series_number=SERIES_NUMBER,
        series_description="AI result, not for primary diagnosis",
        manufacturer=model.manufacturer,
        manufacturer_model_name=model.name,
        software_versions=model.version,
        content_qualification="RESEARCH",
    )
    add_processing_equipment(document, model)
    with atomic_write(path) as temporary:
        document.save_as(temporary)


def make_measurement_report(
    sources: Sequence[Dataset],
    observer: sr.ObserverContext,
    groups: Sequence[sr.MeasurementsAndQualitativeEvaluations],
    **attributes: Any,
) -> sr.Comprehensive3DSR:
    """Make a complete Comprehensive 3D SR with the template Measurement Report, a new object in a new series.

    Args:
        sources: headers of the images of the report; see :func:`~monai_fgssl.report.dicom.header.as_sources`.
        observer: device or person that observed.
        groups: measurement groups.
        attributes: attributes of ``highdicom.sr.Comprehensive3DSR``: ``series_number``, ``series_description``,
            ``manufacturer`` and others of the equipment and the document.

    Raises:
        DataError: when no report can refer to this kind of object. The message continues a sentence that begins with
            the file's name.
        ImportError: without highdicom.

    Source:
        DICOM PS3.16, TID 1500.
    """
    hd = import_highdicom()
    report = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    try:
        document = hd.sr.Comprehensive3DSR(
            evidence=[_reference_to(header) for header in sources],
            content=report,
            series_instance_uid=generate_uid(prefix=None),
            sop_instance_uid=generate_uid(prefix=None),
            instance_number=1,
            is_complete=True,
            coding_schemes=[coding_scheme()],
            **attributes,
        )
    except KeyError as error:
        raise DataError(
            f"has the SOP Class UID (0008,0016) {sources[0].SOPClassUID.name}, which is retired from DICOM: "
            "convert the file to a current kind of image, or write the result as CSV or JSON."
        ) from error
    document.SpecificCharacterSet = CHARACTER_SET
    copy_patient_and_study(document, sources[0])
    return document


def _observer(model: ModelDescription) -> sr.ObserverContext:
    """TID 1002 with TID 1004: the model made the observations, not a person."""
    hd = import_highdicom()
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=model.device_uid, name=model.name, manufacturer_name=model.manufacturer, model_name=model.name
    )
    return hd.sr.ObserverContext(codes.DCM.Device, device)


def _reference_to(header: Dataset) -> Dataset:
    """Identifiers of an image without its patient, since highdicom would check the patient's data and log them."""
    reference = identifiers(header)
    for keyword in PATIENT_KEYS:
        setattr(reference, keyword, None)
    return reference


def _measurement_groups(
    sources: Sequence[Dataset], prediction: Prediction, model: ModelDescription, frame: int | None
) -> list[sr.MeasurementsAndQualitativeEvaluations]:
    """TID 1501: the prediction with its finding or findings, then each classifier by itself without a finding.

    The class of a single classifier is not written as a finding, since a reader would take it for a second
    opinion.
    """
    hd = import_highdicom()
    terms = class_codes(prediction.class_names)
    # The subject must be equal for the same images in any order.
    subject = sorted(f"{header.SOPInstanceUID}{referenced_frames(header, frame)}" for header in sources)

    def group(
        name: str, measurements: Sequence[sr.Measurement], kind: str = "", **finding: Any
    ) -> sr.MeasurementsAndQualitativeEvaluations:
        # A finding may have the name of another group, such as "Prediction".
        unique = name_based_uid(*subject, *filter(None, (kind, name)))
        result = hd.sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.sr.TrackingIdentifier(unique, name),
            algorithm_id=_algorithm(model),
            measurements=measurements,
            source_images=[_source_image(header, frame) for header in sources],
            **finding,
        )
        comment = hd.sr.TextContentItem(codes.DCM.Comment, NOT_FOR_DIAGNOSIS, hd.sr.RelationshipTypeValues.CONTAINS)
        result[0].ContentSequence.append(comment)
        return result

    def of_each(probabilities: Sequence[float]) -> list[sr.Measurement]:
        return [_measurement(codes.DCM.Probability, p, term) for p, term in zip(probabilities, terms, strict=True)]

    stages = prediction.stage_probabilities
    names = [*(f"Stage {k}" for k in range(1, len(stages))), "All stages"]
    of_stages = [group(name, of_each(row)) for name, row in zip(names, stages, strict=False)]
    doubts = [_measurement(uncertainty_code(key), value) for key, value in prediction.uncertainty.items()]
    triage = _triage(prediction)
    if prediction.found is None:
        evaluations = [*_stages_agree(prediction), *triage]
        measurements = [*of_each(prediction.probabilities), *doubts]
        finding = terms[prediction.finding]
        whole = group("Prediction", measurements, finding_type=finding, qualitative_evaluations=evaluations)
        return [whole, *of_stages]
    findings = []
    for k, (name, term) in enumerate(zip(prediction.class_names, terms, strict=True)):
        is_there = name in prediction.found
        measurements = [_measurement(codes.DCM.Probability, prediction.probabilities[k], term)]
        if len(prediction.thresholds):
            measurements.append(_measurement(THRESHOLD, prediction.thresholds[k], term))
        answers = [hd.sr.QualitativeEvaluation(term, yes_or_no(is_there))]
        if prediction.undecided is not None:
            answers.append(hd.sr.QualitativeEvaluation(UNDECIDED, yes_or_no(name in prediction.undecided)))
        own = {"finding_type": term} if is_there else {}
        findings.append(group(name, measurements, "Finding", qualitative_evaluations=answers, **own))
    # What concerns the whole image, and no single finding.
    of_image = [group("Prediction", doubts, qualitative_evaluations=triage)] if doubts or triage else []
    return [*of_image, *findings, *of_stages]


def _stages_agree(prediction: Prediction) -> list[sr.QualitativeEvaluation]:
    if not len(prediction.stage_probabilities):
        return []
    likeliest = decide(prediction.stage_probabilities)
    agree = yes_or_no(bool((likeliest == prediction.finding).all()))
    return [import_highdicom().sr.QualitativeEvaluation(STAGES_AGREE, agree)]


def _triage(prediction: Prediction) -> list[sr.QualitativeEvaluation]:
    """Evaluations of the prediction set, of the distance from the training images, and of whether a person decides."""
    hd = import_highdicom()
    unlike, undecided = prediction.unlike_training, prediction.undecided
    # Findings may be possible together. Each has its own evaluation.
    possible = prediction.prediction_set if prediction.found is None else ()
    terms = dict(zip(prediction.class_names, class_codes(prediction.class_names), strict=True))
    found = [hd.sr.QualitativeEvaluation(POSSIBLE_CLASS, terms[name]) for name in possible]
    if unlike is not None:
        found.append(hd.sr.QualitativeEvaluation(UNLIKE_IMAGE, yes_or_no(unlike)))
    if found or undecided is not None:
        refer = len(possible) > 1 or bool(unlike) or bool(undecided)
        found.append(hd.sr.QualitativeEvaluation(REFER, yes_or_no(refer)))
    return found


def yes_or_no(value: bool) -> Code:
    """Code of SNOMED CT for an answer."""
    return codes.SCT.Yes if value else codes.SCT.No


def _algorithm(model: ModelDescription) -> sr.AlgorithmIdentification:
    """TID 4019, with the same names as in the Contributing Equipment Sequence (IHE AIR, table 6.5.3.1-1)."""
    hd = import_highdicom()
    algorithm = hd.sr.AlgorithmIdentification(
        name=model.name,
        version=model.version,
        parameters=[f"checksum of the weights: {model.checksum}", *model.parameters],
    )
    # highdicom has arguments for these from 0.23 on only, so they are set here.
    relationship = hd.sr.RelationshipTypeValues.HAS_CONCEPT_MOD
    algorithm.append(hd.sr.TextContentItem(codes.DCM.AlgorithmManufacturer, model.manufacturer, relationship))
    algorithm.append(hd.sr.CodeContentItem(codes.DCM.AlgorithmFamily, codes.DCM.ArtificialIntelligence, relationship))
    return algorithm


def _measurement(name: Code, value: float, of: Code | None = None) -> sr.Measurement:
    """TID 300: a number without unit; ``of`` becomes a modifier of its name, e.g. "Probability" of a finding."""
    hd = import_highdicom()
    measurement = hd.sr.Measurement(name, round(float(value), 6), codes.UCUM.NoUnits)
    if of is not None:
        modifier = hd.sr.CodeContentItem(codes.DCM.Finding, of, hd.sr.RelationshipTypeValues.HAS_CONCEPT_MOD)
        measurement[0].ContentSequence = hd.sr.ContentSequence([modifier])
    return measurement


def _source_image(header: Dataset, frame: int | None) -> sr.SourceImageForMeasurementGroup:
    return import_highdicom().sr.SourceImageForMeasurementGroup(
        header.SOPClassUID, header.SOPInstanceUID, referenced_frames(header, frame)
    )
