# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Images that can't be read are listed once, never offered and not counted, and they make no training fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from label_browser import CLASSES, Page, StandIn
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import Select
from test_label_page_review import NAMES, open_review, tiles
from test_label_server import CLASSES as TWO_CLASSES
from test_label_server import Answer, Server, wait_until

from monai_fgssl.data import read_isic2018

BROKEN = ("no_picture", "cut_off")


def test_the_page_passes_over_them(page: Page, server: StandIn) -> None:
    server.unreadable = {NAMES[1]: "it is damaged", NAMES[2]: "it is damaged"}
    page.press("1")
    page.wait(lambda: page.image == NAMES[3])
    assert page.error == ""
    page.wait(lambda: page.text("#notice") == "2 images can't be read, and are left out: see Review.")
    assert page.text("#done-text") == "1 of 4 labeled"
    for name in (NAMES[4], NAMES[5]):
        page.press("2")
        page.wait(lambda name=name: page.image == name)
    page.press("2")
    page.wait(lambda: page.text("#done-text") == "4 of 4 labeled")
    assert page.text("#nothing") == "All 4 images are labeled."
    assert not {NAMES[1], NAMES[2]} & server.labels.keys()
    open_review(page)
    Select(page.find("#filter-show")).select_by_value("unreadable")
    assert sorted(tiles(page)) == NAMES[1:3]
    tile = page.find(".tile")
    assert tile.get_attribute("title") == "it is damaged"
    assert "can't be read" in tile.text
    # Who opens one is told why it is not shown.
    page.find("#grid").send_keys("\ue006")
    page.wait(lambda: page.error.startswith("The image can't be shown: the image can't be read: it is damaged"))


def test_one_that_the_server_does_not_note_ends_nothing(page: Page, server: StandIn) -> None:
    server.failures["GET /fgssl/image/"] = (422, "the image can't be read: who knows")
    page.press("1")
    page.wait(lambda: page.error == "The next image can't be shown: the image can't be read: who knows.")
    assert page.image == NAMES[0]
    assert server.labels == {NAMES[0]: CLASSES[0]}


@dataclass
class Site:
    """A server on a folder with 12 images of two classes and two that can't be read."""

    server: Server
    studies: Path
    classes: dict[str, str]

    def details(self) -> list[str]:
        return list(self.server.ask("GET", "/train/").get("details", ()))


@pytest.fixture(scope="module")
def site(label_python: Path, lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("unreadable")
    studies = folder / "studies"
    studies.mkdir()
    table = read_isic2018(lesions)
    classes: dict[str, str] = {}
    for name in TWO_CLASSES:
        for item in [item for item in table.items if table.class_names[item["label"]] == name][:6]:
            (studies / Path(item["image"]).name).write_bytes(Path(item["image"]).read_bytes())
            classes[item["name"]] = name
    whole = (studies / f"{min(classes)}.png").read_bytes()
    (studies / f"{BROKEN[0]}.png").write_text("text")
    (studies / f"{BROKEN[1]}.png").write_bytes(whole[: len(whole) // 2])
    server = Server(label_python, folder, str(studies), {})
    yield Site(server, studies, classes)
    server.stop()


def test_they_are_found_without_being_asked_for(site: Site) -> None:
    wait_until(lambda: site.server.ask("GET", "/fgssl/info")["num_unreadable"] == 2)
    info = site.server.ask("GET", "/fgssl/info")
    assert (info["num_images"], info["num_unreadable"]) == (12, 2)
    listed = {image["id"]: image for image in site.server.ask("GET", "/fgssl/images")}
    assert {name for name, image in listed.items() if "unreadable" in image} == set(BROKEN)
    # The reason names the file and no folder of the server.
    assert all(listed[name]["unreadable"].startswith(f"{name}.png ") for name in BROKEN)
    for strategy in ("random", "mix"):
        given = {site.server.ask("POST", f"/activelearning/{strategy}")["id"] for _ in range(16)}
        assert given <= site.classes.keys()
    # Told once.
    log = site.server.log.read_text(encoding="utf-8")
    assert [log.count(f"an image can't be read: {name}.png") for name in BROKEN] == [1, 1]


def test_a_training_leaves_them_out(site: Site) -> None:
    # One that was good when somebody labeled it.
    late = max(site.classes)
    for name, label in site.classes.items():
        site.server.label(name, label)
    site.server.label(BROKEN[0], TWO_CLASSES[0])
    whole = (site.studies / f"{late}.png").read_bytes()
    (site.studies / f"{late}.png").write_bytes(whole[:100])
    shown = site.server.train("train")
    assert any("2 of 13 images can't be read and are left out:" in line for line in shown), shown
    assert any("11 images" in line for line in shown), shown
    listed = (site.studies / "fgssl" / "fgssl" / "output" / "train" / "images.csv").read_text(encoding="utf-8")
    assert late not in listed
    assert BROKEN[0] not in listed
    shown = site.server.train("pretrain")
    assert any("3 of 14 images can't be read and are left out" in line for line in shown), shown
    # The server has met it by now, or meets it when somebody looks.
    with pytest.raises(Answer, match="422"):
        site.server.ask("GET", f"/fgssl/image/{late}")
    info = site.server.ask("GET", "/fgssl/info")
    assert (info["num_images"], info["num_labeled"], info["num_unreadable"]) == (11, 11, 3)
    (site.studies / f"{late}.png").write_bytes(whole)
    assert site.server.ask("GET", "/fgssl/info")["num_labeled"] == 12
    site.server.ask("DELETE", f"/fgssl/label/{BROKEN[0]}")


def test_a_training_without_enough_readable_images_is_refused_at_once(site: Site) -> None:
    kept = {name: (site.studies / f"{name}.png").read_bytes() for name in site.classes}
    one_class = [name for name, label in site.classes.items() if label == TWO_CLASSES[0]]
    for name in one_class[:4]:
        (site.studies / f"{name}.png").write_text("text")
        with pytest.raises(Answer, match="422"):
            site.server.ask("GET", f"/fgssl/image/{name}")
    before = site.server.ask("GET", "/train/")
    with pytest.raises(Answer, match="409") as refusal:
        site.server.ask("POST", "/train/train", json.dumps({}).encode())
    assert f"{TWO_CLASSES[0]} (2)" in refusal.value.detail
    assert site.server.ask("GET", "/fgssl/info")["training_refused"] == refusal.value.detail
    assert site.server.ask("GET", "/train/") == before
    for name in one_class[:4]:
        (site.studies / f"{name}.png").write_bytes(kept[name])
    assert site.server.ask("GET", "/fgssl/info")["training_refused"] is None


def test_the_real_page_offers_none(site: Site, chrome: Chrome) -> None:
    for name in site.classes:
        if site.server.ask("GET", f"/fgssl/label/{name}")["class"]:
            site.server.ask("DELETE", f"/fgssl/label/{name}")
    # Another one that nobody has looked at yet.
    (site.studies / "new.png").write_text("text")
    site.server.ask("POST", "/reload")
    page = Page(chrome, site.server.url + "/fgssl/")
    seen = []
    for number in range(len(site.classes)):
        page.wait(lambda number=number: page.text("#done-text").startswith(f"{number} of "))
        seen.append(page.image)
        page.press("1")
        page.wait(lambda name=seen[-1]: page.image != name)
    page.wait(lambda: page.text("#nothing") == f"All {len(site.classes)} images are labeled.")
    assert sorted(seen) == sorted(site.classes)
    assert page.text("#notice").startswith("3 images can't be read")
    assert page.error == ""
    assert page.complaints() == []
