# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A browser, the page for annotators as a person uses it, and a stand-in for its server, which can fail on demand.

Needs the programs of the Debian packages `chromium` and `chromium-driver`.
"""

from __future__ import annotations

import contextlib
import email
import email.policy
import io
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from monai_fgssl.data import make_synthetic_lesions, read_isic2018

CLASSES = ["NETWORK", "COBBLESTONE", "GLOBULES", "DOTS", "STREAKS", "FINGERPRINT", "CRYSTALLINE"]
SCORES = [0.08, 0.05, 0.61, 0.14, 0.03, 0.05, 0.04]
STAGES = {
    "stage1": [0.10, 0.06, 0.37, 0.22, 0.09, 0.08, 0.08],
    "stage2": [0.12, 0.05, 0.29, 0.41, 0.04, 0.05, 0.04],
    "stage3": [0.06, 0.04, 0.68, 0.10, 0.03, 0.05, 0.04],
    "concat": [0.05, 0.04, 0.74, 0.08, 0.02, 0.04, 0.03],
}
PAGE = Path(str(files("monai_fgssl"))) / "label" / "page"
# Of the image and three heat maps, side by side.
COLORS = [[200, 150, 120], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}


class StandIn:
    """The app's paths, with a dictionary for a data store. `failures` maps a method and path to a status and detail."""

    def __init__(self, pictures: dict[str, bytes], heat_map: bytes) -> None:
        self.pictures = pictures
        self.heat_map = heat_map
        # Class by image; or the list of its findings.
        self.labels: dict[str, Any] = {}
        self.multilabel = False
        # The findings that the model decides for.
        self.findings: list[str] | None = None
        # Marks, the person who labeled, and suggestion and doubt of the model, by image.
        self.marks: dict[str, dict[str, bool]] = {}
        self.people: dict[str, str] = {}
        self.suggestions: dict[str, tuple[Any, float]] = {}
        self.readings: dict[str, dict[str, Any]] = {}
        # Why a person should decide, for every image.
        self.reasons: list[str] | None = None
        self.user: str | None = None
        self.trainings: dict[str, Any] = {"trainings": [], "labels_until_better": None}
        self.neighbors: list[dict[str, Any]] = []
        self.agreement: list[dict[str, Any]] = []
        self.has_model = True
        # The class that the model decides for, if it is not the likeliest.
        self.decision: str | None = None
        # Of gray images and volumes: what the server offers, by image.
        self.choices: dict[str, dict[str, Any]] = {}
        # Images that can't be read, and the reason.
        self.unreadable: dict[str, str] = {}
        # Those of them that the server has met.
        self.noted: set[str] = set()
        self.heat_layer = png(Image.new("RGBA", (8, 8), (249, 203, 53, 255)))
        self.classes = CLASSES
        # Why no training can work with the labels that there are.
        self.refusal: str | None = None
        self.notices: list[str] = []
        self.failures: dict[str, tuple[int, Any]] = {}
        self.requests: list[str] = []
        # Parameters of each request for a picture or a heat map.
        self.queries: list[dict[str, str]] = []
        self.token: str | None = None
        self.task: dict[str, Any] | None = None
        self.delay = 0.0
        # Files of the page that are others than the real ones.
        self.replaced: dict[str, bytes] = {}

    def answer(self, method: str, path: str, query: dict[str, list[str]], headers: Any, body: bytes) -> Any:
        """JSON value, or bytes of a picture or file; raises `Refusal`."""
        self.requests.append(f"{method} {path}")
        if path == "/auth/token":
            form = parse_qs(body.decode())
            if form["password"] != ["right"]:
                raise Refusal(401, "no")
            return {"access_token": self.token}
        if path == "/fgssl/":
            return (PAGE / "index.html").read_bytes()
        if path.startswith("/fgssl/page/"):
            name = path.removeprefix("/fgssl/page/")
            return self.replaced.get(name) or (PAGE / name).read_bytes()
        if self.token and headers["Authorization"] != f"Bearer {self.token}":
            raise Refusal(401, "Not authenticated")
        for start, (status, detail) in self.failures.items():
            if f"{method} {path}".startswith(start):
                raise Refusal(status, detail)
        time.sleep(self.delay)
        if own := re.fullmatch(r"/fgssl/images/(.+)/(marks|thumbnail|similar)", path):
            if own[2] == "thumbnail":
                return self.pictures[own[1]]
            if own[2] == "similar":
                return self.neighbors
            assert method == "PUT"
            self.marks[own[1]] = self.marks.get(own[1], {}) | json.loads(body)
            return self.describe(own[1])
        image = path.rsplit("/", 1)[-1]
        match method, path.rsplit("/", 1)[0] + "/":
            case "GET", "/fgssl/" if image == "info":
                return {
                    "classes": self.classes,
                    "user": self.user,
                    "multilabel": self.multilabel,
                    "training_refused": self.refusal if self.labels else "nothing is labeled",
                    "model": "fgssl",
                    "has_model": self.has_model,
                    "notices": self.notices,
                    "num_stages": 3 if self.has_model else 0,
                    "strategies": ["random", "core_set", "mix"],
                    "num_images": len(self.pictures) - len(self.noted),
                    "num_unreadable": len(self.noted),
                    "num_labeled": len(self.labels),
                    "counts": {name: self.count(name) for name in self.classes},
                }
            case "GET", "/fgssl/" if image == "trainings":
                return self.trainings
            case "GET", "/fgssl/" if image == "agreement":
                return self.agreement
            case "GET", "/fgssl/" if image == "confusion_matrix":
                return self.heat_map
            case "GET", "/fgssl/image/":
                if image in self.unreadable:
                    self.noted.add(image)
                    raise Refusal(422, f"the image can't be read: {self.unreadable[image]}")
                self.queries.append({name: values[0] for name, values in query.items()})
                if "region" in query:
                    left, top, width, height = map(int, query["region"][0].split(","))
                    whole = Image.open(io.BytesIO(self.pictures[image]))
                    part = whole.crop((left, top, left + width, top + height))
                    part.thumbnail((int(query["max_size"][0]),) * 2)
                    return png(part)
                return self.pictures[image]
            case "GET", "/fgssl/heat_layer/":
                self.queries.append({name: values[0] for name, values in query.items()})
                return self.heat_layer
            case "GET", "/fgssl/heat_maps/":
                return self.heat_map
            case "GET", "/fgssl/" if image == "images":
                return [self.describe(name) for name in self.pictures]
            case "GET", "/fgssl/images/":
                return self.describe(image)
            case "DELETE", "/fgssl/label/":
                del self.labels[image]
                return {}
            case "POST", "/activelearning/":
                free = [name for name in self.pictures if name not in self.labels and name not in self.noted]
                free = [name for name in free if not self.marks.get(name, {}).get("skipped")] or free
                # "random" starts from the front, all others from the back.
                return {"id": free[0 if image == "random" else -1]} if free else {}
            case "POST", "/infer/":
                pairs = zip(CLASSES, SCORES, strict=True)
                ordered = sorted(pairs, key=lambda pair: (pair[0] != self.decision, -pair[1]))
                return {
                    # MONAI Label writes class names in lower case.
                    "prediction": [{"label": name.lower(), "score": score} for name, score in ordered],
                    "findings": self.findings,
                    "stages": {stage: dict(zip(CLASSES, scores, strict=True)) for stage, scores in STAGES.items()},
                    "entropy": 0.66,
                    "stage_disagreement": 0.12,
                    "reasons": self.reasons,
                }
            case "PUT", "/datastore/":
                assert image == "label"
                assert query["tag"] == ["final"]
                parts = form_parts(headers, body)
                assert parts["label"] == b""
                self.labels[query["image"][0]] = json.loads(parts["params"])["class"]
                if self.user:
                    self.readings.setdefault(query["image"][0], {})[self.user] = self.labels[query["image"][0]]
                self.marks.get(query["image"][0], {}).pop("skipped", None)
                return {}
            case "POST", "/train/":
                self.task = {"status": "RUNNING", "request": {"model": image}, "details": []}
                return self.task
            case "GET", "/train/" if self.task:
                return self.task
            case "DELETE", "/train/" if self.task:
                self.task["status"] = "STOPPED"
                return self.task
        raise Refusal(404, "Not found")

    def count(self, name: str) -> int:
        """Number of images of a class, or with a finding."""
        return sum(name == label or (isinstance(label, list) and name in label) for label in self.labels.values())

    def describe(self, name: str) -> dict[str, Any]:
        """An image as the list of all images has it."""
        suggestion, doubt = self.suggestions.get(name, (None, None))
        return {
            "id": name,
            "class": self.labels.get(name),
            "user": self.people.get(name),
            "suggestion": suggestion,
            "doubt": doubt,
            **({"readings": self.readings[name]} if name in self.readings else {}),
            **{mark: True for mark, is_set in self.marks.get(name, {}).items() if is_set},
            **({"unreadable": self.unreadable[name]} if name in self.noted else {}),
        }


class Refusal(Exception):
    """Status and detail of an answer that is an error."""


def form_parts(headers: Any, body: bytes) -> dict[str, bytes]:
    """Parts of a multipart form, by name."""
    message = email.message_from_bytes(
        b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body, policy=email.policy.default
    )
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.iter_parts()
    }


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Six synthetic lesions; names with signs that an address must quote."""
    folder = make_synthetic_lesions(tmp_path_factory.mktemp("page") / "lesions", num_images=14, image_size=256)
    items = read_isic2018(folder).items[:6]
    return {f"image {i} #{i}%": png(Image.open(item["image"])) for i, item in enumerate(items)}


@pytest.fixture
def server(pictures: dict[str, bytes]) -> Iterator[StandIn]:
    # Not square, as those of a volume.
    strip = Image.new("RGB", (240, 100))
    for i, color in enumerate(COLORS):
        strip.paste(tuple(color), (60 * i, 0, 60 * (i + 1), 100))
    stand_in = StandIn(pictures, png(strip))

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            try:
                content = stand_in.answer(self.command, unquote(url.path), parse_qs(url.query), self.headers, body)
                status = 200
            except Refusal as refusal:
                status, detail = refusal.args
                content = {"detail": detail}
            if not isinstance(content, bytes):
                content, kind = json.dumps(content).encode(), "application/json"
            else:
                kind = TYPES.get(Path(url.path).suffix, "text/html" if url.path == "/fgssl/" else "image/png")
            # A page that is loaded anew waits for no answer.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                image = unquote(url.path).removeprefix("/fgssl/image/")
                if image in stand_in.choices:
                    self.send_header("X-View", json.dumps(stand_in.choices[image]))
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    stand_in.url = f"http://127.0.0.1:{http.server_port}/fgssl/"  # type: ignore[attr-defined]
    stand_in.close = http.shutdown  # type: ignore[attr-defined]
    yield stand_in
    http.shutdown()
    http.server_close()


def start_chrome() -> Chrome:
    """A browser of its own, as of another person."""
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    assert all(paths.values()), "install the Debian packages chromium and chromium-driver"
    options = ChromeOptions()
    options.binary_location = str(paths["chromium"])
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "window-size=1280,860",
        "lang=en",
        "disable-gpu",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return Chrome(options, ChromeService(str(paths["chromedriver"])))


@pytest.fixture(scope="module")
def chrome() -> Iterator[Chrome]:
    driver = start_chrome()
    yield driver
    driver.quit()


class Page:
    """The page as a person uses it."""

    def __init__(self, chrome: Chrome, url: str) -> None:
        self.chrome = chrome
        # Any address of the same origin.
        chrome.get(url + "page/page.css")
        chrome.execute_script("localStorage.clear(); sessionStorage.clear()")
        chrome.get(url)

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        try:
            WebDriverWait(self.chrome, seconds, 0.05).until(lambda _: condition())
        except TimeoutException:
            pytest.fail(f"waited in vain; the page shows the error {self.error!r}")

    def find(self, selector: str) -> WebElement:
        return self.chrome.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    @property
    def image(self) -> str:
        """Name of the image, once the page has come to rest."""
        self.wait(lambda: self.find("#main").get_attribute("aria-busy") == "false")
        return self.text("#name")

    @property
    def error(self) -> str:
        return self.text("#error-text")

    @property
    def pressed(self) -> list[str]:
        """Classes that are shown as this image's label."""
        return [
            str(button.get_attribute("data-name"))
            for button in self.chrome.find_elements("css selector", ".class[aria-pressed=true]")
        ]

    def press(self, *keys: str) -> None:
        ActionChains(self.chrome).send_keys(*keys).perform()

    def click_class(self, name: str) -> None:
        self.find(f".class[data-name={name}]").click()

    def pixels(self) -> tuple[int, int]:
        """Width and height of the picture, once it is decoded."""
        width, height = self.chrome.execute_script(
            "const p = document.getElementById('picture');"
            "return p.complete ? [p.naturalWidth, p.naturalHeight] : [0, 0]"
        )
        return width, height

    def red(self) -> NDArray[np.int64]:
        """Red of the picture's pixels, which is all of a gray picture; one pixel while it is not there."""
        script = """
            const picture = document.getElementById("picture"), { naturalWidth: w, naturalHeight: h } = picture;
            if (!picture.complete || !w) return null;
            const context = new OffscreenCanvas(w, h).getContext("2d");
            context.drawImage(picture, 0, 0);
            return [h, w, [...context.getImageData(0, 0, w, h).data].filter((_, i) => i % 4 === 0)];
        """
        height, width, pixels = self.chrome.execute_script(script) or (1, 1, [0])
        return np.reshape(pixels, (height, width))

    def panel_colors(self) -> list[list[int]]:
        """Color in the middle of each heat map."""
        return self.chrome.execute_script(
            """
            return [...document.querySelectorAll(".panel img")].map((image) => {
              if (!image.complete) return null;
              const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
              const context = canvas.getContext("2d");
              context.drawImage(image, 0, 0);
              return [...context.getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data.slice(0, 3)];
            });
            """
        )

    def choose(self, selector: str, value: str) -> None:
        """Choose an entry of a list."""
        Select(self.find(selector)).select_by_value(value)

    def slide(self, selector: str, value: float) -> None:
        """Move a slider, as by dragging it."""
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
        self.chrome.execute_script(script, self.find(selector), value)

    def color_of(self, selector: str) -> list[int]:
        """Color and opacity in the middle of a picture or canvas, once it is there."""
        return self.chrome.execute_script(
            """
            const source = document.querySelector(arguments[0]);
            const canvas = new OffscreenCanvas(1, 1);
            const context = canvas.getContext("2d");
            const [width, height] = [source.naturalWidth ?? source.width, source.naturalHeight ?? source.height];
            if (!width || source.complete === false) return null;
            context.drawImage(source, width / 2, height / 2, 1, 1, 0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data];
            """,
            selector,
        )

    def heat_maps(self) -> list[str]:
        """Captions of the heat maps on the screen."""
        return [caption.text for caption in self.chrome.find_elements("css selector", ".caption") if caption.text]

    def complaints(self) -> list[str]:
        """The browser's complaints about the page, refused requests aside."""
        return [
            entry["message"]
            for entry in self.chrome.get_log("browser")
            if "Failed to load resource" not in entry["message"]
        ]


@pytest.fixture
def page(chrome: Chrome, server: StandIn) -> Iterator[Page]:
    page = Page(chrome, server.url)  # type: ignore[attr-defined]
    page.wait(lambda: page.image)
    yield page
    for reset in ("clearDeviceMetricsOverride", "setEmulatedMedia"):
        chrome.execute_cdp_cmd(f"Emulation.{reset}", {})
    complaints = page.complaints()
    assert complaints == [], complaints
