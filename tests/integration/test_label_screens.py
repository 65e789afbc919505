# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The page for annotators on small screens and with large letters, and its accessibility according to axe-core."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
from label_browser import Page, StandIn
from selenium.webdriver import Keys

AXE = (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")
# Parts of the page that lie over others, of those that a person can press or read.
OVERLAPS = """
const tools = ".tools label, .tools button, #legend";
const looked = `header > :not(h1), #stage, ${tools}, figcaption button, .class, #show-help, #undo`;
const parts = [...document.querySelectorAll(looked)]
  .filter((part) => part.checkVisibility());
const side = document.getElementById("side").getBoundingClientRect();
const boxes = parts.map((part) => {
  const { left, right, top, bottom } = part.getBoundingClientRect();
  // What has been scrolled out of the side is not there.
  const clipped = part.closest("#side") && getComputedStyle(document.body).height === `${innerHeight}px`;
  return [part, left, right, Math.max(top, clipped ? side.top : top), Math.min(bottom, clipped ? side.bottom : bottom)];
}).filter(([, , , top, bottom]) => bottom > top);
const found = [];
for (const [a, l1, r1, t1, b1] of boxes) for (const [b, l2, r2, t2, b2] of boxes)
  if (a !== b && !a.contains(b) && !b.contains(a) && l1 < r2 - 1 && l2 < r1 - 1 && t1 < b2 - 1 && t2 < b1 - 1)
    found.push(`${a.id || a.className} ${b.id || b.className}`);
return found;
"""


@pytest.fixture
def labeled(page: Page, server: StandIn) -> Page:
    """The page with a label, a suggestion and similar images."""
    names = list(server.pictures)
    server.labels = {names[3]: "DOTS"}
    server.suggestions = dict.fromkeys(names, ("DOTS", 0.5))
    server.neighbors = [{"id": names[3], "class": "dots", "similarity": 0.91}]
    figure = {"value": 0.8, "low": 0.7, "high": 0.9}
    training = {"num_labels": 5, "num_test_images": 9, "accuracy": figure, "balanced_accuracy": figure}
    server.trainings = {"trainings": [training], "labels_until_better": 7}
    page.chrome.refresh()
    page.wait(lambda: page.text("#entropy") and page.find("#neighbors").is_displayed())
    return page


def resize(page: Page, width: int, height: int) -> None:
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)


def findings(page: Page) -> list[Any]:
    """Rule and elements of each finding of axe-core."""
    page.chrome.execute_script(AXE)
    result = page.chrome.execute_async_script("axe.run().then(arguments[0])")
    assert len(result["passes"]) > 15
    return [(found["id"], [node["html"][:150] for node in found["nodes"]]) for found in result["violations"]]


# Telephones upright and lying; a window of 1280 x 800 at 200 %.
@pytest.mark.parametrize("size", [(320, 568), (390, 844), (844, 390), (932, 430), (640, 400), (1280, 800)])
def test_classes_are_seen_at_once_and_nothing_overlaps(labeled: Page, size: tuple[int, int]) -> None:
    resize(labeled, *size)
    bottoms = labeled.chrome.execute_script(
        "return [...document.querySelectorAll('.class')].map((button) => button.getBoundingClientRect().bottom)"
    )
    assert max(bottoms) <= size[1]
    assert labeled.find("#stage").size["height"] >= 160
    assert labeled.chrome.execute_script(OVERLAPS) == []
    width, client = labeled.chrome.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert width <= client
    if size[0] < 1000:
        labeled.find("#more").click()
        labeled.wait(lambda: labeled.find("#train").is_displayed())
        assert labeled.chrome.execute_script(OVERLAPS) == []


@pytest.mark.parametrize("size", [(320, 568), (390, 844), (844, 390), (932, 430), (640, 400), (1280, 800)])
def test_nothing_overlaps_with_a_heat_map_of_a_volume(labeled: Page, server: StandIn, size: tuple[int, int]) -> None:
    server.choices[labeled.image] = {"window": [40, 400], "values": [-1000, 2000], "slices": 20, "slice": 10}
    labeled.chrome.refresh()
    labeled.wait(lambda: labeled.find("#viewing").is_displayed() and labeled.text("#entropy"))
    labeled.press("h")
    labeled.wait(lambda: labeled.find("#heat-layer").is_displayed())
    resize(labeled, *size)
    assert labeled.chrome.execute_script(OVERLAPS) == []
    width, client = labeled.chrome.execute_script(
        "const e = document.documentElement; return [e.scrollWidth, e.clientWidth]"
    )
    assert width <= client
    assert labeled.find("#stage").size["height"] >= 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(labeled: Page, server: StandIn, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    labeled.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    assert findings(labeled) == []
    labeled.press("?")
    labeled.wait(lambda: labeled.find("#help").is_displayed())
    assert findings(labeled) == []
    labeled.press(Keys.ESCAPE)
    name = labeled.image
    server.choices[name] = {"window": [40, 400], "values": [-1000, 2000], "slices": 20, "slice": 10}
    server.unreadable = {list(server.pictures)[-1]: "it is damaged"}
    server.noted = set(server.unreadable)
    labeled.chrome.refresh()
    labeled.wait(lambda: labeled.find("#viewing").is_displayed() and labeled.text("#entropy"))
    labeled.press("h")
    labeled.wait(lambda: labeled.find("#heat-layer").is_displayed())
    assert findings(labeled) == []
    labeled.choose("#heat-stage", "each")
    labeled.wait(lambda: labeled.heat_maps())
    assert findings(labeled) == []
    labeled.find("#to-review").click()
    labeled.wait(lambda: labeled.chrome.find_elements("css selector", ".tile"))
    labeled.find(".tile").click()
    labeled.wait(lambda: labeled.find("#selection").is_displayed())
    assert findings(labeled) == []
    resize(labeled, 320, 568)
    assert findings(labeled) == []


def test_the_focus_does_not_look_like_a_choice(labeled: Page) -> None:
    labeled.press("1")
    labeled.wait(lambda: labeled.image)
    labeled.press(Keys.BACKSPACE)
    labeled.wait(lambda: labeled.pressed)
    labeled.press(Keys.TAB)
    focused = labeled.chrome.switch_to.active_element
    assert focused.value_of_css_property("outline-style") == "dotted"
    chosen = labeled.find(".class[aria-pressed=true]")
    assert chosen.value_of_css_property("border-top-style") == "solid"
    assert chosen.value_of_css_property("border-top-color") != focused.value_of_css_property("outline-color")
