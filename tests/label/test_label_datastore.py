# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""No label is lost when a process is killed, a disk is full, somebody deletes files, or another process writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel", reason="MONAI Label has an environment of its own (extra label)")

from fastapi import HTTPException

from monai_fgssl.data.layouts.folders import read_image_folder
from monai_fgssl.label.datastore import CLASS, FINAL, ClassDatastore

CLASSES = ("nevus", "melanoma")
INDEX = "datastore_v2.json"


def draw(folder: Path, name: str, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{name}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "studies"
    made.mkdir()
    for number, name in enumerate("abc"):
        draw(made, name, number)
    return made


def open_store(folder: Path) -> ClassDatastore:
    return ClassDatastore(str(folder), CLASSES)


def label(store: ClassDatastore, image: str, name: str) -> None:
    store.save_label(image, "", FINAL, {"class": name, "observer": "Ann"})


def test_labels_outlive_the_index(folder: Path) -> None:
    store = open_store(folder)
    label(store, "a", "nevus")
    label(store, "b", "melanoma")
    (folder / INDEX).unlink()
    again = open_store(folder)
    assert again.labeled() == {"a": "nevus", "b": "melanoma"}
    assert again.get_label_info("a", FINAL)["observer"] == "Ann"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": 1}', "\0" * 100, "[" * 100_000])
def test_a_damaged_index_is_put_aside_and_made_again(content: str, folder: Path) -> None:
    store = open_store(folder)
    label(store, "a", "nevus")
    (folder / INDEX).write_text(content)
    assert open_store(folder).labeled() == {"a": "nevus"}
    (aside,) = folder.glob("datastore_v2.damaged*.json")
    assert aside.read_text() == content
    # The store that was open all the time.
    (folder / INDEX).write_text(content)
    label(store, "b", "melanoma")
    assert open_store(folder).labeled() == {"a": "nevus", "b": "melanoma"}


def test_a_label_file_that_somebody_deletes_is_written_again(folder: Path) -> None:
    store = open_store(folder)
    label(store, "a", "nevus")
    file = Path(store.get_label_uri("a", FINAL))
    file.unlink()
    store.refresh()
    assert store.labeled() == {"a": "nevus"}
    assert json.loads(file.read_text())["class"] == "nevus"


def test_a_removed_label_stays_removed(folder: Path) -> None:
    store = open_store(folder)
    label(store, "a", "nevus")
    store.remove_label("a", FINAL)
    for again in (store, open_store(folder)):
        again.refresh()
        assert again.labeled() == {}
    (folder / INDEX).unlink()
    assert open_store(folder).labeled() == {}


def test_a_label_waits_for_its_image_and_belongs_to_no_other(folder: Path) -> None:
    store = open_store(folder)
    label(store, "a", "nevus")
    label(store, "b", "melanoma")
    for name in "ab":
        (folder / f"{name}.png").rename(folder.parent / f"{name}.png")
    store.refresh()
    assert store.labeled() == {}
    (folder.parent / "a.png").rename(folder / "a.png")
    draw(folder, "b", seed=9)
    store.refresh()
    assert store.labeled() == {"a": "nevus"}


def test_a_label_file_of_an_earlier_release_counts_where_the_index_is_lost(folder: Path) -> None:
    store = open_store(folder)
    Path(store._datastore.label_path(FINAL), "a.json").write_text(json.dumps({"class": "nevus"}))
    store.refresh()
    assert store.labeled() == {}
    (folder / INDEX).unlink()
    assert open_store(folder).labeled() == {"a": "nevus"}


def test_a_label_file_with_another_class_is_no_label(folder: Path) -> None:
    store = open_store(folder)
    for name, content in {"a": '{"class": "wart"}', "b": "{", "c": '{"class": 1}'}.items():
        Path(store._datastore.label_path(FINAL), f"{name}.json").write_text(content)
    (folder / INDEX).unlink()
    assert open_store(folder).labeled() == {}


def test_what_a_full_disk_did_not_take_is_told_and_not_there(folder: Path, small_disk: Callable[[int], Path]) -> None:
    disk = small_disk(1)
    for number, name in enumerate("abc"):
        draw(disk, name, number)
    store = open_store(disk)
    label(store, "a", "nevus")
    (disk / "ballast").write_bytes(bytes(2_000_000)[: os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize])
    with pytest.raises(HTTPException, match="disk of the server is full") as refused:
        label(store, "b", "melanoma")
    assert refused.value.status_code == 507
    with pytest.raises(HTTPException):
        label(store, "a", "melanoma")
    assert store.labeled() == {"a": "nevus"}
    assert [path.name for path in disk.rglob(".*.part*")] == []
    (disk / "ballast").unlink()
    label(store, "b", "melanoma")
    assert open_store(disk).labeled() == store.labeled() == {"a": "nevus", "b": "melanoma"}


OTHER = """
import sys
from monai_fgssl.label.datastore import ClassDatastore
store = ClassDatastore(sys.argv[1], ("nevus", "melanoma"))
for number in range(20):
    store.save_label("b", "", "final", {"class": "nevus", "number": number})
"""


def test_two_processes_lose_none_of_each_others_labels(folder: Path) -> None:
    store = open_store(folder)
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(folder)])
    number = 0
    while other.poll() is None or number < 20:
        store.save_label("a", "", FINAL, {"class": "melanoma", "number": number})
        number += 1
    assert other.wait() == 0
    for found in (store, open_store(folder)):
        found.refresh()
        assert found.labeled() == {"a": "melanoma", "b": "nevus"}
    assert found.get_label_info("b", FINAL)["number"] == 19
    assert found.get_label_info("a", FINAL)["number"] == number - 1


@pytest.mark.parametrize(
    "changes",
    [
        {"images_dir": "/"},
        {"labels_dir": "../.."},
        {"objects": {"../secret": {"image": {"ext": ".png"}}}},
        {"objects": {"a": {"image": {"ext": "/../../secret.png"}}}},
        {"objects": {"..": {"image": {"ext": ""}}}},
        {"objects": {"a": {"image": {"ext": ".png"}, "labels": {"../..": {"ext": ".png"}}}}},
    ],
)
def test_an_index_that_somebody_sends_leads_nowhere(changes: dict[str, object], folder: Path) -> None:
    draw(folder.parent, "secret")
    store = open_store(folder)
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(index | changes))
    again = open_store(folder)
    assert sorted(again.list_images()) == ["a", "b", "c"]
    for name in again.list_images():
        assert Path(again.get_image_uri(name)).parent == folder
        assert again.get_label_uri(name, "../..") == ""
    assert store._datastore.labels_dir == again._datastore.labels_dir == "labels"


@pytest.mark.parametrize("name", [{"_target_": "os.system"}, 1, "nevur", None])
def test_a_class_that_is_none_is_taken_from_the_label_file(name: object, folder: Path) -> None:
    store = open_store(folder)
    label(store, "a", "nevus")
    index = json.loads((folder / INDEX).read_text())
    index["objects"]["a"]["labels"][FINAL]["info"]["class"] = name
    (folder / INDEX).write_text(json.dumps(index))
    assert open_store(folder).labeled() == {"a": "nevus"}


def test_a_label_file_that_says_something_else_is_written_again(folder: Path) -> None:
    """As when a process is killed between the two, or somebody has changed the file."""
    store = open_store(folder)
    label(store, "a", "nevus")
    file = Path(store.get_label_uri("a", FINAL))
    file.write_text(file.read_text().replace("nevus", "melanoma"))
    assert open_store(folder).labeled() == {"a": "nevus"}
    assert json.loads(file.read_text())["class"] == "nevus"


def test_everybody_has_a_reading_of_their_own(folder: Path) -> None:
    store = open_store(folder)
    forged = {"class": "nevus", "user": "anna", "readings": {"uma": "nevus"}}
    store.save_label("a", "", FINAL, forged)
    store.save_label("a", "", FINAL, {"class": "melanoma", "user": "uma"})
    assert store.readings_of("a") == {"anna": "nevus", "uma": "melanoma"}
    (folder / INDEX).unlink()
    again = open_store(folder)
    assert (again.class_of("a"), again.user_of("a")) == ("melanoma", "uma")
    assert again.readings_of("a") == {"anna": "nevus", "uma": "melanoma"}
    # Where nobody signs in there are none.
    label(again, "b", "nevus")
    assert again.readings_of("b") == {}


def test_marks_outlive_a_restart_and_a_class_ends_the_waiting(folder: Path) -> None:
    store = open_store(folder)
    store.set_marks("a", {"unsure": True, "skipped": True}, "anna")
    store.set_marks("b", {"skipped": True})
    again = open_store(folder)
    assert [again.marks_of(name) for name in "abc"] == [["skipped", "unsure"], ["skipped"], []]
    label(again, "a", "nevus")
    again.set_marks("b", {"skipped": False})
    assert [open_store(folder).marks_of(name) for name in "ab"] == [["unsure"], []]
    with pytest.raises(HTTPException):
        again.set_marks("d", {"unsure": True})


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.05)


@pytest.mark.timeout(120)
def test_what_is_removed_and_added_while_the_server_runs_is_noticed(folder: Path) -> None:
    """Also after removals, of images with labels, of all files, and of the folder of labels."""
    store = ClassDatastore(str(folder), CLASSES, auto_reload=True)
    label(store, "a", "nevus")
    (folder / "a.png").unlink()
    wait_until(lambda: sorted(store.list_images()) == ["b", "c"])
    shutil.rmtree(folder / "labels")
    (folder / "b.png").unlink()
    (folder / "c.png").unlink()
    wait_until(lambda: store.list_images() == [])
    for number, name in enumerate("de"):
        draw(folder, name, number)
        wait_until(lambda name=name: name in store.list_images())
    label(store, "e", "melanoma")
    (folder / "d.png").unlink()
    wait_until(lambda: store.list_images() == ["e"])
    assert store.labeled() == {"e": "melanoma"}


def test_images_are_found_as_in_training(folder: Path) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    for name in ("x.Jpg", "y.JPEG", "z.TIF"):
        Image.fromarray(pixels).save(folder / name)
    for name in (".hidden.png", "notes.txt", "k.png.part"):
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    (folder / "below").mkdir()
    draw(folder / "below", "deep")
    store = open_store(folder)
    trained_on = {Path(item["image"]).name for item in read_image_folder(folder).items} - {"deep.png"}
    assert {Path(store.get_image_uri(name)).name for name in store.list_images()} == trained_on
    assert trained_on == {"a.png", "b.png", "c.png", "x.Jpg", "y.JPEG", "z.TIF"}
    label(store, "x", "nevus")
    assert open_store(folder).labeled() == {"x": "nevus"}


FINDINGS = ("Mass", "Edema")


def open_findings(folder: Path, names: tuple[str, ...] = FINDINGS) -> ClassDatastore:
    return ClassDatastore(str(folder), names, several=True)


def test_findings_are_a_list_and_none_is_a_label(folder: Path) -> None:
    store = open_findings(folder)
    store.save_label("a", "", FINAL, {CLASS: ["edema", "Mass"], "user": "anna"})
    store.save_label("b", "", FINAL, {CLASS: []})
    store.save_label("a", "", FINAL, {CLASS: ["Edema"], "user": "uma"})
    for opened in (store, open_findings(folder)):
        assert opened.labeled() == {"a": ("Edema",), "b": ()}
        assert opened.readings_of("a") == {"anna": ("Mass", "Edema"), "uma": ("Edema",)}
        assert opened.answers() == {"a": {"Mass": False, "Edema": True}, "b": {"Mass": False, "Edema": False}}
    content = json.loads((folder / "labels" / "final" / "a.json").read_text(encoding="utf-8"))
    assert content["class"] == ["Edema"]
    # A lost index is rebuilt from the files.
    (folder / "datastore_v2.json").unlink()
    again = open_findings(folder)
    assert again.labeled() == {"a": ("Edema",), "b": ()}
    again.remove_label("b", FINAL)
    assert open_findings(folder).labeled() == {"a": ("Edema",)}


def test_a_finding_that_is_added_later_is_not_known_of_earlier_labels(folder: Path) -> None:
    open_findings(folder).save_label("a", "", FINAL, {CLASS: ["Mass"]})
    store = open_findings(folder, (*FINDINGS, "Effusion"))
    store.save_label("b", "", FINAL, {CLASS: ["Mass"]})
    assert store.answers()["a"] == {"Mass": True, "Edema": False}
    assert store.answers()["b"] == {"Mass": True, "Edema": False, "Effusion": False}


def test_what_is_no_list_of_findings_is_refused(folder: Path) -> None:
    store = open_findings(folder)
    for value in ("Mass", None, ["Nodule"]):
        with pytest.raises(HTTPException) as caught:
            store.save_label("a", "", FINAL, {CLASS: value})
        assert caught.value.status_code == 422
    assert store.labeled() == {}


def test_labels_of_the_other_kind_are_kept_and_not_mistaken(folder: Path) -> None:
    ClassDatastore(str(folder), FINDINGS).save_label("a", "", FINAL, {CLASS: "Mass"})
    store = open_findings(folder)
    # One class says nothing about the others.
    assert store.answers() == {"a": {"Mass": True}}
    store.save_label("b", "", FINAL, {CLASS: ["Edema"]})
    assert ClassDatastore(str(folder), FINDINGS).labeled() == {"a": "Mass"}
    assert open_findings(folder).labeled() == {"a": ("Mass",), "b": ("Edema",)}
