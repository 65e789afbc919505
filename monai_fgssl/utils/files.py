# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that are either complete or not there."""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from .errors import StorageError

__all__ = [
    "atomic_write",
    "check_space",
    "concerns_one_file",
    "file_size",
    "from_json",
    "is_full_or_read_only",
    "remove_leftovers",
    "storage_errors",
    "temporary_folder",
    "to_json",
]

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)
LONGEST_NAME = 255
"""Largest number of bytes of a file name in all usual file systems."""
LEFTOVER = re.compile(r"\.(?P<stem>.*)\.(?P<host>[A-Za-z0-9-]+)-(?P<process>\d+)-[0-9a-f]{8}\.part(\..*)?", re.DOTALL)
"""Pattern of the names of temporary files of :func:`atomic_write`."""


def _host() -> str:
    return re.sub("[^A-Za-z0-9]+", "-", platform.node()).strip("-")[:40] or "host"


def _temporary_name(path: Path) -> str:
    """Return a name that no other machine, process or thread uses, with the suffix of ``path``."""
    suffix = path.suffix
    end = f".{_host()}-{os.getpid()}-{secrets.token_hex(4)}.part{suffix}"
    # The stem of a long name is cut, so that the new name is not too long.
    stem = os.fsencode(path.name.removesuffix(suffix))[: LONGEST_NAME - 1 - len(os.fsencode(end))]
    return f".{os.fsdecode(stem)}{end}"


@contextmanager
def atomic_write(path: str | Path, size: int | None = None, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``, and rename it to ``path`` when the block ends without an error.

    A reader never sees a half-written file, and an interrupted run does not change the previous file. Missing parent
    folders are created. The temporary file is removed when the block ends, also after an error. If the process is
    killed, :func:`remove_leftovers` can remove the file later.

    Args:
        path: the file to write or to replace.
        size: number of bytes of the file, if known; they must be free before anything is written.
        durable: True writes the file through to the disk, so that it also survives a power failure.

    Yields:
        Path to write to. It has the suffix of ``path``, for writers that choose their format by it.

    Raises:
        StorageError: when the disk is full or read-only, or the folder is removed meanwhile.

    Example:
        >>> with atomic_write("metrics.json") as temporary:
        ...     size = temporary.write_text("{}")
    """
    path = Path(path)
    temporary = path.with_name(_temporary_name(path))
    try:
        with storage_errors(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            if size is not None:
                check_space(path, size)
            yield temporary
            if durable:
                _sync(temporary)
            temporary.replace(path)
            if durable:
                _sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def storage_errors(path: str | Path, temporary: Path | None = None) -> Iterator[None]:
    """Replace errors of the disk in the block by an error that explains the problem in one line.

    Args:
        path: file or folder that is being written.
        temporary: temporary name of this file or folder.

    Raises:
        StorageError: in place of the system's errors for a disk that is full or read-only, a folder that was deleted, a
            name that is too long. All other errors are raised unchanged.
    """
    path = Path(path)
    try:
        yield
    except Exception as error:
        reason = _storage_reason(path, path if temporary is None else temporary, error)
        if reason is None:
            raise
        raise StorageError(f"{path} can't be written: {reason}") from error


def check_space(path: str | Path, size: int) -> None:
    """Raise an error if the disk has too little room for a file.

    Args:
        path: file to write.
        size: number of bytes of the file.

    Raises:
        StorageError: when the room is too small; the message gives the needed and the free space.
    """
    folder = _existing_folder(Path(path))
    free = shutil.disk_usage(folder).free
    if size > free:
        raise StorageError(
            f"{path} can't be written: it takes {file_size(size)}, and {file_size(free)} are free on the disk of "
            f"{folder}. Make room, or name another folder."
        )


def is_full_or_read_only(error: OSError) -> bool:
    """Return True for an error of the disk, False for an error such as a file that is missing or in the way."""
    return isinstance(error, StorageError) or error.errno in (*NO_SPACE, *NOT_ALLOWED)


def concerns_one_file(error: OSError) -> bool:
    """Return True if an error concerns a file's own name or place, False if the next file would cause it too."""
    own = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR)
    return any(isinstance(one, OSError) and one.errno in own for one in _chain(error))


def _existing_folder(path: Path) -> Path:
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def file_size(size: float) -> str:
    """Size in bytes as a text, in the unit that gives it digits before the point.

    Example:
        >>> file_size(740), file_size(4e6), file_size(2.5e9)
        ('0.7 kB', '4.0 MB', '2.5 GB')
    """
    if size < 1e5:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def _sync(path: Path) -> None:
    # Windows can't open folders.
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _storage_reason(path: Path, temporary: Path, error: Exception) -> str | None:
    """Explain an error of the disk; None for any other error."""
    number = next((one.errno for one in _chain(error) if isinstance(one, OSError) and one.errno), None)
    if isinstance(error, StorageError) or (number is None and not isinstance(error, RuntimeError)):
        return None
    written = temporary.stat().st_size if temporary.exists() else 0
    try:
        free: int | None = shutil.disk_usage(_existing_folder(path)).free
    except OSError:
        free = None
    # torch's writer reports a full disk without an error number.
    is_full = number in NO_SPACE or (number is None and free is not None and free < written // 100 + (1 << 16))
    if is_full:
        room = "" if free is None else f", and {file_size(free)} are free"
        return f"the disk is full. It takes more than {file_size(written)}{room}. Make room, or name another folder."
    if number in NOT_ALLOWED:
        return "its folder is read-only. Name another folder, or allow this user to write there."
    if number == errno.ENOENT and not temporary.exists():
        return "its folder was deleted or moved away meanwhile. Run again."
    if number == errno.ENAMETOOLONG:
        return f"its name has more than {LONGEST_NAME} bytes. Give it a shorter one."
    if number in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"there is a file where a folder should be, or the other way round ({os.strerror(number)})."
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def temporary_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder beside ``path``, to fill and to rename to ``path``. If it still exists at the end, it is
    removed.

    Args:
        path: path that the folder will have. Its parents are created.

    Raises:
        StorageError: see :func:`atomic_write`.
    """
    path = Path(path)
    temporary = path.with_name(_temporary_name(path))
    try:
        with storage_errors(path, temporary):
            temporary.mkdir(parents=True)
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(folder: str | Path, depth: int = 0) -> None:
    """Remove the temporary files and folders that killed processes of this machine have left.

    Files of running processes or of other machines are not removed.

    Args:
        folder: folder to look through; it may be missing.
        depth: number of levels of subfolders that are looked through too.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        is_folder = entry.is_dir(follow_symlinks=False)
        if _is_leftover(entry.name) and is_folder:
            shutil.rmtree(entry.path, ignore_errors=True)
        elif _is_leftover(entry.name):
            with suppress(OSError):
                os.unlink(entry.path)
        elif is_folder and depth:
            remove_leftovers(entry.path, depth - 1)


def _is_leftover(name: str) -> bool:
    found = LEFTOVER.fullmatch(name)
    if found is None or found["host"] != _host():
        return False
    return not psutil.pid_exists(int(found["process"]))


def from_json(text: str, **options: Any) -> Any:
    r"""Read JSON whose texts can be printed and stored.

    JSON may hold half of a surrogate pair, such as ``"\ud800"``. No encoding can write it, so it would fail much later.

    Args:
        text: the JSON text.
        options: arguments of :func:`json.loads`.

    Raises:
        ValueError: when the text is not JSON, or a text in it is not valid Unicode.

    Example:
        >>> from_json(r'["caf\u00e9"]') == ["caf" + chr(0xE9)]
        True
    """
    value = json.loads(text, **options)
    # Decoded text has no surrogates, so only an escape can make one.
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"it has a text that is not valid Unicode: {error}") from None
    return value


def to_json(value: Any, indent: int | None = None) -> str:
    """Write a value as JSON that every reader accepts: NaN and infinity become null.

    Python alone writes ``NaN`` and ``Infinity``, which browsers, R and databases refuse.

    Example:
        >>> to_json({"macro_auc": float("nan"), "n": 3})
        '{"macro_auc": null, "n": 3}'
    """
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
