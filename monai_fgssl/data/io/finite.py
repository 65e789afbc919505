# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Replace NaN and infinite values with a warning, and refuse images without finite values or positions."""

from __future__ import annotations

import logging

import numpy as np
from scipy.ndimage import distance_transform_edt

from monai_fgssl.utils.errors import DataError

from .display import StoredImage

__all__ = ["check_affine", "replace_not_finite"]

logger = logging.getLogger(__name__)

DEFECTS = 0.001
"""Largest share of values that counts as defects."""


def replace_not_finite(image: StoredImage, name: str) -> None:
    """Replace NaN and infinite values in place, and log how many there were.

    Up to one value in a thousand counts as a defect, which gets the value of the nearest finite pixel or voxel. If
    there are more, they are treated as the outside of the scan: NaN and minus infinity become the lowest finite value
    of the image, plus infinity the highest.

    Args:
        image: image as its reader returns it.
        name: name of the file, for the warning.

    Raises:
        DataError: when no value is finite.
    """
    if image.values.dtype.kind != "f":
        return
    finite = np.isfinite(image.values)
    count = finite.size - int(finite.sum())
    if count == 0:
        return
    if count == finite.size:
        raise DataError("has no value that is a number, only NaN or infinity.")
    whole = finite.all(axis=0)
    if count <= DEFECTS * finite.size and whole.any():
        nearest = distance_transform_edt(~whole, return_distances=False, return_indices=True)
        image.values = image.values[(slice(None),) + tuple(nearest)]  # noqa: RUF005
        how = "the value of their nearest neighbor"
    else:
        low, high = image.values[finite].min(), image.values[finite].max()
        image.values = np.nan_to_num(image.values, nan=low, posinf=high, neginf=low)
        how = f"{low:g} (NaN, -inf) or {high:g} (inf)"
    logger.warning(f"{name} has {count} values that are NaN or infinite; they are read as {how}.")


def check_affine(image: StoredImage) -> None:
    """Refuse a volume whose header gives its voxels no positions.

    Raises:
        DataError: when the affine is not finite or not invertible.
    """
    axes = image.affine[:3, :3]
    # Voxels may have any size, so compare the volume of a voxel with the lengths of its sides.
    sides = np.linalg.norm(axes, axis=0)
    if not np.isfinite(image.affine).all() or not sides.all() or abs(np.linalg.det(axes / sides)) < 1e-6:
        raise DataError("has an affine that gives its voxels no positions (zeros, NaN, or two axes in one direction).")
