# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that are images, and their names."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from monai_fgssl.data.io.dicom_file import is_dicom

__all__ = [
    "IMAGE_SUFFIXES",
    "PHOTO_SUFFIXES",
    "describe_others",
    "holds_dicom",
    "image_files",
    "image_name",
    "is_ignored",
    "is_image",
    "scan_folder",
    "without_suffix",
]

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")
"""Suffixes of the images of the official data sets."""

IMAGE_SUFFIXES = (
    *PHOTO_SUFFIXES,
    *(".bmp", ".gif", ".jfif", ".jpe", ".pgm", ".ppm", ".tif", ".tiff", ".webp"),
    *(".j2k", ".jp2", ".jpx"),
    *(".dcm", ".dicom", ".ima", ".nii.gz", ".nii", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd"),
)
"""Suffixes of the images of all other data sets. DICOM files are told by their content too, whatever their name."""

PIXEL_SUFFIXES = (".img", ".img.gz", ".raw", ".zraw", ".raw.gz")
"""Suffixes of files that hold the pixels of a header beside them."""

IGNORED_FOLDERS = frozenset(
    ("__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information")
)
"""Folders that systems, archives and network storage leave among a user's own: they hold previews and waste."""


def is_image(path: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> bool:
    """Tell by the name, in any case, whether a file is an image."""
    return path.name.lower().endswith(tuple(suffixes)) and not is_ignored(path.name)


def is_ignored(name: str) -> bool:
    """True if a file or folder is hidden, or one that an operating system or a program leaves.

    Example:
        >>> is_ignored("._a.png"), is_ignored("@eaDir"), is_ignored("nevus")
        (True, True, False)
    """
    # Names that start with a dot: what macOS leaves beside the real files of an unpacked archive.
    # ... and with ~$: what Office leaves while a file is open.
    return name.startswith((".", "~$")) or name.lower() in IGNORED_FOLDERS


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


def image_name(path: str) -> str:
    """Name of an image: its path without suffix, in composed letters (NFC).

    macOS writes ``ä`` as two characters, other systems as one; a split that was drawn there must hold here.
    """
    return unicodedata.normalize("NFC", without_suffix(path))


def image_files(folder: str | Path) -> Iterator[Path]:
    """All images in a folder and the folders below it; see :func:`scan_folder`."""
    return (path for path, taken in _walk(Path(folder)) if taken)


def scan_folder(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """All images in a folder and the folders below it, and all other files.

    Images are told by their suffix, DICOM files by their content too (a ``DICOMDIR``, which only lists others, is
    none). Hidden files and folders, and what systems leave (:data:`IGNORED_FOLDERS`), are in neither list. Links to
    folders are followed; a folder that is reached in several ways counts once.

    Returns:
        Images and others, both sorted by path.
    """
    images: list[Path] = []
    others: list[Path] = []
    for path, taken in _walk(Path(folder)):
        (images if taken else others).append(path)
    return sorted(images), sorted(others)


def describe_others(files: Iterable[Path]) -> str:
    """Count files that are no images by their suffix; empty when there is nothing to tell.

    Example:
        >>> describe_others([Path("a.txt"), Path("b.TXT"), Path("volume.raw"), Path("README")])
        '3 files that are no images are left out (.txt 2, without suffix 1)'
    """
    told = [path for path in files if not path.name.lower().endswith(PIXEL_SUFFIXES)]
    if not told:
        return ""
    counts = Counter(path.suffix.lower() or "without suffix" for path in told)
    listed = ", ".join(
        f"{suffix} {count}" for suffix, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    )
    return f"{len(told)} files that are no images are left out ({listed})"


def _walk(root: Path) -> Iterator[tuple[Path, bool]]:
    """Files that are not ignored, and whether they are images."""
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(root, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # Real folders first: where a link leads to one of them, images keep the names they have there.
        folders[:] = sorted((name for name in folders if not is_ignored(name)), key=lambda n: (_is_link(parent, n), n))
        for name in files:
            if not is_ignored(name):
                path = Path(parent, name)
                yield path, is_image(path) or holds_dicom(path)


def _is_link(parent: str, name: str) -> bool:
    return os.path.islink(os.path.join(parent, name))


def holds_dicom(path: Path) -> bool:
    """Tell by the content whether a file is DICOM; one that can't be opened is not."""
    # Opening a pipe would wait for ever; a link may lead nowhere.
    try:
        return path.name != "DICOMDIR" and path.is_file() and is_dicom(path)
    except OSError:
        return False
