# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The page for annotators where an image may have several findings, or none. The server is a stand-in."""

from __future__ import annotations

import re

import pytest
from label_browser import CLASSES, Page, StandIn
from selenium.webdriver import ActionChains, Keys
from test_label_screens import OVERLAPS, findings, resize
from test_label_texts import speak, spoken

NAMES = [f"image {i} #{i}%" for i in range(6)]

__all__ = ["spoken"]


@pytest.fixture(autouse=True)
def several(server: StandIn) -> None:
    server.multilabel = True
    server.findings = ["GLOBULES", "DOTS"]


def tiles(page: Page) -> dict[str, str]:
    """Name and label of each image in the grid."""
    script = """
        return [...document.querySelectorAll(".tile")].map((tile) =>
          [tile.dataset.name, tile.querySelector(":scope > .label").textContent]);
    """
    return dict(page.chrome.execute_script(script))


def open_grid(page: Page) -> None:
    page.press("g")
    page.wait(lambda: page.find("#review").is_displayed() and len(tiles(page)) == len(NAMES))


def select(page: Page, *names: str) -> None:
    for name in names:
        page.find(f".tile[data-name='{name}']").click()
    page.wait(lambda: page.text("#selected") == f"{len(names)} selected")


def test_findings_by_key_and_click_and_one_key_saves_them(page: Page, server: StandIn) -> None:
    first = page.image
    page.press("4")
    page.wait(lambda: page.pressed == ["DOTS"])
    page.click_class("NETWORK")
    page.wait(lambda: page.pressed == ["NETWORK", "DOTS"])
    page.press("4")
    page.wait(lambda: page.pressed == ["NETWORK"])
    page.press("7")
    page.wait(lambda: page.pressed == ["NETWORK", "CRYSTALLINE"])
    # Nothing is saved by a choice, and the page says so.
    assert server.labels == {}
    assert page.text("#unsaved") == "Not saved yet."
    page.press(Keys.ENTER)
    page.wait(lambda: page.image != first)
    assert server.labels == {first: ["NETWORK", "CRYSTALLINE"]}
    assert page.pressed == []
    assert not page.find("#unsaved").is_displayed()
    assert page.text("#done-text") == "1 of 6 labeled"


def test_none_of_them_is_a_label(page: Page, server: StandIn) -> None:
    first = page.image
    assert page.text("#save").startswith("None of them, next image")
    page.find("#save").click()
    page.wait(lambda: page.image != first)
    second = page.image
    page.press("1")
    page.wait(lambda: page.text("#save").startswith("Save, next image"))
    page.press("1")
    page.wait(lambda: page.text("#save").startswith("None of them, next image"))
    assert not page.find("#unsaved").is_displayed()
    # The button that was clicked before does not take the key.
    page.press(Keys.ENTER)
    page.wait(lambda: page.image != second)
    assert server.labels == {first: [], second: []}
    assert page.text("#done-text") == "2 of 6 labeled"


def test_a_button_that_was_clicked_does_not_take_the_key_that_saves(page: Page, server: StandIn) -> None:
    skipped = page.image
    page.find("#skip").click()
    page.wait(lambda: page.image != skipped)
    second = page.image
    page.press("2", Keys.ENTER)
    page.wait(lambda: page.image != second)
    assert server.labels == {second: ["COBBLESTONE"]}
    assert server.marks == {skipped: {"skipped": True}}


def test_what_is_not_saved_stays_with_its_image(page: Page, server: StandIn) -> None:
    first = page.image
    page.press("1", Keys.ENTER)
    page.wait(lambda: page.image != first)
    second = page.image
    page.press("2")
    page.wait(lambda: page.pressed == ["COBBLESTONE"])
    page.press(Keys.BACKSPACE)
    page.wait(lambda: page.image == first)
    assert page.pressed == ["NETWORK"]
    page.press(Keys.ARROW_RIGHT)
    page.wait(lambda: page.image == second)
    assert page.pressed == ["COBBLESTONE"]
    assert page.text("#unsaved") == "Not saved yet."
    assert server.labels == {first: ["NETWORK"]}


def test_undo_takes_back_what_is_not_saved_and_then_the_last_label(page: Page, server: StandIn) -> None:
    first = page.image
    page.press("1", "3", Keys.ENTER)
    page.wait(lambda: page.image != first)
    second = page.image
    page.press("2")
    page.wait(lambda: page.pressed == ["COBBLESTONE"])
    page.find("#undo").click()
    page.wait(lambda: page.pressed == [])
    assert (page.image, server.labels) == (second, {first: ["NETWORK", "GLOBULES"]})
    page.press(Keys.BACKSPACE)
    page.wait(lambda: page.image == first)
    page.press("3", Keys.ENTER)
    page.wait(lambda: page.image == second)
    assert server.labels == {first: ["NETWORK"]}
    page.find("#undo").click()
    page.wait(lambda: page.image == first)
    assert server.labels == {first: ["NETWORK", "GLOBULES"]}
    assert page.pressed == ["NETWORK", "GLOBULES"]
    page.find("#undo").click()
    page.wait(lambda: server.labels == {})
    page.wait(lambda: page.pressed == [])


def test_the_model_suggests_each_finding(page: Page, server: StandIn) -> None:
    page.wait(lambda: page.text("#suggestion") == "GLOBULES, DOTS")
    suggested = page.chrome.find_elements("css selector", ".class.suggested")
    assert [button.get_attribute("data-name") for button in suggested] == ["GLOBULES", "DOTS"]
    assert page.text(".class[data-name=STREAKS] .score") == "3 %"
    # Stages have no thresholds, and several findings no confusion.
    assert not page.find("#stages").is_displayed()
    assert page.find("#heat-class").get_attribute("value") == "GLOBULES"
    # A suggestion is not a choice.
    assert page.pressed == []
    server.findings = []
    page.chrome.refresh()
    page.wait(lambda: page.text("#suggestion") == "none of them")


def test_labels_of_others_stay_hidden_until_this_person_has_saved(page: Page, server: StandIn) -> None:
    server.user = "uma"
    server.labels = {NAMES[1]: ["DOTS"]}
    server.readings = {NAMES[1]: {"anna": ["DOTS"]}}
    page.chrome.refresh()
    page.wait(lambda: page.image)
    page.find("#hide").click()
    page.chrome.execute_script("location.hash = '#review?show=unread'")
    page.wait(lambda: set(tiles(page)) == {NAMES[1]})
    page.find("#open-focused").click()
    page.wait(lambda: page.image == NAMES[1])
    assert page.pressed == []
    # What the other person has found is not added to what this person finds.
    page.press("1")
    page.wait(lambda: page.pressed == ["NETWORK"])
    page.press(Keys.ENTER)
    page.wait(lambda: server.readings[NAMES[1]] == {"anna": ["DOTS"], "uma": ["NETWORK"]})


def test_the_second_reader_who_says_the_same_is_heard(page: Page, server: StandIn) -> None:
    server.user = "uma"
    server.labels = {NAMES[1]: ["DOTS"], NAMES[2]: []}
    server.readings = {NAMES[1]: {"anna": ["DOTS"]}, NAMES[2]: {"anna": []}}
    page.chrome.refresh()
    page.wait(lambda: page.image)
    page.chrome.execute_script("location.hash = '#review?show=unread'")
    page.wait(lambda: set(tiles(page)) == {NAMES[1], NAMES[2]})
    page.find("#open-focused").click()
    page.wait(lambda: page.image == NAMES[1])
    page.press(Keys.ENTER)
    page.wait(lambda: page.image == NAMES[2])
    page.press(Keys.ENTER)
    page.wait(lambda: server.readings[NAMES[2]].keys() == {"anna", "uma"})
    assert server.readings == {
        NAMES[1]: {"anna": ["DOTS"], "uma": ["DOTS"]},
        NAMES[2]: {"anna": [], "uma": []},
    }


def test_the_grid_filters_by_finding(page: Page, server: StandIn) -> None:
    server.labels = {NAMES[0]: ["DOTS", "STREAKS"], NAMES[1]: [], NAMES[2]: ["STREAKS"]}
    server.suggestions = {NAMES[0]: (["STREAKS", "DOTS"], 0.5), NAMES[1]: (["DOTS"], 0.4), NAMES[2]: ([], 0.3)}
    open_grid(page)
    assert tiles(page) == {
        NAMES[0]: "DOTS, STREAKS",
        NAMES[1]: "none of them",
        NAMES[2]: "STREAKS",
        **dict.fromkeys(NAMES[3:], "no label"),
    }
    options = [option.text for option in page.chrome.find_elements("css selector", "#filter-class option")]
    assert options[4:6] == ["DOTS (1)", "STREAKS (2)"]
    page.choose("#filter-class", "STREAKS")
    page.wait(lambda: set(tiles(page)) == {NAMES[0], NAMES[2]})
    page.choose("#filter-class", "")
    for show, expected in (
        ("nothing", {NAMES[1]}),
        ("labeled", set(NAMES[:3])),
        ("unlabeled", set(NAMES[3:])),
        # The order of the findings is no difference.
        ("differs", {NAMES[1], NAMES[2]}),
    ):
        page.choose("#filter-show", show)
        page.wait(lambda expected=expected: set(tiles(page)) == expected)


def test_the_grid_toggles_a_finding_of_labeled_images_only(page: Page, server: StandIn) -> None:
    server.labels = {NAMES[0]: ["DOTS"], NAMES[1]: []}
    open_grid(page)
    select(page, *NAMES[:3])
    page.press("1")
    page.wait(lambda: server.labels == {NAMES[0]: ["NETWORK", "DOTS"], NAMES[1]: ["NETWORK"]})
    said = "1 images without a label were left as they are: open them."
    page.wait(lambda: page.find("#announcement").get_attribute("textContent") == said)
    # All of them have it now, so it is taken away.
    select(page, *NAMES[:2])
    page.press("1")
    page.wait(lambda: server.labels == {NAMES[0]: ["DOTS"], NAMES[1]: []})
    page.wait(lambda: tiles(page)[NAMES[1]] == "none of them")
    ActionChains(page.chrome).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()
    page.wait(lambda: server.labels == {NAMES[0]: ["NETWORK", "DOTS"], NAMES[1]: ["NETWORK"]})


def test_the_grid_says_of_many_images_that_there_is_nothing(page: Page, server: StandIn) -> None:
    open_grid(page)
    select(page, *NAMES[3:])
    page.choose("#give-class", " ")
    page.wait(lambda: server.labels == {name: [] for name in NAMES[3:]})
    assert tiles(page)[NAMES[3]] == "none of them"


def test_agreement_of_each_finding(page: Page, server: StandIn) -> None:
    server.user = "uma"
    pair = {"people": ["anna", "uma"], "images": 50, "agreed": 35, "kappa": None, "differ": NAMES[:2]}
    pair["findings"] = [{"name": "DOTS", "agreed": 35, "kappa": 0.4}, {"name": "STREAKS", "agreed": 50, "kappa": None}]
    server.agreement = [pair]
    page.chrome.refresh()
    page.wait(lambda: page.image)
    open_grid(page)
    page.find("#show-agreement").click()
    page.wait(lambda: page.find("#agreement").is_displayed())
    text = re.sub(r"\s+", " ", page.text("#pairs"))
    assert "anna and uma: the same findings in 35 of 50." in text
    assert "DOTS 35 of 50 alike, kappa 0.40; STREAKS 50 of 50 alike, kappa \N{EN DASH};" in text
    page.find("#agreement-close").click()


def test_results_of_a_training_are_those_of_findings(page: Page, server: StandIn) -> None:
    figures = [{"value": value, "low": value - 0.1, "high": value + 0.1} for value in (0.8, 0.7)]
    training = {"num_labels": 9, "num_test_images": 50, "macro_auc": figures[0], "macro_f1": figures[1]}
    server.trainings = {"trainings": [training], "labels_until_better": 7}
    page.chrome.refresh()
    expected = "Mean AUC of the findings 80 % (70\N{EN DASH}90 %), mean F1 70 % (60\N{EN DASH}80 %)."
    page.wait(lambda: page.text("#result-text") == expected)
    assert not page.find("#show-confusion").is_displayed()


@pytest.mark.parametrize(
    ("language", "text"), [("de", "Nichts davon, nächstes Bild"), ("ja", "どれもなし、次の画像へ")]
)
def test_the_new_texts_are_there_in_every_language(page: Page, spoken: object, language: str, text: str) -> None:
    speak(page.chrome, language)
    page.chrome.refresh()
    page.wait(lambda: page.text("#save").startswith(text))


def test_one_class_is_still_saved_at_once(page: Page, server: StandIn) -> None:
    server.multilabel = False
    page.chrome.refresh()
    page.wait(lambda: page.image)
    first = page.image
    assert not page.find("#save").is_displayed()
    page.press("2")
    page.wait(lambda: page.image != first)
    assert server.labels == {first: CLASSES[1]}


def test_a_second_reader_who_gives_the_same_class_is_heard(page: Page, server: StandIn) -> None:
    server.multilabel = False
    server.user = "uma"
    server.labels, server.readings = {NAMES[1]: "DOTS"}, {NAMES[1]: {"anna": "DOTS"}}
    page.chrome.refresh()
    page.wait(lambda: page.image)
    page.chrome.execute_script("location.hash = '#review?show=unread'")
    page.wait(lambda: set(tiles(page)) == {NAMES[1]})
    page.find("#open-focused").click()
    page.wait(lambda: page.image == NAMES[1])
    page.press("4")
    page.wait(lambda: server.readings == {NAMES[1]: {"anna": "DOTS", "uma": "DOTS"}})


# Telephones upright and lying; a window of 1280 x 800 at 200 %.
@pytest.mark.parametrize("size", [(320, 568), (390, 844), (844, 390), (932, 430), (640, 400), (1280, 800)])
def test_findings_and_their_button_are_seen_at_once(page: Page, server: StandIn, size: tuple[int, int]) -> None:
    resize(page, *size)
    page.press("1")
    page.wait(lambda: page.pressed == ["NETWORK"])
    bottoms = page.chrome.execute_script(
        "return [...document.querySelectorAll('.class, #save')].map((one) => one.getBoundingClientRect().bottom)"
    )
    assert len(bottoms) == len(CLASSES) + 1
    assert max(bottoms) <= size[1]
    assert page.chrome.execute_script(OVERLAPS.replace(".class,", ".class, #save,")) == []
    assert page.find("#stage").size["height"] >= 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_with_findings(page: Page, server: StandIn, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    server.labels = {NAMES[2]: ["DOTS"]}
    page.press("1")
    page.wait(lambda: page.find("#unsaved").is_displayed())
    assert findings(page) == []
    open_grid(page)
    select(page, NAMES[2])
    assert findings(page) == []
