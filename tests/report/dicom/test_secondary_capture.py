# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Secondary Captures, read back with pydicom alone."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from monai_fgssl.report.dicom.header import ModelDescription
from monai_fgssl.report.dicom.secondary_capture import write_secondary_capture
from monai_fgssl.utils.errors import DataError

MODEL = ModelDescription("lesions", "1.2", "Ours", "ab" * 32)
PICTURE = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
DESCRIPTION = "Grad-CAM of stage 2 for MEL over the image"


def make_header(**attributes: object) -> Dataset:
    header = Dataset()
    header.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(header, keyword, generate_uid())
    header.PatientName, header.PatientID, header.PatientSex = "Secret^Person", "S3CR3T", "O"
    header.PixelSpacing, header.SliceThickness = [0.5, 0.5], 2
    header.ImagePositionPatient, header.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    header.PatientOrientation, header.FrameOfReferenceUID = ["L", "P"], generate_uid()
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    return header


def write(path: Path, source: Dataset | list[Dataset], **options: object) -> Dataset:
    write_secondary_capture(path, source, PICTURE, DESCRIPTION, MODEL, **options)
    return pydicom.dcmread(path)


def test_holds_the_picture(tmp_path: Path) -> None:
    image = write(tmp_path / "heat.dcm", make_header())
    assert image.PhotometricInterpretation == "RGB"
    np.testing.assert_array_equal(image.pixel_array, PICTURE)


def test_holds_a_picture_in_any_memory_order(tmp_path: Path) -> None:
    turned = PICTURE.transpose(1, 0, 2)[::-1]
    write_secondary_capture(tmp_path / "heat.dcm", make_header(), turned, DESCRIPTION, MODEL)
    np.testing.assert_array_equal(pydicom.dcmread(tmp_path / "heat.dcm").pixel_array, turned)


def test_says_what_it_is(tmp_path: Path) -> None:
    image = write(tmp_path / "heat.dcm", make_header())
    assert image.SOPClassUID.name == "Secondary Capture Image Storage"
    assert list(image.ImageType) == ["DERIVED", "SECONDARY"]
    assert image.ConversionType == "WSD"
    assert image.DerivationDescription == DESCRIPTION
    assert image.SeriesDescription == "AI heat map, not for primary diagnosis"
    assert "Not for primary diagnosis." in image.ImageComments
    assert image.ContentQualification == "RESEARCH"
    (equipment,) = [item for item in image.ContributingEquipmentSequence if item.Manufacturer == "Ours"]
    assert equipment.DeviceUID == MODEL.device_uid
    assert (image.Manufacturer, image.ManufacturerModelName, image.SoftwareVersions) == ("Ours", "lesions", "1.2")


def test_refers_to_its_source_in_the_same_study(tmp_path: Path) -> None:
    source = make_header(NumberOfFrames=3)
    image = write(tmp_path / "heat.dcm", source, frame=2)
    (reference,) = image.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert reference.ReferencedSOPClassUID == source.SOPClassUID
    assert reference.ReferencedFrameNumber == 3
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert image.StudyInstanceUID == source.StudyInstanceUID
    assert (image.PatientName, image.PatientID, image.PatientSex) == ("Secret^Person", "S3CR3T", "O")
    assert image.SeriesInstanceUID != source.SeriesInstanceUID
    assert image.SOPInstanceUID != write(tmp_path / "again.dcm", source).SOPInstanceUID


def test_names_in_any_script(tmp_path: Path) -> None:
    source = make_header(SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎")
    assert str(write(tmp_path / "heat.dcm", source).PatientName) == "Yamada^Tarou=山田^太郎"


def test_refers_to_all_slices(tmp_path: Path) -> None:
    first = make_header()
    slices = [first, make_header(StudyInstanceUID=first.StudyInstanceUID)]
    references = write(tmp_path / "heat.dcm", slices).SourceImageSequence
    expected = [header.SOPInstanceUID for header in slices]
    assert [reference.ReferencedSOPInstanceUID for reference in references] == expected
    assert not any("ReferencedFrameNumber" in reference for reference in references)


def test_has_no_geometry_that_a_measurement_could_use(tmp_path: Path) -> None:
    image = write(tmp_path / "heat.dcm", make_header())
    absent = ("PixelSpacing", "SliceThickness", "ImagePositionPatient", "ImageOrientationPatient")
    assert not any(keyword in image for keyword in (*absent, "FrameOfReferenceUID", "NominalScannedPixelSpacing"))
    assert not image.PatientOrientation


@pytest.mark.parametrize("value", ["YES", "NO", None])
def test_a_written_name_stays_written(tmp_path: Path, value: str | None) -> None:
    attributes = {} if value is None else {"BurnedInAnnotation": value, "RecognizableVisualFeatures": value}
    image = write(tmp_path / "heat.dcm", make_header(**attributes))
    assert image.get("BurnedInAnnotation") == image.get("RecognizableVisualFeatures") == value


def test_lost_detail_stays_lost(tmp_path: Path) -> None:
    lossy = {
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": 20,
        "LossyImageCompressionMethod": "ISO_10918_1",
    }
    image = write(tmp_path / "heat.dcm", make_header(**lossy))
    assert {keyword: image[keyword].value for keyword in lossy} == lossy


@pytest.mark.parametrize("keyword", ["Laterality", "ImageLaterality"])
def test_an_eye_keeps_its_side(tmp_path: Path, keyword: str) -> None:
    image = write(tmp_path / "heat.dcm", make_header(**{keyword: "L"}))
    assert image[keyword].value == "L"
    assert ("Laterality" in image) == (keyword == "Laterality")


def test_an_unknown_side_is_left_open(tmp_path: Path) -> None:
    image = write(tmp_path / "heat.dcm", make_header())
    assert "Laterality" in image
    assert not image.Laterality


def test_a_missing_identifier_is_named(tmp_path: Path) -> None:
    source = make_header()
    del source.SeriesInstanceUID
    with pytest.raises(DataError, match=r"^has no Series Instance UID \(0020,000E\)") as caught:
        write(tmp_path / "heat.dcm", source)
    assert "S3CR3T" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("picture", [PICTURE / 255, PICTURE[..., 0], PICTURE[..., :2], PICTURE.transpose(2, 0, 1)])
def test_other_arrays_are_refused(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \(H, W, 3\), got "):
        write_secondary_capture(tmp_path / "heat.dcm", make_header(), picture, DESCRIPTION, MODEL)


def test_nothing_about_the_patient_is_logged_or_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = make_header(PatientSex="S3CR3T", StudyDate="S3CR3T", PatientAge="S3CR3T")
    before = source.to_json()
    caplog.clear()
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        write_secondary_capture(tmp_path / "heat.dcm", source, PICTURE, DESCRIPTION, MODEL)
    assert not caught
    assert "S3CR3T" not in caplog.text
    assert str(source.SOPInstanceUID) not in caplog.text
    assert source.to_json() == before
