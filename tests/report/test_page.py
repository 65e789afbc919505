# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The page of a report: its content is right, it needs no other file, and a browser shows all of it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By

from monai_fgssl.data import CachedImages, PreparedData
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import PredictionSets
from monai_fgssl.report import Report
from monai_fgssl.report.abstention import sentence_on_abstention
from monai_fgssl.utils.run_log import close_log, open_log, tell

CLASSES = ["NETWORK", "<b>DOTS</b> & more", "STREAKS"]
HISTORY = {
    "pre-train": {"loss_concat": [(1, 9.0), (2, 5.0)], "knn_accuracy": [(0, 0.3), (2, 0.6)]},
    "fine-tune": {"val_accuracy": [(1, 0.4), (2, 0.7)], "val_balanced_accuracy": [(1, 0.4), (2, 0.7)]},
}


def make_predictions(seed: int, skill: float) -> PredictionCollector:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(90) % 3
    logits = torch.randn(90, 2, 3, generator=generator) + skill * torch.nn.functional.one_hot(labels, 3)[:, None]
    names, groups = [f"i{n}" for n in range(90)], [f"g{n // 2}" for n in range(90)]
    return PredictionCollector(names, groups, [labels], [logits], prediction_sets=PredictionSets(0.9, (1.0,) * 3))


def make_images(labels: list[int]) -> CachedImages:
    names = [f"n{i}" for i in range(len(labels))]
    store = torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8)
    return CachedImages(store, torch.tensor(labels), names, [f"g{i // 2}" for i in range(len(labels))])


def write_report(folder: Path, **settings: Any) -> dict[str, Any]:
    data = PreparedData(
        tuple(CLASSES), make_images([0, 1, 2] * 6 + [-1] * 1200), make_images([0, 1, 2]), make_images([0, 1, 2] * 30)
    )
    report = Report(folder, CLASSES, {"pretrain_epochs": 2, "model_path": "models/model.pt", **settings}, data)
    for method, skill in (("FG-SSL", 2.0), ("random weights", 0.3), ("FG-SSL, linear probe", 1.5)):
        for seed in (0, 1, 2):
            report.add(method, make_predictions(seed, skill))
    return report.write(HISTORY)


class Reader(HTMLParser):
    """Text and addresses of a page, and whether its tags are closed."""

    VOID = ("meta", "img", "line", "circle", "br")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.addresses += [value for name in ("src", "href") if (value := found.get(name))]
        self.ids += [found["id"]] if found.get("id") else []  # type: ignore[list-item]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_has_the_figures_and_needs_no_other_file(tmp_path: Path) -> None:
    content = write_report(tmp_path, dataset_dir="/somewhere/lesions_2024", seeds=3)
    page = Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    for intervals in (content["methods"], content["differences"]):
        for method, row in intervals.items():
            assert method in page.text
            for value in row.values():
                assert f"{value['low']:.3f}".lstrip("-") in page.text
    for sentence in content["conclusions"]:
        assert sentence in page.text
    assert sentence_on_abstention(content["abstention"]) in page.text
    assert "lesions_2024" in page.text
    for words in (
        "<b>DOTS</b> & more",
        "1,218",
        "not a medical device",
        content["command"],
        content["versions"]["torch"],
    ):
        assert words in page.text
    # Pictures are within; what is not leads to a section, or to a public page that is only linked.
    within = [address for address in page.addresses if address.startswith("data:image/png;base64,")]
    assert len(within) == 5
    sections = [address[1:] for address in page.addresses if address.startswith("#")]
    assert len(sections) > 5
    assert set(sections) <= set(page.ids)
    rest = [address for address in page.addresses if address not in within and not address.startswith("#")]
    assert all(address.startswith("https://") for address in rest)


def test_settings_of_the_command_come_first_and_warnings_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sys.orig_argv",
        ["python3", "-m", "monai.bundle", "run", "--batch_size", "8", "--width=16", "--dataset_dir", "a b"],
    )
    open_log(tmp_path / "run.log", {})
    tell("said")
    logging.getLogger("monai_fgssl.x").warning("the features of <stage1> are collapsing")
    write_report(tmp_path, batch_size=8, width=16, stages=3)
    close_log()
    text = Reader((tmp_path / "report.html").read_text(encoding="utf-8")).text
    given, others = text.split("Given with the command")[1].split("All others, at their defaults")
    assert "batch_size 8" in given
    assert "width 16" in given
    assert "stages 3" in others.split("Make it again")[0]
    assert "python -m monai.bundle run --batch_size 8 --width=16 --dataset_dir 'a b'" in text
    assert "the features of <stage1> are collapsing" in text
    assert "said" not in text


def test_a_pretraining_has_a_page_too(tmp_path: Path) -> None:
    report = Report(tmp_path, [], {"dataset_dir": None})
    report.write({"pre-train": HISTORY["pre-train"]})
    page = Reader((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert "Synthetic lesions" in page.text
    assert len([address for address in page.addresses if address.startswith("data:")]) == 1
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    options = ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_all_of_it(width: int, tmp_path: Path, browser: Chrome) -> None:
    content = write_report(tmp_path / "run", seeds=3)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.get((tmp_path / "run" / "report.html").as_uri())
    assert browser.find_element(By.TAG_NAME, "h1").text == "Synthetic lesions"
    shown = [element.text for element in browser.find_elements(By.CLASS_NAME, "conclusion")]
    assert shown == content["conclusions"]
    pictures = browser.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == 5
    for picture in pictures:
        assert browser.execute_script("return arguments[0].naturalWidth", picture) > 300
    # Tables and plots that are too wide scroll by themselves: the page never does.
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert [entry["message"] for entry in browser.get_log("browser")] == []
    # The plot: on its axis from 0 to 1 each mean is where the table says.
    marks = browser.find_elements(By.CSS_SELECTOR, "#intervals g > circle[r='5.5']")
    scale = browser.find_elements(By.CSS_SELECTOR, "#intervals > line")
    left, right = (float(line.get_attribute("x1")) for line in (scale[0], scale[-1]))
    for mark, row in zip(marks, content["methods"].values(), strict=True):
        place = (float(mark.get_attribute("cx")) - left) / (right - left)
        assert place == pytest.approx(row["macro_f1"]["value"], abs=0.001)
    # What is folded opens.
    details = browser.find_element(By.TAG_NAME, "details")
    assert not details.find_element(By.TAG_NAME, "table").is_displayed()
    details.find_element(By.TAG_NAME, "summary").click()
    assert details.find_element(By.TAG_NAME, "table").is_displayed()
    # Each link of the list leads to a section that is on the page.
    for link in browser.find_elements(By.CSS_SELECTOR, "nav a"):
        target = link.get_attribute("href").split("#")[1]
        assert browser.find_element(By.ID, target).is_displayed()
