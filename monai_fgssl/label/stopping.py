# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Stop a training so that it can go on later."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psutil
from monailabel.utils.async_tasks.utils import processes, tasks

__all__ = ["stop_training"]

SECONDS_TO_SAVE = 60.0


def stop_training() -> dict[str, Any] | None:
    """Let the running training save a checkpoint and end.

    MONAI Label would kill it, which loses all progress since the last checkpoint.

    Returns:
        The task as MONAI Label describes it; None when no training is running.
    """
    going_on = dict(processes("train"))
    stopped = [task for task in tasks("train") if task["id"] in going_on]
    for task in stopped:
        # Set before the process ends. Otherwise MONAI Label takes the end for an error.
        task["status"] = "STOPPED"
    for name, process in going_on.items():
        with suppress(psutil.NoSuchProcess):
            _end(psutil.Process(process.pid))
        # MONAI Label notices the end by itself, but not at once.
        processes("train").pop(name, None)
    return stopped[0] if stopped else None


def _end(process: psutil.Process) -> None:
    runs = process.children()
    for run in runs:
        with suppress(psutil.NoSuchProcess):
            run.terminate()
    psutil.wait_procs(runs, SECONDS_TO_SAVE)
    for left in (*process.children(recursive=True), process):
        with suppress(psutil.NoSuchProcess):
            left.kill()
