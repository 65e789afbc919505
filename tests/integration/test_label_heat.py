# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Heat maps on the page for annotators: over the image, with class, stage, opacity and legend, or side by side."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pytest
from label_browser import CLASSES, COLORS, Page, StandIn, png
from PIL import Image
from selenium.webdriver.support.ui import Select
from test_label_zoom import place, wheel

NAMES = [f"image {i} #{i}%" for i in range(6)]
# Half of the image without evidence, half with the most.
YELLOW = [252, 255, 164]


@pytest.fixture
def shown(page: Page, server: StandIn) -> Page:
    layer = Image.new("RGBA", (8, 4), (0, 0, 4, 0))
    layer.paste((*YELLOW, 255), (4, 0, 8, 4))
    server.heat_layer = png(layer)
    page.press("h")
    page.wait(lambda: page.find("#heat-layer").is_displayed())
    return page


def layer_colors(page: Page) -> list[list[int]]:
    """Colors and opacities of the layer at its left and at its right."""
    return page.chrome.execute_script(
        "const layer = document.getElementById('heat-layer'), context = new OffscreenCanvas(4, 1).getContext('2d');"
        "context.drawImage(layer, 0, 0, 4, 1);"
        "const { data } = context.getImageData(0, 0, 4, 1); return [0, 12].map((x) => [...data.slice(x, x + 4)])"
    )


def test_a_heat_map_lies_over_the_image_and_goes(shown: Page, server: StandIn) -> None:
    # Of the suggested class, of all stages.
    assert server.queries[-1] == {"class": "GLOBULES"}
    assert shown.find("#picture").is_displayed()
    assert shown.find("#heat").get_attribute("aria-pressed") == "true"
    none, most = layer_colors(shown)
    assert none[3] == 0
    assert most == [*YELLOW, 255]
    # As large as the picture, whatever the size of the heat map.
    layer = shown.find("#heat-layer")
    assert (layer.get_property("width"), layer.get_property("height")) == (256, 256)
    assert layer.rect == shown.find("#picture").rect
    shown.press("h")
    shown.wait(lambda: not shown.find("#heat-layer").is_displayed())
    assert not shown.find("#heat-tools").is_displayed()
    assert shown.find("#picture").is_displayed()


def test_the_class_and_the_stage_are_chosen(shown: Page, server: StandIn) -> None:
    assert [option.text for option in Select(shown.find("#heat-class")).options] == sorted(CLASSES)
    shown.choose("#heat-class", "DOTS")
    shown.wait(lambda: server.queries[-1] == {"class": "DOTS"})
    shown.choose("#heat-stage", "1")
    shown.wait(lambda: server.queries[-1] == {"class": "DOTS", "stage": "1"})
    shown.wait(lambda: shown.find("#heat-layer").get_attribute("aria-label") == "Heat map of the evidence for DOTS")
    # The next image begins with its own suggestion, and keeps the stage.
    shown.press("1")
    shown.wait(lambda: shown.image == NAMES[1])
    shown.wait(lambda: server.queries[-1] == {"class": "GLOBULES", "stage": "1"})
    shown.wait(lambda: shown.find("#heat-layer").is_displayed())
    assert server.labels == {NAMES[0]: "NETWORK"}


def test_opacity(shown: Page) -> None:
    def opacity() -> float:
        return float(shown.find("#heat-layer").value_of_css_property("opacity"))

    assert opacity() == pytest.approx(0.7)
    shown.slide("#opacity", 25)
    assert opacity() == pytest.approx(0.25)
    # A key for a class is one too while the slider has the focus.
    shown.find("#opacity").click()
    shown.press("1")
    shown.wait(lambda: shown.image == NAMES[1])


def test_the_legend_has_the_colors_of_the_layer(shown: Page) -> None:
    assert shown.text("#legend").split() == ["little", "much"]
    background = shown.find("#legend-bar").value_of_css_property("background-image")
    stops = [list(map(int, stop.split(","))) for stop in re.findall(r"rgb\(([\d, ]+)\)", background)]
    expected = np.round(255 * matplotlib.colormaps["inferno"](np.linspace(0, 1, 9))[:, :3])
    np.testing.assert_allclose(stops, expected, atol=1)


def test_it_is_enlarged_with_the_image(shown: Page) -> None:
    wheel(shown, 100, -50, -300)
    shown.wait(lambda: place(shown)[0] == pytest.approx(2.718, abs=0.05))
    transform = "return document.getElementById(arguments[0]).style.transform"
    layer, picture = (shown.chrome.execute_script(transform, part) for part in ("heat-layer", "picture"))
    assert layer == picture != ""


def test_all_stages_side_by_side(shown: Page, server: StandIn) -> None:
    shown.choose("#heat-stage", "each")
    shown.wait(lambda: shown.heat_maps() == ["image", "stage 1", "stage 2", "stage 3"])
    assert not shown.find("#picture").is_displayed()
    assert not shown.find("#legend").is_displayed()
    # The strip's four colors, each in the middle of its own panel.
    shown.wait(lambda: shown.panel_colors() == COLORS)
    shown.press("1")
    shown.wait(lambda: shown.image == NAMES[1])
    shown.wait(lambda: f"GET /fgssl/heat_maps/{NAMES[1]}" in server.requests)
    shown.wait(lambda: len(shown.heat_maps()) == 4)
    shown.choose("#heat-stage", "")
    shown.wait(lambda: shown.find("#heat-layer").is_displayed())
    assert shown.find("#picture").is_displayed()
    assert shown.heat_maps() == []
    assert server.requests.count(f"GET /fgssl/heat_maps/{NAMES[1]}") == 1


def test_it_is_hidden_until_somebody_has_chosen(shown: Page, server: StandIn) -> None:
    shown.find("#hide").click()
    shown.wait(lambda: not shown.find("#heat-layer").is_displayed())
    assert not shown.find("#heat-tools").is_displayed()
    assert shown.find("#picture").is_displayed()
