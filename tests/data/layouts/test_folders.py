# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Folders of images: which of them are classes, and which files are images."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from monai_fgssl.data.layouts.folders import read_class_folders
from monai_fgssl.data.layouts.image_files import describe_others, scan_folder
from monai_fgssl.data.layouts.inputs import list_images
from monai_fgssl.data.layouts.registry import read_table
from monai_fgssl.data.layouts.table import UNLABELED
from monai_fgssl.utils.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def read_error(path: Path, layout: str | None = None) -> str:
    with pytest.raises(DataError) as error:
        read_table(path, layout)
    return str(error.value)


# Files


def test_training_takes_the_images_that_inference_takes(tmp_path: Path) -> None:
    names = ("a/0.gif", "a/1.jfif", "a/2.PGM", "b/3.j2k", "b/4.webp", "b/readme.txt", "b/5.heic", "b/.hidden.png")
    touch(tmp_path, *names, "@eaDir/a/0.png", "a/@eaDir/0.gif/thumb.jpg", "__MACOSX/a/0.png", "lost+found/0.png")
    for name in ("a/IM0001", "b/scan.IMA", "b/1.2.840.5", "a/DICOMDIR"):
        shutil.copy(get_testdata_file("CT_small.dcm"), tmp_path / name)
    table = read_table(tmp_path)
    assert sorted(item["image"] for item in table.items) == sorted(item["image"] for item in list_images(tmp_path))
    assert len(table.items) == 8
    assert table.class_names == ("a", "b")
    assert table.notes == ("3 files that are not images are left out (.heic 1, .txt 1, without suffix 1)",)


def test_pixels_beside_their_header_are_not_told() -> None:
    assert describe_others([Path("a.raw"), Path("b.img")]) == ""


def test_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.png", "b/1.png")
    os.symlink(tmp_path, tmp_path / "a" / "again")
    os.symlink(tmp_path / "a", tmp_path / "b" / "other")
    images, _ = scan_folder(tmp_path)
    assert images == [tmp_path / "a/0.png", tmp_path / "b/1.png"]
    # As classes, the link makes a/0.png an image of both.
    assert "links put 2 images into two classes" in read_error(tmp_path)


def test_two_names_of_one_folder_are_no_two_classes(tmp_path: Path) -> None:
    touch(tmp_path, "nevus/0.png", "melanoma/1.png")
    os.symlink(tmp_path / "nevus", tmp_path / "naevus")
    assert "links put 1 images into two classes" in read_error(tmp_path)


def test_pipes_and_links_to_nowhere_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "pipe")
    os.symlink(tmp_path / "gone", tmp_path / "a" / "dangling")
    assert len(read_table(tmp_path).items) == 2


def test_names_are_composed(tmp_path: Path) -> None:
    touch(tmp_path, unicodedata.normalize("NFD", "Nävus/ö.png"), "b/1.png")
    names = [item["name"] for item in read_table(tmp_path).items]
    assert names == [unicodedata.normalize("NFC", "Nävus/ö"), "b/1"]


# Classes


@pytest.mark.parametrize(
    "names",
    [
        ("part_1", "part_2"),
        ("images_001", "images_002"),
        ("HAM10000_images_part_1", "HAM10000_images_part_2"),
        ("train_imgs", "test_imgs"),
        ("training_data", "validation_data", "testing_data"),
        ("set_a", "set_b"),
        ("Patient 1", "Patient 2", "Patient 10"),
    ],
)
def test_pieces_are_no_classes(names: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/{number}.jpg" for number, name in enumerate(names)))
    message = read_error(tmp_path)
    assert "are named like pieces of a data set, not like classes" in message
    assert read_table(tmp_path, "classes").class_names == tuple(sorted(names))
    assert read_table(tmp_path, "images").class_names == ()


@pytest.mark.parametrize(
    "names",
    [("grade_1", "grade_2"), ("0", "1"), ("benign_case", "malignant_case"), ("nevus", "set"), ("stage 1", "stage 2")],
)
def test_classes_are_no_pieces(names: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/{number}.jpg" for number, name in enumerate(names)))
    assert read_table(tmp_path).class_names == tuple(sorted(names))


def test_folders_that_all_hold_the_same_folders(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{outer}/{inner}/0.png" for outer in ("nevus", "melanoma") for inner in ("clinical", "derm")))
    message = read_error(tmp_path)
    assert "several of the folders melanoma, nevus hold folders of the same names (clinical, derm)" in message
    assert read_table(tmp_path, "classes").class_names == ("melanoma", "nevus")
    assert read_table(tmp_path, "subclasses").class_names == ("clinical", "derm")
    # One more says nothing: a clinic may have an image of a class that another has not.
    touch(tmp_path, "melanoma/other/0.png")
    assert "hold folders of the same names (clinical, derm)" in read_error(tmp_path)


def test_pieces_in_parts(tmp_path: Path) -> None:
    touch(
        tmp_path,
        *(f"train/fold_{fold}/{name}/0.png" for fold in range(2) for name in "ab"),
        "test/a/0.png",
        "test/b/0.png",
    )
    table = read_table(tmp_path)
    assert table.class_names == ("a", "b")
    assert [item["part"] for item in table.items] == ["test"] * 2 + ["train"] * 4


def test_unlabeled_images_among_classes(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.png", "b/1.png", "Unlabeled/2.png")
    table = read_table(tmp_path)
    assert table.class_names == ("a", "b")
    assert {item["name"]: item["label"] for item in table.items} == {"a/0": 0, "b/1": 1, "Unlabeled/2": UNLABELED}
    assert table.notes == ("1 images in folders called unlabeled have no label",)


def test_similar_names_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "Nevus/0.png", "nevus/1.png", "nevus/2.png", "melanoma/3.png")
    assert "Nevus (1 images) and nevus (2 images) are nearly the same name" in read_error(tmp_path)


def test_the_level_can_be_chosen_in_python(tmp_path: Path) -> None:
    touch(tmp_path, "fold_0/a/0.png", "fold_0/b/0.png", "fold_1/a/0.png")
    assert read_class_folders(tmp_path).class_names == ("a", "b")
    assert read_class_folders(tmp_path, inner=False).class_names == ("fold_0", "fold_1")
