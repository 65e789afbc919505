# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A file can kill, block or fill the process that decodes it, but it affects no other process."""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from dicom_files import write_dicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from monai_fgssl.data import DataError, ImageGeometry
from monai_fgssl.data.io import decoder_pool
from monai_fgssl.data.io.decoder_pool import DecoderPool

GB = 10**9


# Functions in the place of decoders; what they are given in the place of a file is their fault.
def decode(fault: str) -> np.ndarray:
    if fault == "hang":
        time.sleep(1000)
    if fault == "spin":
        while True:
            pass
    if fault == "crash":
        ctypes.string_at(0)
    if fault == "abort":
        os.abort()
    if fault == "exit":
        os._exit(3)
    if fault == "refused":
        raise DataError(f"{fault} is no picture.")
    if fault == "bug":
        raise KeyError("a bug")
    if fault == "warns":
        logging.getLogger("monai_fgssl.test").warning("a %s of it", "half")
    if fault.startswith("takes"):
        return np.ones(int(float(fault.removeprefix("takes")) * GB), np.uint8)[:5]
    return np.arange(6, dtype=np.float32).reshape(2, 3)


def process_id(path: str) -> np.ndarray:
    return np.array(os.getpid())


def kind_of_thing(path: str, kind: str) -> Any:
    return {
        "tensor": torch.arange(4).reshape(2, 2),
        "empty": np.zeros((0, 3)),
        "big endian": np.arange(3, dtype=">u2"),
        "not contiguous": np.arange(12).reshape(3, 4).T,
    }[kind]


@pytest.fixture(scope="module")
def pool() -> Iterator[DecoderPool]:
    with DecoderPool(num_processes=2, seconds=20, memory_gb=1) as made:
        yield made


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("crash", r"crash ended the process that decodes it \(SIGSEGV\)"),
        ("abort", r"abort ended the process that decodes it \(SIGABRT\)"),
        ("exit", r"exit ended the process that decodes it \(status 3\)"),
        ("refused", "refused is no picture"),
        ("takes4", r"takes4 takes more than 1\.0 GB of memory to decode.* raise --decode_gb"),
    ],
)
def test_a_file_costs_nothing_but_itself(pool: DecoderPool, fault: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as told:
        pool.run(decode, fault)
    assert len(str(told.value).splitlines()) == 1
    assert pool.run(decode, "good").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("fault", ["hang", "spin"])
def test_a_file_that_takes_too_long_is_given_up(fault: str) -> None:
    with DecoderPool(num_processes=1, seconds=0.5) as one:
        with pytest.raises(DataError, match=r"longer than 0\.5 s to decode, and was given up.* raise --decode_seconds"):
            one.run(decode, fault)
        assert one.run(decode, "good").size == 6


def test_a_busy_computer_is_no_fault_of_the_file() -> None:
    # Waits twice as long as it may compute.
    with DecoderPool(num_processes=1, seconds=0.5) as one:
        assert one.run(sleep, "x", 1.0).tolist() == [1.0]


def test_a_bug_is_no_fault_of_the_file(pool: DecoderPool) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'a bug'"):
        pool.run(decode, "bug")


@pytest.mark.parametrize("kind", ["tensor", "empty", "big endian", "not contiguous"])
def test_arrays_come_as_they_are(pool: DecoderPool, kind: str) -> None:
    expected = np.asarray(kind_of_thing("x", kind))
    found = pool.run(kind_of_thing, "x", kind)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert (found == expected).all()
    assert found.flags.writeable


def test_what_is_logged_arrives(pool: DecoderPool, caplog: pytest.LogCaptureFixture) -> None:
    pool.run(decode, "warns")
    assert ("monai_fgssl.test", logging.WARNING, "a half of it") in caplog.record_tuples


def test_processes_are_kept_and_replaced() -> None:
    with DecoderPool(num_processes=1) as one:
        first = int(one.run(process_id, "x"))
        assert int(one.run(process_id, "x")) == first
        os.kill(first, signal.SIGKILL)
        with pytest.raises(DataError, match="SIGKILL"):
            one.run(process_id, "x")
        second = int(one.run(process_id, "x"))
        assert second not in (first, os.getpid())
    assert not psutil.pid_exists(second)
    with one:
        assert int(one.run(process_id, "x")) != second


def test_a_large_file_gets_all_of_the_memory_alone(pool: DecoderPool) -> None:
    # More than the half that each process has.
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda fault: pool.run(decode, fault).size, ["takes0.7", "good"] * 4))
    assert found == [5, 6] * 4


def test_all_processes_together_keep_the_limit() -> None:
    # Two files at once, each half of the limit and a little more.
    with DecoderPool(num_processes=2, memory_gb=0.6) as two, ThreadPoolExecutor(2) as threads:
        results = [threads.submit(two.run, decode, "takes0.35") for _ in range(4)]
        most = 0
        at_start = None
        while not all(result.done() for result in results):
            used = 0
            for child in psutil.Process().children():
                try:
                    used += child.memory_full_info().uss
                except psutil.Error:
                    continue
            at_start = used if at_start is None else at_start
            most = max(most, used)
            time.sleep(0.01)
        assert [result.result().size for result in results] == [5] * 4
        assert most < 0.6 * GB + 2 * 200e6


def test_without_limits_of_the_system_the_memory_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_pool, "HAS_MEMORY_LIMIT", False)
    with DecoderPool(num_processes=1, memory_gb=0.3, seconds=20) as one:
        with pytest.raises(DataError, match=r"more than 0\.3 GB"):
            one.run(grow, "a")
        assert one.run(decode, "good").size == 6


def grow(path: str) -> np.ndarray:
    kept = []
    while len(kept) < 40:
        kept.append(np.ones(50_000_000, np.uint8))
        time.sleep(0.05)
    return np.array(len(kept))


def test_a_series_has_time_for_each_of_its_files(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}.dcm").touch()
    with DecoderPool(num_processes=1, seconds=0.1) as one:
        assert one.run(sleep, tmp_path, 1.5).tolist() == [1.5]
        with pytest.raises(DataError, match=r"longer than 0\.1 s"):
            one.run(sleep, tmp_path / "0.dcm", 1000.0)


def sleep(path: str, seconds: float) -> np.ndarray:
    time.sleep(seconds)
    return np.array([seconds])


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_other_ways_to_start(method: str, tmp_path: Path) -> None:
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "a.png")
    with DecoderPool(num_processes=1, start_method=method, seconds=300) as one:
        one.start()
        found = one.run(ImageGeometry(4).read, tmp_path / "a.png")
    assert (found == ImageGeometry(4).read(tmp_path / "a.png").numpy()).all()


def test_a_copy_has_processes_of_its_own(pool: DecoderPool) -> None:
    copy = pickle.loads(pickle.dumps(pool))
    assert (copy.num_processes, copy.seconds, copy.memory) == (pool.num_processes, pool.seconds, pool.memory)


@pytest.mark.parametrize(
    "options", [{"seconds": 0}, {"memory_gb": -1}, {"num_processes": 0}, {"seconds": float("nan")}]
)
def test_limits_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} must be a positive number"):
        DecoderPool(**options)


DIES = """
import os, sys
from monai_fgssl.data.io.decoder_pool import DecoderPool
import numpy as np
def pid(path): return np.array(os.getpid())
lock = open(sys.argv[1], "w")
import fcntl; fcntl.flock(lock, fcntl.LOCK_EX)
pool = DecoderPool(num_processes=1)
print(int(pool.run(pid, "x")), flush=True)
os.kill(os.getpid(), 9)
"""


def test_processes_end_with_the_program_and_keep_none_of_its_locks(tmp_path: Path) -> None:
    import fcntl

    done = subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)
    assert done.returncode == -signal.SIGKILL
    with open(tmp_path / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for _ in range(500):
        if not psutil.pid_exists(int(done.stdout)):
            break
        time.sleep(0.02)
    else:
        pytest.fail("the process is still there")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_headers_of_dicom_come_along(pool: DecoderPool, syntax: str, tmp_path: Path) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    texts = {"PatientName": "Äsop^Ann", "SpecificCharacterSet": "ISO_IR 192"}
    path = write_dicom(tmp_path / "a.dcm", pixels, syntax, **texts)
    expected: list[Dataset] = []
    headers: list[Dataset] = []
    geometry = ImageGeometry(4)
    assert torch.equal(pool.read(geometry, path, None, headers), geometry.read(path, None, expected))
    assert headers == expected
    assert str(headers[0].PatientName) == "Äsop^Ann"
    assert torch.equal(pool.read(geometry, path), geometry.read(path))
