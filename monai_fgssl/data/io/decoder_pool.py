# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Decode files from unknown sources in separate processes. A bad file can crash, block or fill only its process.

The libraries that decode images are written in C and C++. A file of a few bytes can crash them, keep them busy forever,
or make them take all of the memory. A process that decodes sends back an array or a message, never an object.

This keeps a service alive, but it does not stop an attacker: a file that takes over a decoder has the rights of the
decoder's user. If you expect such files, run the whole program in a container.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from monai_fgssl.utils.errors import DataError
from monai_fgssl.utils.memory import is_out_of_memory

from .dicom_file import decode_header, encode_header

if TYPE_CHECKING:
    from .geometry import ImageGeometry

try:
    import resource
except ImportError:
    # Windows has no limits of this kind.
    resource = None  # type: ignore[assignment]

__all__ = ["DecoderPool"]

Answer = tuple[NDArray[Any], list[bytes]]

HAS_MEMORY_LIMIT = resource is not None and sys.platform.startswith("linux")
"""True if the system can limit the memory of a process. Otherwise the pool watches the memory while a file is read."""
MEMORY_SHARE = 0.5
"""Share of the free memory that all processes together may take by default."""
LEAST_MEMORY = 1 << 30
"""Smallest number of bytes for a process. With less memory there are fewer processes."""
LONGEST_MESSAGE = 1 << 20
LARGEST_RESULT = 1 << 32
SECONDS_BETWEEN_LOOKS = 0.05
LONGEST_WAIT = 10
"""Limit of time by the clock, as a multiple of the limit of CPU time: a file may wait for a disk or a processor."""
STOPPED_BY_MEMORY = (signal.SIGABRT, signal.SIGSEGV, getattr(signal, "SIGBUS", signal.SIGSEGV))
"""Signals that may end native code when memory runs out."""


class _TooLongError(Exception):
    """A process did not answer in time."""


class _TooLargeError(Exception):
    """A process used or requested more memory than its limit."""


class _DiedError(Exception):
    """A process ended. The error has its exit code."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


class DecoderPool:
    """Runs functions that decode a file in processes of their own, with limits of time and memory.

    A process that dies or is stopped is replaced, and its file raises a :class:`~monai_fgssl.data.DataError`. The
    memory limit holds for all processes together, and each process has a share of it. If a file needs more than the
    share, it is tried again with all of the memory, while the other processes wait.

    Several threads may use one pool. A process starts when it is first needed.

    Args:
        num_processes: number of processes that work at the same time; None: one for each core, at most 8, and at most
            one for each gigabyte of the limit.
        seconds: CPU time that a file may take, in seconds; by the clock it may take ten times as long. A series may
            take as many times this limit as it has files.
        memory_gb: memory for images, in gigabytes (10^9 bytes), of all processes together; None: half of what is free.
        start_method: of :mod:`multiprocessing`; None: ``"fork"`` on Linux, as PyTorch's loaders do, else ``"spawn"``.
            A server with many threads takes ``"forkserver"``.
        preload: modules that a fork server imports once for all processes.

    Raises:
        ValueError: when a number is not positive.

    Example:
        >>> with DecoderPool(num_processes=1) as pool:  # doctest: +SKIP
        ...     image = pool.run(ImageGeometry(64).read, "upload.tif")
    """

    def __init__(
        self,
        num_processes: int | None = None,
        seconds: float = 60.0,
        memory_gb: float | None = None,
        start_method: str | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        for name, value in (("num_processes", num_processes), ("seconds", seconds), ("memory_gb", memory_gb)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value!r}.")
        self.seconds = seconds
        free = psutil.virtual_memory().available
        self.memory = int(MEMORY_SHARE * free if memory_gb is None else 1e9 * memory_gb)
        most = max(1, min(8, os.cpu_count() or 1, self.memory // LEAST_MEMORY))
        self.num_processes = num_processes or most
        default = "fork" if sys.platform.startswith("linux") else "spawn"
        self.start_method = start_method or default
        self.preload = list(preload)
        self._options = (num_processes, seconds, memory_gb, start_method, tuple(preload))
        self._context: Any = multiprocessing.get_context(self.start_method)
        if self.start_method == "forkserver":
            self._context.set_forkserver_preload([__name__, *self.preload])
        # Places for processes; None where there is none yet.
        self._places: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(self.num_processes):
            self._places.put(None)
        self._taking_all = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy starts its own processes, also a copy that is sent to another process.
        return DecoderPool, self._options

    def __enter__(self) -> DecoderPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start a process now, so that the first file does not wait for it."""
        place = self._places.get()
        self._places.put(place or _Process(self))

    def close(self) -> None:
        """End the processes. The next file starts new ones."""
        for _ in range(self.num_processes):
            place = self._places.get()
            if place is not None:
                place.end()
            self._places.put(None)

    def read(
        self,
        geometry: ImageGeometry,
        path: str | os.PathLike[str],
        frame: int | None = None,
        headers: list[Dataset] | None = None,
    ) -> torch.Tensor:
        """Read an image in a process; see :meth:`ImageGeometry.read <monai_fgssl.data.ImageGeometry.read>`."""
        values, encoded = self.call(_read_with_headers, path, geometry, frame, headers is not None)
        if headers is not None:
            headers += map(decode_header, encoded)
        return torch.from_numpy(values)

    def run(
        self, function: Callable[..., Any], path: str | os.PathLike[str], *arguments: Any, **options: Any
    ) -> NDArray[Any]:
        """Call ``function(path, *arguments, **options)`` in a process.

        Args:
            function: function of a module, or method of an object that can be pickled. It returns an array or a CPU
                tensor.
            path: file, or folder of a series.
            arguments: positional arguments of the function.
            options: keyword arguments of the function.

        Returns:
            Result of the function, as an array.

        Raises:
            DataError: when the function raises one, or when the file ends the process, takes too long or too much
                memory.
            RuntimeError: when the function raises anything else.
        """
        return self.call(function, path, *arguments, **options)[0]

    def call(
        self, function: Callable[..., Any], path: str | os.PathLike[str], *arguments: Any, **options: Any
    ) -> Answer:
        """Call a function as :meth:`run` does. It may also return a pair of an array and a list of bytes."""
        task = (function, (os.fspath(path), *arguments), options)
        seconds = self.seconds * _count_files(path)
        try:
            try:
                return self._run_in_share(task, seconds)
            except (_TooLargeError, _DiedError) as error:
                may_be_memory = isinstance(error, _TooLargeError) or -(error.code or 0) in STOPPED_BY_MEMORY
                if not may_be_memory or (isinstance(error, _DiedError) and self.num_processes == 1):
                    raise
            return self._run_alone(task, seconds)
        except _TooLongError:
            raise DataError(
                f"{path} takes longer than {seconds:g} s to decode, and was given up: it is damaged or very large. If "
                "the file is good, raise --decode_seconds."
            ) from None
        except _TooLargeError:
            raise DataError(
                f"{path} takes more than {self.memory / 1e9:.1f} GB of memory to decode, and was given up: it is "
                "damaged or very large. If the file is good, raise --decode_gb."
            ) from None
        except _DiedError as error:
            raise DataError(
                f"{path} ended the process that decodes it ({_name_of_end(error.code)}): it is damaged, or made to do "
                "harm."
            ) from None

    def _run_in_share(self, task: tuple[Any, ...], seconds: float) -> Answer:
        place = self._places.get()
        try:
            place = place or _Process(self)
            return place.ask(task, seconds, self.memory // self.num_processes)
        finally:
            self._places.put(place if place is not None and place.is_usable else None)

    def _run_alone(self, task: tuple[Any, ...], seconds: float) -> Answer:
        """Run a task with all of the memory, in a new process, while there is no other."""
        with self._taking_all:
            places = [self._places.get() for _ in range(self.num_processes)]
        try:
            for place in places:
                if place is not None:
                    place.end()
            alone = _Process(self)
            try:
                return alone.ask(task, seconds, self.memory)
            finally:
                # The process would keep the memory that it took.
                alone.end()
        finally:
            for _ in places:
                self._places.put(None)


class _Process:
    """One process and the connection to it."""

    def __init__(self, pool: DecoderPool) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        is_forked = pool.start_method == "fork"
        self._process = pool._context.Process(target=_serve, args=(theirs, is_forked), daemon=True, name="decoder")
        with warnings.catch_warnings():
            # Python warns of a fork in a program with threads. PyTorch's loaders fork in the same way.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()
        self.is_usable = True

    def ask(self, task: tuple[Any, ...], seconds: float, memory: int) -> Answer:
        """Let the process do a task. ``memory`` limits what it takes beyond the memory that it has at the start."""
        try:
            self.is_usable = False
            self._connection.send((task, memory))
            self._wait(seconds, memory)
            answer = json.loads(self._connection.recv_bytes(LONGEST_MESSAGE))
            for level, name, message in answer["logged"]:
                logging.getLogger(name).log(level, "%s", message)
            if answer["kind"] == "array":
                content = self._connection.recv_bytes(LARGEST_RESULT)
                beside = [self._connection.recv_bytes(LARGEST_RESULT) for _ in range(answer["beside"])]
                values = np.frombuffer(bytearray(content), np.dtype(answer["dtype"])).reshape(answer["shape"])
            self.is_usable = answer["kind"] != "memory"
        except (EOFError, OSError, ValueError, KeyError, TypeError) as error:
            self._process.join(1)
            code = self._process.exitcode
            self.end()
            raise _DiedError(code) from error
        except BaseException:
            self.end()
            raise
        if answer["kind"] == "array":
            return values, beside
        if answer["kind"] == "memory":
            self.end()
            raise _TooLargeError
        raise (DataError if answer["kind"] == "data" else RuntimeError)(answer["message"])

    def _wait(self, seconds: float, memory: int) -> None:
        # Use the CPU time of the process: on a busy computer, the file is not to blame for time by the clock.
        end, before = time.monotonic() + LONGEST_WAIT * seconds, self._used()
        while not self._connection.poll(SECONDS_BETWEEN_LOOKS):
            computed, taken = self._used()
            if computed - before[0] > seconds or time.monotonic() > end:
                raise _TooLongError
            if not HAS_MEMORY_LIMIT and taken - before[1] > memory:
                raise _TooLargeError

    def _used(self) -> tuple[float, int]:
        """Return the CPU seconds of the process, and the bytes of memory that it has."""
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process = psutil.Process(self._process.pid)
            times = process.cpu_times()
            return times.user + times.system, int(process.memory_info().rss)
        return 0.0, 0

    def end(self) -> None:
        """Kill the process, whatever it does."""
        self.is_usable = False
        if not self._connection.closed:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._connection.close()


def _count_files(path: str | os.PathLike[str]) -> int:
    folder = Path(path)
    with suppress(OSError):
        return max(1, sum(1 for _ in folder.iterdir())) if folder.is_dir() else 1
    return 1


def _name_of_end(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"status {code}"


# ---------------------------------------------------------------- in the process


class _Collector(logging.Handler):
    """Collects log messages, to send them to the process that asked."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[tuple[int, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.records) < 100:
            self.records.append((record.levelno, record.name, record.getMessage()[:1000]))


def _serve(connection: Connection, is_forked: bool) -> None:
    """Answer requests until the other end closes the connection."""
    collected = _prepare(connection, is_forked)
    at_start = _virtual_memory()
    while True:
        try:
            (function, arguments, options), memory = connection.recv()
        except (EOFError, OSError):
            os._exit(0)
        _limit_memory(at_start + memory)
        collected.records.clear()
        values: NDArray[Any] | None = None
        beside: list[bytes] = []
        try:
            result = function(*arguments, **options)
            result, beside = result if isinstance(result, tuple) else (result, [])
            values = np.asarray(result.numpy() if isinstance(result, torch.Tensor) else result, order="C")
            answer = {"kind": "array", "dtype": values.dtype.str, "shape": values.shape, "beside": len(beside)}
        except DataError as error:
            answer = {"kind": "data", "message": str(error)}
        except BaseException as error:
            is_memory = is_out_of_memory(error)
            answer = {"kind": "memory" if is_memory else "other", "message": traceback.format_exc()[-10_000:]}
        answer["logged"] = collected.records
        connection.send_bytes(json.dumps(answer).encode())
        if values is not None:
            connection.send_bytes(values.reshape(-1).view(np.uint8).data if values.size else b"")
            for content in beside:
                connection.send_bytes(content)


def _read_with_headers(
    path: str, geometry: ImageGeometry, frame: int | None, with_headers: bool
) -> tuple[torch.Tensor, list[bytes]]:
    headers: list[Dataset] = []
    image = geometry.read(path, frame, headers)
    return image, [encode_header(header) for header in headers] if with_headers else []


def _prepare(connection: Connection, is_forked: bool) -> _Collector:
    # Ctrl-C reaches every process of a terminal. Ignore it here: the process that asked decides what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Native code may print anything about a file.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    if is_forked:
        # Locks and connections of the parent must not outlive it here, and its objects must not be closed twice.
        gc.freeze()
        own = connection.fileno()
        os.closerange(3, own)
        os.closerange(own + 1, os.sysconf("SC_OPEN_MAX"))
    torch.set_num_threads(1)
    collector = _Collector()
    root = logging.getLogger()
    for name in (None, *logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    root.addHandler(collector)
    if resource is not None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return collector


def _virtual_memory() -> int:
    return int(psutil.Process().memory_info().vms)


def _limit_memory(size: int) -> None:
    if HAS_MEMORY_LIMIT:
        _, most = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (size if most == resource.RLIM_INFINITY else min(size, most), most))
