# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""CSV files, data lists and folders of images, and how the layout is recognized from the files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from monai_fgssl.data.layouts.image_files import IMAGE_SUFFIXES, image_files, without_suffix
from monai_fgssl.data.layouts.registry import LAYOUTS, read_part, read_table
from monai_fgssl.data.layouts.table import UNLABELED, ImageTable
from monai_fgssl.utils.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write_list(root: Path, **parts: Any) -> Path:
    (root / "dataset.json").write_text(json.dumps({"name": "a test", **parts}))
    return root / "dataset.json"


def column(table: ImageTable, key: str) -> list[Any]:
    return [item.get(key) for item in table.items]


def read_error(path: Path, layout: str | None = None) -> str:
    with pytest.raises(DataError) as error:
        read_table(path, layout)
    return str(error.value)


@pytest.mark.parametrize(
    "suffix", [".jpg", ".png", ".dcm", ".nii", ".nii.gz", ".nrrd", ".mha", ".tif", ".tiff", ".bmp"]
)
def test_suffixes(suffix: str, tmp_path: Path) -> None:
    touch(tmp_path, f"b{suffix}", f"deep/er/a.1{suffix.upper()}", f".hidden{suffix}", f".git/c{suffix}", "readme.txt")
    assert sorted(image_files(tmp_path)) == [tmp_path / f"b{suffix}", tmp_path / f"deep/er/a.1{suffix.upper()}"]
    assert without_suffix(f"a.1{suffix}") == "a.1"
    assert suffix in IMAGE_SUFFIXES


# Folders


def test_class_folders(tmp_path: Path) -> None:
    touch(
        tmp_path, "nevus/a.jpg", "nevus/more/b.dcm", "melanoma/c.nii.gz", ".cache/d.png", "nevus/.d.png", "empty/x.txt"
    )
    table = read_table(tmp_path)
    assert table.class_names == ("melanoma", "nevus")
    assert table.items == [
        {"image": str(tmp_path / f"{name}{suffix}"), "name": name, "label": label, "group": name}
        for name, suffix, label in (
            ("melanoma/c", ".nii.gz", 0),
            ("nevus/a", ".jpg", 1),
            ("nevus/more/b", ".dcm", 1),
        )
    ]


def test_class_folders_may_be_links(tmp_path: Path) -> None:
    touch(tmp_path, "store/1/a.jpg", "store/2/b.jpg")
    (tmp_path / "set").mkdir()
    for name, number in (("nevus", "1"), ("melanoma", "2")):
        os.symlink(tmp_path / "store" / number, tmp_path / "set" / name)
    assert column(read_table(tmp_path / "set"), "name") == ["melanoma/b", "nevus/a"]


def test_class_folders_in_parts(tmp_path: Path) -> None:
    touch(tmp_path, "train/b/1.png", "train/a/1.png", "val/a/1.png", "Test/b/1.png", "Test/c/1.png")
    table = read_table(tmp_path)
    assert table.class_names == ("a", "b", "c")
    by_name = {item["name"]: (item["part"], item["label"]) for item in table.items}
    assert by_name == {
        "train/a/1": ("train", 0),
        "train/b/1": ("train", 1),
        "val/a/1": ("validation", 0),
        "Test/b/1": ("test", 1),
        "Test/c/1": ("test", 2),
    }
    assert column(read_part(tmp_path, "validation"), "name") == ["val/a/1"]


def test_a_folder_of_images_has_no_labels(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "2/a.dcm", "2/.a.png", "notes.csv")
    table = read_table(tmp_path)
    assert table == ImageTable(
        (),
        [
            {"image": str(tmp_path / f"{name}{suffix}"), "name": name, "label": UNLABELED, "group": name}
            for name, suffix in (("2/a", ".dcm"), ("b", ".png"))
        ],
    )
    (tmp_path / "b.png").unlink()
    assert read_table(tmp_path).class_names == ()


def test_layout_by_name(tmp_path: Path) -> None:
    touch(tmp_path, "patient1/a.png", "patient2/b.png")
    assert read_table(tmp_path, "classes").class_names == ("patient1", "patient2")
    assert read_table(tmp_path, "images").class_names == ()
    assert "looked for ISIC-2017_Training_Data/ and" in read_error(tmp_path, "isic2017")
    assert "has not a table (.csv, .tsv, .txt; any delimiter) with a column 'image'" in read_error(tmp_path, "csv")
    assert f"there is no layout 'imagenet' (layout): use {', '.join(LAYOUTS)}" in read_error(tmp_path, "imagenet")
    assert "does not exist" in read_error(tmp_path / "none", "classes")


def test_folders_with_mistakes(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "a/1.jpg", "b/2.png")
    assert "1 images differ from another one only in the suffix, or in how an accent is stored" in read_error(tmp_path)
    touch(tmp_path, "c.png")
    assert "1 images (c.png) are in no class's folder" in read_error(tmp_path, "classes")
    touch(tmp_path / "parts", "train/x/1.png", "train/y/1.png", "training/x/1.png")
    assert "training and another folder are both the part train" in read_error(tmp_path / "parts")
    touch(tmp_path / "one", "x/1.png")
    assert "at least 2 classes" in read_error(tmp_path / "one", "classes")


def test_nothing_fits(tmp_path: Path) -> None:
    assert "does not exist (dataset_dir)" in read_error(tmp_path / "none")
    touch(tmp_path, "report.pdf", "numbers.csv", "folder/readme.md")
    message = read_error(tmp_path)
    assert f"{tmp_path} (dataset_dir) has folder/, numbers.csv, report.pdf. Looked for one of:" in message
    assert all(text in message for text in LAYOUTS.values())
    assert "is neither a .json file" in read_error(tmp_path / "report.pdf")
    assert "is neither a .json file" in read_error(tmp_path / "numbers.csv")
    assert "there are no images in" in read_error(tmp_path, "images")


def test_a_folder_of_official_data_sets_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "aptos/train_images/a.png", "aptos/train.csv", "other/b.png")
    assert f"train_images/ and train.csv are not in {tmp_path} but in {tmp_path / 'aptos'}: use" in read_error(tmp_path)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("ISIC2018_Task3_Training_Input", "ISIC2018_Task3_Test_Input"), "ISIC2018_Task3_Training_GroundTruth.csv"),
        (("ISIC-2017_Training_Data", "ISIC-2017_Validation_Data"), "ISIC-2017_Training_Part3_GroundTruth.csv"),
        (("train_images", "test_images"), "train.csv"),
    ],
)
def test_official_folders_without_ground_truth(folders: tuple[str, ...], message: str, tmp_path: Path) -> None:
    touch(tmp_path, *(f"{folder}/{i}.png" for i, folder in enumerate(folders)))
    assert f"looked for {folders[0]}/ and {message} in {tmp_path}" in read_error(tmp_path)
    # They are folders like any others where a list says what is in them.
    (tmp_path / "list.csv").write_text(f"image,label\n{folders[0]}/0,a\n{folders[1]}/1,b\n")
    assert read_table(tmp_path).class_names == ("a", "b")


# CSV


def test_csv_with_names_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.png", "images/b.nii.gz", "c.jpg", "series/1.dcm")
    text = (
        "Patient_ID,label,age,Image\n"
        "p1,nevus,50,images/a.png\np1,melanoma,51,images/b.nii.gz\n,,52,c\np2,nevus,53,series\n"
    )
    (tmp_path / "my list.csv").write_text(text)
    table = read_table(tmp_path / "my list.csv")
    assert table == read_table(tmp_path)
    assert table.class_names == ("melanoma", "nevus")
    assert table.items == [
        {"image": str(tmp_path / "images/a.png"), "name": "images/a", "label": 1, "group": "p1"},
        {"image": str(tmp_path / "images/b.nii.gz"), "name": "images/b", "label": 0, "group": "p1"},
        {"image": str(tmp_path / "c.jpg"), "name": "c", "label": UNLABELED, "group": "c"},
        {"image": str(tmp_path / "series"), "name": "series", "label": 1, "group": "p2"},
    ]


def test_csv_with_numbers_as_classes(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.png" for i in range(4)))
    (tmp_path / "a.csv").write_text("image,label,split\n0.png,10,train\n1.png,2.0,val\n2.png,2,test\n3.png,-1,train\n")
    table = read_table(tmp_path)
    assert table.class_names == ("2", "10")
    assert column(table, "label") == [1, 0, 0, UNLABELED]
    assert column(table, "part") == ["train", "validation", "test", "train"]


def test_csv_one_hot(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "a.csv").write_text("NV,image,lesion,MEL\n1,a,L1,0\n0.0,b,L1,1.0\n")
    table = read_table(tmp_path)
    assert table.class_names == ("NV", "MEL")
    assert column(table, "label") == [0, 1]
    assert column(table, "group") == ["L1", "L1"]


def test_csv_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "a.csv").write_text("image\na.png\n")
    assert read_table(tmp_path).class_names == ()


def test_csv_elsewhere_than_the_images(tmp_path: Path) -> None:
    touch(tmp_path, "x/1/a.png", "x/2/a.png", "lists/note.txt")
    (tmp_path / "lists/a.csv").write_text(f"image,label\n../x/1/a.png,n\n{tmp_path}/x/2/a.png,m\n")
    assert column(read_table(tmp_path / "lists"), "name") == ["1/a", "2/a"]


def test_csv_with_mistakes(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    file = tmp_path / "a.csv"
    file.write_text("image,label,part\na.png,n,train\na.png,m,train\nz.png,n,holdout\nb.png,mask.nii.gz,train\n")
    message = read_error(tmp_path)
    for text in (
        f"4 problem(s) in {file}",
        "1 files do not exist (z.png): add them",
        "1 images are listed twice (a)",
        "1 labels are files (mask.nii.gz): this is a list for segmentation",
        "1 parts have an unknown name (holdout): call them train, validation, test",
    ):
        assert text in message
    file.write_text("image,NV,MEL,age\na.png,0,0,50\nb.png,0,1,1\n")
    assert "1 rows need exactly one 1 and else 0 in NV, MEL (a.png)" in read_error(tmp_path)
    file.write_text("image,melanoma\na.png,0\nb.png,1\n")
    assert "column melanoma has 0 and 1 only: call it 'label' if it is the class" in read_error(tmp_path)
    file.write_text("image,label\n")
    assert "lists no images" in read_error(tmp_path)
    file.write_text("scan,label\nq.png,n\n")
    message = read_error(file, "csv")
    assert "no column of images (image, images, image_id" in message
    assert "its columns are: scan, label. Call the column of images 'image'." in message
    file.write_text("image,label\na.png,n\n")
    (tmp_path / "b.csv").write_text("image,label\nb.png,n\n")
    assert "2 files that list images (a.csv, b.csv): name the right one" in read_error(tmp_path)


# Data lists


def test_data_list(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b/c.dcm", "d.png", "e.png", "nevus/x.txt")
    file = write_list(
        tmp_path,
        training=[{"image": "a.png", "label": "nevus", "patient": 7}, {"image": "b/c.dcm"}],
        validation=[{"image": "./d.png", "label": "melanoma"}],
        test=["e.png"],
    )
    table = read_table(file)
    assert table == read_table(tmp_path)
    assert table.class_names == ("melanoma", "nevus")
    # A folder of the name of a class makes no difference.
    assert table.items == [
        {"image": str(tmp_path / "a.png"), "name": "a", "label": 1, "group": "7", "part": "train"},
        {"image": str(tmp_path / "b/c.dcm"), "name": "b/c", "label": UNLABELED, "group": "b/c", "part": "train"},
        {"image": str(tmp_path / "d.png"), "name": "d", "label": 0, "group": "d", "part": "validation"},
        {"image": str(tmp_path / "e.png"), "name": "e", "label": UNLABELED, "group": "e", "part": "test"},
    ]


def test_data_list_with_numbers(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{i}.png" for i in range(3)))
    write_list(tmp_path, training=[{"image": f"{i}.png", "label": label} for i, label in enumerate((10, 0, 2))])
    table = read_table(tmp_path)
    assert table.class_names == ("0", "2", "10")
    assert column(table, "label") == [2, 0, 1]
    assert column(read_part(tmp_path, "Training"), "label") == [2, 0, 1]
    with pytest.raises(DataError, match=r"has no part 'Test' \(part\): it has train"):
        read_part(tmp_path, "Test")


def test_data_list_with_mistakes(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "labels/a.nii.gz")
    write_list(
        tmp_path,
        training=[{"image": "a.png", "label": "labels/a.nii.gz"}, {"image": ["a.png", "a.png"]}, 3, {"label": 1}],
        test=["a.png", "b.png"],
    )
    message = read_error(tmp_path)
    for text in (
        "4 problem(s) in",
        "3 items do not have exactly one path as their 'image' (training 1, training 2, training 3)",
        "1 labels are files (labels/a.nii.gz)",
        "1 images are listed twice (a)",
        "1 files do not exist (b.png)",
    ):
        assert text in message
    (tmp_path / "dataset.json").write_text('{"training": "all of them"}')
    assert "is not a JSON file with a list of images" in read_error(tmp_path / "dataset.json", "json")
    (tmp_path / "dataset.json").write_text('{"training": [')
    assert "is neither a .json file" in read_error(tmp_path / "dataset.json")
