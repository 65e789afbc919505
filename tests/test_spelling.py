# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Misspelled settings from Python, files and commands: names close to a known setting are refused, never ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_fgssl.bundle import SettingsError, shipped_bundle
from monai_fgssl.bundle.settings_table import by_name
from monai_fgssl.bundle.spelling import without_effect

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


@pytest.mark.parametrize(
    ("files", "overrides"),
    [
        (["inference"], {"decision": "balanced"}),
        (["inference"], {"coverage": 0.5}),
        (["inference"], {"backbone": "resnet50"}),
        (["embed"], {"learning_rate": 0.1}),
        (["train"], {"heat_maps": True}),
        *[
            (["train", "evaluate"], setting)
            for setting in (
                {"task": "ordinal"},
                {"backbone": "resnet34"},
                {"fine_tuning": "lp_ft"},
                {"lora_rank": 4},
                {"decision": "balanced"},
                {"label_fraction": 0.1},
                {"seed": 3},
                {"num_folds": 5},
            )
        ],
        (["inference", "export_onnx"], {"output_dir": "elsewhere"}),
    ],
)
def test_settings_of_other_configs_are_refused(files: list[str], overrides: dict[str, Any], tmp_path: Path) -> None:
    """Nothing uses them, and the user would take the result for that of the setting."""
    (name,) = overrides
    with pytest.raises(SettingsError, match=f"--{name} has no effect in this command"):
        initialize([CONFIGS / f"{file}.json" for file in files], **{"output_dir": str(tmp_path)} | overrides)


@pytest.mark.parametrize(
    ("overlay", "idle", "used"),
    [
        ("pretrain", {"learning_rate": 0.5, "max_epochs": 3}, {"pretrain_learning_rate": 0.5, "pretrained": "a.pt"}),
        ("probe", {"max_epochs": 3, "ema_decay": 0.5}, {"balance": "weights", "coverage": 0.5}),
        ("paper", {}, {"learning_rate": 0.5, "max_epochs": 3, "seeds": 2}),
    ],
)
def test_settings_that_no_step_of_a_training_needs_are_told(
    overlay: str, idle: dict[str, Any], used: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same settings may be given to a pre-training and to the training after it, so they are not refused."""
    files = [CONFIGS / "train.json", CONFIGS / f"{overlay}.json"]
    initialize(files, output_dir=str(tmp_path), device="cpu", progress_seconds=5, **idle, **used)
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note: without effect")]
    names = ", ".join(f"--{name}" for name in by_name() if name in idle)
    assert told == ([f"note: without effect in this command: {names}"] if idle else [])


def test_a_training_needs_every_setting() -> None:
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.json"))
    assert without_effect(parser.config, list(parser["settings"])) == []


def test_nested_ids_are_needed_as_a_part_or_as_a_whole() -> None:
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.json") for name in ("train", "evaluate")])
    names = ["test#dataloader#batch_size", "test#dataloader", "test", "train#loss", "train#loss#label_smoothing"]
    assert without_effect(parser.config, names) == names[3:]
    assert without_effect(parser.config, ["settings#seed", "geometry#window"]) == ["settings#seed"]


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
        "run2": ["@max_epochs"],
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
    output = {"onnx_path": str(tmp_path / "model.onnx")} if "export_onnx" in names else {"output_dir": str(tmp_path)}
    initialize([folder / f"{name}.json" for name in names], **output)
    assert "note: " not in capsys.readouterr().out
