# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts that all benchmarks share: a timer, the name of the machine, and the command of the benchmark."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

__all__ = ["command", "machine", "milliseconds", "module", "processor"]


def module() -> str:
    """Return the module name of the running program, as for ``python -m``."""
    spec = sys.modules["__main__"].__spec__
    if spec is None:
        raise RuntimeError("start a benchmark from the root of the repository with python -m benchmarks.NAME.")
    return spec.name


def command() -> str:
    """Return the command line of the running program, without the folder of the program."""
    return shlex.join(["python", "-m", module(), *sys.argv[1:]])


def milliseconds(function: Callable[[], object], threads: int, seconds: float = 1) -> float:
    """Return the milliseconds of the fastest of all runs within at least ``seconds``."""
    timer = Timer("function()", globals={"function": function}, num_threads=threads)
    return 1e3 * min(timer.blocked_autorange(min_run_time=seconds).times)


def machine(device: str) -> str:
    """Return the name of a GPU, or the name of the processor with its number of cores."""
    return torch.cuda.get_device_name() if torch.device(device).type == "cuda" else processor()


def processor() -> str:
    """Return the processor's name and its number of cores."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return f"{names[0].split(':')[1].strip() if names else platform.processor()}, {os.cpu_count()} cores"
