# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that are images, and their names."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from monai_fgssl.data.io.dicom_file import is_dicom, sop_class
from monai_fgssl.utils.errors import printable

__all__ = [
    "IMAGE_SUFFIXES",
    "PHOTO_SUFFIXES",
    "composed",
    "describe_others",
    "holds_dicom",
    "image_files",
    "image_name",
    "is_ignored",
    "is_image",
    "is_mask",
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
"""Suffixes of the images of all other data sets. DICOM files are also recognized by their content."""

OTHER_SUFFIXES = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in (".dcm", ".dicom", ".ima"))
"""Suffixes of files that are not DICOM, as a rule."""

WITHOUT_IMAGE = tuple(
    f"1.2.840.10008.5.1.4.1.1.{number}"
    for number in ("9.", "11.", "66.1", "66.3", "66.5", "67", "88.", "104.", "481.3", "481.4", "481.5")
)
"""Beginnings of the SOP Class UIDs of waveforms, presentation states, registrations, surfaces, structured reports, key
objects, encapsulated documents, and radiotherapy without pixels. Source: DICOM PS3.4, table B.5-1."""

PIXEL_SUFFIXES = (".img", ".img.gz", ".raw", ".zraw", ".raw.gz")
"""Suffixes of files that hold the pixels of a header beside them."""

MASK = re.compile(r"(.+?)[ _-](mask|seg|segmentation|superpixels|groundtruth|gt)([ _-]?\d+)?")
"""Names of masks and segmentations; the first group is the name of the image."""

IGNORED_FOLDERS = frozenset(
    ("__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information")
)
"""Folders of systems, archives and network storage, which hold previews and deleted files."""


def is_image(path: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> bool:
    """True if a file has the suffix of an image, in upper or lower case."""
    return path.name.lower().endswith(tuple(suffixes)) and not is_ignored(path.name)


def is_ignored(name: str) -> bool:
    """True if a file or folder is hidden, or one that an operating system or a program leaves.

    Example:
        >>> is_ignored("._a.png"), is_ignored("@eaDir"), is_ignored("nevus")
        (True, True, False)
    """
    # Names that start with a dot: macOS puts such files beside the real ones of an archive.
    # Names that start with ~$: Office makes such files while a document is open.
    return name.startswith((".", "~$")) or name.lower() in IGNORED_FOLDERS


def without_suffix(name: str) -> str:
    """Remove the suffix of an image from a name or path.

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

    macOS writes ``ä`` as two characters, other systems as one. A split from another system must hold here.
    """
    return composed(without_suffix(path))


def composed(name: str) -> str:
    """Write a name in composed letters (NFC), and bytes that are not UTF-8 as they are printed."""
    return printable(unicodedata.normalize("NFC", name))


def image_files(folder: str | Path) -> Iterator[Path]:
    """All images in a folder and the folders below it; see :func:`scan_folder`."""
    return (path for path, taken in _walk(Path(folder)) if taken)


def scan_folder(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """All images in a folder and the folders below it, and all other files.

    Images are recognized by their suffix, DICOM files also by their content. A ``DICOMDIR`` is no image. Hidden files
    and folders and :data:`IGNORED_FOLDERS` are in neither list. Links to
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
    """Count files that are no images by their suffix; empty if there are none.

    Example:
        >>> describe_others([Path("a.txt"), Path("b.TXT"), Path("volume.raw"), Path("README")])
        '3 files that are not images are left out (.txt 2, without suffix 1)'
    """
    told = [path for path in files if not path.name.lower().endswith(PIXEL_SUFFIXES)]
    if not told:
        return ""
    counts = Counter(_kind(path) for path in told)
    listed = ", ".join(
        f"{suffix} {count}" for suffix, count in sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    )
    return f"{len(told)} files that are not images are left out ({listed})"


def _kind(path: Path) -> str:
    if is_image(path) and MASK.fullmatch(without_suffix(path.name).casefold()):
        return "masks"
    return path.suffix.lower() or "without suffix"


def _walk(root: Path) -> Iterator[tuple[Path, bool]]:
    """Files that are not ignored, each with True if it is an image."""
    seen: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(root, followlinks=True):
        status = os.stat(parent)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        # Real folders come first. So an image keeps its real name even if a link leads to its folder.
        folders[:] = sorted((name for name in folders if not is_ignored(name)), key=lambda n: (_is_link(parent, n), n))
        stems = {without_suffix(name).casefold() for name in files}
        for name in files:
            if not is_ignored(name):
                path = Path(parent, name)
                is_one = (is_image(path) or holds_dicom(path)) and not _is_report(path)
                yield path, is_one and not is_mask(name, stems)


def is_mask(name: str, stems: Collection[str]) -> bool:
    """True if a file is called like another one's mask, as ``scan_mask.png`` beside ``scan.png``.

    Args:
        name: name of the file.
        stems: names without suffix in its folder, in lower case.

    Example:
        >>> is_mask("benign (1)_mask_1.png", {"benign (1)"}), is_mask("mask.png", {"benign (1)"})
        (True, False)
    """
    found = MASK.fullmatch(without_suffix(name).casefold())
    return found is not None and found[1] in stems


def _is_link(parent: str, name: str) -> bool:
    return os.path.islink(os.path.join(parent, name))


def _is_report(path: Path) -> bool:
    """True for DICOM without pixels, such as a structured report beside its images."""
    if path.name.lower().endswith(OTHER_SUFFIXES):
        return False
    try:
        return path.is_file() and sop_class(path).startswith(WITHOUT_IMAGE)
    except OSError:
        return False


def holds_dicom(path: Path) -> bool:
    """True if the content of a file is DICOM; False also if it can't be opened."""
    # Opening a pipe would wait for ever, and a link may lead nowhere.
    try:
        return path.name != "DICOMDIR" and path.is_file() and is_dicom(path)
    except OSError:
        return False


def may_be_image(path: Path) -> bool:
    """True for a file that could be DICOM by its name, but can't be opened: a pipe, a link to nowhere, a locked file.

    DICOM has no suffix, or a number as in ``1.2.840.113619``. A reader tells what is wrong with the file.
    """
    could_be = path.suffix[1:].isdecimal() if path.suffix else path.name != "DICOMDIR"
    return could_be and not (path.is_file() and os.access(path, os.R_OK))
