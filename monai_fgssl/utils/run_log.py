# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Log of a run for people: a few lines are printed, and all lines are kept in a file."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .distributed import process_rank

__all__ = ["close_log", "is_within_a_run", "logged_warnings", "open_log", "record", "tell", "within_a_run"]

NAME = "monai_fgssl.run"
"""Name of the logger in the records."""

_quiet: ContextVar[bool] = ContextVar("quiet", default=False)
_open: list[_RunLog] = []


class _RunLog(logging.FileHandler):
    """Log file of one run. It also keeps the warnings, which are shown again at the end."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, mode="a", encoding="utf-8", delay=True)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        self.warnings: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            # The place in the code, which Python adds to a warning, is removed.
            found = re.match(r".*?:\d+: (\w+: .*)", record.getMessage())
            self.warnings.append(found[1] if found else record.getMessage().strip())
        super().emit(record)


def tell(text: str, progress: bool = False) -> None:
    """Print a line, on the first process only, and keep it in the log of the run.

    Args:
        text: the line.
        progress: True if a run within another run prints the line too.
    """
    if process_rank():
        return
    if progress or not _quiet.get():
        # Above the progress bar, where there is one.
        tqdm.write(text)
        sys.stdout.flush()
    record(text)


def record(text: str) -> None:
    """Keep a line in the log of the run without printing it."""
    if process_rank():
        return
    # Directly to the file: a library that configures logging (fileConfig) would silence our own logger.
    for handler in _open:
        handler.handle(logging.LogRecord(NAME, logging.INFO, __file__, 0, text, None, None))


def open_log(path: str | Path, header: Mapping[str, Any]) -> None:
    """Start to keep printed lines, and the warnings of all libraries, in a file. An existing file is extended.

    A run within another run, see :func:`within_a_run`, writes to the file of the outer run.

    Args:
        path: file of the log.
        header: names and values, which are the first lines of the log, ``name: value`` each.
    """
    if process_rank() or _quiet.get():
        return
    close_log()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _RunLog(path)
    _open.append(handler)
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    record("\n".join(["", *(f"{name}: {value}" for name, value in header.items())]))


def close_log() -> None:
    """Close the open log, if there is one."""
    while _open:
        handler = _open.pop()
        logging.getLogger().removeHandler(handler)
        handler.close()
        logging.captureWarnings(False)


def logged_warnings() -> list[str]:
    """Warnings since the log was opened, each once."""
    return list(dict.fromkeys(text for handler in _open for text in handler.warnings))


def is_within_a_run() -> bool:
    """Return True if this run is part of another run, see :func:`within_a_run`."""
    return _quiet.get()


@contextmanager
def within_a_run() -> Iterator[None]:
    """Let a run that is part of another run print only its progress."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)
