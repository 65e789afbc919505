# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A command that somebody stops ends with one line and the status of its signal."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

WAITS = """
import sys, time
from monai_fgssl.utils.command import stop_quietly
from monai_fgssl.utils.files import atomic_write
stop_quietly()
with atomic_write(sys.argv[1]) as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


def start(code: str, *arguments: str, ignored: bool = False) -> subprocess.Popen[str]:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=ignore if ignored else None,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_one_line(number: signal.Signals, tmp_path: Path) -> None:
    process = start(WAITS, str(tmp_path / "a.json"))
    process.send_signal(number)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert told.strip() == f"stopped by {number.name}. No file is half-written."
    assert list(tmp_path.iterdir()) == []


IMPORTS = """
import pydoc, sys
from pathlib import Path
from monai_fgssl.utils.command import stop_quietly
stop_quietly()
Path("slow_module.py").write_text("import time; print('ready', flush=True); time.sleep(600)")
sys.path.insert(0, "")
pydoc.locate("slow_module.Class")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_an_import_of_monai_is_one_line(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    process = start(IMPORTS)
    process.send_signal(number)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert told.strip() == f"stopped by {number.name}. No file is half-written."


def test_a_background_process_of_a_shell_is_not_interrupted(tmp_path: Path) -> None:
    process = start(WAITS, str(tmp_path / "a.json"), ignored=True)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGINT" not in told


LIBRARY = """
import signal
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
import monai_fgssl
assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
print("ready", flush=True)
"""


def test_a_program_that_imports_this_package_keeps_its_handlers() -> None:
    process = start(LIBRARY)
    process.communicate(timeout=300)
    assert process.returncode == 0
