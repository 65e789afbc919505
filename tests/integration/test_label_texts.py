# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Texts of the page for annotators: one file has all texts in every language, and the page shows no other text."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from label_browser import CLASSES, PAGE, Page, StandIn
from selenium.webdriver import Chrome, Keys

from monai_fgssl.metrics import SEVERAL_CLASSES, UNDECIDED_FINDING, UNLIKE_TRAINING

NAME = "image 0 #0%"
TEXTS = (PAGE / "texts.js").read_text(encoding="utf-8")
# Everything that a person reads, hears or sees in a tip, but for the names of classes and images.
READ_ALL = """
const found = [];
const walk = document.createTreeWalker(document.documentElement, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const parent = walk.currentNode.parentElement;
  if (!parent.closest("script, style, kbd, #refusal, option[data-name], [data-name] .label, #name"))
    found.push(walk.currentNode.data.trim());
}
for (const element of document.querySelectorAll("*"))
  for (const name of ["title", "aria-label", "alt", "placeholder"])
    if (element.hasAttribute(name) && element.id !== "name") found.push(element.getAttribute(name));
return found.filter((text) => /\\p{L}{2}/u.test(text));
"""


@pytest.fixture
def spoken(chrome: Chrome) -> Iterator[Chrome]:
    yield chrome
    agent = chrome.execute_script("return navigator.userAgent")
    chrome.execute_cdp_cmd("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": "en"})


def speak(chrome: Chrome, language: str) -> None:
    """Let the browser prefer a language."""
    agent = chrome.execute_script("return navigator.userAgent")
    chrome.execute_cdp_cmd("Emulation.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": language})


def test_every_language_has_every_text(page: Page) -> None:
    texts = page.chrome.execute_async_script(
        "const done = arguments[0]; import('/fgssl/page/texts.js').then((module) => done(module.TEXTS))"
    )
    assert texts.keys() == {"en", "de", "ja"}
    for language, own in texts.items():
        assert own.keys() == texts["en"].keys(), language
        for key, text in own.items():
            assert text.strip(), (language, key)
            places = [sorted(re.findall(r"\{\w+\}", one)) for one in (text, texts["en"][key])]
            assert places[0] == places[1], (language, key)


def test_every_text_is_used() -> None:
    sources = "".join(
        path.read_text(encoding="utf-8")
        for path in PAGE.iterdir()
        if path.suffix in (".html", ".js") and path.name != "texts.js"
    )
    keys = re.findall(r"^  (\w+): ", TEXTS.split("const de =")[0], re.MULTILINE)
    assert len(keys) > 50
    # Some are put together, such as `train_${end}` and `strategy_${name}`.
    ends = [re.escape(text) for text in re.findall(r"\$\{\w+\}(_\w+)`", sources)]
    starts = [re.escape(text) for text in re.findall(r"`(\w+_)\$\{", sources)]
    built = re.compile(rf"(?:train|pretrain)(?:{'|'.join(ends)})|(?:{'|'.join(starts)})\w+")
    unused = [key for key in keys if not re.search(rf"\b{key}\b", sources) and not built.fullmatch(key)]
    assert [key for key in unused if not key.startswith(("train_", "pretrain_"))] == []


def test_the_page_says_nothing_else(page: Page, server: StandIn) -> None:
    """With a language whose every text is in brackets, nothing on the page is outside of brackets."""
    english = TEXTS.index("const en ="), TEXTS.index("const de =")
    marked = re.sub(r'^(  \w+: ")(.*)(",)$', r"\1⟦\2⟧\3", TEXTS[slice(*english)], flags=re.MULTILINE)
    server.replaced["texts.js"] = (TEXTS[: english[0]] + marked + TEXTS[english[1] :]).encode()
    said: set[str] = set()

    def listen() -> None:
        said.update(page.chrome.execute_script(READ_ALL))

    server.choices[NAME] = {"window": [40, 400], "values": [-1000, 2000], "slices": 20, "slice": 10}
    server.unreadable = {"image 5 #5%": "it is damaged"}
    server.noted = set(server.unreadable)
    server.reasons = [SEVERAL_CLASSES, UNDECIDED_FINDING, UNLIKE_TRAINING]
    page.chrome.refresh()
    page.wait(lambda: "61 %" in page.text("#suggestion"))
    listen()
    page.press("h")
    page.wait(lambda: page.find("#heat-layer").is_displayed())
    listen()
    page.choose("#heat-stage", "each")
    page.wait(lambda: len(page.heat_maps()) == 4)
    listen()
    first = page.image
    page.press("1")
    page.wait(lambda: page.image != first)
    page.press(Keys.BACKSPACE)
    page.wait(lambda: page.pressed)
    listen()
    server.failures["PUT /datastore/label"] = (500, None)
    page.press("2")
    page.wait(lambda: page.error)
    listen()
    page.find("#train").click()
    page.wait(lambda: page.text("#training-text"))
    listen()
    # In names of classes, and in what the server says, are letters too.
    own = [re.sub(r"⟦[^⟦⟧]*(⟦[^⟦⟧]*⟧[^⟦⟧]*)*⟧", "", text) for text in said]
    names = re.compile("|".join([*CLASSES, r"image \d #\d%"]))
    assert [text for text in own if re.search(r"[^\W\d_]{2}", names.sub("", text))] == []
    assert len(said) > 40


@pytest.mark.parametrize(
    ("accepted", "language", "word"),
    [
        ("de-AT,en", "de", "Trainieren"),
        ("fr,ja", "ja", "学習"),
        ("fr", "en", "Train"),
    ],
)
def test_the_browser_chooses_the_language(page: Page, spoken: Chrome, accepted: str, language: str, word: str) -> None:
    speak(spoken, accepted)
    page.chrome.refresh()
    page.wait(lambda: page.text("#train") == word)
    assert page.chrome.execute_script("return document.documentElement.lang") == language
    page.wait(lambda: page.image)
