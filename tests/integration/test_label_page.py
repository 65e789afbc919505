# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The page for annotators in a real browser: clicks, keys, corrections, training, errors, other screens.

The server is a stand-in with the paths of the app; the last tests have the real one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from label_browser import CLASSES, SCORES, Page, StandIn, start_chrome
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.support.ui import Select
from test_label_server import SETTINGS, Server

from monai_fgssl.data import read_isic2018

# Of the server itself: the keys of its two classes, and as many epochs as are seen going by.
NUMBER_KEYS = {"COBBLESTONE": "1", "NETWORK": "2"}
PRETRAIN_EPOCHS = 20


def test_the_page_says_why_a_person_should_decide(page: Page, server: StandIn) -> None:
    server.reasons = ["several classes are possible", "unlike the training images"]
    page.chrome.refresh()
    said = "Decide yourself: several classes are possible, unlike the training images."
    page.wait(lambda: page.text("#suggestion").endswith(said))


def test_an_image_and_its_suggestion(page: Page, server: StandIn) -> None:
    assert page.image == "image 0 #0%"
    assert page.text("#done-text") == "0 of 6 labeled"
    page.wait(lambda: page.text("#suggestion") == "GLOBULES with 61 %. 3 of 4 stages agree.")
    buttons = page.chrome.find_elements("css selector", ".class")
    assert [button.text.split() for button in buttons][:4] == [
        ["1", "NETWORK", "8", "%"],
        ["2", "COBBLESTONE", "5", "%"],
        ["3", "GLOBULES", "suggested", "61", "%"],
        ["4", "DOTS", "14", "%"],
    ]
    widths = [
        float(bar.value_of_css_property("width")[:-2])
        for bar in page.chrome.find_elements("css selector", ".class .bar")
    ]
    assert [width / sum(widths) for width in widths] == pytest.approx(SCORES, abs=0.01)
    assert [row.text for row in page.chrome.find_elements("css selector", "#stages tbody tr")] == [
        "stage 1 GLOBULES ✓ 37 %",
        "stage 2 DOTS ≠ 41 %",
        "stage 3 GLOBULES ✓ 68 %",
        "all stages GLOBULES ✓ 74 %",
    ]
    assert (page.text("#entropy"), page.text("#disagreement")) == ("66 %", "12 %")
    page.wait(lambda: page.pixels() == (256, 256))


def test_labels_by_click_and_by_key(page: Page, server: StandIn) -> None:
    first = page.image
    page.click_class("DOTS")
    page.wait(lambda: page.image != first)
    second = page.image
    page.press("7")
    page.wait(lambda: page.image != second)
    assert server.labels == {first: "DOTS", second: "CRYSTALLINE"}
    assert page.text("#done-text") == "2 of 6 labeled"
    assert page.pressed == []


def test_back_to_change_and_to_remove_a_label(page: Page, server: StandIn) -> None:
    first = page.image
    page.press("1")
    page.wait(lambda: page.image != first)
    second = page.image
    page.press("2")
    page.wait(lambda: page.image != second)
    third = page.image
    page.press(Keys.BACKSPACE)
    page.wait(lambda: page.image == second)
    assert page.pressed == ["COBBLESTONE"]
    page.press(Keys.ARROW_LEFT)
    page.wait(lambda: page.image == first)
    page.press(Keys.BACKSPACE)
    assert page.image == first

    page.press("5")
    page.wait(lambda: page.image == second)
    assert server.labels == {first: "STREAKS", second: "COBBLESTONE"}
    assert page.text("#done-text") == "2 of 6 labeled"
    page.press(Keys.DELETE)
    page.wait(lambda: page.pressed == [])
    assert server.labels == {first: "STREAKS"}
    assert page.text("#done-text") == "1 of 6 labeled"
    page.find("#forward").click()
    page.wait(lambda: page.image == third)
    assert not page.find("#forward").is_enabled()
    page.find("#back").click()
    page.wait(lambda: page.image == second)


def test_strategy_chooses_the_next_image(page: Page, server: StandIn) -> None:
    Select(page.find("#strategy")).select_by_value("core_set")
    page.wait(lambda: page.image == "image 5 #5%")
    assert "POST /activelearning/core_set" in server.requests
    # The image that was not labeled has given way.
    assert not page.find("#back").is_enabled()
    page.chrome.refresh()
    page.wait(lambda: page.find("#strategy").get_attribute("value") == "core_set")
    page.wait(lambda: page.image == "image 5 #5%")


def test_all_images_labeled(page: Page, server: StandIn) -> None:
    for done in range(1, 7):
        page.press("1")
        page.wait(lambda done=done: page.text("#done-text") == f"{done} of 6 labeled")
        assert page.image is not None
    assert page.text("#nothing") == "All 6 images are labeled."
    page.press("2")
    assert set(server.labels.values()) == {"NETWORK"}
    page.press(Keys.BACKSPACE)
    page.wait(lambda: page.image == "image 5 #5%")
    page.press("2")
    page.wait(lambda: page.text("#nothing") == "All 6 images are labeled.")
    assert server.labels["image 5 #5%"] == "COBBLESTONE"


def test_held_keys_and_shortcuts_label_nothing(page: Page, server: StandIn) -> None:
    page.chrome.execute_script(
        "for (const more of [{repeat: true}, {ctrlKey: true}, {altKey: true}, {metaKey: true}])"
        " document.dispatchEvent(new KeyboardEvent('keydown', {key: '1', bubbles: true, ...more}))"
    )
    page.press("8", "x")
    assert page.image == "image 0 #0%"
    assert not any(request.startswith("PUT") for request in server.requests)


def test_a_second_key_while_saving_is_not_for_the_next_image(page: Page, server: StandIn) -> None:
    page.wait(lambda: page.text("#entropy"))
    server.delay = 0.3
    page.press("1", "2", "3")
    page.wait(lambda: page.image == "image 1 #1%")
    assert server.labels == {"image 0 #0%": "NETWORK"}


def test_a_label_that_is_refused_keeps_its_image(page: Page, server: StandIn) -> None:
    server.failures["PUT /datastore/label"] = (500, "the disk is full")
    page.press("1")
    page.wait(lambda: page.error == "The label was not saved: the disk is full.")
    assert page.image == "image 0 #0%"
    assert page.pressed == []
    server.failures.clear()
    page.press("1")
    page.wait(lambda: page.image == "image 1 #1%")
    assert page.error == ""


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("POST /activelearning", "The next image can't be shown: no luck."),
        ("GET /fgssl/image", "The next image can't be shown: no luck."),
        ("GET /fgssl/images", "The next image can't be shown: no luck."),
        ("GET /fgssl/info", "The next image can't be shown: no luck."),
        ("POST /infer", "There is no suggestion for this image: no luck."),
    ],
)
def test_what_fails_after_saving_can_be_tried_again(page: Page, server: StandIn, path: str, sentence: str) -> None:
    server.failures[path] = (500, "no luck")
    page.press("4")
    page.wait(lambda: page.error == sentence)
    assert server.labels == {"image 0 #0%": "DOTS"}
    server.failures.clear()
    page.find("#retry").click()
    page.wait(lambda: page.image == "image 1 #1%" and page.text("#suggestion").startswith("GLOBULES"))
    assert page.error == ""


def test_error_without_reason_names_its_number(page: Page, server: StandIn) -> None:
    server.failures["GET /fgssl/heat_layer"] = (503, None)
    page.press("h")
    page.wait(
        lambda: (
            page.error == "There is no heat map of this image: the server answered with error 503; its log says why."
        )
    )
    assert page.find("#heat").get_attribute("aria-pressed") == "false"
    page.press(Keys.ESCAPE)
    assert page.error == ""


def test_server_that_is_gone(page: Page, server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    page.wait(lambda: page.text("#entropy"))
    page.chrome.execute_cdp_cmd("Network.enable", {})
    gone = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.chrome.execute_cdp_cmd("Network.emulateNetworkConditions", gone)
    page.press("1")
    page.wait(lambda: page.error == "The label was not saved: the server can't be reached; check that it is running.")
    page.chrome.execute_cdp_cmd("Network.emulateNetworkConditions", gone | {"offline": False})
    page.press("1")
    page.wait(lambda: page.image == "image 1 #1%")


def test_without_a_model(page: Page, server: StandIn) -> None:
    server.has_model = False
    page.chrome.refresh()
    page.wait(lambda: page.image)
    assert page.text("#suggestion") == "No model yet: label some images of each class, then press Train."
    assert not page.find("#heat").is_enabled()
    assert not page.find("#train").is_enabled()
    assert page.find("#pretrain").is_enabled()
    assert page.chrome.find_elements("css selector", ".scored, #stages tbody tr") == []
    server.requests.clear()
    page.press("h", "1")
    page.wait(lambda: page.image == "image 1 #1%")
    assert not any("infer" in request or "heat" in request for request in server.requests)
    assert page.find("#train").is_enabled()


def test_training_is_watched_until_the_new_model_suggests(page: Page, server: StandIn) -> None:
    server.has_model = False
    page.chrome.refresh()
    page.wait(lambda: page.image)
    page.press("1")
    page.wait(lambda: page.find("#train").is_enabled())
    page.find("#train").click()
    page.wait(lambda: page.text("#training-text") == "Training starts …")
    assert not page.find("#train").is_enabled()
    assert not page.find("#pretrain").is_enabled()
    assert server.task is not None
    # What it does before the first epoch, without what it draws.
    details = [
        "checking 6 images",
        "++++++++ | x | y |",
        "6 images in images.csv",
        "  images.csv: classes from column label",
    ]
    for shown, phase in (
        (1, "the images are checked"),
        (2, "the images are checked"),
        (4, "the images are read"),
    ):
        server.task["details"] = details[:shown]
        page.wait(lambda phase=phase: page.text("#training-text") == f"Training starts … {phase}")
    server.task["details"] = [*details, "  near-duplicates: 0 pairs", "++++++++"]
    page.wait(lambda: page.text("#training-text") == "Training starts … the first epoch is computed")
    server.task["details"] = ["reading 6 images", "fine-tune 3/12: loss_concat 0.7, 1/2 of it"]
    page.wait(lambda: page.text("#training-text") == "Training 3 of 12 epochs")
    assert page.find("#training-bar").get_attribute("value") == "3"
    server.has_model = True
    server.task["status"] = "DONE"
    page.wait(lambda: page.text("#training-text") == "Training finished")
    page.wait(lambda: page.text("#suggestion").startswith("GLOBULES with 61 %"))
    assert page.find("#train").is_enabled()
    assert not page.find("#training-bar").is_displayed()


def test_a_training_that_can_not_work_is_refused_beside_the_button(page: Page, server: StandIn) -> None:
    page.press("1")
    page.wait(lambda: page.find("#train").is_enabled())
    assert not page.find("#refusal").is_displayed()
    server.refusal = "training needs two classes or more; there are: NETWORK (2)."
    page.press("1")
    page.wait(lambda: page.text("#refusal") == server.refusal)
    assert not page.find("#train").is_enabled()
    refusal, button = page.find("#refusal").rect, page.find("#train").rect
    assert 0 <= refusal["y"] - button["y"] - button["height"] < 40
    # Somebody removed a label meanwhile: the server says the same.
    server.refusal = None
    page.press("1")
    page.wait(lambda: page.find("#train").is_enabled())
    server.failures["POST /train"] = (409, "training needs two classes or more")
    page.find("#train").click()
    page.wait(lambda: page.error == "Training did not start: training needs two classes or more.")


def test_training_starts_while_an_image_is_on_its_way(page: Page, server: StandIn) -> None:
    page.press("1")
    page.wait(lambda: page.find("#train").is_enabled())
    assert page.image
    server.delay = 0.5
    page.press(Keys.BACKSPACE)
    page.find("#train").click()
    page.wait(lambda: page.text("#training-text") == "Training starts …")
    assert page.image == "image 0 #0%"


def test_pretraining_goes_on_over_a_reload_and_stops(page: Page, server: StandIn) -> None:
    page.find("#pretrain").click()
    page.wait(lambda: page.text("#training-text").startswith("Pre-training"))
    page.chrome.refresh()
    page.wait(lambda: page.text("#training-text") == "Pre-training starts …")
    page.wait(lambda: page.image)
    page.find("#stop").click()
    page.wait(lambda: page.text("#training-text") == "Pre-training stopped")
    assert not page.find("#stop").is_displayed()


def test_training_that_fails_says_why(page: Page, server: StandIn) -> None:
    page.press("1")
    page.wait(lambda: page.find("#train").is_enabled())
    page.find("#train").click()
    page.wait(lambda: server.task is not None)
    assert server.task is not None
    server.task |= {
        "status": "ERROR",
        "details": [
            "Traceback",
            "monai_fgssl.DataError: each class needs two labeled images",
            "++++++++",
            "+--- ab ---+",
        ],
    }
    page.wait(lambda: page.error == "Training failed: each class needs two labeled images.")
    server.failures["POST /train"] = (429, "Train Task is Already Running")
    page.find("#train").click()
    page.wait(lambda: page.error == "Training did not start: Train Task is Already Running.")


def test_sign_in(page: Page, server: StandIn) -> None:
    server.token = "secret"
    page.chrome.refresh()
    page.wait(lambda: page.find("#sign-in").is_displayed())
    page.find("[name=username]").send_keys("anna1")
    page.find("[name=password]").send_keys("wrong", Keys.ENTER)
    page.wait(lambda: page.text("#sign-in-error") == "User and password were not accepted.")
    assert page.find("[name=username]").get_attribute("value") == "anna1"
    page.find("[name=password]").clear()
    page.find("[name=password]").send_keys("right", Keys.ENTER)
    page.wait(lambda: page.image == "image 0 #0%")
    assert server.labels == {}


def test_sign_in_that_is_given_up(page: Page, server: StandIn) -> None:
    server.token = "secret"
    page.press("1")
    page.wait(lambda: page.find("#sign-in").is_displayed())
    page.find("[name=username]").send_keys(Keys.ESCAPE)
    page.wait(lambda: page.error == "The label was not saved: sign in first.")
    server.token = None


def test_no_images(page: Page, server: StandIn) -> None:
    server.pictures = {}
    page.chrome.refresh()
    page.wait(lambda: page.text("#nothing").startswith("There are no images: put some into the folder"))
    assert all(
        not button.is_enabled() for button in page.chrome.find_elements("css selector", ".class, #train, #pretrain")
    )


def test_no_classes_and_classes_that_come_later(page: Page, server: StandIn) -> None:
    server.classes = []
    page.chrome.refresh()
    page.wait(lambda: page.text("#no-classes").startswith("The server knows no classes: start it again"))
    page.press("1")
    assert server.labels == {}
    server.classes = ["nevus", "melanoma"]
    page.chrome.refresh()
    page.wait(lambda: page.image)
    assert not page.find("#no-classes").is_displayed()
    server.classes = ["nevus", "melanoma", "keratosis"]
    page.press("2")
    page.wait(lambda: len(page.chrome.find_elements("css selector", ".class")) == 3)
    assert page.image
    page.press("3")
    page.wait(lambda: list(server.labels.values()) == ["melanoma", "keratosis"])


def test_damaged_picture(page: Page, server: StandIn) -> None:
    server.pictures = dict.fromkeys(server.pictures, b"no picture")
    page.chrome.refresh()
    page.wait(lambda: page.error == "The image can't be shown: the server did not send a picture.")


def test_all_by_tab_key_with_visible_focus(page: Page) -> None:
    page.wait(lambda: page.text("#entropy"))
    reached = []
    for _ in range(30):
        page.press(Keys.TAB)
        focused = page.chrome.switch_to.active_element
        if focused.tag_name == "body":
            break
        assert focused.value_of_css_property("outline-width") == "3px"
        reached.append(focused.get_attribute("id") or focused.get_attribute("data-name"))
    assert reached == [
        "to-label",
        "to-review",
        "strategy",
        "pretrain",
        "skip",
        "unsure",
        "heat",
        *CLASSES,
        "hide",
        "show-help",
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(page: Page, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    page.chrome.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    page.press("1")
    page.wait(lambda: page.find("#train").is_enabled())
    colors = page.chrome.execute_script(
        """
        const opaque = (e) => {
          const c = getComputedStyle(e).backgroundColor;
          return c === "rgba(0, 0, 0, 0)" && e.parentElement ? opaque(e.parentElement) : c;
        };
        return [...document.querySelectorAll("h1, h2, p, span, button, td, th, dt, dd, kbd, select")]
          .filter((e) => e.offsetParent && e.textContent.trim() && !e.disabled && !e.closest(":disabled"))
          .map((e) => [e.id || e.className || e.tagName, getComputedStyle(e).color, opaque(e)]);
        """
    )
    assert len(colors) > 40
    low = [entry for entry in colors if contrast(entry[1], entry[2]) < 4.5]
    assert low == []


def contrast(a: str, b: str) -> float:
    """Ratio of the luminances of two CSS colors."""

    def luminance(color: str) -> float:
        parts = [float(part) / 255 for part in color[color.index("(") + 1 : -1].split(",")[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("width", [360, 800, 1280, 1920])
def test_nothing_is_cut_off(page: Page, width: int) -> None:
    screen = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    page.wait(lambda: page.text("#entropy"))
    scroll_width, client_width, scroll_height, client_height = page.chrome.execute_script(
        "const e = document.documentElement;return [e.scrollWidth, e.clientWidth, e.scrollHeight, e.clientHeight]"
    )
    assert scroll_width <= client_width
    assert page.find("#stage").size["height"] >= 168
    if width > 800:
        # Beside each other, image, classes and suggestion need no scrolling.
        assert scroll_height <= client_height
        script = "return uncertainty.getBoundingClientRect().bottom <= side.getBoundingClientRect().bottom"
        assert page.chrome.execute_script(script)


def test_nothing_comes_from_elsewhere(page: Page, server: StandIn) -> None:
    page.press("h")
    page.wait(lambda: page.find("#heat-layer").is_displayed())
    page.choose("#heat-stage", "each")
    page.wait(lambda: len(page.heat_maps()) == 4)
    names = page.chrome.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    own = server.url.removesuffix("fgssl/")  # type: ignore[attr-defined]
    assert len(names) >= 5
    assert [name for name in names if not name.startswith((own, "blob:" + own, "data:"))] == []


@pytest.fixture(scope="module")
def real(
    label_python: Path,
    lesions: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Server, dict[str, str]]]:
    """MONAI Label itself with 24 images of two classes, and the class of each."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "studies").mkdir()
    table = read_isic2018(lesions)
    classes: dict[str, str] = {}
    for name in NUMBER_KEYS:
        for item in [item for item in table.items if table.class_names[item["label"]] == name][:12]:
            shutil.copy(item["image"], folder / "studies")
            classes[item["name"]] = name
    conf = {"classes": ",".join(NUMBER_KEYS), **SETTINGS, "pretrain_epochs": PRETRAIN_EPOCHS}
    server = Server(label_python, folder, str(folder / "studies"), {}, conf)
    yield server, classes
    server.stop()


def test_label_train_and_see_suggestions_change(chrome: Chrome, real: tuple[Server, dict[str, str]]) -> None:
    """The whole way against MONAI Label itself: no model, labels, a suggestion, more labels, another suggestion."""
    server, classes = real
    page = Page(chrome, server.url + "/fgssl/")
    page.wait(lambda: page.image)
    assert page.text("#suggestion").startswith("No model yet")

    def label(count: int) -> None:
        for _ in range(count):
            name = page.image
            page.press(NUMBER_KEYS[classes[name]])
            page.wait(lambda name=name: page.image != name)
            assert server.ask("GET", f"/fgssl/label/{name}") == {"class": classes[name]}

    def suggestion() -> str:
        page.wait(lambda: " with " in page.text("#suggestion"))
        return str([bar.get_attribute("style") for bar in page.chrome.find_elements("css selector", ".class .bar")])

    def train() -> None:
        page.find("#train").click()
        # The words may still be those of the training before.
        page.wait(lambda: page.find("#stop").is_displayed())
        page.wait(lambda: page.text("#training-text") == "Training finished" or page.error, seconds=300)
        assert page.error == ""

    # At least four of each class, whatever is drawn.
    label(16)
    assert page.text("#done-text") == "16 of 24 labeled"
    last = page.image
    train()
    assert page.image == last
    assert suggestion()
    assert len(page.chrome.find_elements("css selector", "#stages tbody tr")) == 4
    page.press("h")
    page.wait(lambda: page.find("#heat-layer").is_displayed())
    page.choose("#heat-stage", "each")
    page.wait(lambda: page.heat_maps() == ["image", "stage 1", "stage 2", "stage 3"])
    page.press("h")

    Select(page.find("#strategy")).select_by_value("margin")
    label(3)
    page.press(Keys.BACKSPACE)
    corrected = page.image
    page.wait(lambda: page.pressed == [classes[corrected]])
    wrong = next(name for name in NUMBER_KEYS if name != classes[corrected])
    page.press(NUMBER_KEYS[wrong])
    page.wait(lambda: page.image != corrected)
    assert server.ask("GET", f"/fgssl/label/{corrected}") == {"class": wrong}
    page.press(Keys.BACKSPACE)
    page.wait(lambda: page.image == corrected)
    before = suggestion()
    train()
    page.wait(lambda: suggestion() != before)
    assert page.complaints() == []


def test_two_annotators_at_once(chrome: Chrome, real: tuple[Server, dict[str, str]]) -> None:
    server, _ = real
    before = server.ask("GET", "/fgssl/info")["num_labeled"]
    other = start_chrome()
    try:
        pages = [Page(browser, server.url + "/fgssl/") for browser in (chrome, other)]
        saved: dict[str, str] = {}
        for keys in (("1", "2"), ("2", "1")):
            shown = [page.image for page in pages]
            assert len({*shown, *saved}) == len(shown) + len(saved)
            for page, key in zip(pages, keys, strict=True):
                page.press(key)
            for page, name, key in zip(pages, shown, keys, strict=True):
                page.wait(lambda page=page, name=name: page.image != name)
                saved[name] = {key: label for label, key in NUMBER_KEYS.items()}[key]
        assert {name: server.ask("GET", f"/fgssl/label/{name}")["class"] for name in saved} == saved
        assert server.ask("GET", "/fgssl/info")["num_labeled"] == before + len(saved)
        assert [page.error for page in pages] == ["", ""]
    finally:
        other.quit()


def test_pretraining_by_its_button(chrome: Chrome, real: tuple[Server, dict[str, str]]) -> None:
    """It learns from all images, and the page counts its epochs meanwhile."""
    server, classes = real
    page = Page(chrome, server.url + "/fgssl/")
    page.wait(lambda: page.image)
    page.find("#pretrain").click()
    seen: list[int] = []

    def ended() -> bool:
        text = page.text("#training-text")
        if counted := re.fullmatch(rf"Pre-training (\d+) of {PRETRAIN_EPOCHS} epochs", text):
            seen.append(int(counted[1]))
        return text == "Pre-training finished" or bool(page.error)

    page.wait(ended, seconds=300)
    assert page.error == ""
    assert len(set(seen)) > 1
    assert seen == sorted(seen)
    details = server.ask("GET", "/train/")["details"]
    assert any(f"pre-train {PRETRAIN_EPOCHS}/{PRETRAIN_EPOCHS}" in line for line in details)
    (images,) = server.log.parent.rglob("pretrain/images.csv")
    assert len(images.read_text(encoding="utf-8").splitlines()) == 1 + len(classes)
