# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A header may refer to pixels in its own folder, but not to any other file of the machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_fgssl.data import DataError, read_medical_image
from monai_fgssl.data.io.detached import pixel_files

METAIMAGE = "ObjectType = Image\nNDims = 2\nDimSize = 8 4\nElementType = MET_UCHAR\nElementDataFile = {}\n"
METAIMAGE_OF_SLICES = "ObjectType = Image\nNDims = 3\nDimSize = 8 4 2\nElementType = MET_UCHAR\nElementDataFile = {}\n"
NRRD = "NRRD0004\ntype: uchar\ndimension: 2\nsizes: 8 4\nencoding: raw\ndata file: {}\n\n"
NRRD_OF_SLICES = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 8 4 2\nencoding: raw\ndata file: {}\n\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    for name in ("secret.txt", "secret0.txt", "secret1.txt"):
        (tmp_path / "elsewhere" / name).write_bytes(b"secret" * 32)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "pixels.raw").write_bytes(bytes(range(32)))
    (tmp_path / "own" / "two words.raw").write_bytes(bytes(range(32)))
    (tmp_path / "own" / "link.raw").symlink_to(tmp_path / "elsewhere" / "secret.txt")
    return tmp_path / "own"


@pytest.mark.parametrize(("suffix", "header"), [(".mhd", METAIMAGE), (".nhdr", NRRD)])
@pytest.mark.parametrize("name", ["pixels.raw", "two words.raw", "./pixels.raw"])
def test_pixels_beside_the_header_are_read(suffix: str, header: str, name: str, folder: Path) -> None:
    file = folder / f"image{suffix}"
    file.write_text(header.format(name))
    values = read_medical_image(file)[0].numpy()
    np.testing.assert_array_equal(np.rint(255 * values).ravel(), np.arange(32))


@pytest.mark.parametrize(
    ("suffix", "header"),
    [
        (".mhd", METAIMAGE),
        (".mha", METAIMAGE),
        (".nhdr", NRRD),
        (".nrrd", NRRD),
        (".nrrd", NRRD.replace(" file", "file")),
    ],
)
@pytest.mark.parametrize("name", ["../elsewhere/secret.txt", "{}/../elsewhere/secret.txt", "link.raw"])
def test_pixels_elsewhere_are_refused(suffix: str, header: str, name: str, folder: Path) -> None:
    file = folder / f"image{suffix}"
    file.write_text(header.format(name.format(folder)))
    with pytest.raises(DataError, match=rf"image\{suffix} takes its pixels from a file outside of its folder"):
        read_medical_image(file)


@pytest.mark.parametrize(
    ("suffix", "header"),
    [
        (".mhd", METAIMAGE_OF_SLICES.format("LIST\n../elsewhere/secret.txt\n../elsewhere/secret.txt")),
        (".mhd", METAIMAGE_OF_SLICES.format("../elsewhere/secret%d.txt 0 1 1")),
        (".nhdr", NRRD_OF_SLICES.format("LIST\n../elsewhere/secret.txt\n../elsewhere/secret.txt")),
        (".nhdr", NRRD_OF_SLICES.format("../elsewhere/secret%d.txt 0 1 1")),
    ],
)
def test_lists_and_patterns_of_slices_elsewhere_are_refused(suffix: str, header: str, folder: Path) -> None:
    file = folder / f"image{suffix}"
    file.write_text(header)
    with pytest.raises(DataError, match="outside of its folder"):
        read_medical_image(file, spatial_dims=3)


def test_a_header_without_end_is_refused(folder: Path) -> None:
    file = folder / "image.mhd"
    file.write_bytes(b"ObjectType = Image\nNDims = 2\nDimSize = 8 4\n" + b"Comment = long\n" * 100_000)
    with pytest.raises(DataError, match="has no ElementDataFile"):
        read_medical_image(file)


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (METAIMAGE.format("LOCAL"), []),
        (METAIMAGE.format("pixels.raw"), ["pixels.raw", "pixels.raw"]),
        (METAIMAGE_OF_SLICES.format("LIST\na.raw\nb.raw"), ["a.raw", "b.raw"]),
        (NRRD.replace("data file: {}\n", ""), []),
        (NRRD.format("pixels.raw"), ["pixels.raw", "pixels.raw"]),
    ],
)
def test_which_files_a_header_names(header: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "image").write_text(header)
    assert pixel_files(tmp_path / "image") == names
