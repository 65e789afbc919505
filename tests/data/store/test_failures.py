# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A file that can't be read, for any reason, does not affect the results of other files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from monai.data import Dataset
from PIL import Image

from monai_fgssl.data import DataError, ImageGeometry, ImageStream, ReadImaged, list_images, load_images, read_table

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8))


def make_bad_files(folder: Path) -> dict[str, str]:
    """Write files of all kinds that can't be read; returns what is said of each, by its name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no picture")
    whole = folder / "cut.png"
    PICTURE.save(whole)
    whole.write_bytes(whole.read_bytes()[:60])
    os.mkfifo(folder / "pipe.png")
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    nibabel.Nifti1Image(np.zeros((4, 4, 4, 9), np.float32), np.eye(4)).to_filename(folder / "several.nii")
    return {
        "empty": "is empty",
        "text": "is not in a supported format",
        "cut": "is damaged",
        "pipe": "is not a file, but a folder, a pipe or a device",
        "nowhere": "does not exist",
        "loop": "is a link that leads to itself",
        "several": "has 4 slices",
    }


def test_inference_lists_each_with_its_reason(tmp_path: Path) -> None:
    expected = make_bad_files(tmp_path)
    PICTURE.save(tmp_path / "good.png")
    items = list_images(tmp_path)
    stream = ImageStream(Dataset(items, ReadImaged("image", 8)), batch_size=3)
    assert [name for batch in stream for name in batch["name"]] == ["good"]
    failures = dict(stream.failures)
    assert failures.keys() == expected.keys()
    for name, reason in expected.items():
        assert failures[name].startswith(str(tmp_path / name)), failures[name]
        assert reason in failures[name]


def test_training_tells_of_all_in_one_message(tmp_path: Path) -> None:
    expected = make_bad_files(tmp_path / "a")
    (tmp_path / "b").mkdir()
    PICTURE.save(tmp_path / "b" / "good.png")
    table = read_table(tmp_path)
    with pytest.raises(DataError, match=rf"{len(expected)} of {len(expected) + 1} images can't be read"):
        load_images(table.items, 8)


def test_errors_that_nobody_foresaw_are_those_of_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("good", "huge", "odd")
    for name in names:
        PICTURE.save(tmp_path / f"{name}.png")
    read = ImageGeometry.read

    def fail(self: ImageGeometry, path: str, *options: Any) -> object:
        errors = {"huge.png": MemoryError(), "odd.png": KeyError("surprise")}
        if error := errors.get(Path(path).name):
            raise error
        return read(self, path, *options)

    monkeypatch.setattr(ImageGeometry, "read", fail)
    items = list_images(tmp_path)
    stream = ImageStream(Dataset(items, ReadImaged("image", 8)), batch_size=3)
    assert [name for batch in stream for name in batch["name"]] == ["good"]
    (_, huge), (_, odd) = sorted(stream.failures)
    assert huge == f"{tmp_path / 'huge.png'} needs more memory than there is: free some, or make it smaller."
    assert "odd.png" in odd
    assert "surprise" in odd
    labeled = [{**item, "label": 0, "group": item["name"]} for item in items]
    with pytest.raises(DataError, match=r"2 of 3 images can't be read(.|\n)*huge.png needs more memory"):
        load_images(labeled, 8)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(folder)
    PICTURE.save(tmp_path / "a.png")
    os.rename(tmp_path / "a.png", folder + b"/\xff.png")
    (tmp_path / "b").mkdir()
    PICTURE.save(tmp_path / "b" / "c.png")
    table = read_table(tmp_path)
    assert table.class_names == ("b", "caf\\xe9")
    names = [item["name"] for item in table.items]
    assert sorted(names) == ["b/c", "caf\\xe9/\\xff"]
    # They can be printed, stored and read.
    assert "".join([*names, *table.class_names]).encode()
    assert len(load_images(table.items, 8)) == 2
    assert sorted(item["name"] for item in list_images(tmp_path)) == sorted(names)
    with open(folder + b"/\xff.png", "wb"):
        pass
    stream = ImageStream(Dataset(list_images(tmp_path), ReadImaged("image", 8)), batch_size=3)
    assert [name for batch in stream for name in batch["name"]] == ["b/c"]
    assert str(stream.failures).encode()
    ((_, reason),) = stream.failures
    assert reason.encode().endswith(b"caf\\xe9/\\xff.png is empty.")
