# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""NIfTI, MetaImage and NRRD files whose header does not agree with the content of the file."""

from __future__ import annotations

import gzip
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest

from monai_fgssl.data.io.reader import read_medical_image
from monai_fgssl.utils.errors import DataError

GRID = np.random.default_rng(0).integers(0, 1000, (6, 7, 8)).astype(np.int16)
METAIMAGE = "ObjectType = Image\nNDims = {}\nDimSize = {}\nElementType = MET_USHORT\nElementDataFile = LOCAL\nxxxx"
NRRD = "NRRD0004\ntype: short\ndimension: {}\nsizes: {}\nencoding: raw\nendian: little\n\nabc"


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_checksums_of_compressed_pixels_are_verified(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".nii.gz":
        nibabel.Nifti1Image(GRID, np.eye(4)).to_filename(path)
    else:
        itk.imwrite(itk.image_from_array(GRID.transpose(2, 1, 0).copy()), str(path), compression=True)
    assert np.array_equal(read_medical_image(path, 3).numpy()[0], GRID)
    whole = path.read_bytes()
    for position in range(len(whole) // 2, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"a{suffix} is damaged"):
            read_medical_image(path, 3)


@pytest.mark.parametrize("axes", ["2147483648", "99999", "-1", "0", "4", "x", "3\nNDims = 2"])
def test_numbers_of_axes_that_are_none_are_refused(axes: str, tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_text(METAIMAGE.format(axes, "4 5 6"))
    with pytest.raises(DataError, match=r"a.mha has a DimSize of 3 numbers, and NDims is "):
        read_medical_image(tmp_path / "a.mha", 3)
    (tmp_path / "a.nrrd").write_text(NRRD.format(axes.replace("NDims =", "dimension:"), "4 5 6"))
    with pytest.raises(DataError, match=r"a.nrrd has 3 sizes, and its dimension is "):
        read_medical_image(tmp_path / "a.nrrd", 3)


@pytest.mark.parametrize("sizes", ["9" * 500 + "; 5", "9 " * 500 + ";", "1" * 19 + " 5"])
def test_long_numbers_are_no_sizes(sizes: str, tmp_path: Path) -> None:
    """A pattern that tried every way to part the digits would not end."""
    (tmp_path / "a.nrrd").write_text(NRRD.format(2, sizes))
    with pytest.raises(DataError, match=r"a.nrrd has 0 sizes, and its dimension is 2"):
        read_medical_image(tmp_path / "a.nrrd")
    (tmp_path / "a.mha").write_text(METAIMAGE.format(2, sizes))
    with pytest.raises(DataError, match=r"a.mha has a DimSize of 0 numbers, and NDims is 2"):
        read_medical_image(tmp_path / "a.mha")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("4 0 6", "has no pixels: its header says 4 x 0 x 6"),
        ("4 -5 6", "has no pixels: its header says 4 x -5 x 6"),
        ("2000 2000 1000", "is too large: 2000 x 2000 x 1000"),
        ("400 400 100", "is cut off: its header promises 32000000 bytes of pixels, and it has [34]"),
    ],
)
def test_sizes_are_checked_before_memory_is_taken(sizes: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_text(METAIMAGE.format(3, sizes))
    (tmp_path / "a.nrrd").write_text(NRRD.format(3, sizes))
    for name in ("a.mha", "a.nrrd"):
        with pytest.raises(DataError, match=rf"{name} {message}"):
            read_medical_image(tmp_path / name, 3)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2000, 2000, 1000), "is too large: 2000 x 2000 x 1000"),
        ((400, 400, 100), "is cut off: its header promises 32000000 bytes of pixels"),
        ((4, 0, 6), "has no pixels: its header says 4 x 0 x 6"),
    ],
)
def test_sizes_of_nifti_are_checked_before_memory_is_taken(
    shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["dim"][:4] = (3, *shape)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    data = header.binaryblock + bytes(104)
    (tmp_path / "a.nii").write_bytes(data)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data))
    for name in ("a.nii", "a.nii.gz"):
        with pytest.raises(DataError, match=rf"{name} {message}"):
            read_medical_image(tmp_path / name, 3)


def test_a_header_without_its_pixels_says_what_is_missing(tmp_path: Path) -> None:
    nibabel.Nifti1Pair(GRID, np.eye(4)).to_filename(tmp_path / "a.hdr")
    assert np.array_equal(read_medical_image(tmp_path / "a.hdr", 3).numpy()[0], GRID)
    (tmp_path / "a.img").unlink()
    with pytest.raises(DataError, match=r"a.hdr is only the header: the file a.img with its pixels is missing"):
        read_medical_image(tmp_path / "a.hdr", 3)
