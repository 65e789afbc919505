# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Ten thousand label reports in an archive are read only once, and nobody has to wait while they are read."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("monailabel", reason="MONAI Label has an environment of its own (extra label)")

from monai_fgssl.label import archive_datastore
from monai_fgssl.label.archive_datastore import ClassDICOMWebDatastore
from monai_fgssl.label.datastore import FINAL
from monai_fgssl.label.structured_report import SERIES_DESCRIPTION

NUM_REPORTS = 10_000
PAGE_SIZE = 1000
IMAGES = [f"1.2.{number}" for number in range(100)]


def series(uid: str, modality: str, description: str = "") -> dict[str, Any]:
    values = {"0020000D": "1.9", "0020000E": uid, "00080060": modality, "0008103E": description}
    return {tag: {"Value": [value]} for tag, value in values.items()}


class Client:
    """An archive with images, and with reports that name them in turn; counts what is asked for."""

    base_url = "http://archive.example/dicom-web"

    def __init__(self) -> None:
        self.listed = {
            "XC": [series(uid, "XC") for uid in IMAGES],
            "SR": [series(f"1.3.{number}", "SR", SERIES_DESCRIPTION) for number in range(NUM_REPORTS)],
        }
        self.retrieved: list[str] = []
        # Called while a report is on its way.
        self.meanwhile = lambda: None

    def search_for_series(self, search_filters: dict[str, str], offset: int | None = None) -> list[dict[str, Any]]:
        return self.listed.get(search_filters["Modality"], [])[offset or 0 :][:PAGE_SIZE]

    def retrieve_series(self, study: str, uid: str) -> list[Any]:
        self.retrieved.append(uid)
        self.meanwhile()
        return [uid]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ClassDICOMWebDatastore, Client]:
    def read(uid: str) -> tuple[str, str, str]:
        number = int(uid.rsplit(".", 1)[1])
        return IMAGES[number % len(IMAGES)], ("nevus", "melanoma")[number // len(IMAGES) % 2], f"2026{number:010d}"

    # What is in a report is the matter of other tests.
    monkeypatch.setattr(archive_datastore, "read_label_report", read)
    client = Client()
    return open_store(client, tmp_path), client


def open_store(client: Client, folder: Path) -> ClassDICOMWebDatastore:
    return ClassDICOMWebDatastore(client, {"Modality": "XC"}, str(folder), ("nevus", "melanoma"))


def test_each_report_is_read_once(store: tuple[ClassDICOMWebDatastore, Client], tmp_path: Path) -> None:
    first, client = store
    first.refresh()
    assert sorted(client.retrieved) == sorted(f"1.3.{number}" for number in range(NUM_REPORTS))
    # The newest report of each image counts.
    assert first.labeled() == dict.fromkeys(IMAGES, "melanoma")
    client.retrieved.clear()
    first.refresh()
    client.listed["SR"].append(series(f"1.3.{NUM_REPORTS}", "SR", SERIES_DESCRIPTION))
    again = open_store(client, tmp_path)
    again.refresh()
    assert client.retrieved == [f"1.3.{NUM_REPORTS}"]


def test_nobody_waits_while_a_report_is_read(store: tuple[ClassDICOMWebDatastore, Client]) -> None:
    """Labels are saved, changed and listed from another thread while the archive has not answered yet."""
    first, client = store
    del client.listed["SR"][300:]
    saved: list[str] = []

    def work() -> None:
        image = IMAGES[len(saved) % len(IMAGES)]
        first.save_label(image, "", FINAL, {"class": "nevus"})
        assert first.labeled()[image] == "nevus"
        assert len(first.list_images()) == len(IMAGES)
        assert "labels in the archive are not read yet" in " ".join(first.notices())
        saved.append(image)

    def meanwhile() -> None:
        # Of the 300, some.
        if len(client.retrieved) % 60 == 1:
            thread = threading.Thread(target=work)
            thread.start()
            # The archive answers after that: with a lock that is held meanwhile, never.
            thread.join(30)
            assert not thread.is_alive()

    client.meanwhile = meanwhile
    first._read_reports()
    assert len(saved) == 5
    # What people say here counts more than the reports.
    assert {first.class_of(image) for image in saved} == {"nevus"}


def test_findings_in_an_archive_are_taken_over_with_what_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client()
    client.listed["SR"] = client.listed["SR"][:4]
    reports: dict[str, Any] = {
        "1.3.0": (IMAGES[0], {"Mass": True, "Edema": False}, "20260101000000.000001"),
        # The newest report of an image counts, whatever kind of label it has.
        "1.3.1": (IMAGES[1], {"Mass": True}, "20260101000000.000001"),
        "1.3.2": (IMAGES[1], {"Mass": False}, "20260101000000.000002"),
        # Of another list of findings.
        "1.3.3": (IMAGES[2], {"Nodule": True}, "20260101000000.000001"),
    }
    monkeypatch.setattr(archive_datastore, "read_label_report", reports.get)
    for _ in range(2):
        # The second time from the file that remembers the reports.
        store = ClassDICOMWebDatastore(client, {"Modality": "XC"}, str(tmp_path), ("Mass", "Edema"), several=True)
        store.refresh()
        assert store.labeled() == {IMAGES[0]: ("Mass",), IMAGES[1]: ()}
        assert store.answers() == {IMAGES[0]: {"Mass": True, "Edema": False}, IMAGES[1]: {"Mass": False}}
    assert len(client.retrieved) == 4
