# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Volumes in the MONAI Label app, with real servers, a folder of NIfTI files and an archive."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from dicom_files import write_ct_series
from PIL import Image
from test_label_server import Answer, Archive, Server, complaints, wait_until

from monai_fgssl.data import make_synthetic_volumes, read_table

CLASSES = ("FOAM", "LAYERS")
SIZE = (16, 24, 8)
SETTINGS = {"image_size": list(SIZE), "width": 8, "embedding_dim": 8, "pretrain_epochs": 1, "max_epochs": 2}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with 12 volumes of two classes, and the class of each."""
    folder = tmp_path_factory.mktemp("studies")
    table = read_table(make_synthetic_volumes(tmp_path_factory.mktemp("data") / "volumes", num_images=24))
    classes = {}
    for item in table.items:
        name = table.class_names[item["label"]]
        if name in CLASSES and len(classes) < 12:
            shutil.copy(item["image"], folder)
            classes[Path(item["image"]).name.removesuffix(".nii.gz")] = name
    return folder, classes


@pytest.fixture(scope="module")
def server(
    label_python: Path,
    volumes: tuple[Path, dict[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    conf = {"bundle": "fgssl_volume", "classes": ",".join(CLASSES), **SETTINGS}
    server = Server(label_python, tmp_path_factory.mktemp("server"), str(volumes[0]), {}, conf)
    yield server
    server.stop()


def test_label_pretrain_train_and_infer(server: Server, volumes: tuple[Path, dict[str, str]]) -> None:
    folder, classes = volumes
    image, *others = sorted(classes)
    assert server.ask("GET", "/fgssl/info")["num_images"] == len(classes) == 12
    picture = Image.open(io.BytesIO(server.ask("GET", f"/fgssl/image/{image}")))
    assert picture.getextrema()[0] == (0, 255)
    with pytest.raises(Answer, match="409"):
        server.infer(image)
    assert server.ask("POST", "/activelearning/random")["id"] in classes
    for name in others:
        server.label(name, classes[name])

    server.train("pretrain")
    shown = server.train("train")
    assert any("fine-tune" in line and "2/2" in line for line in shown), shown
    first = server.infer(image)
    assert {row["label"] for row in first["prediction"]} == set(CLASSES)
    assert sum(row["score"] for row in first["prediction"]) == pytest.approx(1, abs=1e-5)
    sent = {"file": (f"{image}.nii.gz", (folder / f"{image}.nii.gz").read_bytes())}
    assert server.form("POST", "/infer/fgssl", sent)["prediction"] == first["prediction"]


def test_heat_maps_that_are_not_square(server: Server, volumes: tuple[Path, dict[str, str]]) -> None:
    image = min(volumes[1])
    stages = server.ask("GET", "/fgssl/info")["num_stages"]
    assert stages == 3
    # The middle slice of 16 times 24 voxels, enlarged to a height of 256, and as many again.
    width = 256 * SIZE[0] // SIZE[1]
    for answer in (
        server.ask("GET", f"/fgssl/heat_maps/{image}"),
        server.ask("POST", f"/infer/fgssl?image={image}&output=image"),
    ):
        assert Image.open(io.BytesIO(answer)).size == ((stages + 1) * width, 256)


def test_no_report_about_what_is_no_dicom(server: Server, volumes: tuple[Path, dict[str, str]]) -> None:
    with pytest.raises(Answer, match="422") as refusal:
        server.ask("POST", f"/infer/fgssl?image={min(volumes[1])}&output=dicom")
    assert refusal.value.detail.startswith("no report can be written: the image is no DICOM file")


def test_series_of_an_archive(
    label_python: Path,
    server: Server,
    volumes: tuple[Path, dict[str, str]],
    tmp_path: Path,
) -> None:
    """The model of the folder says the same of the same volume; the report refers to all its slices."""
    folder, classes = volumes
    image = min(classes)
    expected = server.infer(image)["prediction"]
    archive = Archive(tmp_path)
    client = None
    try:
        attributes = {"PatientSex": "O", "StudyID": "1", "StudyTime": "101112", "AccessionNumber": "1"}
        series = write_ct_series(folder / f"{image}.nii.gz", tmp_path, lambda z: f"{image}_{z}.dcm", **attributes)
        files = sorted(tmp_path.glob("*.dcm"))
        for file in files:
            archive.ask("POST", "/instances", file.read_bytes(), "application/dicom")
        conf = {"bundle": folder / "fgssl" / "fgssl_volume", "classes": ",".join(CLASSES), **SETTINGS}
        environment = {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(tmp_path / "cache")}
        client = Server(label_python, tmp_path, f"{archive.url}/dicom-web", environment, conf)
        assert client.ask("POST", "/activelearning/random")["id"] == series
        scores = {row["label"]: row["score"] for row in client.infer(series)["prediction"]}
        assert scores == pytest.approx({row["label"]: row["score"] for row in expected}, abs=1e-5)
        client.label(series, classes[image])
        wait_until(lambda: client.ask("GET", "/fgssl/info")["notices"] == [])
        (stored,) = archive.ask("POST", "/tools/find", b'{"Level": "Instance", "Query": {"Modality": "SR"}}')
        for content in (
            archive.ask("GET", f"/instances/{stored}/file"),
            client.ask("POST", f"/infer/fgssl?image={series}&output=dicom"),
        ):
            (tmp_path / "report").write_bytes(content)
            assert complaints(tmp_path / "report") == []
            (study,) = pydicom.dcmread(tmp_path / "report").CurrentRequestedProcedureEvidenceSequence
            (evidence,) = study.ReferencedSeriesSequence
            assert evidence.SeriesInstanceUID == series
            assert len(evidence.ReferencedSOPSequence) == len(files)
    finally:
        if client is not None:
            client.stop()
        archive.process.terminate()
        archive.process.wait(30)
