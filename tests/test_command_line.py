# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_fgssl`` and the helpers of the bundle's command."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from monai_fgssl import __version__
from monai_fgssl.__main__ import main
from monai_fgssl.bundle import (
    SettingsError,
    as_bool,
    check_overrides,
    load_weights,
    shipped_bundle,
    tell_random_weights,
)
from monai_fgssl.bundle.locate import command_line_overrides
from monai_fgssl.bundle.settings_table import by_name
from monai_fgssl.networks import PlainNet, PooledNet


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for argument, expected in (("--version", f"monai-fgssl {__version__}"), ("--help", "bundle")):
        with pytest.raises(SystemExit) as end:
            main([argument])
        assert end.value.code == 0
        assert expected in capsys.readouterr().out


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "monai_fgssl", "bundle", "fgssl", str(tmp_path / "mine")]
    with os.fdopen(write, "wb") as closed:
        ended = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert (tmp_path / "mine" / "train.json").is_file()
    assert ended.stderr == ""
    # As a program that the signal ends.
    assert ended.returncode == 141


def test_a_copied_bundle_stands_alone_and_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "mine"
    assert main(["bundle", "fgssl", str(target)]) == 0
    assert str(target / "train.json") in capsys.readouterr().out
    assert not [path for path in target.rglob("*") if path.is_symlink()]
    for name in ("train.json", "metadata.json", "logging.conf", "LICENSE", "docs/README.md", "configs/inference.json"):
        assert (target / name).is_file()
    assert main(["bundle", "fgssl", str(target)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["bundle", "unknown", str(tmp_path / "other")]) == 1
    assert "'fgssl'" in capsys.readouterr().err


def test_overrides_of_a_command_line() -> None:
    line = ["run", "--config_file", "train.json", "--max-epochs", "2", "--train#trainer#max_epochs=3", "--amp"]
    assert command_line_overrides(line) == {
        "config_file": "train.json",
        "max_epochs": "2",
        "train#trainer#max_epochs": "3",
        "amp": "",
    }


@pytest.mark.parametrize(
    "name", ["max_epochs", "train#trainer#new_argument", "distorted_view#blur_prob", "config_file"]
)
def test_known_settings(name: str) -> None:
    check_overrides(shipped_bundle("fgssl"), [name])


@pytest.mark.parametrize("name", ["max_epoch", "trian#trainer#max_epochs"])
def test_unknown_settings(name: str) -> None:
    with pytest.raises(SettingsError, match="unknown setting --"):
        check_overrides(shipped_bundle("fgssl"), [name])


def test_switches() -> None:
    assert [as_bool("amp", value) for value in (True, "true", "False", False)] == [True, True, False, False]
    with pytest.raises(SettingsError, match="--amp must be true or false, got 'yes'"):
        as_bool("amp", "yes")


def test_weights_of_another_network(tmp_path: Path) -> None:
    torch.save(PlainNet("resnet18", num_classes=3).state_dict(), tmp_path / "model.pt")
    with pytest.raises(SettingsError, match=r"model\.pt belongs to another network"):
        load_weights(PlainNet("resnet18", num_classes=4), tmp_path / "model.pt")
    with pytest.raises(SettingsError, match="train first"):
        load_weights(PlainNet("resnet18"), tmp_path / "none.pt")


@pytest.mark.parametrize(("config", "entry"), [("embed", "network"), ("probe", "network_def")])
def test_frozen_features_take_every_start_that_a_training_takes(config: str, entry: str) -> None:
    content = json.loads((shipped_bundle("fgssl") / "configs" / f"{config}.json").read_text(encoding="utf-8"))
    # A frozen network drops no paths, and all of its stages count.
    expected = set(inspect.signature(PooledNet).parameters) & set(by_name()) - {"drop_path", "stages"}
    assert {"backbone", "stem", "weights", "inflate_weights", "image_size"} <= expected
    assert expected <= set(content[entry])


def test_features_of_random_weights_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    for start in (("imagenet", None), (None, "pretrained.pt")):
        tell_random_weights(*start)
        assert capsys.readouterr().out == ""
    tell_random_weights(None, None)
    assert "note: the backbone has random weights" in capsys.readouterr().out
    # Embedding calls it in Python.
    probe = json.loads((shipped_bundle("fgssl") / "configs" / "probe.json").read_text(encoding="utf-8"))
    assert any("tell_random_weights(@weights, @paths#pretrained)" in step for step in probe["run"])


def test_a_training_that_continues_from_a_probe_has_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("monai_fgssl.cli.features.subprocess.run", lambda *_, **__: SimpleNamespace(returncode=0))
    given = ["--backbone", "timm:test_vit", "--weights", "my weights.pt", "--image_size", "[32, 48]"]
    others = ["--labels_per_class", "5", "--window", "dicom"]
    assert main(["probe", "my images", *given, *others, "--folder", "a probe"]) == 0
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if line.lstrip().startswith("continue training"))
    options = command_line_overrides(shlex.split(line))
    assert options["config_file"] == "a probe/train.json"
    assert options.items() >= command_line_overrides([*given, *others]).items()
    assert options["dataset_dir"] == "my images"
    assert options["pretrained"] == "a probe/models/model.pt"
    (line,) = (line for line in printed.splitlines() if line.lstrip().startswith("as ONNX"))
    files = command_line_overrides(shlex.split(line))["config_file"]
    assert files == "['a probe/configs/inference.json','a probe/configs/export_onnx.json']"
