# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_fgssl demo`` and other commands that a new user types first."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from monai_fgssl.__main__ import main
from monai_fgssl.cli import commands


@pytest.mark.slow
def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    smaller = {"synthetic_images": 140, "image_size": 32, "grids": "[2,2,1]", "width": 16, "embedding_dim": 16}
    smaller |= {"pretrain_epochs": 1, "max_epochs": 1}
    monkeypatch.setattr(commands, "DEMO_SETTINGS", commands.DEMO_SETTINGS | smaller)
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    out = capfd.readouterr().out
    files = re.findall(r"^  ((?:output|models)/\S+)", out, flags=re.MULTILINE)
    assert len(files) == 7
    assert all((tmp_path / "fgssl_demo" / file).is_file() for file in files)
    for config in set(re.findall(r"--config_file (\S+)", out)):
        assert (tmp_path / config).is_file()
    # A second time it must not mix its files with those of the first.
    assert main(["demo"]) == 1
    assert "fgssl_demo exists already" in capfd.readouterr().err


@pytest.mark.slow
def test_demo_that_fails_says_where_to_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(commands, "DEMO_SETTINGS", {"max_epochs": 0})
    assert main(["demo", str(tmp_path / "demo")]) == 1
    assert "doctor" in capfd.readouterr().err


def test_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "python -m monai_fgssl demo" in capsys.readouterr().out


def test_label_prints_the_folder_of_the_app(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["label"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "main.py").is_file()


def test_an_installation_without_the_app(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("monai_fgssl.__file__", str(tmp_path / "__init__.py"))
    assert main(["label"]) == 1
    assert "install a newer monai-fgssl" in capsys.readouterr().err
