# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Images to predict, from a file, a folder, or a list of files."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from monai_fgssl.data.io.decoder_pool import DecoderPool
from monai_fgssl.data.io.geometry import ImageGeometry
from monai_fgssl.utils.errors import DataError, printable

from .dialects import TABLE_SUFFIXES
from .image_files import IMAGE_SUFFIXES, describe_others, image_name, may_be_image, scan_folder
from .registry import read_table
from .series import find_series, join_series

__all__ = ["list_images"]

logger = logging.getLogger(__name__)

LIST_SUFFIXES = (*TABLE_SUFFIXES, ".json")


def list_images(
    path: str | Path, spatial_dims: int = 2, frame: int | str | None = None, pool: DecoderPool | None = None
) -> list[dict[str, Any]]:
    """Data list of one image, of all images in a folder and the folders below it, or of a list of images.

    For volumes, the DICOM files of a folder that belong to a series are one image: the folder. A file that is alone in
    its series is an image of its own.

    Args:
        path: an image; a folder with images, recognized by their suffix
            (:data:`~monai_fgssl.data.layouts.image_files.IMAGE_SUFFIXES`) or, as DICOM, by their content, without
            hidden files; or a ``.csv`` or ``.json`` file as for :func:`~monai_fgssl.data.read_table`.
        spatial_dims: 2 for pictures, 3 for volumes.
        frame: ``"all"``: each frame of a file is an image, see
            :meth:`ImageGeometry.split_frames <monai_fgssl.data.ImageGeometry.split_frames>`.
        pool: pool of that class.

    Returns:
        One dictionary per image, sorted by path: ``"image"`` (path) and ``"name"``: its path within the folder,
        without suffix unless another image would have the same name; the folder's own name where it is the image.

    Raises:
        DataError: when there is nothing at the path, or no image in the folder.
    """
    return ImageGeometry(1, spatial_dims, frame=frame).split_frames(_list_files(path, spatial_dims), pool)


def _list_files(path: str | Path, spatial_dims: int) -> list[dict[str, str]]:
    root = Path(path)
    if root.is_file():
        if root.suffix.lower() in LIST_SUFFIXES:
            table = read_table(root)
            table = join_series(table) if spatial_dims == 3 else table
            return [{"image": item["image"], "name": item["name"]} for item in table.items]
        return [{"image": str(root), "name": image_name(root.name)}]
    if not root.is_dir():
        raise DataError(f"there is no file or folder {root}: name the images with --dataset_dir.")
    files, others = scan_folder(root)
    # Each is named in the list of failures, so that no image is missing without a word.
    files = sorted([*files, *filter(may_be_image, others)])
    if told := describe_others(path for path in others if not may_be_image(path)):
        logger.warning(f"{printable(str(root))}: {told}.")
    if spatial_dims == 3:
        series = find_series([file for file in files if not may_be_image(file)])
        files = sorted({folder for file in files if (folder := series.get(file, file)) is not None})
    if not files:
        raise DataError(f"there are no images ({', '.join(IMAGE_SUFFIXES)}, DICOM) in {root} or the folders below it.")
    paths = [file.relative_to(root).as_posix() if file != root else root.resolve().name for file in files]
    uses = Counter(map(image_name, paths))
    names = [image_name(name) if uses[image_name(name)] == 1 else name for name in paths]
    return [{"image": str(file), "name": name} for file, name in zip(files, names, strict=True)]
