# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""NIfTI files, read by MONAI's reader on nibabel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from monai.data import NibabelReader

from monai_fgssl.utils.errors import DataError

from .grids import Grid, affine_of, padded

__all__ = ["read_nifti"]


def read_nifti(path: Path) -> Grid:
    """Read a NIfTI file with MONAI's ``NibabelReader``.

    Colour may be stored as RGB24 or RGBA32, as a vector, ``(X, Y, Z, 1, C)``, or on a fourth axis, ``(X, Y, Z, C)``,
    as MONAI writes it. Scale factors of the header are applied.

    Returns:
        Values ``(X, Y, Z, C)`` and affine ``(4, 4)`` in RAS.

    Raises:
        DataError: when there are several points in time besides several channels.
    """
    reader = NibabelReader()
    values, meta = reader.get_data(reader.read(path))
    if values.dtype.names:
        values = np.stack([values[name] for name in values.dtype.names], axis=-1)
        return values.reshape(*padded(values.shape[:-1], 3), -1), affine_of(meta)
    if values.ndim >= 5:
        if values.shape[3] != 1 or values.ndim > 5:
            raise DataError(f"has the axes {values.shape}; at most X, Y, Z and channels can be read.")
        values = values[:, :, :, 0]
    return values.reshape(padded(values.shape, 4)), affine_of(meta)
