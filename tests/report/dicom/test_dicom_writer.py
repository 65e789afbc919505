# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Results of DICOM files among others, and of files that no report can refer to."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
import torch
from ignite.engine import Events
from monai.data import Dataset
from pydicom.data import get_testdata_file

from monai_fgssl.data import ImageStream, ReadImaged
from monai_fgssl.engines import HierarchicalEvaluator
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.report import DicomResultWriter, HeatMapWriter, ResultWriter
from monai_fgssl.report.dicom.header import ModelDescription

CLASSES = ["DOTS", "STREAKS", "NETWORK"]


def run(folder: Path, files: list[Path], heat_maps: bool) -> tuple[ImageStream, list[dict]]:
    torch.manual_seed(0)
    network = HierarchicalNet("resnet18", num_classes=3, width=16, embedding_dim=8).eval()
    items = [{"image": str(file), "name": file.stem} for file in files]
    stream = ImageStream(Dataset(items, ReadImaged("image", 32)), batch_size=2)
    model = ModelDescription("tests", "1", "nobody", "0a1b")
    writers = [ResultWriter(folder, CLASSES, stream), HeatMapWriter(folder)]
    # In any order: writers ask for what they need.
    writers.insert(0, DicomResultWriter(folder, CLASSES, model, stream, heat_maps=heat_maps))
    collected: list[dict] = []
    evaluator = HierarchicalEvaluator("cpu", stream, network, val_handlers=writers, decollate=False)
    evaluator.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: collected.extend(engine.state.output["results"])
    )
    evaluator.run()
    return stream, collected


@pytest.mark.parametrize("heat_maps", [False, True])
def test_reports_for_the_dicom_files_only(lesions: Path, tmp_path: Path, heat_maps: bool) -> None:
    source = Path(get_testdata_file("CT_small.dcm"))
    photo = next((lesions / "ISIC2018_Task3_Training_Input").iterdir())
    stream, results = run(tmp_path, [photo, source], heat_maps)
    assert stream.failures == []
    expected = ["CT_small_heat_maps.dcm", "CT_small_report.dcm"] if heat_maps else ["CT_small_report.dcm"]
    assert sorted(file.name for file in (tmp_path / "dicom").iterdir()) == expected
    report = pydicom.dcmread(tmp_path / "dicom" / "CT_small_report.dcm")
    assert report.StudyInstanceUID == pydicom.dcmread(source).StudyInstanceUID
    assert results[1]["prediction"] in str(report)
    values = [
        float(item.NumericValue)
        for group in report.ContentSequence
        for measurements in group.get("ContentSequence", [])
        for content in measurements.get("ContentSequence", [])
        if content.ValueType == "NUM"
        for item in content.MeasuredValueSequence
    ]
    assert values[:3] == pytest.approx(list(results[1]["probabilities"].values()), abs=1e-6)


def test_a_file_that_no_report_can_refer_to_is_a_failure_and_stops_nothing(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    del dataset.StudyInstanceUID
    dataset.save_as(tmp_path / "nameless.dcm")
    good = Path(get_testdata_file("MR_small.dcm"))
    stream, results = run(tmp_path, [tmp_path / "nameless.dcm", good], False)
    assert len(results) == 2
    ((name, reason),) = stream.failures
    assert name == "nameless"
    assert "Study Instance UID (0020,000D)" in reason
    assert [file.name for file in (tmp_path / "dicom").iterdir()] == ["MR_small_report.dcm"]
