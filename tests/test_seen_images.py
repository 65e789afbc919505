# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_fgssl.bundle import tell_seen_images


def write_run(folder: Path, train: list[str], weights: str = "model.pt") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "split.json").write_text(json.dumps({"train": train, "validation": ["v"], "test": ["t"], "sha256": ""}))
    (folder / weights).touch()
    return str(folder / weights)


def test_images_that_the_weights_have_learned_from_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = write_run(tmp_path / "run", ["a", "b"])
    tell_seen_images(["t", "c"], weights, None, "imagenet", str(tmp_path / "missing.pt"))
    assert capsys.readouterr().out == ""
    tell_seen_images(["a", "v", "t"], None, weights)
    said = " ".join(capsys.readouterr().out.split())
    assert "note: 2 of the 3 test images (a, v) have the names of images that" in said
    assert "the results will look better than they are" in said


def test_the_output_of_a_bundle_and_all_folds_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for fold, train in enumerate((["a"], ["b"])):
        write_run(tmp_path / "output" / f"fold_{fold}", train)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt").touch()
    tell_seen_images(["a", "b", "c"], str(tmp_path / "models" / "model.pt"))
    assert "note: 2 of the 3 test images (a, b)" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("content", ["", "[]", '{"train": 1}', "null"])
def test_a_split_that_is_none_says_nothing(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = write_run(tmp_path, ["a"])
    (tmp_path / "split.json").write_text(content)
    tell_seen_images(["a"], weights)
    assert capsys.readouterr().out == ""
