# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Recognize the command of this process, and end it quietly when somebody stops it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["STOP_SIGNALS", "in_bundle_command", "stop_quietly"]

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def in_bundle_command() -> bool:
    """Return True if this process was started as ``python -m monai.bundle``."""
    return Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py")


def stop_quietly() -> None:
    """Let SIGTERM or SIGINT (Ctrl-C) end this process with one line of text. A second signal ends it at once.

    The exit status is 128 + the number of the signal: 143 or 130. Files that are being written are removed. The
    function has no effect outside the main thread, and no effect on a signal that is ignored, as in background
    processes of shells.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in STOP_SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)


def _stop(number: int, frame: Any) -> None:
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_DFL)
    # Not with print: the signal may have interrupted a call of print.
    os.write(2, f"\nstopped by {signal.Signals(number).name}. No file is half-written.\n".encode())

    def end(kind: object, error: object, trace: object) -> NoReturn:
        raise SystemExit(128 + number)

    # A library may turn the SystemExit into an error of its own: pydoc.locate does, and MONAI imports classes by it.
    # Python ends with the status of a SystemExit that its hook raises, and prints no traceback.
    sys.excepthook = end
    raise SystemExit(128 + number)
