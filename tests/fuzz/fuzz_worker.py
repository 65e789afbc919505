# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Processes that read inputs. Each input is made from its number, and it may kill the process that reads it."""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import os
import resource
import sys
import warnings
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from fuzz_mutations import mutate
from fuzz_seeds import Seed, make_seeds
from fuzz_targets import FINE, TOLD, outcome_of

__all__ = ["MEMORY", "input_of", "serve"]

MEMORY = 2 << 30
"""Bytes that one input may take beyond what the process has already."""
ROOM = 2 << 30
"""Bytes of addresses beyond them, for what is reserved and never used; who wants more gets a MemoryError."""
SLOW = "model.json"
"""The container that gets a quarter of the turns."""
CLEAR = "/proc/self/clear_refs"
"""File that makes Linux measure the highest memory anew."""
WRITES = frozenset(
    ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod", "os.truncate")
)
PROGRAMS = frozenset(("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect"))


def input_of(seeds: list[Seed], first: int, number: int) -> tuple[Seed, bytes]:
    """The input with a number.

    Args:
        seeds: of :func:`make_seeds`.
        first: seed of the random numbers of the whole run.
        number: of the input, from 0.
    """
    rng = np.random.default_rng([first, number])
    # Containers take turns, whatever the number of their seeds. To build a network takes ten times as long.
    containers = sorted({seed.container for seed in seeds} - {SLOW}) * 4 + [SLOW]
    same = [seed for seed in seeds if seed.container == containers[number % len(containers)]]
    seed = same[int(rng.integers(len(same)))]
    others = [one.data for one in (same if rng.integers(4) else seeds)]
    return seed, mutate(seed.data, others, rng)


def serve(sandbox: Path, first: int, stop: int) -> None:
    """Load everything once, then read inputs in one child after the other.

    A number on a line of standard input starts a child at that input. Lines of JSON on standard output tell of the
    child, of each input before and after it is read, and of the child's end.

    Args:
        sandbox: folder of this process: ``inside`` is for the input and what lies beside it, ``bad`` for inputs that
            came to no good end; a reader may write to the first only.
        first: see :func:`input_of`.
        stop: number after the last input.
    """
    out = os.fdopen(os.dup(1), "w", buffering=1)
    # Native code prints to either, and what it prints is nobody's result.
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    warnings.simplefilter("ignore")
    logging.disable()
    torch.set_num_threads(1)
    seeds = make_seeds()
    inside = sandbox / "inside"
    inside.mkdir()
    (sandbox / "bad").mkdir()
    os.chdir(sandbox)
    # What the readers load late is no writing of theirs.
    for seed in {(seed.container, seed.target): seed for seed in seeds}.values():
        (inside / seed.name).write_bytes(seed.data)
        outcome = outcome_of(seed.target, inside / seed.name)
        _say(out, seed=seed.container, outcome=outcome)
    gc.collect()
    _say(out, ready=len(seeds))
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _say(out, child=os.getpid())
            _work(out, seeds, inside, first, range(int(line), stop))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        _say(out, ended=os.waitstatus_to_exitcode(status))


def _say(out: IO[str], **message: Any) -> None:
    print(json.dumps(message), file=out, flush=True)


def _work(out: IO[str], seeds: list[Seed], inside: Path, first: int, numbers: range) -> None:
    known = set(inside.parent.iterdir())
    strays = _watch(inside)
    limit = _status("VmSize") + MEMORY + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in numbers:
        seed, data = input_of(seeds, first, number)
        _say(out, number=number, container=seed.container)
        for last in inside.glob("input*"):
            last.unlink()
        path = inside / f"input{''.join(Path(seed.name).suffixes)}"
        path.write_bytes(data)
        before = _reset_peak()
        outcome = outcome_of(seed.target, path)
        taken = _status("VmHWM") - before
        if taken > MEMORY and not outcome.startswith("out of memory"):
            outcome = f"out of memory: took {taken >> 20} MB; {outcome}"
        if taken > MEMORY // 4:
            gc.collect()
            _give_back()
        found = [*strays, *(one.name for one in inside.parent.iterdir() if one not in known)]
        if found:
            outcome = f"stray write: {'; '.join(found)[:300]}"
            known.update(inside.parent.iterdir())
        if outcome not in (FINE, TOLD):
            (inside.parent / "bad" / f"{number}{''.join(path.suffixes)}").write_bytes(data)
            strays.clear()
        _say(out, done=number, outcome=outcome, taken=max(0, taken))


def _watch(inside: Path) -> list[str]:
    """Record from now on what Python code writes outside of a folder, and which programs it starts."""
    strays: list[str] = []
    allowed = (str(inside), os.devnull, CLEAR)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            name, mode, flags = arguments
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if writes and isinstance(name, (str, bytes, os.PathLike)) and not _is_inside(name, allowed):
                strays.append(f"{event} {os.fsdecode(name)}")
        elif event in WRITES:
            if not _is_inside(arguments[0], allowed):
                strays.append(f"{event} {arguments[0]}")
        elif event in PROGRAMS:
            strays.append(f"{event} {arguments[0] if arguments else ''}")

    sys.addaudithook(hook)
    return strays


def _is_inside(name: Any, allowed: tuple[str, ...]) -> bool:
    return isinstance(name, int) or os.path.abspath(os.fsdecode(name)).startswith(allowed)


def _status(key: str) -> int:
    """Bytes of an entry of this process's status."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{key}:", 1)[1].split()[0]) << 10


def _reset_peak() -> int:
    """Start the measurement of the highest memory anew, and give the memory that is in use."""
    Path(CLEAR).write_text("5")
    return _status("VmRSS")


def _give_back() -> None:
    """Give memory that was freed back to the system, so that the next input is measured alone."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
