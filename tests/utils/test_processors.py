# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Other programs on the same cores are noticed."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch

from monai_fgssl.utils import processors
from monai_fgssl.utils.processors import WAIT_POLICY, CoreUse, others_note


def test_a_busy_program_counts_and_this_process_does_not() -> None:
    use = CoreUse()
    program = "import time\nend = time.process_time() + 1\nwhile time.process_time() < end: pass"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    # It computed for a second; this process only waited. The system counts in hundredths of a second for each core.
    assert use.of_others() * (time.perf_counter() - start) >= 0.9


def test_own_computing_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(0.0, 100.0, 5.0), (10.0, 118.0, 15.0)])
    monkeypatch.setattr(CoreUse, "_now", staticmethod(lambda: next(readings)))
    # 18 s of computing in 10 s, 10 of them its own.
    assert CoreUse().of_others() == pytest.approx(0.8)


@pytest.mark.parametrize(("threads", "others", "noted"), [(4, 0.4, False), (4, 0.6, True), (2, 2.4, False)])
def test_the_note_comes_if_threads_lack_cores(
    threads: int, others: float, noted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.delenv(WAIT_POLICY, raising=False)
    note = others_note(others)
    assert note.startswith(f"note: other programs use {others} of 4 cores") == noted
    assert (f"{WAIT_POLICY}=passive" in note) == noted


def test_the_note_does_not_advise_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processors.os, "cpu_count", lambda: 2)
    monkeypatch.setenv(WAIT_POLICY, "passive")
    assert WAIT_POLICY not in others_note(2.0)
    assert "2.0 of 2 cores" in others_note(2.0)


def test_commands_of_this_package_let_waiting_threads_sleep() -> None:
    environment = {name: value for name, value in os.environ.items() if name != WAIT_POLICY}
    program = "import os, sys, monai_fgssl.__main__; print(os.environ['OMP_WAIT_POLICY'])"
    for given, expected in [({}, "passive"), ({WAIT_POLICY: "active"}, "active")]:
        child = subprocess.run([sys.executable, "-c", program], env=environment | given, capture_output=True, text=True)
        assert child.stdout.split() == [expected], child.stderr
