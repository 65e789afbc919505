# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What to predict: a file, a folder, or a list of files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom

from monai_fgssl.data.io.dicom import is_dicom
from monai_fgssl.utils.errors import DataError

from .image_files import IMAGE_SUFFIXES, is_image, without_suffix
from .registry import read_table

__all__ = ["list_images"]

LIST_SUFFIXES = (".csv", ".json")


def list_images(path: str | Path, spatial_dims: int = 2) -> list[dict[str, str]]:
    """Data list of one image, of all images in a folder and the folders below it, or of a list of images.

    For volumes, the DICOM files of a folder that belong to a series are one image: the folder. A file alone in its
    series is an image of its own.

    Args:
        path: an image; a folder with images, recognized by their suffix
            (:data:`~monai_fgssl.data.layouts.image_files.IMAGE_SUFFIXES`) or, as DICOM, by their content, without
            hidden files; or a ``.csv`` or ``.json`` file as for :func:`~monai_fgssl.data.read_table`.
        spatial_dims: 2 for pictures, 3 for volumes.

    Returns:
        One dictionary per image, sorted by path: ``"image"`` (path) and ``"name"``: its path within the folder,
        without suffix unless another image would have the same name; the folder's own name where it is the image.

    Raises:
        DataError: when there is nothing at the path, or no image in the folder.
    """
    root = Path(path)
    if root.is_file():
        if root.suffix.lower() in LIST_SUFFIXES:
            return [{"image": item["image"], "name": item["name"]} for item in read_table(root).items]
        return [{"image": str(root), "name": without_suffix(root.name)}]
    if not root.is_dir():
        raise DataError(f"there is no file or folder {root}: name the images with --dataset_dir.")
    files = sorted(_images_in(root))
    if spatial_dims == 3:
        files = sorted(_join_series(files))
    if not files:
        raise DataError(f"there are no images ({', '.join(IMAGE_SUFFIXES)}, DICOM) in {root} or the folders below it.")
    paths = [file.relative_to(root).as_posix() if file != root else root.resolve().name for file in files]
    uses = Counter(map(without_suffix, paths))
    names = [without_suffix(name) if uses[without_suffix(name)] == 1 else name for name in paths]
    return [{"image": str(file), "name": name} for file, name in zip(files, names, strict=True)]


def _join_series(files: Sequence[Path]) -> set[Path]:
    """Put folders in the place of their files that belong to one DICOM series, damaged ones of these included."""
    series: dict[Path, tuple[Path, str]] = {}
    for file in files:
        if is_dicom(file):
            header = pydicom.dcmread(file, specific_tags=["SeriesInstanceUID"], stop_before_pixels=True)
            series[file] = file.parent, str(header.get("SeriesInstanceUID", ""))
    sizes = Counter(series.values())
    folders = {folder for (folder, _), size in sizes.items() if size > 1}

    def is_part(file: Path) -> bool:
        if file in series:
            return sizes[series[file]] > 1
        # What broke off is no DICOM file any more; reading the folder tells of it.
        return file.parent in folders and file.suffix.lower() == ".dcm"

    return folders | {file for file in files if not is_part(file)}


def _images_in(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(parent, name)
            # A DICOMDIR lists the files of a medium, and is none of them.
            if not name.startswith(".") and name != "DICOMDIR" and (is_image(file) or is_dicom(file)):
                yield file
