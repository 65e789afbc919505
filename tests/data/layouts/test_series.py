# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""DICOM series in folders, together with other files of exports: training and inference read the same images."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from dicom_files import CT, write_dicom
from pydicom.uid import generate_uid

from monai_fgssl.data import DataError, ImageGeometry, SplitPlan, list_images, prepare_data, read_table
from monai_fgssl.data.layouts.series import join_series
from monai_fgssl.data.prepare import load_test_images

GEOMETRY = ImageGeometry(8, 3)
STRUCTURED_REPORT = "1.2.840.10008.5.1.4.1.1.88.34"


def write_slices(folder: Path, count: int = 4, start: int = 0, level: int = 100, **attributes: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    series = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid(), "sop_class": CT} | attributes
    for place in range(count):
        pixels = np.random.default_rng(place).integers(level, level + 50, (8, 8), dtype=np.uint16)
        write_dicom(
            folder / f"IM{start + place}",
            pixels,
            ImagePositionPatient=[0, 0, 2 * place],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1],
            InstanceNumber=place + 1,
            **series,
        )


def write_report(path: Path) -> None:
    write_dicom(path, np.zeros((2, 2), np.uint8), sop_class=STRUCTURED_REPORT)
    dataset = pydicom.dcmread(path)
    for key in ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "PixelData"):
        delattr(dataset, key)
    dataset.save_as(path)


def write_localizer(path: Path) -> None:
    pixels = np.full((8, 8), 999, np.uint16)
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [0, 1, 0, 0, 0, -1], "PixelSpacing": [1, 1]}
    write_dicom(path, pixels, sop_class=CT, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], **place)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two classes with three patients each, a series in a folder of its own for each, and others' files beside it."""
    for label in ("benign", "malignant"):
        for patient in range(3):
            folder = tmp_path / label / f"patient{patient}"
            write_slices(folder, 3 + patient)
            write_report(folder / "report.dcm")
            write_localizer(folder / "IM90")
    return tmp_path


def test_folders_of_classes_hold_series(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{label}/patient{patient}" for label in ("benign", "malignant") for patient in range(3)]
    plan = SplitPlan({"train": 0.34, "validation": 0.33, "test": 0.33})
    with caplog.at_level(logging.WARNING):
        data = prepare_data(study, GEOMETRY, plan, study / "out" / "split.json")
    assert data.class_names == ("benign", "malignant")
    parts = (data.train, data.validation, data.test)
    assert sorted(name for part in parts for name in part.names) == names
    # The same volumes as in inference.
    found = {item["name"]: item["image"] for item in list_images(study, 3)}
    assert sorted(found) == names
    for part in parts:
        for number, name in enumerate(part.names):
            assert torch.equal(part[number]["image"], GEOMETRY.read(found[name]))
    assert "left out beside it: 1 of localizers and single images" in caplog.text
    (test,) = (load_test_images(study, None, study / "out" / "split.json", data.class_names, GEOMETRY),)
    assert sorted(test.names) == sorted(data.test.names)


def test_a_list_of_slices_is_one_of_series(study: Path) -> None:
    rows = [
        f"{path.relative_to(study).as_posix()},{path.parts[-3]},{path.parts[-3]}{path.parts[-2]}"
        for path in sorted(study.rglob("IM*"))
    ]
    (study / "list.csv").write_text("\n".join(["image,label,patient", *rows]))
    table = join_series(read_table(study))
    assert [item["name"] for item in table.items] == [
        f"{x}/patient{n}" for x in ("benign", "malignant") for n in range(3)
    ]
    assert [item["group"] for item in table.items] == [item["name"].replace("/", "") for item in table.items]
    assert [item["label"] for item in table.items] == [0] * 3 + [1] * 3
    assert "24 DICOM files are slices of 6 series" in table.notes
    (study / "list.csv").write_text(
        "\n".join(["image,label,patient", *rows[:-2], rows[-2].replace("malignant,", "benign,")])
    )
    with pytest.raises(DataError, match=r"slices .* have different labels, parts or subgroups \(.*patient2\)"):
        join_series(read_table(study))


def test_two_series_in_one_folder_are_told(tmp_path: Path) -> None:
    write_slices(tmp_path / "study", 4)
    write_slices(tmp_path / "study", 5, start=10)
    (item,) = list_images(tmp_path, 3)
    assert item["image"] == str(tmp_path / "study")
    with pytest.raises(DataError, match=r"study has images of 2 series \((4, 5|5, 4) files\): keep each series in a"):
        GEOMETRY.read(item["image"])


def test_files_that_are_whole_volumes(tmp_path: Path) -> None:
    for number in range(2):
        frames = np.zeros((3, 8, 8), np.uint8)
        write_dicom(tmp_path / f"volume{number}.dcm", frames, sop_class=CT, NumberOfFrames=3)
    assert [item["name"] for item in list_images(tmp_path, 3)] == ["volume0", "volume1"]


def test_reports_among_pictures_are_no_images(tmp_path: Path) -> None:
    """As the ones that inference itself writes into a study."""
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        write_dicom(tmp_path / label / "photo.dcm", np.zeros((8, 8, 3), np.uint8))
        write_report(tmp_path / label / "photo_report.dcm")
    assert [item["name"] for item in list_images(tmp_path)] == ["a/photo", "b/photo"]
    table = read_table(tmp_path)
    assert [item["name"] for item in table.items] == ["a/photo", "b/photo"]
    assert table.notes == ("2 files that are not images are left out (.dcm 2)",)


def test_one_slice_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_slices(tmp_path, 1)
    with caplog.at_level(logging.WARNING):
        GEOMETRY.read(tmp_path / "IM0")
    assert f"{tmp_path / 'IM0'} has only one slice: for a DICOM series, name its folder." in caplog.text
