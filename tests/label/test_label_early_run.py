# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The process of a bundle's run, which may start before its command is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from monai_fgssl.label import early_run
from monai_fgssl.label.early_run import run_bundle, start_early

TRAINING = ["-m", "train", "-r", "{}"]


@pytest.fixture(autouse=True)
def no_early_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(early_run, "_early", None)
    yield
    if early_run._early is not None:
        early_run._early.kill()


def write_config(folder: Path) -> list[str]:
    """Arguments of a run that prints how it was called."""
    shown = (
        "$print([__import__('sys').argv[1:], __import__('sys').orig_argv[1:], __import__('os').getpid()], flush=True)"
    )
    (folder / "config.json").write_text(json.dumps({"run": [shown]}), encoding="utf-8")
    return ["run", "--config_file", str(folder / "config.json")]


def test_a_run_uses_the_process_that_was_started_early(tmp_path: Path) -> None:
    start_early(TRAINING)
    early = early_run._early
    # Not a second one.
    start_early(TRAINING)
    assert early is not None
    assert early_run._early is early
    arguments = write_config(tmp_path)
    process = run_bundle(arguments)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert process is early
    # The run sees the same as with `python -m monai.bundle`.
    assert str([arguments, ["-m", "monai.bundle", *arguments], early.pid]) in output


def test_the_stop_of_a_run_is_told_in_one_line(tmp_path: Path) -> None:
    arguments = write_config(tmp_path)
    stops = {"run": ["$__import__('os').kill(__import__('os').getpid(), 15)"]}
    (tmp_path / "config.json").write_text(json.dumps(stops), encoding="utf-8")
    process = run_bundle(arguments)
    output = process.communicate()[0]
    assert process.returncode == 143, output
    assert "stopped by SIGTERM. No file is half-written." in output


@pytest.mark.parametrize("arguments", [[], ["start_server", "--app", "x"], ["-m", "infer"]])
def test_other_programs_start_nothing(arguments: list[str]) -> None:
    start_early(arguments)
    assert early_run._early is None


def test_a_process_that_nobody_needs_ends() -> None:
    start_early(TRAINING)
    early = early_run._early
    assert early is not None
    assert early.stdin is not None
    # As when the training's process ends before the run, since a setting or an image was refused.
    early.stdin.close()
    assert early.wait(300) == 0
    assert early.stdout is not None
    assert "Traceback" not in early.stdout.read()


def test_a_process_that_has_died_is_replaced(tmp_path: Path) -> None:
    start_early(TRAINING)
    early = early_run._early
    assert early is not None
    early.kill()
    early.wait()
    process = run_bundle(write_config(tmp_path))
    assert process.communicate()[0].strip().endswith(f"{process.pid}]")
    assert process.pid != early.pid
