# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of the page on a real server: regions of a large image, and the window of a gray DICOM image."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from label_browser import Page
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file
from selenium.webdriver import Chrome
from test_label_server import Answer, Server

# 12 megapixels, as telephones take them.
WIDTH, HEIGHT = 4000, 3000
LARGE, SLICE = "large", "slice"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.uint8]]:
    """A folder with a large image and a real CT slice, and the pixels of the large one: each says where it is."""
    folder = tmp_path_factory.mktemp("studies")
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([columns % 256, rows % 256, columns // 256 + 16 * (rows // 256)], -1).astype(np.uint8)
    Image.fromarray(pixels).save(folder / f"{LARGE}.png", compress_level=1)
    shutil.copy(str(get_testdata_file("CT_small.dcm")), folder / f"{SLICE}.dcm")
    return folder, pixels


@pytest.fixture(scope="module")
def real(
    label_python: Path, large: tuple[Path, NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    server = Server(label_python, tmp_path_factory.mktemp("server"), str(large[0]), {})
    yield server
    server.stop()


def picture(server: Server, query: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(server.ask("GET", f"/fgssl/image/{query}"))))


def test_regions_have_the_pixels_of_the_file(real: Server, large: tuple[Path, NDArray[np.uint8]]) -> None:
    assert picture(real, LARGE).shape == (768, 1024, 3)
    for left, top, width, height in ((0, 0, 40, 30), (3111, 2017, 500, 400), (WIDTH - 1, HEIGHT - 1, 1, 1)):
        part = picture(real, f"{LARGE}?region={left},{top},{width},{height}")
        assert (part == large[1][top : top + height, left : left + width]).all()
    # Fewer pixels than the region has.
    assert picture(real, f"{LARGE}?region=0,0,2000,1000&max_size=500").shape == (250, 500, 3)
    for wrong in ("0,0,4001,1", "-1,0,5,5", "0,0,0,0", "1,2,3", "1,2,3,x", "0,0,1e3,5", "0,0,1,1,1", ""):
        with pytest.raises(Answer, match=r"404|422"):
            real.ask("GET", f"/fgssl/image/{LARGE}?region={wrong}")


def test_the_page_fetches_what_is_seen_of_a_large_image(chrome: Chrome, real: Server) -> None:
    page = open_image(chrome, real, LARGE)
    page.press("+", "+", "+", "+", "+", "+")
    page.wait(lambda: parts(page))
    ((left, top, width, height),) = parts(page)
    assert width * height < WIDTH * HEIGHT / 4
    asked = page.chrome.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    regions = [name for name in asked if f"/fgssl/image/{LARGE}?" in name]
    assert all("region=" in name for name in regions), regions
    # Its pixels are those of this place.
    corner = page.chrome.execute_async_script(
        """
        const done = arguments[arguments.length - 1];
        const image = new Image();
        image.onload = () => {
          const context = new OffscreenCanvas(1, 1).getContext("2d");
          context.drawImage(image, 0, 0);
          done([image.naturalWidth, image.naturalHeight, ...context.getImageData(0, 0, 1, 1).data]);
        };
        image.src = document.querySelector("#detail image").getAttribute("href");
        """
    )
    assert corner[:5] == [width, height, left % 256, top % 256, left // 256 + 16 * (top // 256)]
    assert page.complaints() == []


def test_level_and_width_of_a_ct_slice(chrome: Chrome, real: Server, large: tuple[Path, NDArray[np.uint8]]) -> None:
    header = pydicom.dcmread(large[0] / f"{SLICE}.dcm")
    values = header.pixel_array * float(header.RescaleSlope) + float(header.RescaleIntercept)

    def expected(center: float, width: float) -> NDArray[np.float64]:
        """DICOM PS3.3, C.11.2.1.2: the linear function."""
        return 255 * np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)

    for center, width in ((40, 400), (-600, 1500), (300, 2000)):
        shown = picture(real, f"{SLICE}?window={center},{width}")
        assert np.abs(shown[..., 0] - expected(center, width)).max() <= 1
        assert (shown[..., 0] == shown[..., 1]).all()
    page = open_image(chrome, real, SLICE)
    page.wait(lambda: page.find("#window-tool").is_displayed())
    assert not page.find("#slice-tool").is_displayed()
    page.slide("#center", -600)
    page.slide("#width", 1500)

    def on_screen() -> bool:
        center, width = (page.find(f"#{name}").get_property("valueAsNumber") for name in ("center", "width"))
        shown = page.red()
        return shown.shape == values.shape and bool(np.abs(shown - expected(center, width)).max() <= 1)

    page.wait(on_screen)
    assert page.text("#width-value") != ""
    page.find("#window-reset").click()
    page.wait(lambda: not page.find("#window-reset").is_enabled())
    assert page.complaints() == []


def open_image(chrome: Chrome, server: Server, name: str) -> Page:
    """The page with one of the two images."""
    other = SLICE if name == LARGE else LARGE
    server.ask("PUT", f"/fgssl/images/{other}/marks", json.dumps({"skipped": True}).encode())
    server.ask("PUT", f"/fgssl/images/{name}/marks", json.dumps({"skipped": False}).encode())
    page = Page(chrome, server.url + "/fgssl/")
    page.wait(lambda: page.image == name and page.pixels() != (0, 0))
    return page


def parts(page: Page) -> list[list[int]]:
    """Regions that lie over the picture."""
    return page.chrome.execute_script(
        "return [...document.querySelectorAll('#detail image')]"
        ".map((part) => ['x', 'y', 'width', 'height'].map((name) => +part.getAttribute(name)))"
    )
