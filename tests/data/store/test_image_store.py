# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoded images on disk: pixels are equal, decoded once, always complete, and not part of the process's memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch
from PIL import Image

from monai_fgssl.data import DataError, ImageGeometry, load_images, make_synthetic_lesions, read_isic2018, read_table
from monai_fgssl.data.store.image_store import fingerprint, make_store


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_synthetic_lesions(tmp_path_factory.mktemp("data") / "lesions", 30, 32)


def test_the_same_images_from_disk_as_from_memory(lesions: Path, tmp_path: Path) -> None:
    items = read_isic2018(lesions).items
    on_disk, in_memory = load_images(items, 16, cache_dir=tmp_path), load_images(items, 16)
    everything = range(len(items))
    assert torch.equal(on_disk[everything]["image"], in_memory[everything]["image"])
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size == len(items) * 3 * 16 * 16
    assert on_disk.names == in_memory.names


def test_images_are_decoded_once(lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = read_isic2018(lesions).items
    first = load_images(items, 16, cache_dir=tmp_path)

    def decode(*_: object, **__: object) -> torch.Tensor:
        raise AssertionError("decoded again")

    monkeypatch.setattr(ImageGeometry, "read", decode)
    assert torch.equal(load_images(items, 16, cache_dir=tmp_path).store, first.store)
    for other in (8, ImageGeometry(16, window=(40, 400))):
        with pytest.raises(DataError, match="decoded again"):
            load_images(items, other, cache_dir=tmp_path)


def test_a_changed_image_is_decoded_again(tmp_path: Path) -> None:
    path = tmp_path / "images" / "a.png"
    path.parent.mkdir()
    for level in (10, 200):
        Image.new("RGB", (20, 20), (level,) * 3).save(path)
        os.utime(path, ns=(level, level))
        images = load_images(read_table(path.parent).items, 8, cache_dir=tmp_path / "cache")
        assert images[0]["image"].unique().tolist() == [level]
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_series_changes_with_its_files(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").write_bytes(b"1")
    before = fingerprint([tmp_path])
    assert fingerprint([tmp_path]) == before
    (tmp_path / "2.dcm").write_bytes(b"2")
    assert fingerprint([tmp_path]) != before


def test_nothing_half_written(lesions: Path, tmp_path: Path) -> None:
    items = [*read_isic2018(lesions).items, {"image": "missing.png", "label": 0, "name": "m", "group": "m"}]
    with pytest.raises(DataError, match=r"1 of 31 images can't be read.*\n.*missing\.png"):
        load_images(items, 16, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(_: torch.Tensor) -> None:
        raise AssertionError("begun")

    monkeypatch.setattr(psutil, "virtual_memory", lambda: namedtuple("Memory", "available")(2 * 2**30))
    monkeypatch.setattr(psutil, "disk_usage", lambda _: namedtuple("Disk", "free")(2**30))
    shape = (1000, 3, 1024, 1024)
    with pytest.raises(DataError, match=r"take 2\.9 GiB of memory, and 2\.0 GiB are available: .*--cache_dir FOLDER"):
        make_store(shape, fill)
    with pytest.raises(DataError, match=r"take 2\.9 GiB in .*cache, where 1\.0 GiB are free"):
        make_store(shape, fill, tmp_path / "cache" / "images")


MEMORY = """
import resource, sys
from pathlib import Path
import torch
from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.data.store.image_store import make_store

def data_memory():  # what limits of memory count: anonymous pages and private mappings
    return 1024 * int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0])

def fill(store):
    for row in range(len(store)):
        store[row] = row % 251

count = 4000
resource.setrlimit(resource.RLIMIT_DATA, (data_memory() + 64 * 2**20,) * 2)
store = make_store((count, 3, 128, 128), fill, Path(sys.argv[1]) if len(sys.argv) > 1 else None)
images = CachedImages(store, torch.zeros(count), ["n"] * count, ["g"] * count)
total = sum(int(batch["image"][:, 0, 0, 0].sum()) for batch in make_loader(images, 50, shuffle=True))
assert total == sum(row % 251 for row in range(count)), total
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are set as Linux has them")
@pytest.mark.slow
def test_larger_than_the_memory(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", MEMORY, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    # 188 MiB where 64 may be had.
    assert "can't allocate memory" in run().stderr
    result = run(str(tmp_path / "images"))
    assert result.returncode == 0, result.stderr
