# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A few random faults in a training, and signals in each phase. `python -m benchmarks.chaos` has a hundred faults."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from benchmarks.chaos import FAULTS, Run, last_line, run_chaos
from benchmarks.faults import OF_A_DISK

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="processes are copied by fork")

PHASES = ("140 images", "near-duplicates", "pre-train 1/2", "fine-tune 1/3", "fine-tune 3/3", "stage2 alone")
"""Beginnings of lines that a training prints on its way."""


def test_a_training_ends_the_same_whatever_happens() -> None:
    told: list[str] = []
    outcome, is_small_disk = run_chaos(len(FAULTS), seed=1, tell=told.append)
    assert outcome.problems == [], told
    assert outcome.trainings >= 1
    expected = set(FAULTS) - (set() if is_small_disk else set(OF_A_DISK))
    assert set(outcome.faults) == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_each_phase_quietly(number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    for phase in PHASES:
        run = Run(tmp_path / "run", tmp_path / "images", log)
        code = None
        while code is None and phase not in run.text():
            code = run.ended(0.02)
        assert code is None, f"ended with {code} before {phase}:\n{run.text()}"
        run.send(number)
        code = run.ended(300)
        text = run.text()
        if code == 0:
            # It was over before the signal came.
            assert phase in PHASES[-2:]
            continue
        if code == -number:
            # The signal came after the last line, while Python itself ended.
            assert "Report: " in last_line(text), text
            continue
        assert code == 128 + number, text
        assert "Traceback" not in text
        assert f"stopped by {number.name}" in last_line(text), text
        assert not list(tmp_path.rglob(".*.part*"))


def test_a_disk_that_can_not_be_written_to_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    run = Run(tmp_path / "file" / "output", tmp_path / "images", tmp_path / "log.txt")
    assert run.ended(300) == 1
    text = run.text()
    assert "Traceback" not in text
    assert last_line(text).startswith("error: "), text
    assert str(tmp_path / "file" / "output") in last_line(text)
