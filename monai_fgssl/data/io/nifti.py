# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""NIfTI files, read by MONAI's reader on nibabel."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monai.data import NibabelReader
from nibabel.spatialimages import HeaderDataError

from monai_fgssl.utils.errors import DataError, printable

from .grids import Grid, in_millimeters, make_grid, padded
from .limits import MAX_DEFLATE_RATIO, check_size, check_stored_size

__all__ = ["read_nifti"]

logger = logging.getLogger(__name__)

_file: ContextVar[str | None] = ContextVar("file", default="")
"""Name of the file whose header nibabel reads in this thread; None: its warnings were told already."""


def _name_file(record: logging.LogRecord) -> bool:
    name = _file.get()
    if name:
        record.msg, record.args = f"{name}: {record.getMessage()}", ()
    return name is not None


@contextmanager
def _reading(name: str | None) -> Iterator[None]:
    token = _file.set(name)
    try:
        yield
    finally:
        _file.reset(token)


# nibabel tells what it corrects in a header, but not in which file.
logging.getLogger("nibabel.global").addFilter(_name_file)

TOLERANCE = 0.01
"""Largest relative difference of two sizes of voxels in one header that is taken for rounding."""

LENGTH_BITS, TIME_BITS = 0x07, 0x38
"""Bits of ``xyzt_units``. Source: NIfTI-1, ``nifti1.h``."""
LENGTHS = {0: "mm", 1: "m", 2: "mm", 3: "um"}
SECONDS, MILLISECONDS, MICROSECONDS = 8, 16, 24
"""Units; other values of the time bits are hertz, ppm and radians per second, or none."""


def read_nifti(path: Path) -> Grid:
    """Read a NIfTI file with MONAI's ``NibabelReader``.

    Color may be stored as RGB24 or RGBA32, as a vector, ``(X, Y, Z, T, C)``, or on a fourth axis, ``(X, Y, Z, C)``,
    as MONAI writes it. Scale factors of the header are applied, and lengths in meters or micrometers become mm.

    A header may hold two affines. The sform is taken, as in nibabel and ITK, and a warning in the log tells when the
    qform has other directions, or the pixdim other sizes of voxels, or when a volume has neither of the two.

    Raises:
        DataError: when there are more axes, or the file holds less than its header promises.
        Exception: when the file is damaged; in ``.nii.gz`` that includes a wrong checksum.
    """
    with _reading(printable(str(path))):
        image = _load(path)
    _tell_affines(path, image)
    reader = NibabelReader()
    with _reading(None):
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


def _tell_affines(path: Path, image: Any) -> None:
    header, name = image.header, printable(str(path))
    if int(header["sform_code"]) <= 0:
        if int(header["qform_code"]) <= 0 and image.ndim > 2 and image.shape[2] > 1:
            # ITK takes other directions than nibabel, and the specification leaves it open.
            logger.warning(
                f"{name} has neither an sform nor a qform, so nothing tells left from right in the patient; its axes "
                "are taken to run to the left, the front and the head."
            )
        return
    sform = header.get_sform()
    sides, told = np.linalg.norm(sform[:3, :3], axis=0), np.abs(header["pixdim"][1:4].astype(np.float64))
    if (np.abs(sides - told) > TOLERANCE * sides).any():
        sizes = [" x ".join(f"{side:.4g}" for side in one) for one in (sides, told)]
        logger.warning(f"{name} tells voxels of {sizes[0]} (sform) and of {sizes[1]} (pixdim); the sform is taken.")
    if int(header["qform_code"]) <= 0:
        return
    try:
        qform = header.get_qform()
    except HeaderDataError:
        # It is not used.
        return
    axes = ["".join(letter or "?" for letter in nibabel.aff2axcodes(one)) for one in (sform, qform)]
    if axes[0] != axes[1]:
        logger.warning(
            f"{name} tells that its axes run to {axes[0]} (sform) and to {axes[1]} (qform); the sform is taken. If it "
            "is wrong, left and right may be exchanged: correct the header."
        )


def _has_time(image: Any) -> bool:
    """True if the header has a unit of time; most writers set it for images without times too."""
    return int(image.header["xyzt_units"]) & TIME_BITS in (SECONDS, MILLISECONDS, MICROSECONDS)


def _length_unit(image: Any) -> str:
    code = int(image.header["xyzt_units"]) & LENGTH_BITS
    if code not in LENGTHS:
        raise DataError(f"has lengths in the unit {code} (xyzt_units), which NIfTI does not have: save it in mm.")
    return LENGTHS[code]


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
    if image.header.is_single and image.dataobj.offset < image.header.single_vox_offset:
        raise DataError(
            f"has the vox_offset {image.dataobj.offset}, so its pixels would begin in its header: set it to "
            f"{image.header.single_vox_offset}, or to where they begin."
        )
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
