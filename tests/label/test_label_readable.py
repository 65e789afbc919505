# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Images that can't be read are found once. An image is tried again when its file changes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from monai_fgssl.data import DataError
from monai_fgssl.label.readable import ReadableImages


class Images:
    """Files of which those with the content ``bad`` can't be read; counts how often each was tried."""

    def __init__(self, folder: Path, contents: dict[str, str]) -> None:
        self.paths = {name: str(folder / f"{name}.png") for name in contents}
        self.tried: list[str] = []
        self.options: dict[str, Any] = {"frame": None}
        for name, content in contents.items():
            Path(self.paths[name]).write_text(content)

    def read(self, path: str) -> None:
        self.tried.append(Path(path).stem)
        if Path(path).read_text() == "bad":
            raise DataError(f"{path} is damaged.")

    def open(self, file: Path | None = None) -> ReadableImages:
        return ReadableImages(file, self.read, lambda: self.options)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return Images(tmp_path, {"a": "good", "b": "bad", "c": "good"})


def test_each_image_is_tried_once(images: Images) -> None:
    readable = images.open()
    assert readable.unreadable(images.paths) == {}
    # Without the folder of the server.
    assert readable.check(images.paths) == {"b": "b.png is damaged."}
    assert sorted(images.tried) == ["a", "b", "c"]
    readable.check(images.paths)
    assert len(images.tried) == 3
    assert readable.unreadable(["a", "c"]) == {}


def test_a_file_that_is_replaced_is_tried_again(images: Images) -> None:
    readable = images.open()
    readable.check(images.paths)
    Path(images.paths["b"]).write_text("good again")
    assert readable.unreadable(images.paths) == {}
    assert readable.check(images.paths) == {}
    Path(images.paths["a"]).write_text("bad")
    assert set(readable.check(images.paths)) == {"a"}
    assert images.tried[3:] == ["b", "a"]


def test_what_was_found_is_kept_and_the_bad_ones_are_tried_once_more(images: Images, tmp_path: Path) -> None:
    images.open(tmp_path / "readable.json").check(images.paths)
    images.tried.clear()
    again = images.open(tmp_path / "readable.json")
    assert set(again.unreadable(images.paths)) == {"b"}
    again.check(images.paths)
    again.check(images.paths)
    assert images.tried == ["b"]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"options": 1}', '{"options": "{\'frame\': None}", "images": {"a": 1}}']
)
def test_a_damaged_file_is_made_again(content: str, images: Images, tmp_path: Path) -> None:
    (tmp_path / "readable.json").write_text(content)
    assert set(images.open(tmp_path / "readable.json").check(images.paths)) == {"b"}
    assert len(images.tried) == 3


def test_other_options_make_another_image_of_a_file(images: Images) -> None:
    readable = images.open()
    readable.check(images.paths)
    images.options = {"frame": 1}
    assert readable.unreadable(images.paths) == {}
    readable.check(images.paths)
    assert len(images.tried) == 6


def test_they_are_found_in_the_background(images: Images) -> None:
    readable = images.open()
    # One that is not on this machine, and one that is gone.
    paths: dict[str, str | None] = {"far": None, "gone": str(Path(images.paths["a"]).with_name("gone.png"))}
    readable.start([*images.paths, *paths], {**images.paths, **paths}.__getitem__)
    while len(images.tried) < 3:
        time.sleep(0.01)
    while "b" not in readable.unreadable(images.paths):
        time.sleep(0.01)
    assert readable.unreadable([*images.paths, *paths]) == {"b": "b.png is damaged."}


def test_what_somebody_met_is_remembered(images: Images) -> None:
    readable = images.open()
    readable.remember("a", images.paths["a"], DataError(f"{images.paths['a']} is too large."))
    assert readable.unreadable(images.paths) == {"a": "a.png is too large."}
    readable.remember("a", images.paths["a"], None)
    assert readable.unreadable(images.paths) == {}
