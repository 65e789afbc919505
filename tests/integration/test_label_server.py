# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The MONAI Label app as an annotator meets it: real servers, a folder of images and a real archive.

Needs the Debian packages `orthanc`, `orthanc-dicomweb` and `dicom3tools`.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pydicom
import pytest
from dicom_files import write_dicom
from orthanc import orthanc_command
from PIL import Image
from test_dicom_results import is_known, run

from monai_fgssl.data import read_isic2018
from monai_fgssl.label.structured_report import SERIES_DESCRIPTION
from monai_fgssl.report.dicom.header import ModelDescription
from monai_fgssl.report.dicom.secondary_capture import write_secondary_capture

REPOSITORY = Path(__file__).parents[2]
CLASSES = ("COBBLESTONE", "NETWORK")
PHOTOGRAPH = "1.2.840.10008.5.1.4.1.1.77.1.4"
# Tiny, so that a training takes seconds.
SETTINGS = {"image_size": 32, "width": 8, "embedding_dim": 8, "max_epochs": 2, "pretrain_epochs": 1}
STRATEGIES = ("random", "entropy", "margin", "disagreement", "core_set", "mix")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def copy_images(lesions: Path, folder: Path, count: int) -> tuple[Path, list[str]]:
    """Copy the first images of a data set into the new folder ``studies``; that folder, and names of the images."""
    studies = folder / "studies"
    studies.mkdir()
    items = read_isic2018(lesions).items[:count]
    for item in items:
        shutil.copy(item["image"], studies)
    return studies, [item["name"] for item in items]


class Answer(Exception):
    """A refusal of the server, with its status."""

    def __init__(self, status: int, content: bytes) -> None:
        super().__init__(status, content[:500])
        self.status = status
        self.detail = json.loads(content)["detail"] if content.startswith(b"{") else ""


class Client:
    """Requests to a server on the loopback interface."""

    # A proxy of the environment must not be asked for the loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers: dict[str, str] = {}

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> Any:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind, **self.headers}, method=method)
        try:
            with self.opener.open(request, timeout=120) as response:
                content = response.read()
                return json.loads(content) if "json" in response.headers["Content-Type"] else content
        except urllib.error.HTTPError as error:
            raise Answer(error.code, error.read()) from error

    def form(self, method: str, path: str, files: dict[str, tuple[str, bytes]], **fields: Any) -> Any:
        boundary = uuid.uuid4().hex
        parts = [f'name="{name}"\r\n\r\n{json.dumps(value)}'.encode() for name, value in fields.items()]
        for name, (file, content) in files.items():
            head = f'name="{name}"; filename="{file}"\r\nContent-Type: application/octet-stream\r\n\r\n'
            parts.append(head.encode() + content)
        body = b"".join(f"--{boundary}\r\nContent-Disposition: form-data; ".encode() + part + b"\r\n" for part in parts)
        return self.ask(
            method, path, body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
        )

    def label(self, image: str, name: str, tag: str = "final") -> Any:
        return self.form(
            "PUT", f"/datastore/label?image={image}&tag={tag}", {"label": ("l.json", b"")}, params={"class": name}
        )

    def infer(self, image_id: str, **params: Any) -> Any:
        return self.form("POST", f"/infer/fgssl?image={image_id}", {}, params=params)


class Server(Client):
    """MONAI Label with the app."""

    def __init__(
        self,
        python: Path,
        folder: Path,
        studies: str,
        environment: dict[str, str],
        conf: dict[str, Any] | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.port = free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        # MONAI Label makes folders beside main.py.
        app = folder / "app"
        if not app.is_dir():
            shutil.copytree(REPOSITORY / "monai_fgssl" / "label" / "app", app)
        command = [python, "-m", "monailabel.main", "start_server", "--app", app, "--studies", studies]
        command += ["--host", host, "--port", str(self.port)]
        for name, value in (conf or {"classes": ",".join(CLASSES), **SETTINGS}).items():
            command += ["--conf", name, str(value)]
        self.log = folder / "server.log"
        with open(self.log, "ab") as log:
            self.process = psutil.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, "HOME": str(folder), "OMP_NUM_THREADS": "1", **environment},
            )
        wait_for(lambda: self.ask("GET", "/fgssl/page/main.js"), self.process, self.log)

    def train(self, task: str, **settings: Any) -> list[str]:
        """Train to the end; the lines that the server showed meanwhile."""
        self.ask("POST", f"/train/{task}", json.dumps(settings).encode())
        shown: list[str] = []
        while True:
            status = self.ask("GET", "/train/")
            shown += [line for line in status.get("details", ()) if line not in shown]
            if status["status"] not in ("SUBMITTED", "RUNNING"):
                assert status["status"] == "DONE", shown[-10:]
                return shown
            time.sleep(0.2)

    def stop(self) -> None:
        if not self.process.is_running():
            return
        for process in (*self.process.children(recursive=True), self.process):
            process.terminate()
        self.process.wait(30)


def wait_for(answers: Callable[[], Any], process: psutil.Popen, log: Path, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            answers()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"no answer:\n{log.read_text(encoding='utf-8', errors='replace')[-4000:]}")


@pytest.fixture(scope="module")
def truth(lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with 24 images of two classes, and the class of each."""
    folder = tmp_path_factory.mktemp("studies")
    table = read_isic2018(lesions)
    classes: dict[str, str] = {}
    for item in table.items:
        name = table.class_names[item["label"]]
        if name in CLASSES and len(classes) < 24:
            shutil.copy(item["image"], folder)
            classes[item["name"]] = name
    return folder, classes


@pytest.fixture(scope="module")
def server(
    label_python: Path, truth: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Server]]:
    """A server on the folder; in a list, since a test starts it again."""
    folder = tmp_path_factory.mktemp("server")
    servers = [Server(label_python, folder, str(truth[0]), {})]
    yield servers
    servers[-1].stop()


def test_before_training_everything_has_an_answer(server: list[Server], truth: tuple[Path, dict[str, str]]) -> None:
    client = server[0]
    assert client.ask("GET", "/fgssl/info") == {
        "classes": list(CLASSES),
        "model": "fgssl",
        "user": None,
        "training_refused": "training needs two classes or more with at least 3 labeled images each; there are: none.",
        "has_model": False,
        "multilabel": False,
        "notices": [],
        "num_stages": 0,
        "strategies": list(STRATEGIES),
        "num_images": 24,
        "num_unreadable": 0,
        "num_labeled": 0,
        "counts": dict.fromkeys(CLASSES, 0),
    }
    image = min(truth[1])
    assert client.ask("GET", f"/fgssl/label/{image}") == {"class": None}
    picture = np.asarray(Image.open(io.BytesIO(client.ask("GET", f"/fgssl/image/{image}"))))
    assert (picture == np.asarray(Image.open(truth[0] / f"{image}.png"))).all()
    for path in (f"/infer/fgssl?image={image}", "/infer/fgssl?image="):
        with pytest.raises(Answer):
            client.ask("POST", path)
    with pytest.raises(Answer, match="409"):
        client.infer(image)
    for page in ("/fgssl/", "/fgssl/page/main.js", "/fgssl/page/page.css"):
        assert client.ask("GET", page)


def test_marks_and_small_pictures(server: list[Server], truth: tuple[Path, dict[str, str]]) -> None:
    client = server[0]
    first, second, *others = sorted(truth[1])
    for name in others:
        client.ask("PUT", f"/fgssl/images/{name}/marks", b'{"skipped": true}')
    assert {client.ask("POST", "/activelearning/random")["id"] for _ in range(4)} <= {first, second}
    marked = client.ask("PUT", f"/fgssl/images/{first}/marks", b'{"unsure": true}')
    assert marked == {"id": first, "class": None, "user": None, "unsure": True}
    client.label(others[0], "NETWORK")
    images = {image["id"]: image for image in client.ask("GET", "/fgssl/images")}
    assert images.keys() == truth[1].keys()
    unscored = {"user": None, "suggestion": None, "doubt": None}
    assert images[first] == {"id": first, "class": None, "unsure": True, **unscored}
    # A class ends the waiting.
    assert images[others[0]] == {"id": others[0], "class": "NETWORK", **unscored}
    assert images[others[1]] == {"id": others[1], "class": None, "skipped": True, **unscored}
    picture = Image.open(io.BytesIO(client.ask("GET", f"/fgssl/images/{first}/thumbnail")))
    assert (picture.format, picture.size) == ("JPEG", (32, 32))
    with pytest.raises(Answer, match="422"):
        client.ask("PUT", f"/fgssl/images/{first}/marks", b'{"class": true}')
    for request in (("GET", "/fgssl/images/nothing"), ("PUT", "/fgssl/images/nothing/marks", b"{}")):
        with pytest.raises(Answer, match="404"):
            client.ask(*request)
    client.ask("DELETE", f"/fgssl/label/{others[0]}")
    for name in truth[1]:
        client.ask("PUT", f"/fgssl/images/{name}/marks", b'{"skipped": false, "unsure": false}')


def test_labels_are_saved_changed_and_removed(server: list[Server], truth: tuple[Path, dict[str, str]]) -> None:
    client = server[0]
    image = max(truth[1])
    client.label(image, "NETWORK")
    client.label(image, "cobblestone")
    assert client.ask("GET", f"/fgssl/label/{image}") == {"class": "COBBLESTONE"}
    assert client.ask("GET", f"/datastore/label/info?label={image}&tag=final")["class"] == "COBBLESTONE"
    client.form("PUT", f"/datastore/label/info?label={image}&tag=final", {}, info={"class": "NETWORK"})
    assert client.ask("GET", f"/datastore/label?label={image}&tag=final")["class"] == "NETWORK"
    assert client.ask("GET", "/fgssl/info")["num_labeled"] == 1
    assert client.ask("DELETE", f"/fgssl/label/{image}") == {"class": None}
    assert client.ask("GET", "/fgssl/info")["num_labeled"] == 0


def test_what_can_not_be_is_refused_with_a_reason(server: list[Server], truth: tuple[Path, dict[str, str]]) -> None:
    client = server[0]
    image = min(truth[1])
    with pytest.raises(Answer, match="422") as refusal:
        client.label(image, "OTHER")
    assert refusal.value.detail == "there is no class 'OTHER'; there are: COBBLESTONE, NETWORK."
    with pytest.raises(Answer, match="404"):
        client.label("nothing", "NETWORK")
    with pytest.raises(Answer, match="404"):
        client.infer("nothing")
    with pytest.raises(Answer, match="404"):
        client.ask("POST", "/activelearning/telepathy")
    assert client.ask("GET", "/fgssl/info")["num_labeled"] == 0


def test_no_path_leads_out_of_the_studies(server: list[Server], truth: tuple[Path, dict[str, str]]) -> None:
    client = server[0]
    image = min(truth[1])
    secret = truth[0].parent / "secret.png"
    shutil.copy(truth[0] / f"{image}.png", secret)
    before = sorted(truth[0].parent.rglob("*.json"))
    for name in (
        "../secret",
        "..%2Fsecret",
        "%2e%2e%2fsecret",
        str(secret),
        f"..%5Csecret{chr(37)}00",
        "..",
        "%2Fetc%2Fpasswd",
    ):
        for method, path in (
            ("GET", f"/fgssl/image/{name}"),
            ("GET", f"/fgssl/heat_maps/{name}"),
            ("GET", f"/fgssl/label/{name}"),
            ("DELETE", f"/fgssl/label/{name}"),
            ("GET", f"/fgssl/{name}"),
            ("POST", f"/infer/fgssl?image={name}"),
        ):
            with pytest.raises(Answer) as refusal:
                client.form(method, path, {}, params={}) if method == "POST" else client.ask(method, path)
            assert 400 <= refusal.value.status < 500, (method, path)
        with pytest.raises(Answer, match="422"):
            client.label(image, "NETWORK", tag=name if "%" in name else name.replace("/", "%2F"))
        with pytest.raises(Answer, match=r"4(04|22)"):
            client.label(name if "%" in name else name.replace("/", "%2F"), "NETWORK")
        with pytest.raises(Answer, match="422"):
            client.form("PUT", f"/datastore/image?image={name}", {"file": ("x.png", secret.read_bytes())})
    # Another image than that of the address is not looked at: there is no model yet.
    with pytest.raises(Answer, match="409"):
        client.infer(image, image=str(secret))
    assert sorted(truth[0].parent.rglob("*.json")) == before


def test_every_strategy_names_an_image(server: list[Server], truth: tuple[Path, dict[str, str]]) -> None:
    named = [server[0].ask("POST", f"/activelearning/{name}")["id"] for name in STRATEGIES]
    # Nobody gets what somebody else is looking at.
    assert len(set(named)) == len(named)
    assert set(named) <= set(truth[1])


def test_pretrain_train_infer_and_restart(
    server: list[Server], truth: tuple[Path, dict[str, str]], label_python: Path
) -> None:
    client = server[0]
    images, classes = truth
    labeled = {name: label for number, (name, label) in enumerate(sorted(classes.items())) if number < 20}
    for name, label in labeled.items():
        client.label(name, label)
    shown = client.train("pretrain")
    assert any("pre-train" in line and "1/1" in line for line in shown), shown
    assert not client.ask("GET", "/fgssl/info")["has_model"]
    shown = client.train("train")
    assert any("fine-tune" in line and "2/2" in line for line in shown), shown
    assert any("20 images" in line for line in shown), shown

    image = min(classes)
    result = client.infer(image)
    scores = [row["score"] for row in result["prediction"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-5)
    assert result["label"] == result["prediction"][0]["label"]
    assert set(result["stages"]) == {"stage1", "stage2", "stage3", "concat"}
    assert 0 <= result["entropy"] <= 1
    record = json.loads((images / "fgssl" / "fgssl" / "models" / "model.json").read_text(encoding="utf-8"))
    assert record["class_names"] == list(CLASSES)
    statistics = client.ask("GET", "/info/")["train_stats"]["train"]
    assert statistics["num_test_images"] > 0
    assert "macro_f1" in statistics["metrics"]
    sent = client.form("POST", "/infer/fgssl", {"file": (f"{image}.png", (images / f"{image}.png").read_bytes())})
    assert sent["prediction"] == result["prediction"]
    heat = Image.open(io.BytesIO(client.ask("GET", f"/fgssl/heat_maps/{image}")))
    assert heat.size == (4 * 256, 256)
    asked = client.ask("POST", f"/infer/fgssl?image={image}&output=image")
    assert Image.open(io.BytesIO(asked)).tobytes() == heat.tobytes()
    for output in ("dicom_seg", "film"):
        with pytest.raises(Answer, match="422"):
            client.ask("POST", f"/infer/fgssl?image={image}&output={output}")
    with pytest.raises(Answer, match="422"):
        client.form("POST", f"/infer/fgssl?image={image}", {}, params=[1])
    with pytest.raises(Answer, match="422") as refusal:
        client.form("POST", "/infer/fgssl", {"file": ("text.png", b"no picture")})
    assert "can't be read" in refusal.value.detail

    client.stop()
    server.append(Server(label_python, client.log.parent, str(images), {}))
    again = server[-1]
    found = {name: again.ask("GET", f"/fgssl/label/{name}")["class"] for name in classes}
    assert {name: label for name, label in found.items() if label} == labeled
    assert again.infer(image)["prediction"] == result["prediction"]


def test_scores_are_found_in_the_background(server: list[Server], truth: tuple[Path, dict[str, str]]) -> None:
    client = server[-1]
    end = time.monotonic() + 300
    while client.ask("POST", "/activelearning/entropy")["strategy_used"] != "entropy":
        assert time.monotonic() < end
        time.sleep(0.2)
    for name in STRATEGIES:
        assert client.ask("POST", f"/activelearning/{name}")["strategy_used"] in (name, "random")
    assert (truth[0] / "fgssl" / "scores.pt").is_file()


def is_running(process: psutil.Process) -> bool:
    """True if it is a run of the bundle that has not ended."""
    try:
        return "monai.bundle" in process.cmdline()
    except psutil.NoSuchProcess:
        # Ended meanwhile, maybe not yet collected by its parent.
        return False


def test_a_training_that_is_stopped_leaves_the_model_and_goes_on(
    server: list[Server], truth: tuple[Path, dict[str, str]], label_python: Path
) -> None:
    """By a person who stops it, and by a server that ends."""
    client = server[-1]
    images, classes = truth
    before = client.infer(min(classes))["prediction"]
    settings = {"max_epochs": 20}

    def lines() -> list[str]:
        return list(client.ask("GET", "/train/").get("details", ()))

    def start() -> None:
        client.ask("POST", "/train/train", json.dumps(settings).encode())
        wait_until(lambda: any("fine-tune" in line for line in lines()))

    start()
    assert client.ask("DELETE", "/train/")["status"] == "STOPPED"
    assert client.ask("GET", "/train/")["status"] == "STOPPED"
    assert not any(is_running(child) for child in client.process.children(recursive=True))
    assert client.infer(min(classes))["prediction"] == before

    start()
    assert any("train continues after iteration" in line for line in lines())
    orphans = client.process.children(recursive=True)
    client.process.terminate()
    client.process.wait(30)
    server.append(Server(label_python, client.log.parent, str(images), {}))
    client = server[-1]
    assert client.infer(min(classes))["prediction"] == before
    shown = client.train("train", **settings)
    assert not psutil.wait_procs(orphans, 1)[1]
    assert any("train continues after iteration" in line for line in shown)
    assert any("fine-tune 20/20" in line for line in shown)
    assert client.infer(min(classes))["prediction"] != before
    # What has ended is not gone on with.
    assert not (images / "fgssl" / "fgssl" / "output" / "train" / "unfinished.txt").exists()


def wait_until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_many_requests_of_many_clients(server: list[Server], truth: tuple[Path, dict[str, str]]) -> None:
    client = server[-1]
    names = sorted(truth[1])

    def work(number: int) -> None:
        name = names[number % len(names)]
        client.infer(name)
        if number % 5 == 0:
            client.label(name, truth[1][name])
            client.ask("GET", f"/fgssl/heat_maps/{name}")
            client.ask("POST", "/activelearning/random")

    for number in range(100):
        work(number)
    before = client.process.memory_info().rss
    for number in range(400):
        work(number)
    assert client.process.memory_info().rss - before < 32 * 2**20
    with ThreadPoolExecutor(8) as clients:
        assert len(list(clients.map(work, range(80)))) == 80


class Archive(Client):
    """Orthanc with its DICOMweb plug-in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.start()

    def start(self) -> None:
        """Start it, or start it again with all that it holds."""
        log = self.folder / "orthanc.log"
        with open(log, "ab") as out:
            command = orthanc_command(self.folder, self.port)
            self.process = psutil.Popen(command, stdout=out, stderr=out, cwd=self.folder)
        wait_for(lambda: self.ask("GET", "/system"), self.process, log)


def write_kinds(folder: Path, images: list[Path]) -> dict[str, tuple[str, Path]]:
    """DICOM files of every kind of color: by Series Instance UID the kind and the picture that it shows."""
    found = {}
    for number, image in enumerate(images):
        kind = ("dermoscopy", "RGB", "YBR", "palette")[number % 4]
        picture = Image.open(image).convert("RGB")
        path = folder / f"{number}.dcm"
        options: dict[str, Any] = {"sop_class": PHOTOGRAPH, "Modality": "XC"} if kind != "dermoscopy" else {}
        pixels = np.asarray(picture)
        if kind == "YBR":
            stored_picture = picture.convert("YCbCr")
            pixels, picture = np.asarray(stored_picture), stored_picture.convert("RGB")
            options["PhotometricInterpretation"] = "YBR_FULL"
        if kind == "palette":
            indexed = picture.quantize(256)
            pixels, picture = np.asarray(indexed), indexed.convert("RGB")
            table = np.zeros((256, 3), np.uint8)
            stored = np.array(indexed.getpalette()).reshape(-1, 3)
            table[: len(stored)] = stored
            options["PhotometricInterpretation"] = "PALETTE COLOR"
            for column, name in enumerate(("Red", "Green", "Blue")):
                options[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 8]
                options[f"{name}PaletteColorLookupTableData"] = table[:, column].tobytes()
        # Two images of each patient.
        options |= {"PatientID": f"secret{number // 2}", "StudyID": "1", "StudyTime": "101112", "AccessionNumber": "1"}
        write_dicom(path, pixels, PatientSex="O", **options)
        picture.save(path.with_suffix(".png"))
        found[str(pydicom.dcmread(path).SeriesInstanceUID)] = kind, path.with_suffix(".png")
    return found


def check_report(client: Client, archive: Archive, uid: str, file: Path, folder: Path) -> None:
    """A prediction as DICOM, of an image of the archive and of a file that is sent."""
    predicted = client.infer(uid)
    source = pydicom.dcmread(file)
    sent = {"file": (file.name, file.read_bytes())}
    for content in (
        client.ask("POST", f"/infer/fgssl?image={uid}&output=dicom"),
        client.form("POST", "/infer/fgssl?output=dicom", sent),
    ):
        (folder / "prediction").write_bytes(content)
        assert complaints(folder / "prediction") == []
        report = pydicom.dcmread(folder / "prediction")
        assert report.StudyInstanceUID == source.StudyInstanceUID
        assert report.PatientID == source.PatientID
        measured = [float(element.value) for element in report.iterall() if element.keyword == "NumericValue"]
        expected = [row["score"] for row in sorted(predicted["prediction"], key=lambda row: row["idx"])]
        assert measured[: len(CLASSES)] == pytest.approx(expected, abs=1e-5)
    assert archive.ask("POST", "/instances", content, "application/dicom")["Status"] == "Success"


def label_reports(archive: Archive) -> list[str]:
    """Names of the instances in the archive that are labels."""
    names = archive.ask("GET", "/instances")
    return [
        name for name in names if SERIES_DESCRIPTION in str(archive.ask("GET", f"/instances/{name}/simplified-tags"))
    ]


def check_labels(client: Client, archive: Archive, count: int, folder: Path) -> None:
    """The labels in the archive: each image got two, of which the first may have been replaced before it was sent."""
    wait_until(lambda: client.ask("GET", "/fgssl/info")["notices"] == [])
    found = label_reports(archive)
    assert count <= len(found) <= 2 * count
    for name in found[:8]:
        (folder / "label").write_bytes(archive.ask("GET", f"/instances/{name}/file"))
        assert complaints(folder / "label") == []


def complaints(file: Path) -> list[str]:
    """Complaints of dciodvfy about a structured report."""
    lines = [line for line in run("dciodvfy", "-new", file).stderr.splitlines() if line]
    assert lines.count("Comprehensive3DSR") == 1
    return [line for line in lines if line != "Comprehensive3DSR" and not is_known(line)]


def test_the_same_with_an_archive(label_python: Path, truth: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    names = sorted(truth[1])[:16]
    series = write_kinds(tmp_path, [truth[0] / f"{name}.png" for name in names])
    classes = {uid: truth[1][name] for uid, name in zip(series, names, strict=True)}
    archive = Archive(tmp_path)
    client = None
    try:
        for file in sorted(tmp_path.glob("*.dcm")):
            archive.ask("POST", "/instances", file.read_bytes(), "application/dicom")
        # A heat map of ours is no image to label.
        source = pydicom.dcmread(tmp_path / "0.dcm")
        model = ModelDescription("lesions", "1", "nobody", "ab" * 32)
        write_secondary_capture(tmp_path / "heat_map", source, np.zeros((8, 8, 3), np.uint8), "Grad-CAM", model)
        archive.ask("POST", "/instances", (tmp_path / "heat_map").read_bytes(), "application/dicom")
        address = f"{archive.url}/dicom-web"
        client = Server(label_python, tmp_path, address, {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(tmp_path / "cache1")})
        assert client.ask("GET", "/fgssl/info")["num_images"] == 16
        assert client.ask("POST", "/activelearning/random")["id"] in series
        for uid, (kind, picture) in series.items():
            shown = np.asarray(Image.open(io.BytesIO(client.ask("GET", f"/fgssl/image/{uid}")))).astype(int)
            # Pillow and pydicom round differently between YBR and RGB.
            largest = np.abs(shown - np.asarray(Image.open(picture))).max()
            assert largest <= (2 if kind == "YBR" else 0), kind
        for name in ("1.2.3", "..%2F..", "%2Fetc"):
            with pytest.raises(Answer, match="404"):
                client.ask("GET", f"/fgssl/image/{name}")
            with pytest.raises(Answer, match="404"):
                client.infer(name)
        for uid, name in classes.items():
            client.label(uid, "NETWORK" if name == "COBBLESTONE" else "COBBLESTONE")
            client.label(uid, name)
        first = min(series)
        client.train("train")
        result = client.infer(first)
        assert result["label"] in CLASSES
        files = {str(pydicom.dcmread(file).SeriesInstanceUID): file for file in sorted(tmp_path.glob("*.dcm"))}
        for uid, file in sorted(files.items())[:4]:
            check_report(client, archive, uid, file, tmp_path)
        check_labels(client, archive, len(series), tmp_path)
        rows = (tmp_path / "cache1").rglob("images.csv")
        written = next(rows).read_text(encoding="utf-8")
        assert "patient_8" in written
        assert "secret" not in written
        client.ask("DELETE", f"/fgssl/label/{first}")
        client.stop()
        assert "secret" not in client.log.read_text(encoding="utf-8")

        client = Server(label_python, tmp_path, address, {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(tmp_path / "cache1")})
        labels = {uid: client.ask("GET", f"/fgssl/label/{uid}")["class"] for uid in series}
        assert labels == {**classes, first: None}
        assert client.infer(first)["prediction"] == result["prediction"]
        client.stop()

        # Another computer, or a cache that was lost: the archive knows.
        client = Server(label_python, tmp_path, address, {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(tmp_path / "cache2")})
        wait_until(lambda: {uid: client.ask("GET", f"/fgssl/label/{uid}")["class"] for uid in series} == classes)
    finally:
        if client is not None:
            client.stop()
        archive.process.terminate()
        archive.process.wait(30)
