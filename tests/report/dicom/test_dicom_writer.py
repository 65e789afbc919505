# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Results of DICOM files among other files, and of files to which no report can refer."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from dicom_files import CT, write_dicom
from ignite.engine import Events
from monai.data import Dataset
from pydicom.data import get_testdata_file

from monai_fgssl.data import ImageGeometry, ImageStream, ReadImaged
from monai_fgssl.engines import HierarchicalEvaluator
from monai_fgssl.metrics import Thresholds
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.report import DicomResultWriter, HeatMapWriter, ResultWriter
from monai_fgssl.report.dicom.header import ModelDescription
from monai_fgssl.tasks import TASKS

CLASSES = ["DOTS", "STREAKS", "NETWORK"]

counters: list[Counter[str]] = []


def count_open(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], (str, Path)):
        for counter in counters:
            counter[str(arguments[0])] += 1


# A hook stays for as long as the process.
sys.addaudithook(count_open)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Number of times that Python opens each file."""
    counters.append(Counter())
    try:
        yield counters[-1]
    finally:
        counters.pop()


def make_stream(files: list[Path], spatial_dims: int = 2) -> ImageStream:
    items = [{"image": str(file), "name": file.stem} for file in files]
    read = ReadImaged("image", ImageGeometry(32, spatial_dims), headers_key="headers")
    return ImageStream(Dataset(items, read), batch_size=2)


def run(folder: Path, files: list[Path], heat_maps: bool, spatial_dims: int = 2) -> tuple[ImageStream, list[dict]]:
    torch.manual_seed(0)
    options = {"width": 16, "embedding_dim": 8, "in_channels": 3 if spatial_dims == 2 else 1}
    network = HierarchicalNet("resnet18", num_classes=3, spatial_dims=spatial_dims, **options).eval()
    stream = make_stream(files, spatial_dims)
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


@pytest.mark.parametrize("class_number", [None, 2])
def test_findings_are_reported_each_and_the_heat_map_names_its_finding(
    tmp_path: Path, class_number: int | None
) -> None:
    network = HierarchicalNet("resnet18", num_classes=3, width=16, embedding_dim=8).eval()
    stream = make_stream([Path(get_testdata_file("CT_small.dcm"))])
    rule, task = Thresholds((0.0, 1.0, 0.0)), TASKS["multilabel"]
    model = ModelDescription("tests", "1", "nobody", "0a1b")
    options = {"heat_maps": True, "adjustment": rule, "task": task, "class_number": class_number}
    writer = DicomResultWriter(tmp_path, CLASSES, model, stream, **options)
    found: list[dict] = []
    evaluator = HierarchicalEvaluator("cpu", stream, network, val_handlers=[writer], decollate=False)
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: found.extend(engine.state.output["results"]))
    evaluator.run()
    (result,) = found
    assert result["findings"] == ["DOTS", "NETWORK"]
    text = str(pydicom.dcmread(tmp_path / "dicom" / "CT_small_report.dcm"))
    # Yes of SNOMED CT for two of them, no for the third; and the image has a group of its own.
    assert (text.count("'373066001'"), text.count("'373067005'")) == (2, 1)
    picture = pydicom.dcmread(tmp_path / "dicom" / "CT_small_heat_maps.dcm")
    likeliest = max(result["probabilities"], key=result["probabilities"].get)
    explained = likeliest if class_number is None else CLASSES[class_number]
    assert picture.DerivationDescription == f"The image, and Grad-CAM of each stage for {explained}."


def test_a_file_that_no_report_can_refer_to_is_a_failure_and_stops_nothing(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    del dataset.StudyInstanceUID
    dataset.save_as(tmp_path / "nameless.dcm")
    good = Path(get_testdata_file("MR_small.dcm"))
    stream, results = run(tmp_path, [tmp_path / "nameless.dcm", good], False)
    assert len(results) == 2
    assert stream.failures == []
    ((name, reason),) = stream.incomplete
    assert name == "nameless"
    assert "Study Instance UID (0020,000D)" in reason
    assert [file.name for file in (tmp_path / "dicom").iterdir()] == ["MR_small_report.dcm"]


def write_slices(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    series = {"SeriesInstanceUID": pydicom.uid.generate_uid(), "StudyInstanceUID": pydicom.uid.generate_uid()}
    for number in range(4):
        write_dicom(
            folder / f"{9 - number}.dcm",
            rng.integers(0, 1000, (8, 8), dtype=np.uint16),
            sop_class=CT,
            **series,
            ImagePositionPatient=[0, 0, 2 * number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1],
        )
    return folder


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_results_open_no_source_again(spatial_dims: int, tmp_path: Path) -> None:
    if spatial_dims == 2:
        files = [Path(get_testdata_file("CT_small.dcm")), Path(get_testdata_file("MR_small.dcm"))]
        sources = files
    else:
        files = [write_slices(tmp_path / "series")]
        sources = sorted(files[0].iterdir())
    with counted() as reading:
        assert len(list(make_stream(files, spatial_dims))) == 1
    with counted() as everything:
        run(tmp_path / "results", files, heat_maps=True, spatial_dims=spatial_dims)
    names = list(map(str, sources))
    assert min(reading[name] for name in names) > 0
    assert [everything[name] for name in names] == [reading[name] for name in names]
    assert len(list((tmp_path / "results" / "dicom").iterdir())) == 2 * len(files)


def test_a_batch_without_headers_is_refused(tmp_path: Path) -> None:
    files = [Path(get_testdata_file("CT_small.dcm"))]
    stream = ImageStream(Dataset([{"image": str(files[0]), "name": "a"}], ReadImaged("image", 32)), batch_size=1)
    network = HierarchicalNet("resnet18", num_classes=3, width=16, embedding_dim=8).eval()
    writer = DicomResultWriter(tmp_path, CLASSES, ModelDescription("tests", "1", "nobody", "0a1b"), stream)
    with pytest.raises(ValueError, match="headers_key='headers' of ReadImaged"):
        HierarchicalEvaluator("cpu", stream, network, val_handlers=[writer], decollate=False).run()
