# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Windows of gray images and slices of volumes on the page for annotators."""

from __future__ import annotations

import pytest
from label_browser import Page, StandIn
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from test_label_zoom import place

NAMES = [f"image {i} #{i}%" for i in range(6)]
GRAY = {"window": [40, 400], "values": [-1000, 2000], "slices": 1, "slice": 0}
VOLUME = {"window": [40, 400], "values": [-1000, 2000], "slices": 20, "slice": 10}


def reload_with(page: Page, server: StandIn, choices: dict[str, object]) -> None:
    server.choices[NAMES[0]] = choices
    page.chrome.refresh()
    page.wait(lambda: page.image == NAMES[0] and page.text("#entropy"))


def last(server: StandIn) -> dict[str, str]:
    """Parameters of the last request for a picture."""
    return server.queries[-1]


def window(server: StandIn) -> list[float]:
    return [float(number) for number in last(server).get("window", "nan,nan").split(",")]


def test_photographs_have_neither(page: Page) -> None:
    assert not page.find("#viewing").is_displayed()
    page.press(Keys.ARROW_UP)
    assert page.image == NAMES[0]


def test_a_window_is_chosen_and_reset(page: Page, server: StandIn) -> None:
    reload_with(page, server, GRAY)
    assert page.find("#window-tool").is_displayed()
    assert not page.find("#slice-tool").is_displayed()
    assert (page.text("#center-value"), page.text("#width-value")) == ("40", "400")
    assert not page.find("#window-reset").is_enabled()
    page.slide("#center", 300)
    page.wait(lambda: window(server) == [300, 400])
    page.slide("#width", 1500)
    page.wait(lambda: window(server) == [300, 1500])
    assert (page.text("#center-value"), page.text("#width-value")) == ("300", "1500")
    page.find("#window-reset").click()
    page.wait(lambda: last(server) == {})
    assert page.text("#center-value") == "40"
    page.slide("#center", 300)
    page.wait(lambda: window(server) == [300, 400])
    # The next image is a photograph, and this one is again as it is at first.
    page.press("1")
    page.wait(lambda: page.image == NAMES[1])
    assert not page.find("#viewing").is_displayed()
    page.press(Keys.BACKSPACE)
    page.wait(lambda: page.image == NAMES[0] and page.find("#viewing").is_displayed())
    assert last(server) == {}
    assert page.text("#center-value") == "40"


def test_dragging_with_shift_changes_the_window(page: Page, server: StandIn) -> None:
    reload_with(page, server, GRAY)
    chain = ActionChains(page.chrome).key_down(Keys.SHIFT).click_and_hold(page.find("#stage"))
    chain.move_by_offset(60, -30).release().key_up(Keys.SHIFT).perform()
    # Sideways wider, up brighter.
    page.wait(lambda: window(server) == pytest.approx([0, 400 * 2.71828**0.2], rel=0.01, abs=2))
    assert place(page) == pytest.approx((1, 0, 0), abs=0.01)
    # Without Shift it moves an enlarged image, and not the window.
    page.press("+")
    page.wait(lambda: last(server).get("max_size") == "8192")
    before = window(server)
    ActionChains(page.chrome).drag_and_drop_by_offset(page.find("#stage"), 30, 20).perform()
    page.wait(lambda: place(page) == pytest.approx((1.5, 30, 20), abs=2))
    assert window(server) == before


def test_slices_by_slider_key_and_wheel(page: Page, server: StandIn) -> None:
    reload_with(page, server, VOLUME)
    assert page.text("#slice-number") == "11 of 20"
    assert "↑ slice above" in page.text("#keys")
    page.press(Keys.ARROW_UP)
    page.wait(lambda: last(server) == {"slice": "11"})
    page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    page.wait(lambda: last(server) == {"slice": "9"})
    page.slide("#slice", 19)
    page.wait(lambda: last(server) == {"slice": "19"})
    # There is none above.
    page.press(Keys.ARROW_UP)
    assert page.text("#slice-number") == "20 of 20"
    origin = ScrollOrigin.from_element(page.find("#stage"))
    chain = ActionChains(page.chrome).key_down(Keys.SHIFT).scroll_from_origin(origin, 0, 100)
    chain.key_up(Keys.SHIFT).perform()
    page.wait(lambda: last(server) == {"slice": "18"})
    assert place(page) == pytest.approx((1, 0, 0), abs=0.01)
    # A class by its key while the slider has the focus.
    page.find("#slice").click()
    page.press(Keys.ARROW_RIGHT)
    page.press("2")
    page.wait(lambda: page.image == NAMES[1])
    assert list(server.labels) == [NAMES[0]]


def test_a_window_holds_for_all_slices_and_the_heat_map_follows(page: Page, server: StandIn) -> None:
    reload_with(page, server, VOLUME)
    page.slide("#width", 100)
    page.wait(lambda: window(server) == [40, 100])
    page.press(Keys.ARROW_UP)
    page.wait(lambda: last(server) == {"window": "40,100", "slice": "11"})
    page.press("h")
    page.wait(lambda: last(server) == {"class": "GLOBULES", "slice": "11"})
    page.press(Keys.ARROW_UP)
    page.wait(lambda: last(server) == {"class": "GLOBULES", "slice": "12"})
    assert {"window": "40,100", "slice": "12"} in server.queries


def test_many_slices_at_once_are_not_all_fetched(page: Page, server: StandIn) -> None:
    reload_with(page, server, VOLUME)
    server.delay = 0.3
    asked = len(server.queries)
    page.press(*[Keys.ARROW_DOWN] * 10)
    page.wait(lambda: last(server) == {"slice": "0"})
    # The first, and the last once it was there; a slow browser may have needed some more.
    assert len(server.queries) - asked < 10
