# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Faults of disks and files, for the benchmarks that disturb a running program."""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["OF_A_DISK", "any_file", "damage", "small_disk", "spoiled"]

OF_A_DISK = ("full disk", "read-only disk")
"""Faults that need a separate disk."""


@contextmanager
def small_disk(megabytes: int) -> Iterator[tuple[Path, bool]]:
    """Give a new folder, and True if it is on a new disk of that size; this needs a user who may mount disks."""
    with tempfile.TemporaryDirectory(prefix="fgssl-chaos-") as root:
        folder = Path(root, "disk")
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        is_small = False
        with suppress(OSError):
            is_small = subprocess.run(mount, capture_output=True).returncode == 0
        try:
            yield folder, is_small
        finally:
            if is_small:
                subprocess.run(["umount", "--lazy", str(folder)], check=False)


@contextmanager
def spoiled(kind: str, disk: Path, rng: random.Random) -> Iterator[None]:
    """Within the block, fill a small disk completely or almost completely, or mount it read-only."""
    ballast = disk / "ballast"
    try:
        if kind == "full disk":
            _fill(ballast, rng.choice([0, rng.randrange(2_000_000)]))
        else:
            # The system refuses this while a file is open for writing.
            _remount(disk, "ro")
        yield
    finally:
        if kind == "read-only disk" and _remount(disk, "rw"):
            raise RuntimeError(f"{disk} stays read-only")
        ballast.unlink(missing_ok=True)


def _fill(ballast: Path, left: int) -> None:
    """Write a file until only ``left`` bytes of the disk are free, while other processes write too."""
    with open(ballast, "wb") as file:
        status = os.fstatvfs(file.fileno())
        position, step = 0, max(1, status.f_bavail * status.f_frsize - left)
        while step:
            try:
                os.posix_fallocate(file.fileno(), position, step)
                position += step
                step = 0 if left else step
            except OSError:
                step //= 2


def _remount(disk: Path, mode: str) -> int:
    return subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], capture_output=True).returncode


def any_file(folder: Path, rng: random.Random, pattern: str = "*") -> Path | None:
    """Choose a random file in a folder or its subfolders; None if there is no file."""
    files = sorted(path for path in folder.rglob(pattern) if path.is_file())
    return rng.choice(files) if files else None


def damage(file: Path, rng: random.Random) -> None:
    """Flip a bit of a file, or truncate the file."""
    with suppress(FileNotFoundError):
        content = bytearray(file.read_bytes())
        if content and rng.random() < 0.5:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            del content[rng.randrange(len(content) + 1) :]
        file.write_bytes(content)
