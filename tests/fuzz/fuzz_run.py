# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Run inputs in a separate process, replace the process when it dies or hangs, and count the outcomes."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

__all__ = ["KINDS", "Failure", "Report", "run"]

KINDS = ("fine", "told", "foreign error", "without the name", "wrong result", "out of memory", "stray write")
"""Outcomes that a worker tells; a crash and a hang are told by its end."""
LIMIT = 10.0
"""Seconds of the processor that an input may take."""
PATIENCE = 120.0
"""Seconds by the clock, on a machine that others keep busy."""
WORKER = Path(__file__).with_name("fuzz_worker.py")


@dataclass(frozen=True)
class Failure:
    """An input that came to no good end; ``first`` and ``number`` make it again."""

    first: int
    number: int
    container: str
    outcome: str


@dataclass
class Report:
    """Outcomes of all inputs.

    Attributes:
        counts: inputs by container and outcome.
        failures: those that were neither fine nor told.
        highest: memory of the input that took most, in bytes.
        slowest: seconds by the clock of the slowest input that ended.
        numbers: of the inputs that were read, from 0 to before this.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    highest: int = 0
    slowest: float = 0.0
    numbers: int = 0


def run(
    first: int,
    seconds: float | None = None,
    numbers: range = range(10**9),
    keep: Path | None = None,
    tell: Callable[[Report], None] | None = None,
    worker: Path = WORKER,
    limit: float = LIMIT,
) -> Report:
    """Fuzz.

    Args:
        first: seed of the random numbers.
        seconds: after which no further input is begun.
        numbers: of the inputs.
        keep: folder that inputs which came to no good end are written to.
        tell: called about once a minute.
        worker: program of the processes that read.
        limit: seconds of the processor that an input may take.
    """
    report = Report(numbers=numbers.start)
    end = float("inf")
    told = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Reader(Path(name), first, numbers.stop, worker, limit) as reader:
        if seconds:
            end = time.monotonic() + seconds
        while report.numbers < numbers.stop and time.monotonic() < end:
            for number, container, outcome, taken, clock in reader.read(report.numbers, end):
                kind = next((kind for kind in KINDS if outcome.startswith(kind)), outcome.split(":")[0])
                report.counts[container, kind] += 1
                report.numbers = number + 1
                report.highest, report.slowest = max(report.highest, taken), max(report.slowest, clock)
                if kind not in ("fine", "told"):
                    report.failures.append(Failure(first, number, container, outcome))
                    if keep:
                        keep.mkdir(parents=True, exist_ok=True)
                        # Of a child that has died the input lies where it was read.
                        kept = list(Path(name).glob(f"bad/{number}.*")) or list(Path(name).glob("inside/input*"))
                        for path in kept:
                            suffixes = "".join(path.suffixes)
                            shutil.copy(path, keep / f"{kind.replace(' ', '_')}_{first}_{number}{suffixes}")
                if tell and time.monotonic() > told + 60:
                    tell(report)
                    told = time.monotonic()
    return report


class Reader:
    """The processes that read; a context."""

    def __init__(self, sandbox: Path, first: int, stop: int, worker: Path, limit: float) -> None:
        self.limit = limit
        command = [sys.executable, worker, sandbox, first, stop]
        environment = {**os.environ, "TMPDIR": str(sandbox), "HOME": str(sandbox), "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(str(path) for path in sys.path if path)
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self.selector = selectors.DefaultSelector()
        self.selector.register(self._output, selectors.EVENT_READ)
        self.buffer = b""

    @property
    def _output(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def __enter__(self) -> Reader:
        """Wait until everything is loaded."""
        while True:
            message = self._next(None)
            if message is None:
                raise RuntimeError("the process that reads inputs did not start.")
            if "ready" in message:
                return self
            if message["outcome"] not in ("fine", "told"):
                raise RuntimeError(f"a seed can't be read: {message}")

    def __exit__(self, *error: object) -> None:
        """End both processes."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children():
                child.kill()
        self.process.kill()
        self.process.wait()
        self.selector.close()

    def read(self, start: int, end: float) -> Iterator[tuple[int, str, str, int, float]]:
        """Number, container, outcome, bytes and seconds of inputs, until a child dies or time ends."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{start}\n".encode())
        self.process.stdin.flush()
        child: psutil.Process | None = None
        busy: tuple[int, str] | None = None
        hung, begun, used = "", time.monotonic(), 0.0
        while True:
            message = self._next(1)
            if message is None:
                clock = time.monotonic() - begun
                if child and busy and (_seconds_of(child) - used > self.limit or clock > PATIENCE):
                    hung = f"hang: {clock:.0f} s"
                    child.kill()
            elif "child" in message:
                child = psutil.Process(message["child"])
            elif "number" in message:
                busy = message["number"], message["container"]
                begun, used = time.monotonic(), _seconds_of(child)
            elif "done" in message:
                assert busy is not None
                yield *busy, message["outcome"], message["taken"], time.monotonic() - begun
                busy = None
                if time.monotonic() > end:
                    return
            elif "ended" in message:
                if busy:
                    outcome = hung or f"crash: exit status {message['ended']}"
                    yield *busy, outcome, 0, time.monotonic() - begun
                return

    def _next(self, timeout: float | None) -> dict[str, Any] | None:
        """The next message; None when there is none in time, or ever."""
        while b"\n" not in self.buffer:
            if not self.selector.select(timeout):
                return None
            chunk = os.read(self._output.fileno(), 1 << 16)
            if not chunk:
                if timeout is None:
                    return None
                raise RuntimeError("the process that reads inputs has ended.")
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def _seconds_of(process: psutil.Process | None) -> float:
    """Of the processor, so far."""
    with suppress(psutil.Error):
        if process is not None:
            times = process.cpu_times()
            return times.user + times.system
    return 0.0
