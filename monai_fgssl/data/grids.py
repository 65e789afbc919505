# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Images on a grid in space: NIfTI through nibabel, NRRD, MetaImage and TIFF stacks through ITK, by MONAI's readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from monai.data import ITKReader, NibabelReader
from monai.data.utils import to_affine_nd
from monai.utils import optional_import
from numpy.typing import NDArray

from .display import StoredImage, choose_frame, natural_range
from .errors import DataError

itk, _ = optional_import("itk", allow_namespace_pkg=True)

__all__ = ["read_itk", "read_nifti", "slice_of", "volume_of"]

Grid = tuple[NDArray[Any], NDArray[np.float64]]
"""Values ``(X, Y, Z, C)`` and affine ``(4, 4)`` in RAS."""


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
        return values.reshape(*_padded(values.shape[:-1], 3), -1), _affine(meta)
    if values.ndim >= 5:
        if values.shape[3] != 1 or values.ndim > 5:
            raise DataError(f"has the axes {values.shape}; at most X, Y, Z and channels can be read.")
        values = values[:, :, :, 0]
    return values.reshape(_padded(values.shape, 4)), _affine(meta)


def read_itk(path: Path) -> Grid:
    """Read a file with MONAI's ``ITKReader``: NRRD, MetaImage, TIFF, PNG.

    Returns:
        Values ``(X, Y, Z, C)`` and affine ``(4, 4)`` in RAS.

    Raises:
        DataError: when ITK doesn't know the format.
    """
    header = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if header is None:
        raise DataError("is damaged, or in a form that ITK doesn't read.")
    header.SetFileName(str(path))
    header.ReadImageInformation()
    # ITK's Python package has no images of, say, three 16-bit channels, but it has vector images.
    types = {"unsigned_char": itk.UC, "unsigned_short": itk.US, "short": itk.SS, "double": itk.D}
    component = types.get(itk.ImageIOBase.GetComponentTypeAsString(header.GetComponentType()), itk.F)
    several = {"pixel_type": itk.VariableLengthVector[component]} if header.GetNumberOfComponents() > 1 else {}
    reader = ITKReader(**several)
    values, meta = reader.get_data(reader.read(path))
    if not several:
        values = values[..., None]
    if values.ndim > 4:
        raise DataError(f"has the axes {values.shape[:-1]}; at most X, Y and Z can be read.")
    return values.reshape(*_padded(values.shape[:-1], 3), values.shape[-1]), _affine(meta)


def _padded(shape: tuple[int, ...], length: int) -> tuple[int, ...]:
    return shape + (1,) * (length - len(shape))


def _affine(meta: dict[str, Any]) -> NDArray[np.float64]:
    return np.asarray(to_affine_nd(3, np.asarray(meta["affine"], dtype=np.float64)))


def slice_of(values: NDArray[Any], affine: NDArray[np.float64], frame: int | None = None) -> StoredImage:
    """A slice along Z as a picture: X runs along the columns, to the right, and Y along the rows, down.

    So the file that ITK's or MONAI's writer makes of a picture is that picture again, whatever its affine says.

    Args:
        values: ``(X, Y, Z, C)``. Of 2 or 4 channels the last is taken for transparency, and dropped.
        affine: ``(4, 4)``; only the spacing of X and Y is kept.
        frame: which slice, from 0, where there are several.

    Returns:
        ``(1 or 3, rows, columns)`` with the range of its type.

    Raises:
        DataError: when a slice must be chosen, or when the channels are no colours.
    """
    number = choose_frame(values.shape[2], frame, "slices")
    channels = {1: 1, 2: 1, 3: 3, 4: 3}.get(values.shape[3])
    if channels is None:
        raise DataError(f"has {values.shape[3]} channels; a picture has 1 (grey) or 3 (colour).")
    picture = values[:, :, number, :channels].transpose(2, 1, 0)
    column_spacing, row_spacing = np.linalg.norm(affine[:3, :2], axis=0)
    return StoredImage(picture, np.diag([row_spacing, column_spacing, 1, 1]), natural_range(picture), frame=number)


def volume_of(values: NDArray[Any], affine: NDArray[np.float64]) -> StoredImage:
    """All of it, ``(C, X, Y, Z)``, in memory of its own rather than ITK's or mapped from the file."""
    return StoredImage(np.moveaxis(values, -1, 0).copy(), affine, None)
