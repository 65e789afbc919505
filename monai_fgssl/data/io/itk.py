# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""NRRD, MetaImage and TIFF stacks, read by MONAI's reader on ITK."""

from __future__ import annotations

from pathlib import Path

from monai.data import ITKReader
from monai.utils import optional_import

from monai_fgssl.utils.errors import DataError

from .grids import Grid, make_grid
from .limits import check_size

itk, _ = optional_import("itk", allow_namespace_pkg=True)

__all__ = ["read_itk"]


def read_itk(path: Path) -> Grid:
    """Read a file with MONAI's ``ITKReader``: NRRD, MetaImage, TIFF, PNG.

    Raises:
        DataError: when ITK doesn't know the format, or there are more axes than X, Y, Z, time and channel.
    """
    header = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if header is None:
        raise DataError("is damaged, or in a form that ITK doesn't read.")
    header.SetFileName(str(path))
    header.ReadImageInformation()
    sizes = [header.GetDimensions(axis) for axis in range(header.GetNumberOfDimensions())]
    check_size((*sizes, header.GetNumberOfComponents()))
    # ITK's Python package lacks some types of images, such as three 16-bit channels. Vector images can hold these.
    types = {"unsigned_char": itk.UC, "unsigned_short": itk.US, "short": itk.SS, "double": itk.D}
    component = types.get(itk.ImageIOBase.GetComponentTypeAsString(header.GetComponentType()), itk.F)
    several = {"pixel_type": itk.VariableLengthVector[component]} if header.GetNumberOfComponents() > 1 else {}
    reader = ITKReader(**several)
    values, meta = reader.get_data(reader.read(path))
    if not several:
        values = values[..., None]
    return make_grid(values, meta)
