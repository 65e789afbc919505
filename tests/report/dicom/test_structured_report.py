# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Structured reports, read back with pydicom alone."""

from __future__ import annotations

import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_charset_files
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, generate_uid

from monai_fgssl.data.layouts.aptos2019 import APTOS2019_CLASSES
from monai_fgssl.data.layouts.isic2017 import ISIC2017_CLASSES
from monai_fgssl.data.layouts.isic2018 import ISIC2018_CLASSES
from monai_fgssl.report.dicom.codes import (
    APTOS2019_CODES,
    ISIC2017_CODES,
    ISIC2018_CODES,
    SCHEME,
    STAGES_AGREE,
    THRESHOLD,
    UNCERTAINTY_CODES,
    class_codes,
    private_code,
)
from monai_fgssl.report.dicom.header import ModelDescription
from monai_fgssl.report.dicom.structured_report import Prediction, write_sr
from monai_fgssl.utils.errors import DataError

MODEL = ModelDescription("lesions", "1.2", "Ours", "ab" * 32, ("image_size=224",))
CLASSES = ISIC2018_CLASSES
ROWS = np.random.default_rng(0).dirichlet(np.ones(7), 5)
PREDICTION = Prediction(CLASSES, ROWS[0], ROWS[1:], {"entropy": 0.25, "stage_disagreement": 0.5, "spread": 1})
PERSONAL = {"PatientName": "Secret^Person", "PatientID": "S3CR3T", "PatientBirthDate": "19470711", "StudyID": "S3STUDY"}


def make_header(**attributes: object) -> Dataset:
    """Header of a dermatoscopic image of someone; None leaves an attribute out."""
    values = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.7",
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "SeriesInstanceUID": generate_uid(),
        **PERSONAL,
        **attributes,
    }
    header = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(header, keyword, value)
    return header


def write(
    path: Path, source: Dataset | list[Dataset], prediction: Prediction = PREDICTION, **options: object
) -> Dataset:
    write_sr(path, source, prediction, MODEL, **options)
    return pydicom.dcmread(path)


@pytest.fixture(scope="module")
def header() -> Dataset:
    return make_header()


@pytest.fixture(scope="module")
def report(header: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write(tmp_path_factory.mktemp("sr") / "report.dcm", header)


def items(parent: Dataset, meaning: str | None = None, value_type: str | None = None) -> list[Dataset]:
    """Children of a content item."""
    return [
        item
        for item in parent.get("ContentSequence", [])
        if meaning in (None, item.ConceptNameCodeSequence[0].CodeMeaning) and value_type in (None, item.ValueType)
    ]


def groups(report: Dataset) -> list[Dataset]:
    (measurements,) = items(report, "Imaging Measurements")
    return items(measurements, "Measurement Group")


def code(sequence: list[Dataset]) -> tuple[str, str]:
    term = sequence[0]
    return term.get("CodeValue") or term.LongCodeValue, term.CodingSchemeDesignator


def probabilities(group: Dataset) -> dict[tuple[str, str], float]:
    return {
        code(items(number, "Finding")[0].ConceptCodeSequence): float(number.MeasuredValueSequence[0].NumericValue)
        for number in items(group, "Probability", "NUM")
    }


def test_probabilities_of_the_prediction_and_of_each_stage(report: Dataset) -> None:
    expected = [(term.value, term.scheme_designator) for term in class_codes(CLASSES)]
    assert [items(group, "Tracking Identifier")[0].TextValue for group in groups(report)] == [
        "Prediction",
        "Stage 1",
        "Stage 2",
        "Stage 3",
        "All stages",
    ]
    for group, row in zip(groups(report), ROWS, strict=True):
        assert list(probabilities(group)) == expected
        np.testing.assert_allclose(list(probabilities(group).values()), row, atol=5e-7)
    units = {code(n.MeasuredValueSequence[0].MeasurementUnitsCodeSequence) for n in items(group, value_type="NUM")}
    assert units == {("1", "UCUM")}


def test_possible_classes_and_whether_a_person_should_decide(header: Dataset, tmp_path: Path) -> None:
    for names, refer in ((["NV", "MEL"], "373066001"), (["NV"], "373067005")):
        prediction = Prediction(CLASSES, ROWS[0], prediction_set=names)
        (group,) = groups(write(tmp_path / "report.dcm", header, prediction))
        terms = dict(zip(CLASSES, class_codes(CLASSES), strict=True))
        found = [code(item.ConceptCodeSequence) for item in items(group, "Class in the prediction set", "CODE")]
        assert found == [(terms[name].value, terms[name].scheme_designator) for name in names]
        (answer,) = items(group, "A person should decide", "CODE")
        # SNOMED CT: yes, no.
        assert code(answer.ConceptCodeSequence) == (refer, "SCT")
        assert not items(group, "Image is unlike the training images", "CODE")


@pytest.mark.parametrize("names", [["NV"], []])
def test_an_image_unlike_the_training_images_is_for_a_person(names: list[str], header: Dataset, tmp_path: Path) -> None:
    for unlike, answer in ((True, "373066001"), (False, "373067005")):
        prediction = Prediction(CLASSES, ROWS[0], prediction_set=names, unlike_training=unlike)
        (group,) = groups(write(tmp_path / "report.dcm", header, prediction))
        for question in ("Image is unlike the training images", "A person should decide"):
            (found,) = items(group, question, "CODE")
            assert code(found.ConceptCodeSequence) == (answer, "SCT")


def test_finding_is_the_likeliest_class_and_only_the_prediction_has_one(report: Dataset) -> None:
    prediction, *stages = groups(report)
    (finding,) = items(prediction, "Finding", "CODE")
    likeliest = class_codes(CLASSES)[ROWS[0].argmax()]
    assert code(finding.ConceptCodeSequence) == (likeliest.value, likeliest.scheme_designator)
    assert finding.ConceptCodeSequence[0].CodeMeaning == likeliest.meaning
    assert not any(items(stage, "Finding", "CODE") for stage in stages)


def test_finding_is_the_class_that_the_model_decides_for(tmp_path: Path) -> None:
    prediction = Prediction(("a", "b"), [0.9, 0.1], [[0.7, 0.3], [0.8, 0.2]], decided="b")
    written = write(tmp_path / "report.dcm", make_header(), prediction)
    likeliest = write(tmp_path / "likeliest.dcm", make_header(), Prediction(("a", "b"), [0.9, 0.1]))
    decided, first = (items(groups(report)[0], "Finding", "CODE")[0] for report in (written, likeliest))
    assert decided.ConceptCodeSequence[0].CodeMeaning == "b"
    assert first.ConceptCodeSequence[0].CodeMeaning == "a"
    assert list(probabilities(groups(written)[0]).values()) == [0.9, 0.1]
    with pytest.raises(ValueError, match="must be one of the classes"):
        Prediction(("a", "b"), [0.9, 0.1], decided="c")


FINDINGS = ("Mass", "Prediction", "Edema")
YES, NO = ("373066001", "SCT"), ("373067005", "SCT")


def test_each_finding_has_its_probability_its_threshold_and_yes_or_no(header: Dataset, tmp_path: Path) -> None:
    prediction = Prediction(
        FINDINGS, [0.3, 0.6, 0.9], [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]], {"entropy": 0.25},
        unlike_training=True, found=["Mass", "Edema"], thresholds=[0.25, 0.7, 0.5],
    )  # fmt: skip
    report = write(tmp_path / "report.dcm", header, prediction)
    whole, *findings, first, last = groups(report)
    names = [items(group, "Tracking Identifier")[0].TextValue for group in groups(report)]
    assert names == ["Prediction", *FINDINGS, "Stage 1", "All stages"]
    # A finding has the name of another group.
    assert len(set(tracking(report))) == len(names)
    for k, (group, answer) in enumerate(zip(findings, (YES, NO, YES), strict=True)):
        own = (FINDINGS[k], SCHEME)
        assert probabilities(group) == {own: prediction.probabilities[k]}
        (threshold,) = items(group, "Probability from which the finding is predicted", "NUM")
        assert float(threshold.MeasuredValueSequence[0].NumericValue) == prediction.thresholds[k]
        (evaluation,) = [item for item in items(group, value_type="CODE") if code(item.ConceptNameCodeSequence) == own]
        assert code(evaluation.ConceptCodeSequence) == answer
        # A program that lists the findings of a report lists no absent one.
        said = [code(item.ConceptCodeSequence) for item in items(group, "Finding", "CODE")]
        assert said == ([own] if answer == YES else [])
    # What concerns the image is said once, without a finding.
    assert not items(whole, "Finding", "CODE")
    assert not probabilities(whole)
    (entropy,) = items(whole, value_type="NUM")
    assert code(entropy.ConceptNameCodeSequence) == ("ENTROPY", SCHEME)
    (refer,) = items(whole, "A person should decide", "CODE")
    assert code(refer.ConceptCodeSequence) == YES
    for group, row in zip((first, last), prediction.stage_probabilities, strict=True):
        assert list(probabilities(group).values()) == row
        assert not items(group, "Finding", "CODE")


@pytest.mark.parametrize(("undecided", "answers"), [(["Edema"], [NO, NO, YES]), ([], [NO, NO, NO])])
def test_each_finding_says_whether_it_is_undecided(
    header: Dataset, tmp_path: Path, undecided: list[str], answers: list[tuple[str, str]]
) -> None:
    prediction = Prediction(
        FINDINGS, [0.3, 0.6, 0.45], prediction_set=["Prediction", "Edema"], found=["Prediction"], undecided=undecided
    )
    whole, *findings = groups(write(tmp_path / "report.dcm", header, prediction))
    found = [items(group, "The finding may be there or not", "CODE")[0] for group in findings]
    assert [code(item.ConceptCodeSequence) for item in found] == answers
    (refer,) = items(whole, "A person should decide", "CODE")
    assert code(refer.ConceptCodeSequence) == (YES if undecided else NO)
    # Findings may be there together, which is no doubt.
    assert not items(whole, "Class in the prediction set", "CODE")


def test_an_image_without_any_finding(header: Dataset, tmp_path: Path) -> None:
    report = write(tmp_path / "report.dcm", header, Prediction(FINDINGS, [0.3, 0.6, 0.2], found=[]))
    assert len(groups(report)) == len(FINDINGS)
    for group in groups(report):
        assert not items(group, "Finding", "CODE")
        assert not items(group, "Probability from which the finding is predicted")
        assert NO in [code(item.ConceptCodeSequence) for item in items(group, value_type="CODE")]


def test_uncertainty_is_of_the_prediction(report: Dataset) -> None:
    values = {
        code(number.ConceptNameCodeSequence): float(number.MeasuredValueSequence[0].NumericValue)
        for number in items(groups(report)[0], value_type="NUM")
        if number.ConceptNameCodeSequence[0].CodeMeaning != "Probability"
    }
    assert values == {("ENTROPY", SCHEME): 0.25, ("STAGES_DISAGREE", SCHEME): 0.5, ("spread", SCHEME): 1}
    assert {len(items(stage, value_type="NUM")) for stage in groups(report)[1:]} == {len(CLASSES)}


@pytest.mark.parametrize(("last", "answer"), [([0.6, 0.4], "Yes"), ([0.4, 0.6], "No")])
def test_whether_all_stages_predict_the_finding(tmp_path: Path, last: list[float], answer: str) -> None:
    prediction = Prediction(("a", "b"), [0.9, 0.1], [[0.7, 0.3], last])
    report = write(tmp_path / "report.dcm", make_header(), prediction)
    (evaluation,) = items(groups(report)[0], "All stages predict the finding", "CODE")
    assert evaluation.ConceptCodeSequence[0].CodeMeaning == answer


def test_rounding_errors_of_float32_are_no_error(tmp_path: Path) -> None:
    prediction = Prediction(("a", "b"), (1 + 1.2e-7, -1.2e-7), (), {"entropy": 1 + 1.2e-7})
    (group,) = groups(write(tmp_path / "report.dcm", make_header(), prediction))
    assert probabilities(group) == {("a", SCHEME): 1, ("b", SCHEME): 0}


def test_without_stages_there_is_one_group(tmp_path: Path) -> None:
    (group,) = groups(write(tmp_path / "report.dcm", make_header(), Prediction(("a", "b"), (0.9, 0.1))))
    assert probabilities(group) == {("a", SCHEME): 0.9, ("b", SCHEME): 0.1}
    assert not items(group, "All stages predict the finding")


def test_names_the_model_the_same_everywhere(report: Dataset) -> None:
    """IHE AIR, section 6.5.3.1 and table 6.5.3.1-1."""
    (equipment,) = [item for item in report.ContributingEquipmentSequence if item.Manufacturer == MODEL.manufacturer]
    assert code(equipment.PurposeOfReferenceCodeSequence) == ("109102", "DCM")
    assert items(report, "Observer Type")[0].ConceptCodeSequence[0].CodeMeaning == "Device"
    assert items(report, "Device Observer UID")[0].UID == equipment.DeviceUID == MODEL.device_uid
    assert items(report, "Device Observer Manufacturer")[0].TextValue == report.Manufacturer == MODEL.manufacturer
    assert items(report, "Device Observer Model Name")[0].TextValue == equipment.ManufacturerModelName == MODEL.name
    for group in groups(report):
        assert items(group, "Algorithm Name")[0].TextValue == report.ManufacturerModelName == MODEL.name
        assert items(group, "Algorithm Version")[0].TextValue == equipment.SoftwareVersions == MODEL.version
        parameters = [item.TextValue for item in items(group, "Algorithm Parameters")]
        assert parameters == [f"checksum of the weights: {MODEL.checksum}", "image_size=224"]


def test_device_uid_stands_for_the_weights() -> None:
    same = ModelDescription("lesions", "1.2", "Ours", "ab" * 32, ("image_size=224",))
    other = ModelDescription("lesions", "1.2", "Ours", "cd" * 32, ("image_size=224",))
    assert same.device_uid == MODEL.device_uid != other.device_uid
    assert UID(MODEL.device_uid).is_valid


def test_refers_to_its_image(report: Dataset, header: Dataset) -> None:
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == report.StudyInstanceUID == header.StudyInstanceUID
    assert series.SeriesInstanceUID == header.SeriesInstanceUID
    references = [
        items(group, "Source of Measurement", "IMAGE")[0].ReferencedSOPSequence[0] for group in groups(report)
    ]
    for reference in (instance, *references):
        assert reference.ReferencedSOPInstanceUID == header.SOPInstanceUID
        assert reference.ReferencedSOPClassUID == header.SOPClassUID
        assert "ReferencedFrameNumber" not in reference


@pytest.mark.parametrize(("number_of_frames", "expected"), [(3, 2), (1, None)])
def test_refers_to_its_frame(tmp_path: Path, number_of_frames: int, expected: int | None) -> None:
    source = make_header(NumberOfFrames=number_of_frames)
    report = write(tmp_path / "report.dcm", source, frame=1)
    (image,) = items(groups(report)[0], "Source of Measurement")
    assert image.ReferencedSOPSequence[0].get("ReferencedFrameNumber") == expected


def test_refers_to_all_slices_of_a_volume(tmp_path: Path) -> None:
    first = make_header(SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    uids = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    slices = [first, *(make_header(SOPClassUID=first.SOPClassUID, **uids) for _ in range(3))]
    report = write(tmp_path / "report.dcm", slices)
    (series,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    expected = [header.SOPInstanceUID for header in slices]
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedSOPSequence] == expected
    images = items(groups(report)[0], "Source of Measurement")
    assert [image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for image in images] == expected
    backwards = write(tmp_path / "backwards.dcm", slices[::-1])
    assert tracking(backwards) == tracking(report)


def test_says_what_it_is(report: Dataset) -> None:
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert report.ContentQualification == "RESEARCH"
    assert report.SeriesDescription == "AI result, not for primary diagnosis"
    for group in groups(report):
        assert "Not for primary diagnosis." in items(group, "Comment", "TEXT")[0].TextValue
    (scheme,) = report.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == SCHEME


def test_patient_and_study_are_those_of_the_image(tmp_path: Path) -> None:
    source = make_header(
        IssuerOfPatientID="Clinic", PatientAge="071Y", StudyDescription="Dermatoscopy", AccessionNumber="7",
        StudyDate="20240229", ReferringPhysicianName="Refer^Ring", ClinicalTrialSubjectID="T1", Manufacturer="Camera",
        SeriesDescription="left arm", ImageComments="private note",
    )  # fmt: skip
    report = write(tmp_path / "report.dcm", source)
    for keyword in (
        *PERSONAL, "IssuerOfPatientID", "PatientAge", "StudyDescription", "AccessionNumber", "StudyDate",
        "ReferringPhysicianName", "ClinicalTrialSubjectID",
    ):  # fmt: skip
        assert report[keyword].value == source[keyword].value, keyword
    assert report.Manufacturer == MODEL.manufacturer
    assert "ImageComments" not in report


def test_missing_attributes_of_the_patient_stay_empty(tmp_path: Path) -> None:
    report = write(tmp_path / "report.dcm", make_header(**dict.fromkeys(PERSONAL)))
    type_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")
    for keyword in (*type_2, "AccessionNumber", "ReferringPhysicianName"):
        assert keyword in report
        assert not report[keyword].value, keyword


@pytest.mark.parametrize("name", ["chrH31.dcm", "chrRuss.dcm", "chrGerm.dcm", "chrI2.dcm", "chrX1.dcm"])
def test_names_in_any_script(tmp_path: Path, name: str) -> None:
    source = pydicom.dcmread(get_charset_files(name)[0])
    expected = str(pydicom.dcmread(get_charset_files(name)[0]).PatientName)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(source, keyword, generate_uid())
    source.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    report = write(tmp_path / "report.dcm", source, Prediction(("Mélanom", "母斑"), (0.5, 0.5)))
    assert not expected.isascii()
    assert str(report.PatientName) == expected
    assert list(probabilities(groups(report)[0])) == [("Mélanom", SCHEME), ("母斑", SCHEME)]


def tracking(report: Dataset) -> list[str]:
    return [items(group, "Tracking Unique Identifier")[0].UID for group in groups(report)]


def test_every_run_makes_a_new_object_about_the_same_things(tmp_path: Path, header: Dataset) -> None:
    first, second = (write(tmp_path / f"{k}.dcm", header) for k in range(2))
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert first[keyword].value != second[keyword].value
    assert tracking(first) == tracking(second) != tracking(write(tmp_path / "other.dcm", make_header()))
    assert len(set(tracking(first))) == 5
    assert all(UID(uid).is_valid for uid in tracking(first))


@pytest.mark.parametrize(
    ("keyword", "name"),
    [
        ("SOPInstanceUID", r"SOP Instance UID \(0008,0018\)"),
        ("SOPClassUID", r"SOP Class UID \(0008,0016\)"),
        ("StudyInstanceUID", r"Study Instance UID \(0020,000D\)"),
        ("SeriesInstanceUID", r"Series Instance UID \(0020,000E\)"),
    ],
)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_identifier_is_named(tmp_path: Path, keyword: str, name: str, value: str | None) -> None:
    with pytest.raises(DataError, match=rf"^has no {name}, .*convert") as caught:
        write(tmp_path / "report.dcm", make_header(**{keyword: value}))
    assert not any(secret in str(caught.value) for secret in PERSONAL.values())
    assert not list(tmp_path.iterdir())


def test_slices_of_two_studies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="different Study Instance UIDs"):
        write(tmp_path / "report.dcm", [make_header(), make_header()])
    with pytest.raises(DataError, match="no header"):
        write(tmp_path / "report.dcm", [])


def test_a_retired_kind_of_image_is_named(tmp_path: Path) -> None:
    source = make_header(SOPClassUID="1.2.840.10008.5.1.4.1.1.6")
    with pytest.raises(DataError, match=r"SOP Class UID \(0008,0016\) Ultrasound Image Storage, which"):
        write(tmp_path / "report.dcm", source)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((("a", "b"), (0.5, 0.3, 0.2)), "2 classes need as many"),
        ((("a", "b"), (0.5, 0.5), [[1.0]]), "2 classes need as many"),
        ((("a", "b"), (0.5, float("nan"))), r"in \[0, 1\], got \[nan\]"),
        ((("a", "b"), (0.5, 0.5), (), {"entropy": 1.5}), r"in \[0, 1\], got \[1.5\]"),
        ((("a", "b"), (0.5, 0.5), (), {}, (), "", None, [], [0.5]), "2 classes need as many"),
        ((("a", "b"), (0.5, 0.5), (), {}, (), "", None, [], [0.5, 2]), r"in \[0, 1\], got \[2.0\]"),
        ((("a", "b"), (0.5, 0.5), (), {}, (), "", None, ["c"]), r"among the classes, got \['c'\]"),
    ],
)
def test_numbers_that_are_no_probabilities_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prediction(*arguments)


def test_nothing_about_the_patient_is_logged_or_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not even where it breaks the rules of DICOM, which libraries like to quote."""
    source = make_header(**PERSONAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source.PatientSex = "S3CR3T"
        source.PatientBirthDate = "S3CR3T"
        source.StudyTime = "S3CR3T"
        source.PatientName = "S3CR3T" * 20
    # As it comes from a file.
    for keyword, vr, value in (("PatientWeight", "DS", b"S3CR3T"), ("OtherPatientNames", "PN", b"=====S3CR3T" * 9)):
        source[keyword] = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)
    caplog.clear()
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_sr(tmp_path / "report.dcm", source, PREDICTION, MODEL)
    assert not caught
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "S3CR3T" not in caplog.text
    assert str(source.SOPInstanceUID) not in caplog.text
    report = pydicom.dcmread(tmp_path / "report.dcm")
    assert report.get_item("PatientSex").value == report.get_item("PatientWeight").value == b"S3CR3T"


def test_an_interrupted_write_leaves_the_file_as_it_was(
    tmp_path: Path, header: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.dcm"
    before = write(path, header).SOPInstanceUID

    def fail(self: Dataset, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Dataset, "save_as", fail)
    with pytest.raises(OSError, match="disk full"):
        write_sr(path, header, PREDICTION, MODEL)
    assert [file.name for file in tmp_path.iterdir()] == ["report.dcm"]
    assert pydicom.dcmread(path).SOPInstanceUID == before


def test_the_source_is_left_as_it_was(tmp_path: Path) -> None:
    header = make_header()
    before = header.to_json()
    write(tmp_path / "report.dcm", header)
    assert header.to_json() == before


def test_says_how_to_get_highdicom(tmp_path: Path, header: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(ImportError, match=r'pip install "monai-fgssl\[dicom\]"'):
        write_sr(tmp_path / "report.dcm", header, PREDICTION, MODEL)


@pytest.mark.parametrize("name", ["codes", "header", "structured_report", "secondary_capture"])
def test_is_imported_without_highdicom(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    spec = importlib.util.find_spec(f"monai_fgssl.report.dicom.{name}")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def has_valid_check_digit(identifier: str) -> bool:
    """Verhoeff's check, by the definition: the dihedral group of order ten and a permutation of period eight."""

    def multiply(a: int, b: int) -> int:
        turned = (a % 5 + b % 5) % 5 if a < 5 else (a % 5 - b % 5) % 5
        return turned if (a < 5) == (b < 5) else turned + 5

    def powers(digit: int) -> Iterator[int]:
        while True:
            yield digit
            digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]

    check = 0
    for position, digit in enumerate(reversed(identifier)):
        permuted = next(value for k, value in enumerate(powers(int(digit))) if k == position % 8)
        check = multiply(check, permuted)
    return check == 0


def test_snomed_identifiers_have_their_check_digit() -> None:
    assert has_valid_check_digit("22298006")
    assert not has_valid_check_digit("22298060")
    tables = (ISIC2018_CODES, ISIC2017_CODES, APTOS2019_CODES)
    identifiers = {c.value for table in tables for c in table.values() if c.scheme_designator == "SCT"}
    assert len(identifiers) == 9
    assert all(has_valid_check_digit(identifier) for identifier in identifiers)


def test_tables_have_the_names_that_the_data_sets_have() -> None:
    assert tuple(ISIC2018_CODES) == ISIC2018_CLASSES
    assert tuple(ISIC2017_CODES) == ISIC2017_CLASSES
    assert tuple(APTOS2019_CODES) == APTOS2019_CLASSES


def test_classes_get_the_codes_of_their_data_set() -> None:
    assert [c.scheme_designator for c in class_codes(CLASSES)] == ["SCT", "SCT", "SCT", SCHEME, SCHEME, "SCT", SCHEME]
    assert class_codes(("nevus", "Seborrheic Keratosis", "MELANOMA")) == [
        ISIC2017_CODES[name] for name in ("nevus", "seborrheic_keratosis", "melanoma")
    ]
    grades = class_codes(tuple(APTOS2019_CODES))
    assert [c.scheme_designator for c in grades] == ["LN", "SCT", "SCT", "SCT", "SCT"]


def test_a_name_is_not_taken_for_that_of_another_data_set() -> None:
    assert class_codes(("Mild", "Severe")) == [private_code("Mild"), private_code("Severe")]
    assert {c.scheme_designator for c in class_codes((*CLASSES, "SCC"))} == {SCHEME}


def test_codes_fit_into_their_attributes() -> None:
    long = private_code("a name of a class that is longer than what DICOM holds for the meaning of a code")
    assert len(long.meaning) == 64
    assert long.value.startswith(long.meaning)
    known = [*ISIC2018_CODES.values(), *ISIC2017_CODES.values(), *APTOS2019_CODES.values()]
    for term in [*known, *UNCERTAINTY_CODES.values(), STAGES_AGREE, THRESHOLD]:
        assert len(term.value) <= 16
        assert len(term.meaning) <= 64
