# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Which files are images, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["IMAGE_SUFFIXES", "PHOTO_SUFFIXES", "image_files", "is_image", "without_suffix"]

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")
"""Suffixes of the images of the official data sets."""

IMAGE_SUFFIXES = (
    *PHOTO_SUFFIXES,
    *(".bmp", ".tif", ".tiff", ".webp", ".jp2"),
    *(".dcm", ".nii.gz", ".nii", ".nrrd", ".mha", ".mhd"),
)
"""Suffixes of the images of all other data sets."""


def is_image(path: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> bool:
    """Tell by the name, in any case, whether a file is an image."""
    # Names that start with a dot: what macOS leaves beside the real files of an unpacked archive.
    return path.name.lower().endswith(tuple(suffixes)) and not path.name.startswith(".")


def without_suffix(name: str) -> str:
    """Take the suffix of an image from a name or path.

    Example:
        >>> without_suffix("a/b.1.nii.gz"), without_suffix("b.1.PNG"), without_suffix("b.1")
        ('a/b.1', 'b.1', 'b.1')
    """
    for suffix in IMAGE_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def image_files(folder: str | Path) -> Iterator[Path]:
    """All images in a folder and the folders below it, in no order; hidden files and folders are left out.

    Links to folders are followed.
    """
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (path for path in (Path(parent, name) for name in files) if is_image(path))
