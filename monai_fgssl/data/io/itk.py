# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""NRRD, MetaImage and TIFF stacks, read by MONAI's reader on ITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from monai.data import ITKReader
from monai.utils import optional_import

from monai_fgssl.utils.errors import DataError

from .grids import Grid, make_grid
from .limits import check_size

itk, _ = optional_import("itk", allow_namespace_pkg=True)

__all__ = ["read_itk"]

WIDER = {"char": np.int8, "long_long": np.int64}
"""Types of which ITK's Python package has no images. They are read as wider ones; int64 is exact up to 2^53."""


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
    component = itk.ImageIOBase.GetComponentTypeAsString(header.GetComponentType())
    types = {"unsigned_char": itk.UC, "unsigned_short": itk.US, "short": itk.SS, "double": itk.D}
    is_wider, numbers = component in WIDER, types.get(component, itk.F)
    if is_wider:
        numbers = itk.D if component == "long_long" else itk.SS
    several = header.GetNumberOfComponents() > 1
    kind = {"pixel_type": itk.VariableLengthVector[numbers] if several else numbers} if several or is_wider else {}
    reader = ITKReader(**kind)
    values, meta = reader.get_data(reader.read(path))
    values = values.astype(WIDER[component]) if is_wider else values
    if not several:
        values = values[..., None]
    return make_grid(values, meta)
