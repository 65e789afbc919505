# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""One loader for all files. It finds the format by the content. A picture gives the same pixels in any format."""

from __future__ import annotations

import gzip
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from pydicom.dataset import Dataset

from monai_fgssl.utils.errors import DataError, printable
from monai_fgssl.utils.memory import is_out_of_memory

from .detached import check_pixel_files
from .dicom import UID_KEYS, read_dicom
from .dicom_file import open_dicom, starts_as_dicom
from .dicom_pixels import number_of_frames
from .dicom_series import files_of_series
from .dicom_volume import read_dicom_volume
from .display import StoredImage, match_channels, to_display
from .finite import check_affine, replace_not_finite
from .grid_headers import check_grid_header, length_unit
from .grids import Grid, in_millimeters, slice_of, volume_of
from .itk import read_itk
from .limits import limit_pixels
from .nifti import read_nifti
from .pictures import count_frames as count_photo_frames
from .pictures import read_photo
from .reasons import reason_of
from .selection import Selection, choose, choose_channel
from .tiff import TIFF_STARTS, count_pages, read_tiff, read_tiff_stack

__all__ = ["check_options", "count_frames", "kind_of", "read_medical_image", "read_shown", "read_stored"]

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

SUFFIXES = {
    "NIfTI": (".nii", ".hdr"),
    "gzipped NIfTI": (".nii.gz",),
    "NRRD": (".nrrd", ".nhdr"),
    "MetaImage": (".mha", ".mhd"),
}
"""Suffixes by which nibabel and ITK recognize a format."""


def read_medical_image(
    path: PathLike | Sequence[PathLike],
    spatial_dims: int = 2,
    channels: int | None = None,
    window: str | Sequence[float] | None = None,
    frame: int | None = None,
    channel: int | None = None,
    time: int | None = None,
    max_pixels: int | None = None,
    headers: list[Dataset] | None = None,
) -> MetaTensor:
    """Read a picture or a volume from DICOM, NIfTI, NRRD, MetaImage, TIFF, PNG, JPEG, JPEG 2000, WebP, BMP, GIF or PNM.

    The content of a file tells its format, not its name. The same picture gives the same array from any format, bit for
    bit if the storage is lossless.

    Pictures (``spatial_dims=2``) are ``(C, rows, columns)``, from 0 (black) to 1 (white), as a viewer shows them:

    - 8 bits are ``value / 255``, equal to Pillow's ``convert("RGB")``: palettes are looked up, CMYK and YBR become RGB,
      transparency is dropped. An orientation tag (EXIF) is applied. Color profiles are not.
    - Gray DICOM values go through their Modality LUT or rescale, then their first VOI LUT or window. MONOCHROME1 is
      inverted, unless the Presentation LUT Shape tells otherwise.
    - Without a window, more than 8 bits are scaled by their whole range, never clipped: Bits Stored in DICOM, elsewhere
      the range of the type. Floats in [0, 1] stay as they are, and whole numbers up to 255 are divided by 255. For
      other floats, and for integers of 32 bits and more, a window must be given.
    - A slice in NIfTI, NRRD or MetaImage has X along the columns and Y along the rows, so a file that ITK or MONAI
      writes from a picture gives that picture again. MONAI's writers in turn expect ``(C, columns, rows)``.

    Volumes (``spatial_dims=3``) are ``(C, X, Y, Z)``, as MONAI's ``LoadImage`` and ``EnsureChannelFirst`` give NIfTI,
    in the units of the modality, such as HU. Their affine is RAS, so ``Spacingd`` and ``Orientationd`` work.

    Values are finite. NaN and infinity in a file are replaced (see :mod:`~monai_fgssl.data.io.finite`), and a warning
    in the log names the file and counts them.

    Args:
        path: a file, a folder with one DICOM series (its other files are ignored), or the files of such a series.
        spatial_dims: 2 for pictures, 3 for volumes.
        channels: 3 for RGB, where gray is repeated; 1 for gray, where a picture in color becomes its luminance
            (ITU-R BT.601); ``None`` for those of the file.
        window: ``(center, width)`` in units of the modality, shown linearly from black to white by DICOM PS3.3,
            C.11.2.1.2.1 (LINEAR) if all values are whole numbers and the width is 1 or more, else by C.11.2.1.3.2
            (LINEAR_EXACT); values outside are clipped. ``"dicom"``: the window of the file, which a volume must have
            and a picture may have. ``None``: the same for pictures, and no window for volumes. Color has no window.
        frame: number of the frame, page or slice that is the picture, from 0, if a file has several.
        channel: number of the channel that is read as gray, from 0: a color (a gray picture has three equal channels),
            or a channel that is not a color, such as the sequences of an MRI on a fourth axis.
        time: number of the point in time, from 0, in a NIfTI, NRRD or MetaImage file with a time axis, or a DICOM
            series with several images in each place, which are counted in the order of their Instance Numbers.
        max_pixels: pixels or voxels, times channels, that an image may have; None: 2^30. The decoded image takes up to
            eight times as many bytes of memory.
        headers: list to which the headers of DICOM files are appended, without pixels, for a result in the same study.
            These are the header of a picture, or the headers of all slices of a volume; all after the first have only
            identifiers. They hold the patient's data.

    Returns:
        float32. The affine ``(4, 4)`` of pictures holds their spacing of rows and columns in mm, if the file has it.
        ``meta`` has the same keys for all files, so they can be collated: those of MONAI, ``"frame"``, and the DICOM
        UIDs that a report refers to (``"SOPInstanceUID"``, ``"SOPClassUID"``, ``"StudyInstanceUID"``,
        ``"SeriesInstanceUID"``; empty for other files). It has no patient's name, no other identifier and no date.

    Raises:
        DataError: when a file can't be read; the message names the file, the reason and, if possible, the fix.
        ValueError: when an option has an invalid value.

    Example:
        >>> read_medical_image("lesion.dcm", channels=3).shape
        torch.Size([3, 450, 600])
    """
    shown, stored = read_shown(path, spatial_dims, channels, window, frame, channel, time, max_pixels)
    if headers is not None:
        headers.extend(stored.headers)
    return shown


def read_shown(
    path: PathLike | Sequence[PathLike],
    spatial_dims: int = 2,
    channels: int | None = None,
    window: str | Sequence[float] | None = None,
    frame: int | None = None,
    channel: int | None = None,
    time: int | None = None,
    max_pixels: int | None = None,
) -> tuple[MetaTensor, StoredImage]:
    """Read an image as :func:`read_medical_image` does, and also return it as its file holds it.

    Arguments and errors are those of :func:`read_medical_image`.
    """
    check_options(spatial_dims, channels, window, frame, channel, time, max_pixels)
    selection = Selection(frame, channel, time)
    paths = [Path(path)] if isinstance(path, (str, os.PathLike)) else [Path(one) for one in path]
    if not paths:
        raise DataError("there are no files to read: the list is empty.")
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} (and {len(paths) - 1} more)"
    try:
        with limit_pixels(max_pixels):
            image = read_stored(paths, spatial_dims, selection)
        if spatial_dims == 3:
            check_affine(image)
        elif not np.isfinite(image.affine).all():
            # A picture does not need its position and spacing.
            image.affine = np.eye(4)
        replace_not_finite(image, name)
        values = image.values
        if values.dtype.kind not in "iuf":
            raise DataError(f"has values of type {values.dtype}, which can't be shown as brightness.")
        if spatial_dims == 2 or window is not None:
            values = to_display(image, window)
            if image.is_color and not (window is None or isinstance(window, str)):
                _tell_color(name, tuple(map(float, window)))
        if not np.isfinite(values).all():
            raise DataError("has values that are not numbers after its rescale and window.")
        with np.errstate(over="ignore"):
            values = match_channels(values.astype(np.float32, copy=False), channels)
        if not np.isfinite(values).all():
            raise DataError("has values that are too large for 32-bit floats.")
        # Join several values as DICOM does.
        uids = {key: "\\".join(dict.fromkeys(str(one.get(key, "")) for one in image.headers)) for key in UID_KEYS}
    except Exception as error:
        if is_out_of_memory(error):
            raise MemoryError(f"{name} does not fit into the memory") from error
        raise DataError(printable(f"{name} {reason_of(error)}")) from error
    meta = {
        "filename_or_obj": str(paths[0]),
        "original_affine": image.affine.copy(),
        "spatial_shape": np.asarray(values.shape[1:]),
        "original_channel_dim": 0,
        "space": "RAS",
        "frame": image.frame,
        **uids,
    }
    return MetaTensor(torch.from_numpy(np.ascontiguousarray(values)), torch.from_numpy(image.affine), meta), image


_told: set[tuple[float, ...]] = set()
"""Windows of which :func:`_tell_color` has warned."""


def _tell_color(name: str, window: tuple[float, ...]) -> None:
    """Warn of a window that a color picture does not use. A data set may have thousands of them, so name the first."""
    if window not in _told:
        _told.add(window)
        logger.warning(
            f"{printable(name)} is in color, and the window {window} is for gray values: it has no effect on color "
            "pictures. Not all of them are named."
        )


def check_options(
    spatial_dims: int,
    channels: int | None = None,
    window: str | Sequence[float] | None = None,
    frame: int | None = None,
    channel: int | None = None,
    time: int | None = None,
    max_pixels: int | None = None,
) -> None:
    """Check the options of :func:`read_medical_image` without a file.

    Raises:
        ValueError: when an option has an invalid value.
    """
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1, 3 or None, got {channels}.")
    is_pair = isinstance(window, Sequence) and not isinstance(window, str) and len(window) == 2
    if not (window in (None, "dicom") or (is_pair and float(window[1]) > 0)):
        raise ValueError(f"window must be None, 'dicom' or (center, width) with a width above 0, got {window!r}.")
    if frame is not None and spatial_dims == 3:
        raise ValueError("frame is for spatial_dims=2 only: a volume has all slices.")
    for name, number in (("frame", frame), ("channel", channel), ("time", time)):
        if number is not None and not (type(number) is int and number >= 0):
            raise ValueError(f"{name} must be a whole number from 0, got {number!r}.")
    if max_pixels is not None and not (type(max_pixels) is int and max_pixels > 0):
        raise ValueError(f"max_pixels must be a whole number above 0, got {max_pixels!r}.")


def read_stored(paths: Sequence[Path], spatial_dims: int, selection: Selection) -> StoredImage:
    """Read the values of a file before they are scaled for a screen; for arguments see :func:`read_medical_image`.

    Raises:
        DataError: when it can't be read. The message continues a sentence that begins with the file's name.
        Exception: when it is damaged; libraries raise almost any.
    """
    files = files_of_series(paths[0]) if len(paths) == 1 and paths[0].is_dir() else paths
    return _read_volume(files, selection) if spatial_dims == 3 else _read_picture(files, selection)


def _read_picture(files: Sequence[Path], selection: Selection) -> StoredImage:
    if len(files) > 1:
        raise DataError(f"holds {len(files)} images: name one for a picture, or use spatial_dims=3 for a volume.")
    kind = kind_of(files[0])
    if kind not in ("DICOM", "TIFF", "picture"):
        return slice_of(_read_grid(files[0], kind), selection)
    choose(1, selection.time, "time", "points in time")
    if kind == "TIFF":
        return read_tiff(files[0], selection)
    image = (read_dicom if kind == "DICOM" else read_photo)(files[0], selection.frame)
    image.values = choose_channel(image.values, selection.channel)
    return image


def _read_volume(files: Sequence[Path], selection: Selection) -> StoredImage:
    kinds = {kind_of(file) for file in files}
    if kinds == {"DICOM"}:
        image = read_dicom_volume(files, selection.time)
        image.values = choose_channel(image.values, selection.channel)
        return image
    if len(files) > 1:
        raise DataError("holds other files than DICOM slices: a volume in another format is one file.")
    (kind,) = kinds
    if kind == "TIFF" and (stack := read_tiff_stack(files[0], selection)) is not None:
        return stack
    if kind not in ("TIFF", "picture"):
        return volume_of(_read_grid(files[0], kind), selection)
    first = read_tiff(files[0], Selection(0)) if kind == "TIFF" else read_photo(files[0], 0)
    rows, columns = first.values.shape[1:]
    raise DataError(f"is a picture of {columns} x {rows} pixels: use spatial_dims=2.")


def count_frames(path: PathLike) -> int:
    """Count the pictures in a file: frames, pages or slices. If that fails, return 1: reading gives the reason."""
    file = Path(path)
    try:
        kind = kind_of(file)
        if kind == "DICOM":
            return number_of_frames(open_dicom(file, headers_only=True))
        if kind == "TIFF":
            return count_pages(file)
        return count_photo_frames(file) if kind == "picture" else _read_grid(file, kind).values.shape[2]
    except Exception:
        return 1


def kind_of(path: Path) -> str:
    """Find a file's format by its content: ``"DICOM"``, ``"TIFF"``, a key of :data:`SUFFIXES`, or ``"picture"``."""
    if path.exists() and not path.is_file():
        # Opening a pipe may wait forever.
        raise DataError("is not a file, but a folder, a pipe or a device.")
    with open(path, "rb") as file:
        head = file.read(1024)
    if not head:
        raise DataError("is empty.")
    if starts_as_dicom(head):
        return "DICOM"
    if head.startswith(TIFF_STARTS):
        return "TIFF"
    is_gzipped = head.startswith(b"\x1f\x8b")
    if is_gzipped:
        with gzip.open(path) as file:
            head = file.read(1024)
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] in (b"n+2\0", b"ni2\0"):
        return "gzipped NIfTI" if is_gzipped else "NIfTI"
    if is_gzipped:
        raise DataError("is compressed with gzip but is not NIfTI: unpack it first.")
    if head.startswith(b"NRRD"):
        return "NRRD"
    return "MetaImage" if b"DimSize" in head else "picture"


def _read_grid(path: Path, kind: str) -> Grid:
    """Read a format of :data:`SUFFIXES`."""
    if not path.name.lower().endswith(SUFFIXES[kind]):
        raise DataError(f"holds {kind}, which can only be read when its name ends in {SUFFIXES[kind][0]}: rename it.")
    if "NIfTI" in kind:
        return read_nifti(path)
    check_pixel_files(path)
    check_grid_header(path)
    grid = read_itk(path)
    return grid._replace(affine=in_millimeters(grid.affine, length_unit(path)))
