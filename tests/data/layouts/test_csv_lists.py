# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Lists of images as in real data sets: the meaning of each column, and the file of each row."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from monai_fgssl.data.layouts.registry import explain_missing_labels, read_table, recognize_layout
from monai_fgssl.data.layouts.table import UNLABELED, ImageTable
from monai_fgssl.utils.errors import DataError

MISSING = ("", "nan", "NaN", "NA", "N/A", "None", "null", "-1", "-1.0", "<NA>")

CLASSES = ("nevus", "Nävus", "naevus, benign", "grade 1/2", 'the "other"', "2", "10", "-", "$a^b$", "x;y")


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def labels(table: ImageTable) -> dict[str, str | None]:
    return {
        item["name"]: None if item["label"] == UNLABELED else table.class_names[item["label"]] for item in table.items
    }


def column(table: ImageTable, key: str) -> dict[str, Any]:
    return {item["name"]: item.get(key) for item in table.items}


def read_error(path: Path, layout: str | None = None) -> str:
    with pytest.raises(DataError) as error:
        read_table(path, layout)
    return str(error.value)


@st.composite
def lists(draw: st.DrawFn) -> list[tuple[str, str, str, str]]:
    """Stem, label, patient and part of 2 to 9 images; the first two have different labels."""
    stems = draw(st.lists(st.sampled_from("abcdefghijkl"), min_size=2, max_size=9, unique=True))
    classes = draw(st.lists(st.sampled_from(CLASSES), min_size=2, max_size=4, unique=True))
    label, patient = st.sampled_from((*classes, *MISSING)), st.sampled_from(("P1", "P2", "7", *MISSING, "unknown"))
    part = st.sampled_from(("train", "Val", "testing"))
    rows = [(stem, draw(label), draw(patient), draw(part)) for stem in stems]
    rows = [(row[0], classes[number], *row[2:]) if number < 2 else row for number, row in enumerate(rows)]
    known = [row for row in rows if row[1] not in MISSING]
    numbers, names = ({row[3] for row in known if row[1].isdigit() == kind} for kind in (True, False))
    # Numbers in some parts and names in the others are refused.
    assume(not numbers or not names or numbers & names)
    return rows


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_one_table_in_every_dialect(data: st.DataObject) -> None:
    rows = data.draw(lists())
    draw = data.draw
    suffix = draw(st.sampled_from((".png", ".JPG", ".nii.gz")))
    names = {
        "image": draw(st.sampled_from(("image", "Image", "img_id", "Image Index", "file_name", "isic_id", "my scans"))),
        "label": draw(st.sampled_from(("label", "Diagnosis", "diagnostic", "dx", "Finding Labels", "target"))),
        "patient": draw(st.sampled_from(("patient_id", "Patient ID", "lesion_id", "PatientID", "subject"))),
        "part": draw(st.sampled_from(("part", "Split", "subset"))),
    }
    order = draw(st.permutations(list(names)))
    style = draw(st.sampled_from(("path", "without suffix", "backslashes", "other case", "name", "other machine")))
    delimiter = draw(st.sampled_from(",;\t|"))
    encoding = draw(st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252")))
    quoting = draw(st.sampled_from((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)))
    has_index = draw(st.booleans())

    def written(stem: str) -> str:
        return {
            "path": f"imgs/{stem}{suffix}",
            "without suffix": f"imgs/{stem}",
            "backslashes": f"imgs\\{stem}{suffix}",
            "other case": f"Imgs/{stem.upper()}{suffix.swapcase()}",
            "name": f"{stem}{suffix}",
            "other machine": f"D:\\study\\imgs\\{stem}{suffix}",
        }[style]

    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, quoting=quoting)
    writer.writerow([""] * has_index + [names[key] for key in order] + ["age"])
    for number, (stem, *others) in enumerate(rows):
        values = dict(zip(names, (written(stem), *others), strict=True))
        writer.writerow([str(number)] * has_index + [values[key] for key in order] + [str(30 + number)])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        touch(root, *(f"imgs/{row[0]}{suffix}" for row in rows))
        (root / "list.csv").write_bytes(buffer.getvalue().encode(encoding))
        table = read_table(root)
        assert [Path(item["image"]) for item in table.items] == [root / f"imgs/{row[0]}{suffix}" for row in rows]
    expected = [
        (
            f"imgs/{stem}",
            None if label in MISSING else label,
            f"imgs/{stem}" if patient in (*MISSING, "unknown") else patient,
            {"train": "train", "Val": "validation", "testing": "test"}[part],
        )
        for stem, label, patient, part in rows
    ]
    found = [(item["name"], labels(table)[item["name"]], item["group"], item["part"]) for item in table.items]
    assert found == expected
    known = {label for _, label, _, _ in rows if label not in MISSING}
    assert table.class_names == tuple(
        sorted(known, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    )
    told = table.notes[0]
    assert told.startswith("list.csv")
    assert f"images from column {names['image']}; classes from" in told


# Data sets as they are unpacked


def test_pad_ufes_20(tmp_path: Path) -> None:
    touch(tmp_path, "imgs_part_1/PAT_1_2_3.png", "imgs_part_1/PAT_1_4_5.png", "imgs_part_2/PAT_9_8_7.png")
    write(
        tmp_path / "metadata.csv",
        "patient_id,lesion_id,smoke,age,diagnostic,itch,img_id,biopsed",
        "PAT_1,2,False,55,BCC,True,PAT_1_2_3.png,True",
        "PAT_1,4,,55,NEV,False,PAT_1_4_5.png,False",
        "PAT_9,8,True,77,BCC,UNK,PAT_9_8_7.png,True",
    )
    table = read_table(tmp_path)
    assert labels(table) == {
        "imgs_part_1/PAT_1_2_3": "BCC",
        "imgs_part_1/PAT_1_4_5": "NEV",
        "imgs_part_2/PAT_9_8_7": "BCC",
    }
    assert list(column(table, "group").values()) == ["PAT_1", "PAT_1", "PAT_9"]
    assert table.notes == (
        "metadata.csv: images from column img_id; classes from column diagnostic; groups from patient_id and "
        "lesion_id; not used: smoke, age, itch, biopsed",
        "3 images are looked up by name (in imgs_part_1/ 2, imgs_part_2/ 1)",
    )


def test_ham10000_as_kaggle_unpacks_it(tmp_path: Path) -> None:
    # Kaggle's archive has every image twice, in folders whose names differ in case.
    for folder in ("HAM10000_images_part_1", "ham10000_images_part_1"):
        touch(tmp_path, f"{folder}/ISIC_1.jpg", f"{folder}/ISIC_2.jpg")
    touch(tmp_path, "HAM10000_images_part_2/ISIC_3.jpg")
    write(tmp_path / "hmnist_8_8_L.csv", "pixel0000,pixel0001,label", "169,171,2", "23,52,1")
    write(
        tmp_path / "HAM10000_metadata.csv",
        "lesion_id,image_id,dx,dx_type,age,sex,localization",
        "HAM_7,ISIC_1,bkl,histo,80.0,male,scalp",
        "HAM_7,ISIC_2,bkl,histo,80.0,male,scalp",
        "HAM_8,ISIC_3,nv,follow_up,,female,ear",
    )
    table = read_table(tmp_path)
    assert list(labels(table).values()) == ["bkl", "bkl", "nv"]
    assert list(column(table, "group").values()) == ["HAM_7", "HAM_7", "HAM_8"]
    assert "2 images are there more than once, in equal files: the first one is taken" in table.notes
    assert "hmnist_8_8_L.csv names no image: not used" in table.notes
    (tmp_path / "ham10000_images_part_1/ISIC_2.jpg").write_bytes(b"another")
    assert "1 names may be several files (ISIC_2: HAM10000_images_part_1/ISIC_2.jpg, ham10" in read_error(tmp_path)


def test_isic_2019_joins_its_two_tables(tmp_path: Path) -> None:
    touch(tmp_path, *(f"ISIC_2019_Training_Input/ISIC_2019_Training_Input/ISIC_{number}.jpg" for number in range(3)))
    write(
        tmp_path / "ISIC_2019_Training_GroundTruth.csv",
        "image,MEL,NV,BCC,UNK",
        "ISIC_0,0.0,1.0,0.0,0.0",
        "ISIC_1,0.0,1.0,0.0,0.0",
        "ISIC_2,1.0,0.0,0.0,0.0",
    )
    write(
        tmp_path / "ISIC_2019_Training_Metadata.csv",
        "image,age_approx,anatom_site_general,lesion_id,sex",
        "ISIC_0,55.0,anterior torso,BCN_1,male",
        "ISIC_1,55.0,,BCN_1,male",
        "ISIC_2,,,,",
    )
    table = read_table(tmp_path)
    assert table.class_names == ("MEL", "NV")
    assert list(labels(table).values()) == ["NV", "NV", "MEL"]
    assert [group.rsplit("/", 1)[-1] for group in column(table, "group").values()] == ["BCN_1", "BCN_1", "ISIC_2"]
    assert "no image has the class BCC, UNK: left out" in table.notes
    assert "ISIC_2019_Training_Metadata.csv adds to 3 of the 3 images" in table.notes


def test_nih_chest_xray14_has_label_vectors(tmp_path: Path) -> None:
    touch(tmp_path, "images_001/images/00000001_000.png", "images_002/images/00000002_000.png")
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,View Position,OriginalImage[Width,Height],"
    first = "00000001_000.png,Cardiomegaly,0,1,PA,2682,2749,"
    write(tmp_path / "Data_Entry_2017.csv", header, first, "00000002_000.png,Cardiomegaly|Emphysema,1,2,PA,2894,2729,")
    table = read_table(tmp_path)
    assert table.class_names == ("Cardiomegaly", "Emphysema")
    assert list(column(table, "label").values()) == [(1, 0), (1, 1)]
    write(tmp_path / "Data_Entry_2017.csv", header, first, "00000002_000.png,No Finding,1,2,PA,2894,2729,")
    table = read_table(tmp_path)
    assert list(labels(table).values()) == ["Cardiomegaly", "No Finding"]
    assert list(column(table, "group").values()) == ["1", "2"]


def test_c_nmc_has_classes_in_folds(tmp_path: Path) -> None:
    touch(tmp_path, *(f"fold_{fold}/{name}/UID_{fold}.bmp" for fold in range(3) for name in ("all", "hem")))
    table = read_table(tmp_path)
    assert table.class_names == ("all", "hem")
    assert labels(table)["fold_1/hem/UID_1"] == "hem"
    assert "classes from the folders in fold_0, fold_1, fold_2" in table.notes
    preliminary = tmp_path / "prelim"
    touch(preliminary, "1.bmp", "2.bmp")
    write(
        preliminary / "C-NMC_labels.csv", "Patient_ID,new_names,labels", "UID_57_all.bmp,1.bmp,1", "UID_9.bmp,2.bmp,0"
    )
    assert labels(read_table(preliminary)) == {"1": "1", "2": "0"}


def test_part_tables(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/{name}.png" for name in "abc"))
    for part, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        write(tmp_path / f"{part}.csv", "Path,label", f"CheXpert-v1.0-small/images/{name}.png,{name}")
    table = read_table(tmp_path)
    assert list(column(table, "part").values()) == ["test", "train", "validation"]
    assert labels(table) == {f"images/{name}": name for name in "cab"}


# Which column is what


def test_two_columns_may_be_the_class(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    isic_2020 = "image_name,patient_id,diagnosis,target"
    write(tmp_path / "train.csv", isic_2020, "a,P1,nevus,0", "b,P1,unknown,0", "c,P2,melanoma,1")
    assert "columns target, diagnosis may all be the class, and differ: call the right one 'label'" in read_error(
        tmp_path
    )
    write(tmp_path / "train.csv", isic_2020, "a,P1,nevus,0", "b,P1,nevus,0", "c,P2,melanoma,1")
    assert set(labels(read_table(tmp_path)).values()) == {"0", "1"}
    write(tmp_path / "train.csv", "image,diagnosis,label", "a,x,0", "b,y,0", "c,z,1")
    assert set(labels(read_table(tmp_path)).values()) == {"0", "1"}


def test_two_columns_may_be_the_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a_mask.png", "b.png", "b_mask.png")
    write(tmp_path / "list.csv", "image file,mask path,file,label", "a.png,,a_mask.png,n", "b.png,,b_mask.png,m")
    assert "columns image file, file name different files: call the right one 'image'" in read_error(tmp_path)
    write(tmp_path / "list.csv", "image_id,path,label", "a,./a.png,n", "b,./b.png,m")
    assert labels(read_table(tmp_path)) == {"a": "n", "b": "m"}


def test_names_of_files_tell_the_column(tmp_path: Path) -> None:
    touch(tmp_path, "nevus/a.png", "nevus/b.png", "melanoma/c.png")
    rows = ["a.png,nevus,1", "b.png,nevus,2", "c.png,melanoma,3"]
    write(tmp_path / "list.csv", "scan,class,number", *rows)
    assert labels(read_table(tmp_path)) == {"nevus/a": "nevus", "nevus/b": "nevus", "melanoma/c": "melanoma"}
    # Without a header, or with few of its images: a list all the same.
    write(tmp_path / "list.csv", *rows)
    assert "list.csv: its first row names an image, not the columns" in read_error(tmp_path)
    write(tmp_path / "list.csv", "scan,class,number", *rows[:1], *(f"x{i}.png,nevus,{i}" for i in range(20)))
    assert "list.csv: names 1 images in the first 21 rows of column 'scan': call it 'image'" in read_error(tmp_path)
    assert read_table(tmp_path, "classes").class_names == ("melanoma", "nevus")


def test_tables_of_other_things_are_none(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/{number}.png" for name in ("nevus", "melanoma") for number in range(3)))
    write(tmp_path / "log.csv", "epoch,loss", "0,1.5", "1,0.5", "2,0.2")
    write(tmp_path / "classes.csv", "class,meaning", "nevus,benign", "melanoma,malignant")
    write(tmp_path / "readme.txt", "Images of two classes, see nevus and melanoma.")
    (tmp_path / "settings.json").write_text(json.dumps({"epochs": 3}))
    table = read_table(tmp_path)
    assert table.class_names == ("melanoma", "nevus")
    assert table.notes == tuple(
        f"{name} names no image: not used" for name in ("classes.csv", "log.csv", "settings.json")
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.xlsx", b"PK", "labels.xlsx may list the images, but can't be read: save it as CSV"),
        ("labels.csv", "image,label\n0.png,Меланома\n".encode("cp1251"), "labels.csv is not in UTF-8"),
        ("labels.json", b'{"training": [', "labels.json can't be read as JSON"),
        ("coco.json", b'{"images": [{"file_name": "0.png"}]}', "coco.json names images, but is not a MONAI data list"),
        ("labels.txt", b"a/0.png 1\nb/1.png 0\n", "labels.txt: its first row names an image"),
    ],
)
def test_a_list_that_is_not_understood_is_told(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    touch(tmp_path, "a/0.png", "b/1.png")
    (tmp_path / name).write_bytes(content)
    told = read_error(tmp_path)
    assert message in told
    assert "layout 'classes' (the folders' names are the classes)" in told
    assert read_table(tmp_path, "classes").class_names == ("a", "b")


def test_a_list_that_breaks_off_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "a/0.png", "b/1.png")
    write(tmp_path / "labels.csv", "image,label", '"0.png,n')
    assert "labels.csv: can't be read as a table (line 2: unexpected end of data)" in read_error(tmp_path)


def test_several_lists(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    write(tmp_path / "first.csv", "image,label", "a.png,n", "b.png,m")
    write(tmp_path / "second.csv", "image,label", "a.png,m", "b.png,n")
    assert "2 files that list images (first.csv, second.csv): name the right one" in read_error(tmp_path)
    (tmp_path / "second.csv").unlink()
    (tmp_path / "list.json").write_text(json.dumps({"training": ["a.png"]}))
    assert "2 files that list images (list.json, first.csv): name the right one" in read_error(tmp_path)
    assert recognize_layout(tmp_path / "first.csv") == "csv"


# Values


def test_dummies_of_pandas_and_empty_rows(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    write(tmp_path / "list.csv", "image,NV,MEL,age", "a,True,False,5", "b,False,True,6", "c,,,7")
    assert labels(read_table(tmp_path)) == {"a": "NV", "b": "MEL", "c": None}


def test_labels_with_two_readings_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png")
    file = tmp_path / "list.csv"
    for values, message in (
        (("1", "-1", "1", "-1"), "its labels are -1 and 1: -1 means 'not known'. If it is a class, write names."),
        (("None", "mild", "severe", "mild"), "a label is 'none' beside mild, severe: if it is a grade, call it"),
        (("Nevus", "nevus", "nevus", "MEL"), "Nevus (1 images) and nevus (2 images) are nearly the same name"),
        (("basal cell", "Basal_Cell", "n", "n"), "basal cell (1 images) and Basal_Cell (1 images) are nearly"),
        (('"[0, 1]"', '"[1, 0]"', "n", "n"), "2 images have several classes at once ([0, 1], [1, 0])"),
        (('"n,m"', "n", "m", "n"), "1 images have several classes at once (n,m)"),
    ):
        write(file, "image,label", *(f"{name}.png,{value}" for name, value in zip("abcd", values, strict=True)))
        assert message in read_error(file)


def test_missing_labels_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}.png" for name in "abcde"))
    write(tmp_path / "list.csv", "image,label", "a,nan", "b,n", "c,m", "d,NaN", "e,")
    assert "3 images have no label (nan 1, NaN 1, empty 1)" in read_table(tmp_path).notes


def test_a_patient_and_its_lesions_are_one_group(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}.png" for name in "abcde"))
    rows = ["a,n,P1,L1", "b,n,,L1", "c,m,P1,", "d,m,,L9", "e,n,nan,nan"]
    write(tmp_path / "list.csv", "image,label,patient_id,lesion_id", *rows)
    assert list(column(read_table(tmp_path), "group").values()) == ["P1", "P1", "P1", "L9 (2)", "e"]
    # As pandas writes numbers beside missing ones.
    write(tmp_path / "list.csv", "image,label,patient_id", "a,n,7", "b,n,7.0", "c,m,", "d,m,8.0", "e,n,8")
    assert list(column(read_table(tmp_path), "group").values()) == ["7", "7", "c", "8", "8"]


def test_equal_rows_count_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.dcm", "b.dcm")
    rows = ["a,264,152,1", "a,562,152,1", "b,,,0"]
    table = read_table(write(tmp_path / "stage_2_train_labels.csv", "patientId,x,y,Target", *rows))
    assert labels(table) == {"a": "1", "b": "0"}
    assert "1 rows repeat another one" in table.notes


def test_labels_in_json(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}.png" for name in "abcd"))
    values = [1, 0.0, float("nan"), None]
    items = [{"image": f"{name}.png", "label": value} for name, value in zip("abcd", values, strict=True)]
    (tmp_path / "list.json").write_text(json.dumps({"training": items}), encoding="utf-16")
    assert labels(read_table(tmp_path)) == {"a": "1", "b": "0", "c": None, "d": None}
    items[0]["label"], items[1]["label"] = [0, 1], [1]
    (tmp_path / "list.json").write_text(json.dumps({"training": items}))
    assert "lists of different lengths, or lists beside single values" in read_error(tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("id,label", "0,a", "1,b", "2,a"), "names 3 images in the first 3 rows of column 'id': call it 'image'"),
        (("My study", "image,label", "0.png,a"), "its first line must name the columns"),
        (("My study,", "image,label", "0.png,a", "1.png,b"), "a later one does (image, label): delete what is above"),
        (("image,label,split", "0.png,a,train", "1.png,b,"), "1 parts have an unknown name (empty)"),
        (("image,label", "0.png,a\u200b", "1.png,a", "2.png,b"), "are nearly the same name"),
        (("image,label", "0.png,nevus.", "1.png,nevus", "2.png,b"), "are nearly the same name"),
        (("image_id,label", "0.0,a", "1.0,b"), "(is 0.png meant?)"),
        (("image,label", *(f"{i}.png,{i / 64}" for i in range(30))), "there are 30 different labels for 30 images"),
    ],
)
def test_more_mistakes(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.png" for number in range(30)))
    write(tmp_path / "list.csv", *lines)
    assert message in read_error(tmp_path)


def test_fields_of_json(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    items: list[dict[str, Any]] = [{"image": f"{name}.png", "class": name, "age": 5} for name in "ab"]
    (tmp_path / "list.json").write_text(json.dumps({"training": items}))
    table = read_table(tmp_path)
    assert labels(table) == {"a": "a", "b": "b"}
    assert table.notes == ("list.json: classes from field class; not used: age",)
    items[0]["class"] = {"a": 1}
    (tmp_path / "list.json").write_text(json.dumps({"training": items}))
    assert "1 labels are neither a name nor a number (a.png)" in read_error(tmp_path)


def test_what_may_have_been_meant_by_a_data_set_without_labels(tmp_path: Path) -> None:
    touch(tmp_path, "inner/a/0.png", "inner/b/1.png")
    assert f"{tmp_path / 'inner'} looks like a data set with labels: use that" in explain_missing_labels(tmp_path)
    touch(tmp_path, "inner/logo.png")
    assert "move away what lies beside them (logo.png)" in explain_missing_labels(tmp_path / "inner")
    touch(tmp_path, "pairs/images/0.png", "pairs/masks/0.png")
    assert "are named like pieces of a data set" in read_error(tmp_path / "pairs")


def test_images_that_are_not_listed_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png", "c_mask.png", "b.jpg", "sub/d.png", "readme.txt")
    write(tmp_path / "labels.csv", "image,label", "a.png,x", "b.png,y")
    assert any(
        "1 images beside the listed ones are not in labels.csv (c.png): not used" in one
        for one in read_table(tmp_path).notes
    )
    write(tmp_path / "labels.csv", "image,label", "a.png,x", "b.png,y", "c.png,x")
    assert not any("not in labels.csv" in one for one in read_table(tmp_path).notes)


def test_patients_with_nearly_the_same_name_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    write(tmp_path / "labels.csv", "image,label,patient_name", "a.png,x,Ann Lee", "b.png,y,ann lee", "c.png,y,Bob")
    notes = read_table(tmp_path).notes
    assert any("written nearly alike: those of a and b;" in one for one in notes)
    # A patient's name is not printed.
    assert not any("lee" in one.lower() for one in notes)


@pytest.mark.parametrize(("patient", "is_told"), [("1.23E+11", True), ("1,2e+11", True), ("123456789012", False)])
def test_patients_that_a_spreadsheet_has_rounded_are_told(patient: str, is_told: bool, tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    write(tmp_path / "labels.csv", "image;label;patient_id", f"a.png;x;{patient}", f"b.png;y;{patient}", "c.png;y;P2")
    table = read_table(tmp_path)
    assert column(table, "group") == {"a": patient, "b": patient, "c": "P2"}
    assert any("of some images (a) are written such as 1.23E+11, long numbers" in one for one in table.notes) == is_told


@pytest.mark.parametrize("name", ["Patient Name", "patient_number", "PatientNo", "participant", "subject_no"])
def test_other_names_of_patients_are_groups(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    write(tmp_path / "labels.csv", f"image,label,{name}", "a.png,x,P1", "b.png,y,P1", "c.png,y,P2")
    assert column(read_table(tmp_path), "group") == {"a": "P1", "b": "P1", "c": "P2"}


@pytest.mark.parametrize(("patient", "count"), [("P1", 0), ("", 1), ("unknown", 1)])
def test_images_without_a_patient_are_counted(patient: str, count: int, tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    write(tmp_path / "labels.csv", "image,label,patient_id", f"a.png,x,{patient}", "b.png,y,P1", "c.png,y,P2")
    told = [note for note in read_table(tmp_path).notes if "no patient or lesion" in note]
    assert [note.partition(" of ")[0] for note in told] == [str(count)] * bool(count)
