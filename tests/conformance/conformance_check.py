# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Compare other people's files with the libraries' own decoders: a file is read right, refused by name, or a fault."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import select
import signal
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
from conformance_references import Expected, NotPromised, expected_of

from monai_fgssl.data import read_medical_image
from monai_fgssl.utils.errors import DataError

__all__ = ["DIFFERENCES", "Outcome", "check_file", "check_files"]

RIGHT, REFUSED, DIFFERENT, ALONE = "right", "refused", "different on purpose", "read alone"
LIBRARY_SECONDS = 20.0
"""Of the processor, for an image that a library itself reads."""
WRONG, CRASH, HANG = "wrong", "crash", "hang"

DIFFERENCES = {
    "*/OBXXXX1A_expb*.dcm": (
        "pydicom up to 3.0.2 swaps the bytes of big-endian palettes; we read what the same picture in little endian, "
        "which lies beside it, shows in both"
    ),
    "*/old-style-jpeg-compression*.tif": (
        "tifffile converts the colors of this old form of JPEG otherwise; we read what libtiff reads, and what the "
        "PNG beside it shows"
    ),
}
"""Files that are read otherwise than by their library, as patterns of their paths, and the reasons."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of a file.

    Attributes:
        kind: ``"right"``, ``"refused"`` (an error that names the file), ``"different on purpose"`` (see
            :data:`DIFFERENCES`), ``"read alone"`` (the library itself can't read the file, and we do), or a fault:
            ``"wrong"``, ``"crash"`` (also an error of another kind, or one without the name), ``"hang"``.
        reason: what the error says, where the difference is, or what the library says.
        by_library: whether the library reads the file.
    """

    kind: str
    reason: str = ""
    by_library: bool = True


def check_files(paths: Iterable[Path], limit: float = 60) -> Iterator[tuple[Path, Outcome]]:
    """Check each file in a process of its own.

    Args:
        paths: of the files.
        limit: seconds of the processor that one may take; ten times as many by the clock.
    """
    for path in paths:
        receiver, sender = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(receiver)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            faulthandler.disable()
            warnings.simplefilter("ignore")
            logging.disable()
            signal.setitimer(signal.ITIMER_PROF, limit)
            outcome = check_file(path)
            os.write(sender, json.dumps([outcome.kind, outcome.reason[:2000], outcome.by_library]).encode())
            os._exit(0)
        os.close(sender)
        with os.fdopen(receiver, "rb") as pipe:
            text = b""
            end = time.monotonic() + 10 * limit
            while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
                chunk = os.read(pipe.fileno(), 1 << 16)
                if not chunk:
                    break
                text += chunk
            else:
                os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if text and status == 0:
            yield path, Outcome(*json.loads(text))
        elif os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGKILL):
            yield path, Outcome(HANG, f"more than {limit:g} s")
        else:
            yield path, Outcome(CRASH, f"exit status {os.waitstatus_to_exitcode(status)}")


def check_file(path: Path) -> Outcome:
    """Compare all images of a file with what its library reads."""
    library, by_library, outcomes = "", True, []
    images = expected_of(path)
    try:
        while True:
            with _at_most(LIBRARY_SECONDS):
                image = next(images, None)
            if image is None:
                break
            outcomes.append(_compare(path, image))
    except NotPromised as reason:
        library = f"{reason} is not promised"
    except Exception as error:
        library, by_library = f"{type(error).__name__}: {error}", False
    if not outcomes:
        outcome = _read_alone(path, library)
        return Outcome(outcome.kind, outcome.reason, by_library)
    # The worst of its images.
    order = [CRASH, WRONG, REFUSED, RIGHT]
    worst = min(outcomes, key=lambda one: order.index(one.kind))
    reason = next((why for pattern, why in DIFFERENCES.items() if fnmatch(path.as_posix(), pattern)), None)
    return Outcome(DIFFERENT, reason) if worst.kind == WRONG and reason else worst


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Interrupt Python code that takes longer: a library may hang where we must not."""

    def interrupt(number: int, frame: object) -> None:
        raise TimeoutError(f"took more than {seconds:g} s")

    before = signal.signal(signal.SIGVTALRM, interrupt)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _read_alone(path: Path, library: str) -> Outcome:
    refusals = []
    for options in ({}, {"frame": 0}, {"spatial_dims": 3}):
        try:
            read_medical_image(path, **options)  # type: ignore[arg-type]
            return Outcome(ALONE, library)
        except DataError as error:
            refusals.append(str(error))
        except Exception as error:
            return Outcome(CRASH, f"{type(error).__name__}: {error}")
    return _refused(path, refusals[0])


def _refused(path: Path, message: str) -> Outcome:
    if path.name not in message:
        return Outcome(CRASH, f"an error without the name of the file: {message}")
    return Outcome(REFUSED, message.split(path.name, 1)[1].strip())


def _compare(path: Path, expected: Expected) -> Outcome:
    try:
        image = read_medical_image(path, **expected.options)
    except DataError as error:
        return _refused(path, str(error))
    except Exception as error:
        return Outcome(CRASH, f"{type(error).__name__}: {error}")
    values = np.moveaxis(image.numpy().astype(np.float64), 0, -1)
    where = f" with {expected.options}" if expected.options else ""
    if values.shape != expected.values.shape:
        return Outcome(WRONG, f"shape {values.shape} instead of {expected.values.shape}{where}")
    if expected.affine is not None and not np.allclose(image.affine.numpy(), expected.affine, atol=1e-5):
        return Outcome(WRONG, f"another affine{where}")
    scale = (
        1.0
        if expected.affine is None
        else max(1e-30, float(np.max(np.abs(expected.values), initial=0, where=np.isfinite(expected.values))))
    )
    # NaN and infinity are replaced, which data/io/finite.py documents.
    there = np.isfinite(expected.values)
    difference = float(np.max(np.abs(values - expected.values), initial=0, where=there)) / scale
    if not np.isfinite(values).all():
        return Outcome(WRONG, f"values that are not numbers{where}")
    if not difference <= expected.tolerance:
        return Outcome(WRONG, f"differs by up to {difference:.3g}{where}")
    return Outcome(RIGHT)
