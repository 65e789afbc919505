# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The MONAI Label app on an archive that goes away, hangs, comes back, and holds many labels: nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest
from archive_gateway import Gateway
from dicom_files import write_dicom
from label_browser import Page
from selenium.webdriver import Chrome
from test_label_server import (
    PHOTOGRAPH,
    SETTINGS,
    Answer,
    Archive,
    Server,
    label_reports,
    wait_until,
)

from monai_fgssl.label.structured_report import make_label_report, read_label_report

CLASSES = ("COBBLESTONE", "NETWORK")
# So many that reading them one by one is seen.
NUM_REPORTS = 250
STUDY = {"StudyID": "1", "AccessionNumber": "2", "StudyTime": "101010", "PatientSex": "O"}


@dataclass
class Site:
    """An archive with images, what stands before it, and the servers that were started on it."""

    archive: Archive
    gateway: Gateway
    python: Path
    folder: Path
    headers: dict[str, pydicom.Dataset]
    server: Server | None = None

    def start(self, cache: str) -> Server:
        """A server with a cache that it may have had before; the one before it ends."""
        self.stop()
        environment = {"MONAI_LABEL_DICOMWEB_CACHE_PATH": str(self.folder / cache)}
        conf = {"classes": ",".join(CLASSES), **SETTINGS}
        self.server = Server(self.python, self.folder, f"{self.gateway.url}/dicom-web", environment, conf)
        return self.server

    def stop(self) -> None:
        if self.server:
            self.server.stop()

    def store(self, dataset: pydicom.Dataset) -> None:
        file = self.folder / "sent.dcm"
        dataset.save_as(file)
        self.archive.ask("POST", "/instances", file.read_bytes(), "application/dicom")

    def retrieved(self) -> int:
        """Number of times that a whole series was fetched."""
        parts = [path.split("?")[0].split("/series/") for method, path, _ in self.gateway.requests if method == "GET"]
        return sum(len(part) == 2 and "/" not in part[1] for part in parts)


@pytest.fixture
def site(label_python: Path, tmp_path: Path) -> Iterator[Site]:
    archive = Archive(tmp_path)
    gateway = Gateway(archive.url)
    headers = {}
    for number in range(4):
        pixels = np.full((8, 8, 3), 60 * number, np.uint8)
        options = {**STUDY, "Modality": "XC", "PatientID": f"P{number}"}
        file = write_dicom(tmp_path / f"{number}.dcm", pixels, sop_class=PHOTOGRAPH, **options)
        archive.ask("POST", "/instances", file.read_bytes(), "application/dicom")
        header = pydicom.dcmread(file)
        headers[str(header.SeriesInstanceUID)] = header
    site = Site(archive, gateway, label_python, tmp_path, headers)
    try:
        yield site
    finally:
        gateway.close()
        site.stop()
        archive.process.terminate()
        archive.process.wait(30)


def labels(client: Server, names: list[str]) -> dict[str, str | None]:
    return {name: client.ask("GET", f"/fgssl/label/{name}")["class"] for name in names}


def notices(client: Server) -> str:
    return " ".join(client.ask("GET", "/fgssl/info")["notices"])


def test_labels_wait_for_an_archive_that_is_away(site: Site) -> None:
    client = site.start("cache")
    seen, unseen, *others = site.headers
    client.ask("GET", f"/fgssl/image/{seen}")
    site.gateway.mode = "away"
    started = datetime.now()
    client.label(seen, "NETWORK")
    saved = datetime.now()
    assert "1 label waits to be sent to the archive" in notices(client)
    wait_until(lambda: "The archive has not answered since" in notices(client))
    # Lists stay usable, and so does what was fetched.
    assert client.ask("GET", "/fgssl/info")["num_images"] == 4
    assert client.ask("POST", "/activelearning/random")["id"] in (unseen, *others)
    assert len(client.ask("GET", "/datastore/?output=all")["objects"]) == 4
    client.ask("GET", f"/fgssl/image/{seen}")
    for path in (f"/fgssl/image/{unseen}", "/proxy/dicom/studies"):
        with pytest.raises(Answer, match="503"):
            client.ask("GET", path)
    # What nobody has fetched can have a label too, and its report waits for the image.
    client.label(unseen, "COBBLESTONE")

    client = site.start("cache")
    assert labels(client, list(site.headers)) == {seen: "NETWORK", unseen: "COBBLESTONE", **dict.fromkeys(others)}
    assert "2 labels wait to be sent to the archive" in notices(client)
    client.label(unseen, "NETWORK")
    assert label_reports(site.archive) == []

    site.gateway.mode = "pass"
    wait_until(lambda: notices(client) == "")
    found = {}
    for name in label_reports(site.archive):
        (site.folder / "report.dcm").write_bytes(site.archive.ask("GET", f"/instances/{name}/file"))
        image, class_name, when = read_label_report(pydicom.dcmread(site.folder / "report.dcm")) or ("", "", "")
        found[image] = class_name, when
    assert {image: class_name for image, (class_name, _) in found.items()} == {seen: "NETWORK", unseen: "NETWORK"}
    # It counts when somebody chose, and not when it arrived.
    assert started.strftime("%Y%m%d%H%M%S.%f") <= found[seen][1] <= saved.strftime("%Y%m%d%H%M%S.%f")


def test_an_archive_is_stopped_while_somebody_labels_on_the_page(site: Site, chrome: Chrome) -> None:
    """Orthanc itself ends and starts again, and so does the server meanwhile."""
    client = site.start("cache")
    # What the page shows lies here before.
    for name in site.headers:
        client.ask("GET", f"/fgssl/image/{name}")
    page = Page(chrome, client.url + "/fgssl/")
    page.wait(lambda: page.image)
    site.archive.process.terminate()
    site.archive.process.wait(30)
    chosen = {}
    for key, name in (("1", "COBBLESTONE"), ("2", "NETWORK")):
        image = page.image
        page.press(key)
        page.wait(lambda image=image: page.image != image)
        chosen[image] = name
        assert page.error == ""
    page.wait(lambda: "2 labels wait to be sent to the archive." in page.text("#notice"))
    assert page.text("#done-text") == "2 of 4 labeled"
    page.press("g")
    page.wait(lambda: len(page.chrome.find_elements("css selector", ".tile")) == 4)

    client = site.start("cache")
    page = Page(chrome, client.url + "/fgssl/")
    page.wait(lambda: "2 labels wait to be sent to the archive." in page.text("#notice"))
    site.archive.start()
    wait_until(lambda: notices(client) == "")
    assert len(label_reports(site.archive)) == 2
    page.chrome.refresh()
    page.wait(lambda: page.image)
    assert not page.find("#notice").is_displayed()
    # The archive alone knows them too.
    client = site.start("other")
    wait_until(lambda: {image: labels(client, [image])[image] for image in chosen} == chosen)


def test_nobody_waits_for_an_archive_that_hangs(site: Site) -> None:
    client = site.start("cache")
    image = min(site.headers)
    client.ask("GET", f"/fgssl/image/{image}")
    site.gateway.open.clear()
    asked = len(site.gateway.requests)
    client.label(image, "NETWORK")
    wait_until(lambda: len(site.gateway.requests) > asked)
    # The archive was asked and has not answered: here are answers.
    assert client.ask("GET", f"/fgssl/label/{image}") == {"class": "NETWORK"}
    client.label(image, "COBBLESTONE")
    assert client.ask("DELETE", f"/fgssl/label/{image}") == {"class": None}
    client.label(image, "NETWORK")
    assert "1 label waits" in notices(client)
    site.gateway.open.set()
    wait_until(lambda: notices(client) == "")
    assert labels(client, [image]) == {image: "NETWORK"}


def test_a_server_starts_while_the_archive_is_away(site: Site) -> None:
    site.gateway.mode = "away"
    client = site.start("cache")
    for path in ("/fgssl/info", "/info/", f"/fgssl/image/{min(site.headers)}"):
        with pytest.raises(Answer, match="503") as refusal:
            client.ask("GET", path)
        assert "the archive does not answer" in refusal.value.detail
    site.gateway.mode = "pass"
    client.ask("POST", "/reload")
    with pytest.raises(Answer, match="404"):
        client.ask("GET", "/fgssl/image/1.2.3")
    assert client.ask("GET", "/fgssl/info")["num_images"] == 4


def test_a_label_that_is_removed_stays_removed(site: Site) -> None:
    """Also when it was saved in the same second, whether its report was sent or not."""
    client = site.start("cache")
    names = list(site.headers)
    for name in names:
        client.label(name, "NETWORK")
        client.ask("DELETE", f"/fgssl/label/{name}")
    client.label(names[0], "COBBLESTONE")
    wait_until(lambda: notices(client) == "")
    client.ask("DELETE", f"/fgssl/label/{names[0]}")
    client.ask("POST", "/reload")
    assert labels(client, names) == dict.fromkeys(names)
    client.label(names[1], "NETWORK")
    client.ask("POST", "/reload")
    assert labels(client, names) == {**dict.fromkeys(names), names[1]: "NETWORK"}


def test_reports_are_read_once(site: Site) -> None:
    first, second, *others = site.headers
    for number in range(NUM_REPORTS):
        saved = datetime(2026, 1, 1, 10, number // 60, number % 60)
        site.store(make_label_report(site.headers[first], CLASSES[number % 2], CLASSES, "Anna", saved))
    client = site.start("cache")
    # The server answers while it reads them.
    assert client.ask("GET", "/fgssl/info")["num_images"] == 4
    wait_until(lambda: labels(client, [first]) == {first: CLASSES[(NUM_REPORTS - 1) % 2]} and notices(client) == "")
    assert site.retrieved() == NUM_REPORTS
    site.store(make_label_report(site.headers[second], "NETWORK", CLASSES, "Anna"))
    client.ask("POST", "/reload")
    assert labels(client, list(site.headers)) == {
        first: CLASSES[(NUM_REPORTS - 1) % 2],
        second: "NETWORK",
        **dict.fromkeys(others),
    }
    assert site.retrieved() == NUM_REPORTS + 1
    client = site.start("cache")
    client.ask("POST", "/reload")
    assert site.retrieved() == NUM_REPORTS + 1
    # Reports that were deleted there do not count for a new cache.
    for name in label_reports(site.archive):
        site.archive.ask("DELETE", f"/instances/{name}")
    client = site.start("other")
    client.ask("POST", "/reload")
    assert labels(client, [first, second]) == {first: None, second: None}


def test_names_from_an_archive_are_no_paths(site: Site) -> None:
    image = min(site.headers)
    dataset = pydicom.dcmread(site.folder / "0.dcm")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "../../../escaped"
    dataset.SeriesInstanceUID = "1.2.3.4"
    site.store(dataset)
    client = site.start("cache")
    assert set(client.ask("GET", "/datastore/?output=all")["objects"]) == {*site.headers, "1.2.3.4"}
    with pytest.raises(Answer, match="422"):
        client.ask("GET", "/fgssl/image/1.2.3.4")
    assert not list(site.folder.parent.rglob("escaped*"))
    assert client.ask("GET", f"/fgssl/image/{image}")


def test_settings_of_a_label_are_not_sent_by_people(site: Site) -> None:
    client = site.start("cache")
    image = min(site.headers)
    client.form(
        "PUT",
        f"/datastore/label?image={image}&tag=final",
        {},
        params={"class": "NETWORK", "unsent": "20260101000000.000000", "unsendable": "x", "ts": 1},
    )
    wait_until(lambda: notices(client) == "")
    assert len(label_reports(site.archive)) == 1
    client.form("PUT", f"/datastore/image/info?image={image}", {}, info={"study": "1.2", "label_removed": "9"})
    client.ask("POST", "/reload")
    info = client.ask("GET", f"/datastore/image/info?image={image}")
    assert info["study"] == site.headers[image].StudyInstanceUID
    assert "label_removed" not in info
    with pytest.raises(Answer, match="422"):
        client.form("PUT", f"/datastore/image/info?image={image}", {}, info=json.loads("[1]"))
