# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find unreadable images in the background. Nobody is asked to label them, and no training uses them."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_fgssl.data import read_medical_image
from monai_fgssl.utils.files import atomic_write

from .model import without_folder

__all__ = ["ReadableImages", "try_to_read"]

logger = logging.getLogger(__name__)

SAVED_AT_ONCE = 200
"""Number of images after which the file is written. After a crash, at most this many are read again."""


class ReadableImages:
    """Remembers for each image whether it can be read, until its file changes. Safe for several threads.

    Args:
        file: file that keeps the results over a restart; None: nothing is kept.
        read: function that reads the image in a file or folder, and raises an error if it can't.
        options: function that returns the options for reading. If they change, all images are tried again.
    """

    def __init__(self, file: Path | None, read: Callable[[str], object], options: Callable[[], Any]) -> None:
        self._file = file
        self._read = read
        self._options = options
        self._lock = threading.Lock()
        self._used = str(options())
        # Version of the file, and the reason why it can't be read; None: it can.
        self._known: dict[str, tuple[str, str | None]] = _read_file(file, self._used)
        # After a restart, images that could not be read are tried once more: memory may have been short.
        self._doubtful = {name for name, (_, reason) in self._known.items() if reason is not None}
        self._paths: dict[str, str] = {}
        self._thread: threading.Thread | None = None

    def unreadable(self, names: Iterable[str]) -> dict[str, str]:
        """Return the reasons of the images known to be unreadable, by name. No image is read for this."""
        wanted = set(names)
        with self._lock:
            self._forget_other_options()
            broken = {name: entry for name, entry in self._known.items() if entry[1] is not None and name in wanted}
            paths = dict(self._paths)
        found = {}
        for name, (version, reason) in broken.items():
            # If the file was replaced, the new one may be good.
            if reason is not None and (name not in paths or _version_of(paths[name]) == version):
                found[name] = reason
        return found

    def remember(self, name: str, path: str | Path, error: Exception | None) -> None:
        """Remember that an image could not be read, or that it could (None)."""
        version = _version_of(path)
        # The file is gone: there is nothing to remember.
        if version is None:
            return
        with self._lock:
            self._paths[name] = str(path)
            self._known[name] = version, None if error is None else without_folder(error, path)
            self._doubtful.discard(name)

    def check(self, paths: Mapping[str, str]) -> dict[str, str]:
        """Read the images that were not tried yet, and return the reasons of all that can't be read.

        Args:
            paths: file or folder of each image, by name.
        """
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            list(threads.map(self._check, *zip(*paths.items(), strict=True)) if paths else ())
        self._save()
        return self.unreadable(paths)

    def start(self, names: Iterable[str], path_of: Callable[[str], str | None]) -> None:
        """Start to check images one by one in the background, unless a check is running. Returns at once.

        Args:
            names: names of the images.
            path_of: function that returns the file or folder of an image; None if it is not on this machine.
        """
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                arguments = list(names), path_of
                self._thread = threading.Thread(target=self._run, args=arguments, daemon=True, name="readable")
                self._thread.start()

    def _run(self, names: list[str], path_of: Callable[[str], str | None]) -> None:
        checked = 0
        try:
            for name in names:
                path = path_of(name)
                if path is not None and self._check(name, path):
                    checked += 1
                    if checked % SAVED_AT_ONCE == 0:
                        self._save()
                    # Requests that people wait for come first.
                    time.sleep(0.01)
            if checked:
                self._save()
        except Exception:
            # No harm is done: a training checks the remaining images itself.
            logger.exception("the search for unreadable images ended early")

    def _check(self, name: str, path: str) -> bool:
        """Read an image unless it is known; return whether it was read."""
        version = _version_of(path)
        with self._lock:
            self._forget_other_options()
            self._paths[name] = path
            known = self._known.get(name)
            if version is None or (known is not None and known[0] == version and name not in self._doubtful):
                return False
        try:
            self._read(path)
        except Exception as error:
            # Any error: a damaged file can make its reader fail in any way.
            self.remember(name, path, error)
            logger.warning("an image can't be read: %s", without_folder(error, path))
        else:
            self.remember(name, path, None)
        return True

    def _forget_other_options(self) -> None:
        options = str(self._options())
        if options != self._used:
            self._used, self._known, self._doubtful = options, {}, set()

    def _save(self) -> None:
        if self._file is None:
            return
        with self._lock:
            content = json.dumps({"options": self._used, "images": self._known})
        try:
            with atomic_write(self._file) as temporary:
                temporary.write_text(content, encoding="utf-8")
        except OSError as error:
            # The results can be found again.
            logger.warning("%s can't be written: %s", self._file.name, error)


def try_to_read(path: str, spatial_dims: int, **options: Any) -> NDArray[np.uint8]:
    """Read an image as a training does, and return an empty array.

    Args:
        path: file or folder of the image.
        spatial_dims: 2 for pictures, 3 for volumes.
        options: see :func:`~monai_fgssl.data.read_medical_image`.

    Raises:
        DataError: when it can't be read.
    """
    read_medical_image(path, spatial_dims, 3 if spatial_dims == 2 else 1, **options)
    return np.empty(0, np.uint8)


def _version_of(path: str | Path) -> str | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return f"{status.st_mtime_ns:x}.{status.st_size:x}"


def _read_file(file: Path | None, options: str) -> dict[str, tuple[str, str | None]]:
    if file is None:
        return {}
    with suppress(OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["options"] == options:
            return {
                str(name): (str(version), None if reason is None else str(reason))
                for name, (version, reason) in content["images"].items()
            }
    # All images can be read again.
    return {}
