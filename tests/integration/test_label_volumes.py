# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Volumes in the MONAI Label app, with real servers, a folder of NIfTI files and an archive."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import write_ct_series
from label_browser import Page
from monai.transforms import Orientation
from PIL import Image
from selenium.webdriver import Chrome, Keys
from test_label_server import Answer, Archive, Server, complaints, wait_until

from monai_fgssl.data import make_synthetic_volumes, read_medical_image, read_table

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
    # The lowest and the highest 0.5 % of the volume are black and white.
    low, high = picture.getextrema()[0]
    assert low < 10
    assert high > 245
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


def test_the_page_goes_through_the_slices(chrome: Chrome, server: Server, volumes: tuple[Path, dict[str, str]]) -> None:
    """Every slice is the loader's, with a window that is chosen, and the heat map follows."""
    page = Page(chrome, server.url + "/fgssl/")
    page.wait(lambda: page.image and page.text("#entropy"))
    path = volumes[0] / f"{page.image}.nii.gz"
    values = Orientation("RAS", labels=None)(read_medical_image(path, 3, 1)).as_tensor()[0].flip(0, 1)
    count = values.shape[2]
    low, high = float(values.min()), float(values.max())

    def is_slice(index: int, window: tuple[float, float] | None = None) -> bool:
        pixels = page.red()
        expected = values[:, :, index].T.numpy()
        if pixels.shape != expected.shape:
            return False
        if window is None:
            # Whatever the window is: the brighter voxel is nowhere darker.
            order = np.argsort(expected, axis=None, kind="stable")
            return bool((np.diff(pixels.ravel()[order].astype(int)) >= 0).all())
        center, width = window
        return bool(np.abs(pixels - 255 * np.clip((expected - center) / width + 0.5, 0, 1)).max() <= 1)

    assert page.text("#slice-number") == f"{count // 2 + 1} of {count}"
    page.wait(lambda: is_slice(count // 2))
    page.press(Keys.ARROW_UP)
    page.wait(lambda: is_slice(count // 2 + 1))
    page.slide("#slice", 0)
    page.wait(lambda: is_slice(0))
    window = (round((low + high) / 2), round(high - low) + 1)
    page.slide("#center", window[0])
    page.slide("#width", window[1])
    # The sliders may end before the values of outliers.
    page.wait(lambda: page.find("#window-reset").is_enabled())
    chosen = tuple(page.find(f"#{name}").get_property("valueAsNumber") for name in ("center", "width"))
    page.wait(lambda: is_slice(0, chosen))
    page.press("h")
    page.wait(lambda: page.find("#heat-layer").is_displayed())
    asked = page.chrome.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert any(f"/fgssl/heat_layer/{page.image}?" in name and "slice=0" in name for name in asked)

    def most(index: int) -> int:
        """Largest opacity in a slice, for any class and stage."""
        queries = [f"class={name.lower()}&stage={stage}&slice={index}" for name in CLASSES for stage in range(3)]
        answers = [server.ask("GET", f"/fgssl/heat_layer/{page.image}?{query}") for query in queries]
        return max(Image.open(io.BytesIO(answer)).getchannel("A").getextrema()[1] for answer in answers)

    # At its spacing the network sees the middle of the volume only.
    assert most(0) == 0
    assert most(count // 2) > 0
    for wrong in (f"class={CLASSES[0]}&stage=3", "class=other", f"class={CLASSES[0]}&stage=x", ""):
        with pytest.raises(Answer, match=r"404|422"):
            server.ask("GET", f"/fgssl/heat_layer/{page.image}?{wrong}")
    for wrong in (f"slice={count}", "slice=-1", "window=1", "window=1,0", "window=nan,1", "window=1,inf"):
        with pytest.raises(Answer, match=r"404|422"):
            server.ask("GET", f"/fgssl/image/{page.image}?{wrong}")
    assert page.complaints() == []


def test_no_report_about_what_is_no_dicom(server: Server, volumes: tuple[Path, dict[str, str]]) -> None:
    with pytest.raises(Answer, match="422") as refusal:
        server.ask("POST", f"/infer/fgssl?image={min(volumes[1])}&output=dicom")
    assert refusal.value.detail.startswith("no report can be written: the image is not a DICOM file")


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
