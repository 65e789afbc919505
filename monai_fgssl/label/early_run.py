# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The process that runs a bundle, started before its command is known.

Its imports take 6 to 9 seconds of CPU time on a slow core. MONAI Label's own process for a training needs as much to
import the app, and only then knows the command. With this module both import at the same time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["run_bundle", "start_early"]

PROGRAM = """
import json, runpy, sys
from importlib.util import find_spec
# As with `python -m monai.bundle`, for those who look.
sys.argv[0] = find_spec("monai.bundle.__main__").origin
import monai_fgssl.bundle, monai_fgssl.engines
given = sys.stdin.readline()
if given:
    sys.argv[1:] = json.loads(given)
    sys.orig_argv[1:] = ["-m", "monai.bundle", *sys.argv[1:]]
    runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""
"""Imports what a run needs, and waits for the arguments of the run. Without any it ends."""

_early: subprocess.Popen[str] | None = None


def start_early(arguments: Sequence[str]) -> None:
    """Start the process if the arguments of the present program say that it is MONAI Label's process of a training.

    Args:
        arguments: arguments of the program, without its name.
    """
    global _early
    if list(arguments[:2]) == ["-m", "train"] and _early is None:
        _early = _start()


def run_bundle(arguments: Sequence[str]) -> subprocess.Popen[str]:
    """Run ``python -m monai.bundle`` with these arguments. Its output, errors included, is in ``stdout``."""
    global _early
    process, _early = _early, None
    if process is None or process.poll() is not None:
        process = _start()
    assert process.stdin is not None
    # A process that has ended is told by its exit status.
    with suppress(BrokenPipeError), process.stdin as commands:
        commands.write(json.dumps(list(arguments)) + "\n")
    # Popen.communicate would flush it.
    process.stdin = None
    return process


def _start() -> subprocess.Popen[str]:
    # The name is for those who look for the process.
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "monai.bundle"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
