# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Misspelled settings from Python, files and commands: names close to a known setting are refused, never ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigWorkflow

from monai_fgssl.bundle import SettingsError, shipped_bundle

CONFIGS = shipped_bundle("fgssl") / "configs"


def initialize(files: list[Path], **overrides: Any) -> None:
    workflow = ConfigWorkflow(config_file=[str(file) for file in files], logging_file=False, **overrides)
    try:
        workflow.initialize()
    except Exception as error:
        # MONAI says first which expression failed.
        while error.__cause__ is not None:
            error = error.__cause__  # type: ignore[assignment]
        raise error from None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"max_epoch": 3}, "unknown setting max_epoch: nothing uses it. Did you mean max_epochs?"),
        ({"train#dataloder": {}}, "unknown setting train#dataloder: nothing uses it. Did you mean train#dataloader?"),
        ({"trains": {"max_epochs": 3}}, "Did you mean train?"),
    ],
)
def test_overrides_from_python(overrides: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        initialize([CONFIGS / "train.json"], output_dir=str(tmp_path), **overrides)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["inference", "train"])
def test_a_config_of_ones_own(name: str, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"batch_sizes": 8}))
    with pytest.raises(SettingsError, match="Did you mean batch_size"):
        initialize([CONFIGS / f"{name}.json", own], output_dir=str(tmp_path / "out"))


def test_what_is_used_or_unlike_any_setting_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.json"
    # Nearly a known name, but something refers to it; an id of its own; arguments of components; a list to run.
    content = {
        "max_epoch": 3,
        "max_epochs": "@max_epoch",
        "hospital": "north",
        "train#loss#label_smoothing": 0.1,
        "run2": [],
    }
    own.write_text(json.dumps(content))
    initialize([CONFIGS / "train.json", own], output_dir=str(tmp_path / "out"), run_id="run2")
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: nothing uses")]
    assert notes == ["note: nothing uses the setting hospital"]


@pytest.mark.parametrize(
    "names",
    [
        ["train"],
        ["train", "pretrain"],
        ["train", "evaluate"],
        ["train", "paper"],
        ["inference"],
        ["inference", "export_onnx"],
    ],
)
@pytest.mark.parametrize("bundle", ["fgssl", "fgssl_volume"])
def test_the_shipped_configs_get_no_note(
    names: list[str], bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shipped_bundle(bundle) / "configs"
    if not (folder / f"{names[-1]}.json").is_file():
        assert (bundle, names[-1]) == ("fgssl_volume", "paper")
        return
    initialize([folder / f"{name}.json" for name in names], output_dir=str(tmp_path))
    assert "nothing uses" not in capsys.readouterr().out
