# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Skip, unsure, undo, many classes and the grid of all images, in a real browser."""

from __future__ import annotations

from label_browser import CLASSES, Page, StandIn
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.ui import Select

NAMES = [f"image {i} #{i}%" for i in range(6)]


def undo(page: Page) -> None:
    ActionChains(page.chrome).key_down(Keys.CONTROL).send_keys("z").key_up(Keys.CONTROL).perform()


def tiles(page: Page) -> list[str]:
    """Names of the images in the grid that are drawn."""
    return page.chrome.execute_script("return [...document.querySelectorAll('.tile')].map((tile) => tile.dataset.name)")


def open_review(page: Page) -> None:
    page.press("g")
    # The grid is drawn once more when all is done.
    page.wait(lambda: tiles(page) and page.find("#main").get_attribute("aria-busy") == "false")
    page.find("#grid").click()
    page.wait(lambda: page.find("#review").is_displayed())


def test_skipped_images_come_last(page: Page, server: StandIn) -> None:
    page.press("s")
    page.wait(lambda: page.image == NAMES[1])
    assert server.marks[NAMES[0]] == {"skipped": True}
    for name in NAMES[2:]:
        page.press("1")
        page.wait(lambda name=name: page.image == name)
    page.find("#skip").click()
    page.wait(lambda: page.image == NAMES[0])
    page.press("1")
    page.wait(lambda: page.image == NAMES[5])
    assert not server.marks[NAMES[0]].get("skipped")


def test_unsure_with_and_without_a_class(page: Page, server: StandIn) -> None:
    page.press("u")
    page.wait(lambda: page.find("#unsure").get_attribute("aria-pressed") == "true")
    assert page.image == NAMES[0]
    page.press("2")
    page.wait(lambda: page.image == NAMES[1])
    assert (server.labels, server.marks) == ({NAMES[0]: CLASSES[1]}, {NAMES[0]: {"unsure": True}})
    assert page.find("#unsure").get_attribute("aria-pressed") == "false"
    page.press(Keys.BACKSPACE)
    page.wait(lambda: page.image == NAMES[0])
    page.find("#unsure").click()
    page.wait(lambda: page.find("#unsure").get_attribute("aria-pressed") == "false")
    assert server.marks[NAMES[0]] == {"unsure": False}


def test_undo_goes_back_step_by_step(page: Page, server: StandIn) -> None:
    assert not page.find("#undo").is_enabled()
    page.press("1")
    page.wait(lambda: page.image == NAMES[1])
    page.press("s")
    page.wait(lambda: page.image == NAMES[2])
    page.press(Keys.BACKSPACE, Keys.NULL)
    page.wait(lambda: page.image == NAMES[1])
    page.press(Keys.BACKSPACE)
    page.wait(lambda: page.image == NAMES[0])
    page.press("3")
    page.wait(lambda: page.image == NAMES[1])
    assert server.labels == {NAMES[0]: CLASSES[2]}
    undo(page)
    page.wait(lambda: page.image == NAMES[0] and page.pressed == [CLASSES[0]])
    assert server.labels == {NAMES[0]: CLASSES[0]}
    undo(page)
    page.wait(lambda: page.image == NAMES[1])
    assert not server.marks[NAMES[1]]["skipped"]
    undo(page)
    page.wait(lambda: page.image == NAMES[0] and page.pressed == [])
    assert server.labels == {}
    page.wait(lambda: not page.find("#undo").is_enabled())


def test_all_keys_are_shown(page: Page) -> None:
    page.press("?")
    page.wait(lambda: page.find("#help").is_displayed())
    assert "S skip" in page.text("#help-label")
    assert "Space select" in page.text("#help-review")
    # Keys are not for the image behind it.
    page.press("1", Keys.ESCAPE)
    page.wait(lambda: not page.find("#help").is_displayed())
    assert page.image == NAMES[0]


def test_two_keys_and_a_search_for_many_classes(page: Page, server: StandIn) -> None:
    server.classes = [f"class {number}" for number in range(1, 31)]
    page.chrome.refresh()
    page.wait(lambda: page.image == NAMES[0])
    page.press("0")
    assert page.text("#typed") == "0, and then …"
    page.press("1")
    page.wait(lambda: page.image == NAMES[1])
    page.press("0", "c")
    page.wait(lambda: page.image == NAMES[2])
    # A key that completes nothing is forgotten.
    page.press("0", "-", "9")
    page.wait(lambda: page.image == NAMES[3])
    page.press("/", "2", "9")
    shown = [b.text.split()[-1] for b in page.chrome.find_elements("css selector", ".class") if b.is_displayed()]
    assert shown == ["29"]
    page.press(Keys.ENTER)
    page.wait(lambda: page.image == NAMES[4])
    assert list(server.labels.values()) == ["class 10", "class 21", "class 9", "class 29"]
    assert page.find("#search").get_attribute("value") == ""


def test_the_grid_filters_sorts_and_survives_a_reload(page: Page, server: StandIn) -> None:
    server.labels = {NAMES[1]: "DOTS", NAMES[2]: "NETWORK", NAMES[4]: "DOTS"}
    server.people = {NAMES[1]: "anna", NAMES[2]: "uma", NAMES[4]: "uma"}
    server.suggestions = {name: ("DOTS", i / 10) for i, name in enumerate(NAMES)}
    server.marks = {NAMES[5]: {"unsure": True}, NAMES[3]: {"skipped": True}}
    open_review(page)
    assert tiles(page) == NAMES[::-1]

    def shown(**chosen: str) -> list[str]:
        for name in ("show", "class", "person", "sort"):
            Select(page.find(f"#filter-{name}")).select_by_value(chosen.get(name, ""))
        return tiles(page)

    assert shown(sort="name") == NAMES
    assert shown(show="labeled") == [NAMES[4], NAMES[2], NAMES[1]]
    assert shown(show="unlabeled", sort="name") == [NAMES[0], NAMES[3], NAMES[5]]
    assert shown(show="differs") == [NAMES[2]]
    assert shown(show="unsure") == [NAMES[5]]
    assert shown(show="skipped") == [NAMES[3]]
    assert shown(**{"class": "DOTS"}) == [NAMES[4], NAMES[1]]
    assert shown(**{"class": "NETWORK"}, person="anna") == []
    assert page.find("#nothing-found").is_displayed()
    assert shown(person="uma", sort="name") == [NAMES[2], NAMES[4]]
    assert page.text("#found") == "2 of 6 images"
    page.chrome.refresh()
    page.wait(lambda: tiles(page) == [NAMES[2], NAMES[4]])
    assert Select(page.find("#filter-person")).first_selected_option.text == "uma"


def test_the_grid_opens_while_a_label_is_on_its_way(page: Page, server: StandIn) -> None:
    server.delay = 0.5
    page.press("1", "g")
    page.wait(lambda: tiles(page))
    page.wait(lambda: server.labels == {NAMES[0]: CLASSES[0]})


def test_several_labels_are_changed_in_the_grid_and_undone(page: Page, server: StandIn) -> None:
    server.labels = {NAMES[0]: "DOTS"}
    open_review(page)
    Select(page.find("#filter-sort")).select_by_value("name")
    page.find(f'.tile[data-name="{NAMES[1]}"]').click()
    last = page.find(f'.tile[data-name="{NAMES[3]}"]')
    ActionChains(page.chrome).key_down(Keys.SHIFT).click(last).key_up(Keys.SHIFT).perform()
    # The click that gave the grid the focus may have chosen one.
    page.wait(lambda: page.text("#selected") in ("3 selected", "4 selected"))
    page.find("#clear-selection").click()
    page.find(f'.tile[data-name="{NAMES[0]}"]').click()
    last = page.find(f'.tile[data-name="{NAMES[2]}"]')
    ActionChains(page.chrome).key_down(Keys.SHIFT).click(last).key_up(Keys.SHIFT).perform()
    page.wait(lambda: page.text("#selected") == "3 selected")
    page.find("#grid").send_keys("2")
    page.wait(lambda: server.labels == dict.fromkeys(NAMES[:3], CLASSES[1]))
    page.wait(lambda: not page.find("#selection").is_displayed())
    page.wait(lambda: page.text("#done-text") == "3 of 6 labeled")
    undo(page)
    page.wait(lambda: server.labels == {NAMES[0]: "DOTS"})
    page.wait(lambda: page.text("#done-text") == "1 of 6 labeled")


def test_a_filtered_list_is_worked_through(page: Page, server: StandIn) -> None:
    server.marks = {name: {"unsure": True} for name in NAMES[2:5]}
    open_review(page)
    Select(page.find("#filter-show")).select_by_value("unsure")
    page.wait(lambda: tiles(page) == NAMES[2:5])
    page.find("#grid").send_keys(Keys.HOME, Keys.ENTER)
    page.wait(lambda: page.find("#main").is_displayed() and page.image == NAMES[2])
    assert page.text("#queue-text") == "2 more of your list"
    page.press("1")
    page.wait(lambda: page.image == NAMES[3])
    page.press("2")
    page.wait(lambda: page.image == NAMES[4])
    page.press("3")
    page.wait(lambda: page.image == NAMES[0])
    assert server.labels == dict(zip(NAMES[2:5], CLASSES[:3], strict=True))
    assert not page.find("#queue").is_displayed()
    # The browser's own way back leads to the list.
    page.chrome.back()
    page.wait(lambda: tiles(page) == NAMES[2:5])


def test_two_thousand_images_are_listed_and_few_are_drawn(page: Page, server: StandIn) -> None:
    picture = next(iter(server.pictures.values()))
    server.pictures = {f"lesion {number:04d}": picture for number in range(2000)}
    server.requests.clear()
    open_review(page)
    assert page.text("#found") == "2000 of 2000 images"
    assert len(tiles(page)) < 80
    page.wait(lambda: sum("thumbnail" in request for request in server.requests) == len(tiles(page)))
    page.find("#grid").send_keys(Keys.END)
    page.wait(lambda: "lesion 1999" in tiles(page))
    assert len(tiles(page)) < 80
    page.wait(lambda: "GET /fgssl/images/lesion 1999/thumbnail" in server.requests)
    assert sum("thumbnail" in request for request in server.requests) < 200


def test_suggestions_are_hidden_until_somebody_has_chosen(page: Page, server: StandIn) -> None:
    server.user = "uma"
    server.labels, server.readings = {NAMES[1]: "DOTS"}, {NAMES[1]: {"anna": "DOTS"}}
    page.chrome.refresh()
    page.wait(lambda: page.text("#suggestion").startswith("GLOBULES"))
    page.find("#hide").click()
    page.wait(lambda: page.text("#suggestion") == "Hidden until you have chosen.")
    assert page.chrome.find_elements("css selector", ".class.scored, .class.suggested") == []
    assert not page.find("#heat").is_enabled()
    page.press("1")
    page.wait(lambda: page.image == NAMES[2])
    page.press(Keys.BACKSPACE)
    page.wait(lambda: page.image == NAMES[0] and page.text("#suggestion").startswith("GLOBULES"))
    # The label of another person is hidden too, for this person alone.
    open_review(page)
    Select(page.find("#filter-show")).select_by_value("unread")
    page.wait(lambda: NAMES[1] in tiles(page))
    page.find("#grid").send_keys(Keys.HOME)
    while page.find(".tile.focused").get_attribute("data-name") != NAMES[1]:
        page.find("#grid").send_keys(Keys.ARROW_RIGHT)
    page.find("#grid").send_keys(Keys.ENTER)
    page.wait(lambda: page.find("#main").is_displayed() and page.image == NAMES[1])
    assert page.pressed == []
    server.user = "anna"
    page.chrome.refresh()
    page.wait(lambda: page.text("#suggestion").startswith("GLOBULES"))


def test_the_decided_class_comes_first_though_it_is_not_the_likeliest(page: Page, server: StandIn) -> None:
    """A model of `--decision balanced` may decide for a rare class."""
    server.decision = "DOTS"
    page.chrome.refresh()
    page.wait(lambda: page.text("#suggestion").startswith("DOTS with "))
    assert page.find(".class.suggested").text.split()[1] == "DOTS"


def test_agreement_opens_what_two_people_differ_on(page: Page, server: StandIn) -> None:
    server.user = "uma"
    server.agreement = [
        {"people": ["anna", "uma"], "images": 5, "agreed": 3, "kappa": 0.2857, "differ": [NAMES[4], NAMES[2]]}
    ]
    page.chrome.refresh()
    page.wait(lambda: page.image)
    open_review(page)
    page.find("#show-agreement").click()
    page.wait(lambda: "anna and uma: 3 of 5 alike, kappa 0.29." in page.text("#pairs"))
    page.find("#pairs button").click()
    page.wait(lambda: page.find("#main").is_displayed() and page.image == NAMES[4])
    assert page.text("#queue-text") == "1 more of your list"


def test_similar_images_counts_and_results_of_trainings(page: Page, server: StandIn) -> None:
    server.neighbors = [{"id": NAMES[3], "class": "dots", "similarity": 0.91}]
    server.labels = {NAMES[3]: "DOTS", NAMES[5]: "NETWORK"}
    figures = [{"value": value, "low": value - 0.1, "high": value + 0.08} for value in (0.71, 0.8)]
    server.trainings = {
        "trainings": [
            {"num_labels": 50, "num_test_images": 12, "accuracy": one, "balanced_accuracy": one} for one in figures
        ],
        "labels_until_better": 23,
    }
    page.chrome.refresh()
    page.wait(lambda: page.text("#neighbors") == "DOTS")
    assert page.find("#neighbors li").get_attribute("title") == f"{NAMES[3]}: similarity 91 % by the model's features"
    page.wait(lambda: page.text("#pace") == "About 23 more labels until training gains one percentage point.")
    counts = [row.text.split() for row in page.chrome.find_elements("css selector", "#counts div")]
    assert {name: int(count) for name, count in counts} == dict.fromkeys(CLASSES, 0) | {"DOTS": 1, "NETWORK": 1}
    change = "71 % (61\N{EN DASH}79 %) → 80 % (70\N{EN DASH}88 %)"
    assert page.text("#result-text") == f"Accuracy {change}, balanced over the classes {change}."
    page.find("#show-confusion").click()
    page.wait(lambda: page.find("#confusion-picture").get_property("naturalWidth") == 240)
    page.find("#confusion-close").click()


def test_labels_per_minute(page: Page) -> None:
    def pace(*seconds: float) -> float | None:
        return page.chrome.execute_async_script(
            "const done = arguments[1];"
            "import('/fgssl/page/progress.js').then((m) => done(m.pace(arguments[0].map((s) => 1000 * s))))",
            list(seconds),
        )

    assert pace() is None
    assert pace(0, 5, 10, 15, 20) is None
    assert pace(0, 5, 10, 15, 20, 25) == 12
    # A long pause begins anew.
    assert pace(0, 5, 1000, 1010, 1020, 1030, 1040, 1050) == 6


def test_a_training_of_somebody_else_is_seen(page: Page, server: StandIn) -> None:
    server.labels = {NAMES[5]: "DOTS"}
    server.task = {"status": "RUNNING", "request": {"model": "train"}, "details": ["checking 20 images"]}
    page.wait(lambda: page.text("#training-text").startswith("Training starts …"), seconds=120)
    assert page.text("#training-text") == "Training starts … the images are checked"
