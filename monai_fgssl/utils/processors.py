# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Share the processor's cores with other programs."""

from __future__ import annotations

import os
import time

import psutil
import torch

__all__ = ["WAIT_POLICY", "CoreUse", "others_note"]

WAIT_POLICY = "OMP_WAIT_POLICY"
"""Environment variable of OpenMP: whether a thread computes or sleeps while it waits for another.

OpenMP reads it when torch is loaded, and later changes have no effect. By default a waiting thread computes for some
milliseconds. On idle cores that saves the time to wake it. Where another program needs the core too, the thread that is
waited for gets less of it, and the run becomes several times slower than with ``passive``
(``benchmarks/busy_cores.py``).
"""


class CoreUse:
    """Measures how many cores other programs use.

    Example:
        >>> use = CoreUse()
        >>> use.of_others() >= 0
        True
    """

    def __init__(self) -> None:
        self.start = self._now()

    def of_others(self) -> float:
        """Mean number of cores that other programs have used since this object was made."""
        seconds, everything, own = (now - then for now, then in zip(self._now(), self.start, strict=True))
        return max(everything - own, 0.0) / max(seconds, 1e-3)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Time, and seconds of computing of all programs and of this process."""
        times = psutil.cpu_times()
        # Linux counts the time of virtual machines as the user's, too.
        waiting = ("idle", "iowait", "guest", "guest_nice")
        everything = sum(value for name, value in times._asdict().items() if name not in waiting)
        return time.perf_counter(), everything, time.process_time()


def others_note(cores: float) -> str:
    """Sentence that says that other programs slow this process, or an empty string if they don't.

    Args:
        cores: number of cores that other programs use, see :meth:`CoreUse.of_others`.

    Example:
        >>> others_note(0.0)
        ''
    """
    number = os.cpu_count() or 1
    # Half a core is what a desktop uses beside a run.
    if cores <= number - torch.get_num_threads() + 0.5:
        return ""
    note = f"note: other programs use {cores:.1f} of {number} cores, so this run is slower than it could be."
    if WAIT_POLICY not in os.environ:
        note += f" The environment variable {WAIT_POLICY}=passive, set before the start, makes the loss smaller."
    return note
