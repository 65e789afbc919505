# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find files by their names in lists. A name that is not certain is refused, and the message suggests similar names."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from monai_fgssl.data.layouts.file_finder import FileFinder, Found


def find(root: Path, *names: str) -> Found:
    return FileFinder(root).find_all(names)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        # Not equal, so that none is a copy of another.
        (root / name).write_text(name)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("a/b.png", "a/b.png"),
        ("./a/b.png", "a/b.png"),
        ("a/b", "a/b.png"),
        ("a/b", "a/b.JPG"),
        ("a\\b.png", "a/b.png"),
        ("A/B.PNG", "a/b.png"),
        ("a/b.jpg", "a/b.jpeg"),
        ("a/b.tiff", "a/b.TIF"),
        ("b.png", "x/y/b.png"),
        ("y/b", "x/y/b.png"),
        ("C:\\Users\\me\\a\\b.png", "a/b.png"),
        ("/home/me/images/a/b.png", "a/b.png"),
        ("a/ä.png", unicodedata.normalize("NFD", "a/ä.png")),
        (unicodedata.normalize("NFD", "a/ä"), "a/ä.png"),
        ("a/b c", "a/b c .nii.gz"),
        ("1.2.840.10008", "x/1.2.840.10008.dcm"),
        ("IM0001", "x/IM0001.dcm"),
        ("scan", "scan/1.dcm"),
        ("b.2", "a/b.2.nii.gz"),
    ],
)
def test_found(name: str, file: str, tmp_path: Path) -> None:
    touch(tmp_path, file, "other/c.png")
    found = find(tmp_path, name)
    expected = tmp_path / file
    assert found.files == [expected.parent if name == "scan" else expected]
    assert found.missing == found.ambiguous == []


@pytest.mark.parametrize(
    ("name", "file", "hint"),
    [
        ("b.jpg", "b.png", " (is b.png meant?)"),
        ("7", "007.png", " (is 007.png meant?)"),
        ("ISIC_000123", "x/ISIC_000124.jpg", " (is x/ISIC_000124.jpg meant?)"),
        ("b", "q.png", ""),
        ("", "b.png", ""),
    ],
)
def test_missing(name: str, file: str, hint: str, tmp_path: Path) -> None:
    touch(tmp_path, file)
    found = find(tmp_path, name)
    assert found.files == [None]
    assert found.missing == [name + hint]


def test_a_missing_file_is_not_looked_for_in_another_class(tmp_path: Path) -> None:
    touch(tmp_path, "nevus/1.png", "melanoma/2.png")
    assert find(tmp_path, "nevus/1.png", "nevus/2.png").files == [tmp_path / "nevus/1.png", None]
    # Only a list whose folders are nowhere comes from elsewhere.
    assert find(tmp_path, "x/nevus/1.png", "x/nevus/2.png").files == [tmp_path / "nevus/1.png", None]
    found = find(tmp_path, "x/1.png", "x/2.png")
    assert found.files == [tmp_path / "nevus/1.png", tmp_path / "melanoma/2.png"]
    (note,) = found.notes
    assert note.startswith("2 images are looked up by name, without the first 1 folders of their paths (in ")


def test_several_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a.JPG", "x/b.png", "y/b.png")
    found = find(tmp_path, "a", "b.png", "a.png", "a.jpg")
    assert found.files == [None, None, tmp_path / "a.png", tmp_path / "a.JPG"]
    assert found.ambiguous == ["a: a.JPG, a.png", "b.png: x/b.png, y/b.png"]
    for folder in "xy":
        (tmp_path / folder / "b.png").write_text("the same")
    found = find(tmp_path, "b.png", "a.png")
    assert found.files == [tmp_path / "x/b.png", tmp_path / "a.png"]
    assert "1 images are there more than once, in equal files: the first one is taken" in found.notes


def test_case_decides_where_both_are_there(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "A.png")
    assert find(tmp_path, "a", "A", "a.png", "A.png").files == [tmp_path / f"{name}.png" for name in "aAaA"]
    assert find(tmp_path, "a.PNG").ambiguous == ["a.PNG: A.png, a.png"]


def test_an_image_comes_before_a_folder_of_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "case.nii", "case/mask.nii", "below/other.nii", "below/other/mask.nii")
    assert find(tmp_path, "case", "other").files == [tmp_path / "case.nii", tmp_path / "below/other.nii"]


def test_hidden_files_are_found_by_their_exact_name_only(tmp_path: Path) -> None:
    touch(tmp_path, ".a.png", "@eaDir/b.png")
    assert find(tmp_path, ".a.png", ".a", "b").files == [tmp_path / ".a.png", None, None]
