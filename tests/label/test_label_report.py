# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from datetime import datetime
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_files import PATIENT, write_dicom
from pydicom.uid import UID

from monai_fgssl.data import ISIC2018_CLASSES, DataError
from monai_fgssl.label.structured_report import SERIES_DESCRIPTION, make_label_report, read_label_report
from monai_fgssl.report.dicom.codes import SCHEME

STUDY = {"StudyID": "1", "AccessionNumber": "2", "StudyTime": "101010", "PatientSex": "O"}


def write_source(path: Path, **attributes: str | None) -> pydicom.Dataset:
    return pydicom.dcmread(write_dicom(path, np.zeros((4, 6, 3), np.uint8), **{**STUDY, **attributes}))


@pytest.mark.parametrize("name", ["NV", "Mélanome", "皮膚線維腫"])
def test_a_class_survives_the_way_through_a_file(tmp_path: Path, name: str) -> None:
    source = write_source(tmp_path / "image.dcm")
    make_label_report(source, name, ISIC2018_CLASSES).save_as(tmp_path / "report.dcm")
    report = highdicom.sr.srread(tmp_path / "report.dcm")
    series, class_name, when = read_label_report(report) or ("", "", "")
    assert (series, class_name) == (source.SeriesInstanceUID, name)
    assert len(when) >= 14
    assert report.StudyInstanceUID == source.StudyInstanceUID
    assert report.SeriesInstanceUID != source.SeriesInstanceUID
    assert report.PatientID == PATIENT["PatientID"]
    assert report.SeriesDescription == SERIES_DESCRIPTION
    (group,) = report.content.get_image_measurement_groups(tracking_uid=None)
    assert group.tracking_identifier == name
    assert group.finding_type.meaning == ("Melanocytic nevus" if name == "NV" else name)


def test_other_reports_are_left_alone(tmp_path: Path) -> None:
    source = write_source(tmp_path / "image.dcm")
    assert read_label_report(source) is None
    report = make_label_report(source, "NV")
    report.SeriesDescription = "another"
    assert read_label_report(report) is None


def test_an_image_without_identifiers_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no Study Instance UID \(0020,000D\)"):
        make_label_report(write_source(tmp_path / "image.dcm", StudyInstanceUID=None), "NV")


def test_a_report_says_whose_codes_it_uses(tmp_path: Path) -> None:
    """A name of our own scheme, and none of the tables."""
    report = make_label_report(write_source(tmp_path / "image.dcm"), "round")
    (scheme,) = report.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == SCHEME


def test_an_image_that_no_report_can_refer_to_is_told(tmp_path: Path) -> None:
    source = write_source(tmp_path / "image.dcm")
    source.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.6")
    with pytest.raises(DataError, match="which is retired from DICOM"):
        make_label_report(source, "NV")


@pytest.mark.parametrize(
    ("observer", "written"),
    [
        (None, "Annotator^MONAI Label"),
        ("Anna Muster", "Anna Muster^"),
        ("山田太郎", "山田太郎^"),
        ("a^b=c\\d\n", "a b c d^"),
        (" ^ ", "Annotator^MONAI Label"),
        ("x" * 200, "x" * 63 + "^"),
    ],
)
def test_the_observer_is_the_person_who_chose(observer: str | None, written: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "image.dcm")
    saved = datetime(2026, 2, 3, 4, 5, 6, 7)
    report = make_label_report(source, "NV", ISIC2018_CLASSES, observer, saved)
    report.save_as(tmp_path / "report.dcm")
    again = pydicom.dcmread(tmp_path / "report.dcm")
    (name,) = [element.value for element in again.iterall() if element.keyword == "PersonName"]
    # Not to the last sign: pydicom leaves out empty components.
    assert str(name).rstrip("^") == written.rstrip("^")
    assert read_label_report(again) == (source.SeriesInstanceUID, "NV", "20260203040506.000007")


@pytest.mark.parametrize("answers", [{"Mass": True, "Ödem": False}, {"Mass": False, "Ödem": False}, {"Mass": True}])
def test_findings_survive_the_way_through_a_file(tmp_path: Path, answers: dict[str, bool]) -> None:
    source = write_source(tmp_path / "image.dcm")
    make_label_report(source, answers, ("Mass", "Ödem")).save_as(tmp_path / "report.dcm")
    report = highdicom.sr.srread(tmp_path / "report.dcm")
    series, read, _ = read_label_report(report) or ("", "", "")
    assert (series, read) == (source.SeriesInstanceUID, answers)
    groups = report.content.get_image_measurement_groups(tracking_uid=None)
    assert [group.tracking_identifier for group in groups] == list(answers)
    # A program that lists the findings of a report lists no absent one.
    found = [group.finding_type.meaning for group in groups if group.finding_type is not None]
    assert found == [name for name, there in answers.items() if there]
