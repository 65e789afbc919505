# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The command that this process is, and its quiet end when somebody stops it: one line, and the status of shells."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

__all__ = ["STOP_SIGNALS", "in_bundle_command", "stop_quietly"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def in_bundle_command() -> bool:
    """Tell whether this process was started as ``python -m monai.bundle``."""
    return Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py")


def stop_quietly() -> None:
    """End this process with one line at SIGTERM or SIGINT (Ctrl-C), wherever it is; a second signal ends it at once.

    The exit status is 128 + the number of the signal: 143 or 130. Files that are being written are removed. Without
    effect outside the main thread, and for a signal that is ignored, as shells start their background processes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in STOP_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)


def _stop(number: int, frame: Any) -> None:
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_DFL)
    # Not by print: the signal may have come in the middle of one.
    os.write(2, f"\nstopped by {signal.Signals(number).name}. No file is half-written.\n".encode())
    raise SystemExit(128 + number)
