# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The picture of the page for annotators, enlarged and moved."""

from __future__ import annotations

import pytest
from label_browser import Page, StandIn, png
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

NAME = "image 0 #0%"


def place(page: Page) -> tuple[float, float, float]:
    """Scale of the picture, and where its middle lies, from that of its place."""
    scale, x, y = page.chrome.execute_script(
        "const p = picture.getBoundingClientRect(), s = stage.getBoundingClientRect();"
        "return [p.width / s.width, p.x + p.width / 2 - s.x - s.width / 2, p.y + p.height / 2 - s.y - s.height / 2]"
    )
    return scale, x, y


def wheel(page: Page, x: int, y: int, delta: int) -> None:
    origin = ScrollOrigin.from_element(page.find("#stage"), x, y)
    ActionChains(page.chrome).scroll_from_origin(origin, 0, delta).perform()


def test_keys_enlarge_and_show_the_whole(page: Page, server: StandIn) -> None:
    page.press("+", "+")
    page.wait(lambda: place(page) == pytest.approx((2.25, 0, 0), abs=0.01))
    page.press("-")
    page.wait(lambda: place(page) == pytest.approx((1.5, 0, 0), abs=0.01))
    page.press("0")
    page.wait(lambda: place(page) == pytest.approx((1, 0, 0), abs=0.01))
    # Not smaller than the whole.
    page.press("-")
    assert place(page) == pytest.approx((1, 0, 0), abs=0.01)
    page.press("+", "1")
    page.wait(lambda: page.image != NAME)
    # The next image begins as a whole.
    assert place(page) == pytest.approx((1, 0, 0), abs=0.01)


def test_the_wheel_keeps_what_is_under_it(page: Page) -> None:
    wheel(page, 100, -50, -300)
    page.wait(lambda: place(page)[0] == pytest.approx(2.718, abs=0.05))
    scale, x, y = place(page)
    # A point 100 to the right of the middle was there before too.
    assert (x + 100 * scale, y - 50 * scale) == pytest.approx((100, -50), abs=2)
    ActionChains(page.chrome).drag_and_drop_by_offset(page.find("#stage"), 30, 20).perform()
    page.wait(lambda: place(page) == pytest.approx((scale, x + 30, y + 20), abs=2))
    # It can't be dragged out of sight.
    for _ in range(6):
        ActionChains(page.chrome).drag_and_drop_by_offset(page.find("#stage"), 350, 0).perform()
    width = page.find("#stage").size["width"]
    assert place(page)[1] == pytest.approx((scale - 1) * width / 2, abs=2)
    ActionChains(page.chrome).double_click(page.find("#stage")).perform()
    page.wait(lambda: place(page) == pytest.approx((1, 0, 0), abs=0.01))


def test_all_pixels_are_fetched_once_and_only_when_they_are_seen(page: Page, server: StandIn) -> None:
    server.pictures[NAME] = png(Image.new("RGB", (3000, 2000), "green"))
    before = server.requests.count(f"GET /fgssl/image/{NAME}")
    page.press("+")
    page.wait(lambda: page.pixels() == (3000, 2000))
    page.press("+", "+")
    page.wait(lambda: place(page)[0] == pytest.approx(3.375, abs=0.01))
    assert server.requests.count(f"GET /fgssl/image/{NAME}") == before + 1


LARGE = (6000, 3000)


@pytest.fixture
def large(page: Page, server: StandIn) -> Page:
    """The page with an image of 18 megapixels."""
    server.pictures[NAME] = png(Image.new("RGB", LARGE, "green"))
    server.choices[NAME] = {"size": LARGE, "window": None, "values": None, "slices": 1, "slice": 0}
    page.chrome.refresh()
    page.wait(lambda: page.image == NAME and page.text("#entropy"))
    return page


def regions(server: StandIn) -> list[tuple[int, ...]]:
    """Regions that were asked for."""
    return [tuple(map(int, query["region"].split(","))) for query in server.queries if "region" in query]


def has_part(page: Page, region: tuple[int, ...]) -> bool:
    """True if this region lies over the picture."""
    script = (
        "return [...document.querySelectorAll('#detail image')]"
        ".map((part) => ['x', 'y', 'width', 'height'].map((name) => +part.getAttribute(name)))"
    )
    return page.chrome.execute_script(script) == [list(region)]


def test_of_a_large_image_only_the_part_that_is_seen_is_fetched(large: Page, server: StandIn) -> None:
    large.press("+", "+", "+", "+")
    large.wait(lambda: regions(server) and has_part(large, regions(server)[-1]))
    (region,) = regions(server)
    # The middle, with a margin: less than a third of the pixels.
    left, top, width, height = region
    assert left < 3000 < left + width
    assert top < 1500 < top + height
    assert width * height < LARGE[0] * LARGE[1] / 3
    sizes = [int(query["max_size"]) for query in server.queries if "max_size" in query]
    assert max(sizes) <= 3000
    ActionChains(large.chrome).drag_and_drop_by_offset(large.find("#stage"), -300, 0).perform()
    large.wait(lambda: len(regions(server)) == 2 and has_part(large, regions(server)[-1]))
    assert regions(server)[-1][0] > left
    # The whole again, and the part is gone.
    large.press("w")
    large.wait(lambda: place(large) == pytest.approx((1, 0, 0), abs=0.01))
    assert large.chrome.execute_script("return document.querySelectorAll('#detail image').length") == 0
    # Nor were all pixels asked for.
    assert all("region" in query for query in server.queries if "max_size" in query)


def test_a_part_lies_exactly_over_the_picture(large: Page, server: StandIn) -> None:
    def box(selector: str) -> list[float]:
        """Left and upper edge, width and height on the screen."""
        return large.chrome.execute_script(
            "const { left, top, width, height } = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [left, top, width, height]",
            selector,
        )

    large.press("+", "+", "+")
    large.wait(lambda: regions(server) and has_part(large, regions(server)[-1]))
    left, top, width, height = regions(server)[-1]
    # The picture fills its place in one direction.
    x, y, across, down = box("#picture")
    pixel = min(across / LARGE[0], down / LARGE[1])
    x, y = x + (across - pixel * LARGE[0]) / 2, y + (down - pixel * LARGE[1]) / 2
    expected = [x + pixel * left, y + pixel * top, pixel * width, pixel * height]
    assert box("#detail image") == pytest.approx(expected, abs=1)


def test_the_window_of_a_large_image_holds_for_its_part(large: Page, server: StandIn) -> None:
    server.choices[NAME] |= {"window": [40, 400], "values": [-1000, 2000]}
    large.chrome.refresh()
    large.wait(lambda: large.image == NAME and large.text("#entropy"))
    large.press("+", "+", "+", "+")
    large.wait(lambda: regions(server) and has_part(large, regions(server)[-1]))
    large.slide("#center", 300)
    large.wait(lambda: "region" in server.queries[-1] and server.queries[-1].get("window") == "300,400")
    large.wait(lambda: has_part(large, regions(server)[-1]))


def touch(page: Page, kind: str, *points: tuple[float, float]) -> None:
    """Fingers on the image, at places from its middle."""
    box = page.chrome.execute_script(
        "const b = stage.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]"
    )
    fingers = [{"x": box[0] + x, "y": box[1] + y, "id": number} for number, (x, y) in enumerate(points)]
    page.chrome.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})


def test_two_fingers_enlarge_and_move(page: Page) -> None:
    page.chrome.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})
    try:
        touch(page, "touchStart", (-20, 0))
        touch(page, "touchStart", (-20, 0), (60, 0))
        # What was between the fingers stays there: 20 to the right of the middle.
        for step in range(1, 9):
            touch(page, "touchMove", (-20 - 10 * step, 0), (60 + 10 * step, 0))
        page.wait(lambda: place(page)[0] == pytest.approx(3, abs=0.1))
        scale, x, y = place(page)
        assert (x + 20 * scale, y) == pytest.approx((20, 0), abs=6)
        touch(page, "touchMove", (-20, 0), (60, 0))
        page.wait(lambda: place(page)[0] == pytest.approx(1, abs=0.05))
        for step in range(1, 9):
            touch(page, "touchMove", (-20 - 10 * step, 0), (60 + 10 * step, 0))
        touch(page, "touchEnd")
        # One finger moves it.
        scale, x, y = place(page)
        touch(page, "touchStart", (0, 0))
        for step in range(1, 6):
            touch(page, "touchMove", (6 * step, -4 * step))
        touch(page, "touchEnd")
        page.wait(lambda: place(page) == pytest.approx((scale, x + 30, y - 20), abs=3))
    finally:
        page.chrome.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
