# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A file is complete or does not exist, and problems of a disk are reported in one line."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from monai_fgssl.utils import files
from monai_fgssl.utils.errors import StorageError
from monai_fgssl.utils.files import atomic_write, check_space, remove_leftovers, temporary_folder
from monai_fgssl.utils.tensors import save_tensors


def write(path: Path, text: str = "new", **options: bool) -> None:
    with atomic_write(path, **options) as temporary:
        temporary.write_text(text)


def fail(path: Path, error: BaseException) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == path.suffix
        raise error


def take_folder_away(path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text("x")
        temporary.unlink()
        path.parent.rmdir()


def save_in_place(content: object, path: Path) -> None:
    with atomic_write(path) as temporary:
        torch.save(content, temporary)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_as_a_whole(durable: bool, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.txt"
    write(path, "old", durable=durable)
    for error in (KeyError(), SystemExit(130), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(path, error)
    assert path.read_text() == "old"
    write(path, durable=durable)
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.txt"]


def test_two_writers_never_share_a_temporary_file(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.txt") as one, atomic_write(tmp_path / "a.txt") as other:
        assert one != other
        for part in (files._host(), str(os.getpid())):
            assert part in one.name
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a.txt").read_text() == "one"


@pytest.mark.parametrize("name", ["l" * 251 + ".png", "ä" * 125 + ".json", "good\udcff" + "x" * 240 + ".png"])
def test_a_long_name_has_a_temporary_one(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    assert names(tmp_path) == [name]


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="its name has more than 255 bytes"):
        write(tmp_path / ("l" * 300))
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the disk is full. It takes more than 0.0 kB, and "),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "its folder is read-only. Name another folder"),
        (errno.EACCES, "its folder is read-only"),
    ],
)
def test_what_is_wrong_with_the_disk_is_one_line(number: int, reason: str, tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "old")
    message = re.escape(f"{tmp_path / 'a.txt'} can't be written: {reason}")
    with pytest.raises(StorageError, match=message) as told:
        fail(tmp_path / "a.txt", OSError(number, os.strerror(number)))
    assert "\n" not in str(told.value)
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (OSError(errno.ENODEV, "no such device"), RuntimeError("another reason")):
        with pytest.raises(type(error), match=str(error.args[-1])):
            fail(tmp_path / "a.txt", error)


def test_a_folder_that_goes_meanwhile_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="was deleted or moved away"):
        take_folder_away(tmp_path / "f" / "a.txt")


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(StorageError, match="there is a file where a folder should be"):
        write(tmp_path / "f" / "a.txt")


def test_space_is_checked_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = files.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: usage._replace(free=4_000_000))
    check_space(tmp_path / "new" / "a.pt", 4_000_000)
    with pytest.raises(StorageError, match=r"takes 8.0 MB, and 4.0 MB are free on the disk of .*Make room"):
        save_tensors({"a": torch.zeros(1_000_000), "b": [torch.zeros(1_000_000)]}, tmp_path / "a.pt")
    assert names(tmp_path) == []


def test_a_full_disk_under_torch_is_told(tmp_path: Path, small_disk: Callable[[int], Path]) -> None:
    folder = small_disk(1)
    with pytest.raises(StorageError, match="the disk is full"):
        save_in_place(torch.zeros(1_000_000), folder / "a.pt")
    assert names(folder) == []
    with pytest.raises(StorageError, match=r"takes 4\.0 MB, and 1\.0 MB are free"):
        save_tensors(torch.zeros(1_000_000), folder / "a.pt")
    with pytest.raises(StorageError, match="the disk is full"):
        write(folder / "a.txt", "x" * 2_000_000)
    assert names(folder) == []


LEAVES = """
import os, sys
from monai_fgssl.utils.files import atomic_write, temporary_folder
with atomic_write(sys.argv[1] + "/a.pt") as file, temporary_folder(sys.argv[1] + "/b/set") as folder:
    file.write_text("half")
    (folder / "x").write_text("half")
    os._exit(9)
"""


def test_what_killed_processes_leave_is_removed(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", LEAVES, str(tmp_path)]).returncode == 9
    (file, _) = sorted(path for path in tmp_path.iterdir())
    assert files.LEFTOVER.fullmatch(file.name)
    # Of a process that lives, of another machine, and of other programs.
    others = [
        f".a.{files._host()}-{os.getpid()}-0123abcd.part.pt",
        file.name.replace(f".{files._host()}-", ".elsewhere-"),
        ".a.part.pt",
    ]
    for name in others:
        (tmp_path / name).write_text("x")
    with temporary_folder(tmp_path / "c") as living:
        remove_leftovers(tmp_path, depth=1)
        assert names(tmp_path) == sorted([*others, "b", living.name])
    assert names(tmp_path / "b") == []
    assert names(tmp_path) == sorted([*others, "b"])
    remove_leftovers(tmp_path / "missing")
