# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Arrays on a grid in space, from any file format: slices as pictures, and volumes."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.data.utils import to_affine_nd
from numpy.typing import NDArray

from monai_fgssl.utils.errors import DataError

from .display import StoredImage, choose_frame, natural_range

__all__ = ["Grid", "affine_of", "padded", "slice_of", "volume_of"]

Grid = tuple[NDArray[Any], NDArray[np.float64]]
"""Values ``(X, Y, Z, C)`` and affine ``(4, 4)`` in RAS."""


def padded(shape: tuple[int, ...], length: int) -> tuple[int, ...]:
    """Add axes of length 1 at the end until there are ``length``."""
    return shape + (1,) * (length - len(shape))


def affine_of(meta: dict[str, Any]) -> NDArray[np.float64]:
    """Affine ``(4, 4)`` in RAS from the metadata of one of MONAI's readers."""
    return np.asarray(to_affine_nd(3, np.asarray(meta["affine"], dtype=np.float64)))


def slice_of(values: NDArray[Any], affine: NDArray[np.float64], frame: int | None = None) -> StoredImage:
    """A slice along Z as a picture: X runs along the columns, to the right, and Y along the rows, down.

    So a file that ITK or MONAI writes from a picture gives that picture again, whatever its affine.

    Args:
        values: ``(X, Y, Z, C)``. Of 2 or 4 channels the last is taken for transparency, and dropped.
        affine: ``(4, 4)``; only the spacing of X and Y is kept.
        frame: which slice, from 0, where there are several.

    Returns:
        ``(1 or 3, rows, columns)`` with the range of its type.

    Raises:
        DataError: when a slice must be chosen, or when the channels are no colors.
    """
    number = choose_frame(values.shape[2], frame, "slices")
    channels = {1: 1, 2: 1, 3: 3, 4: 3}.get(values.shape[3])
    if channels is None:
        raise DataError(f"has {values.shape[3]} channels; a picture has 1 (gray) or 3 (color).")
    picture = values[:, :, number, :channels].transpose(2, 1, 0)
    column_spacing, row_spacing = np.linalg.norm(affine[:3, :2], axis=0)
    return StoredImage(picture, np.diag([row_spacing, column_spacing, 1, 1]), natural_range(picture), frame=number)


def volume_of(values: NDArray[Any], affine: NDArray[np.float64]) -> StoredImage:
    """The whole volume, ``(C, X, Y, Z)``, copied from ITK's memory or from the mapped file."""
    return StoredImage(np.moveaxis(values, -1, 0).copy(), affine, None)
