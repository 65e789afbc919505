# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Advice for pictures that use few of the gray levels of their files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from dicom_files import write_dicom
from numpy.typing import NDArray
from PIL import Image

from monai_fgssl.data import ImageGeometry
from monai_fgssl.data.io.contrast import describe_contrast

RAMP = np.add.outer(np.linspace(0, 1, 64), np.linspace(0, 1, 64)) / 2


def describe(paths: list[Path], **options: Any) -> str:
    geometry = ImageGeometry(32, **options)
    return describe_contrast(
        [{"image": str(path)} for path in paths], [geometry.read(path) for path in paths], geometry
    )


def write(path: Path, values: NDArray[Any]) -> Path:
    if path.suffix == ".nii":
        nibabel.Nifti1Image(values[..., None], np.eye(4)).to_filename(path)
    elif path.suffix == ".dcm":
        write_dicom(path, values)
    else:
        Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "values", "window"),
    [
        ("a.png", (RAMP * 3800).astype(np.uint16), [2048, 4096]),
        ("a.tif", (RAMP * 1000).astype(np.uint16), [512, 1024]),
        ("a.dcm", (RAMP * 4095).astype(np.uint16), [2048, 4096]),
        ("a.nii", (RAMP * 2000 - 1000).astype(np.int16), [0.5, 2001]),
        ("dark.png", (RAMP * 15).astype(np.uint8), [8, 16]),
    ],
)
def test_the_window_that_it_names_shows_all_levels(
    name: str, values: NDArray[Any], window: list[float], tmp_path: Path
) -> None:
    path = write(tmp_path / name, values)
    text = describe([path])
    assert f"1 of 1 pictures show less than a quarter of all gray levels, such as {path}" in text
    found = re.search(r'--window "\[([\d.-]+), ([\d.]+)\]"', text)
    assert found
    assert [float(found[1]), float(found[2])] == window
    shown = ImageGeometry(32, window=tuple(window)).read(path)
    assert int(shown.max()) - int(shown.min()) > 200
    # What was given is not asked for again.
    assert describe([path], window=tuple(window)) == ""


def test_pictures_that_are_fine(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    full = write(tmp_path / "full.png", (RAMP * 65535).astype(np.uint16))
    few = write(tmp_path / "few.png", (RAMP * 4095).astype(np.uint16))
    # Fine noise is gray in a small image, and has all levels in the file.
    noise = write(tmp_path / "noise.png", rng.integers(0, 256, (640, 640), dtype=np.uint8))
    color = write(tmp_path / "color.png", np.full((8, 8, 3), 7, np.uint8))
    assert [describe([path]) for path in (full, noise, color)] == [""] * 3
    assert describe([full, few]) == ""
    assert "2 of 3" in describe([full, few, few])
