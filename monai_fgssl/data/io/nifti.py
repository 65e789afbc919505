# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""NIfTI files, read by MONAI's reader on nibabel."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import NibabelReader

from monai_fgssl.utils.errors import DataError

from .grids import Grid, in_millimeters, make_grid, padded
from .limits import MAX_DEFLATE_RATIO, check_size, check_stored_size

__all__ = ["read_nifti"]

LENGTH_BITS, TIME_BITS = 0x07, 0x38
"""Bits of ``xyzt_units``. Source: NIfTI-1, ``nifti1.h``."""
LENGTHS = {1: "m", 2: "mm", 3: "um"}
SECONDS, MILLISECONDS, MICROSECONDS = 8, 16, 24
"""Units; other values of the time bits are hertz, ppm and radians per second, or none."""


def read_nifti(path: Path) -> Grid:
    """Read a NIfTI file with MONAI's ``NibabelReader``.

    Color may be stored as RGB24 or RGBA32, as a vector, ``(X, Y, Z, T, C)``, or on a fourth axis, ``(X, Y, Z, C)``,
    as MONAI writes it. Scale factors of the header are applied, and lengths in meters or micrometers become mm.

    Raises:
        DataError: when there are more axes, or the file holds less than its header promises.
        Exception: when the file is damaged; in ``.nii.gz`` that includes a wrong checksum.
    """
    image = _load(path)
    reader = NibabelReader()
    # The reader uses the name for its metadata. It reads no pixels yet.
    reader.read(path)
    values, meta = reader.get_data(image)
    if values.dtype.names:
        values = np.stack([values[name] for name in values.dtype.names], axis=-1)
    elif values.ndim < 5:
        # A fourth axis without a fifth holds channels.
        values = values.reshape(padded(values.shape, 4))
    affine = in_millimeters(meta["affine"], _length_unit(image))
    return make_grid(values, meta | {"affine": affine})._replace(may_be_times=image.ndim == 4 and _has_time(image))


def _has_time(image: Any) -> bool:
    """True if the header has a unit of time; most writers set it for images without times too."""
    return int(image.header["xyzt_units"]) & TIME_BITS in (SECONDS, MILLISECONDS, MICROSECONDS)


def _length_unit(image: Any) -> str:
    return LENGTHS.get(int(image.header["xyzt_units"]) & LENGTH_BITS, "mm")


def _load(path: Path) -> Any:
    """Open an image with nibabel, and check that its header fits the file."""
    pixels = path.with_suffix(".img")
    if path.suffix.lower() == ".hdr" and not pixels.exists():
        raise DataError(
            f"is only the header: the file {pixels.name} with its pixels is missing. Put it beside the header."
        )
    image: Any = nibabel.load(path)
    if not isinstance(image, (nibabel.Nifti1Pair, nibabel.Nifti2Pair)):
        # For example CIFTI-2, which has the name and the first bytes of NIfTI-2.
        raise DataError(f"is {type(image).__name__.removesuffix('Image')}, which is not supported: save it as NIfTI.")
    check_size(image.shape)
    needed = int(np.prod(image.shape, dtype=np.int64)) * image.get_data_dtype().itemsize
    stored = Path(image.file_map["image"].filename).stat().st_size
    if not path.name.lower().endswith(".gz"):
        check_stored_size(needed, stored)
        return image
    check_stored_size(needed, stored, MAX_DEFLATE_RATIO)
    # nibabel stops before the checksum at the end of the file.
    with gzip.open(path) as file:
        data = file.read(image.dataobj.offset + needed)
        while file.read(1 << 20):
            pass
    return type(image).from_bytes(data)
