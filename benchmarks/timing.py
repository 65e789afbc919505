# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What every benchmark needs: a timer, and the machine that it ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path

from torch.utils.benchmark import Timer

__all__ = ["milliseconds", "processor"]


def milliseconds(function: Callable[[], object], threads: int, seconds: float = 1) -> float:
    """Return the fastest of all runs in at least so many seconds."""
    timer = Timer("function()", globals={"function": function}, num_threads=threads)
    return 1e3 * min(timer.blocked_autorange(min_run_time=seconds).times)


def processor() -> str:
    """Return the processor's name and its number of cores."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return f"{names[0].split(':')[1].strip() if names else platform.processor()}, {os.cpu_count()} cores"
