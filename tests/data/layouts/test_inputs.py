# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Lists of the images to predict."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from monai_fgssl.data import DataError, list_images


def test_a_folder_and_the_folders_below(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("b.JPG", "a/c.nii.gz", "a/d.dcm", "._b.jpg", "a/notes.txt"):
        (tmp_path / name).touch()
    # As hospitals' systems export them: without a suffix, beside a table of contents.
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "a" / "IM000001")
    shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / "DICOMDIR")
    assert list_images(tmp_path) == [
        {"image": str(tmp_path / "a/IM000001"), "name": "a/IM000001"},
        {"image": str(tmp_path / "a/c.nii.gz"), "name": "a/c"},
        {"image": str(tmp_path / "a/d.dcm"), "name": "a/d"},
        {"image": str(tmp_path / "b.JPG"), "name": "b"},
    ]


def test_what_could_be_dicom_but_can_not_be_opened_is_listed(tmp_path: Path) -> None:
    """Reading reports it; a file that is passed over would be missing without a word."""
    (tmp_path / "a.png").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "1.2.840").symlink_to("/nowhere")
    (tmp_path / "notes.txt").symlink_to("/nowhere")
    (tmp_path / "README").touch()
    for spatial_dims in (2, 3):
        listed = [Path(item["image"]).name for item in list_images(tmp_path, spatial_dims)]
        assert listed == ["1.2.840", "a.png", "pipe"]


def test_names_are_unique(tmp_path: Path) -> None:
    for name in ("a.png", "a.dcm", "b.png"):
        (tmp_path / name).touch()
    assert [item["name"] for item in list_images(tmp_path)] == ["a.dcm", "a.png", "b"]


def test_one_image(tmp_path: Path) -> None:
    path = tmp_path / "c.nii.gz"
    path.touch()
    assert list_images(path) == [{"image": str(path), "name": "c"}]


def test_a_list(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    (tmp_path / "list.csv").write_text("image\na.png\nc.png\n")
    assert [Path(item["image"]).name for item in list_images(tmp_path / "list.csv")] == ["a.png", "c.png"]


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        list_images(tmp_path / "none")
    with pytest.raises(DataError, match="no images"):
        list_images(tmp_path)
