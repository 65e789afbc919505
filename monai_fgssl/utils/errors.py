# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Errors that explain themselves in one message, and helpers for such messages."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["DataError", "SettingsError", "StorageError", "first_lines", "first_names", "printable"]


class DataError(ValueError):
    """Something in the data is missing or wrong; the message names the file, the field and the fix."""


class SettingsError(ValueError):
    """A setting of the bundle is unknown or can't work; the message names the setting and the fix."""


class StorageError(OSError):
    """A file can't be written; the message names the file, the space that it needs and the fix."""


def printable(text: str) -> str:
    r"""Write the bytes of a name that is not UTF-8 as ``\xe9``, so that it can be printed and stored.

    Python keeps such bytes as surrogates, which can't be printed or written to a file.

    Example:
        >>> printable(b"caf\xe9.png".decode("utf-8", "surrogateescape")) == "caf" + chr(92) + "xe9.png"
        True
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def first_names(names: Sequence[str], limit: int = 5) -> str:
    """List the first names and count the rest.

    Example:
        >>> first_names(["a", "b", "c"], limit=2)
        'a, b and 1 more'
    """
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def first_lines(lines: Sequence[str], limit: int = 5) -> str:
    """List the first lines, each on a line of its own, and count the rest.

    Example:
        >>> print("two problems:" + first_lines(["no image", "no label"]))
        two problems:
          - no image
          - no label
    """
    more = [f"and {len(lines) - limit} more"] if len(lines) > limit else []
    return "".join(f"\n  - {line}" for line in [*lines[:limit], *more])
