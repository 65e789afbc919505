# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Check MetaImage and NRRD headers that take their pixels from other files. These must be in the header's own folder.

Without this check a header of 60 bytes could show any file of the machine as pixels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from monai_fgssl.utils.errors import DataError

__all__ = ["check_pixel_files", "pixel_files"]

HEADER_BYTES = 1 << 20
"""Largest size of a header in bytes. Most have a few hundred; lists of files may be longer."""


def check_pixel_files(path: Path) -> None:
    """Refuse a header whose pixels are in a file outside of its folder, or in a link that leads there.

    Args:
        path: a MetaImage or NRRD file.

    Raises:
        DataError: naming the entry, or when the header is longer than a megabyte.
    """
    folder = path.resolve().parent
    for name in pixel_files(path):
        if not (folder / name).resolve().is_relative_to(folder):
            raise DataError(
                f"takes its pixels from a file outside of its folder ({name[:80]}): put that file beside it, and write "
                "only its name."
            )


def pixel_files(path: Path) -> list[str]:
    """List the other files that a header takes its pixels from; empty if the file itself holds them.

    Args:
        path: a MetaImage or NRRD file.

    Raises:
        DataError: when the header is longer than a megabyte.
    """
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    return list(_nrrd_files(head) if head.startswith(b"NRRD") else _metaimage_files(head))


def _metaimage_files(head: bytes) -> Iterator[str]:
    """Yield the names after ``ElementDataFile``, the last entry: a name, a pattern, or ``LIST`` and lines."""
    found = re.search(rb"(?:^|[\r\n])[ \t]*ElementDataFile[ \t]*[=:]?[ \t]*([^\r\n]*)", head)
    if found is None:
        raise DataError(f"has no ElementDataFile in the first {HEADER_BYTES} bytes.")
    value = found[1].decode("latin-1").strip()
    if value.upper() == "LOCAL":
        return
    words = value.split()
    if words and words[0].upper() == "LIST":
        yield from _lines(head[found.end() :])
    elif words:
        # A name may hold spaces. In a pattern, such as "slice%03d.raw 1 9 1", the first word is the name.
        yield value
        yield words[0]


def _nrrd_files(head: bytes) -> Iterator[str]:
    """Yield the names after ``data file``: a name, a pattern and numbers, or ``LIST`` and a name in each line."""
    # The header ends with an empty line, and the pixels begin.
    header = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
    for found in re.finditer(rb"(?im)^[ \t]*data[ \t]?file[ \t]*:[ \t]*=?[ \t]*([^\r\n]*)", header):
        value = found[1].decode("latin-1").strip()
        words = value.split()
        if words and words[0].upper() == "LIST":
            yield from _lines(header[found.end() :])
        elif words and value.upper() != "LOCAL":
            yield value
            yield words[0]


def _lines(text: bytes) -> Iterator[str]:
    for line in text.decode("latin-1").splitlines():
        if name := line.strip():
            yield name
