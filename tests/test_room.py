# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders and disks are checked before a run starts."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest
from torch import nn

from monai_fgssl.bundle import SettingsError, check_room


def test_folders_that_can_be_written_to_stay_as_they_are(tmp_path: Path) -> None:
    check_room({"output_dir": tmp_path / "a" / "b", "model_path": tmp_path / "c" / "model.pt", "cache_dir": None})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["output_dir", "model_path", "cache_dir"])
def test_folders_that_cannot_be_written_to(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    # Nobody can write there, the administrator included.
    for place in (tmp_path / "file" / "below" / "model.pt", Path("/proc/none/model.pt")):
        with pytest.raises(SettingsError, match=rf"{place.parent}.* can't be written to .*\(--{name}\)"):
            check_room({"output_dir": tmp_path, name: place})


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Linear(1000, 1000)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10**10, 0, 101_000_000))
    check_room({"output_dir": tmp_path / "new"}, network)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10**10, 0, 99_000_000))
    message = r"the disk of .*new has 99.0 MB left, but checkpoints and models may take 10\d.\d MB: .*\(--output_dir\)"
    with pytest.raises(SettingsError, match=message):
        check_room({"output_dir": tmp_path / "new"}, network)
