# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Images of each part from any data set: reused splits, folds, duplicates, labels and missing labels."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from monai_fgssl.data.io.geometry import ImageGeometry, read_image
from monai_fgssl.data.layouts.table import PARTS
from monai_fgssl.data.prepare import PreparedData, load_test_images, prepare_data
from monai_fgssl.data.splits import SplitPlan
from monai_fgssl.data.synthetic.dataset import make_synthetic
from monai_fgssl.data.synthetic.lesions import TEXTURES, draw_lesion
from monai_fgssl.utils.errors import DataError

FRACTIONS = {"train": 0.6, "validation": 0.2, "test": 0.2}


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of three classes with 12 lesions; of every second one there is a brighter copy."""
    root = tmp_path_factory.mktemp("data") / "classes"
    for label, name in enumerate(list(TEXTURES)[:3]):
        (root / name).mkdir(parents=True)
        for number in range(12):
            image = Image.fromarray(draw_lesion(name, 48, lesion=12 * label + number))
            image.save(root / name / f"{number}.png")
            if number % 2 == 0:
                image.point(lambda value: min(255, 30 + 7 * value // 8)).save(root / name / f"{number}_copy.png")
    return root


PLAN = ("fractions", "seed", "split_from", "num_folds", "fold")


def prepare(dataset_dir: Path | None, output: Path, **options: Any) -> PreparedData:
    plan = SplitPlan(**{"fractions": FRACTIONS} | {name: options.pop(name) for name in PLAN if name in options})
    geometry = ImageGeometry(options.pop("image_size", 32))
    if dataset_dir is None:
        dataset_dir = make_synthetic(output / "synthetic", options.pop("synthetic_images", 70), geometry, plan.seed)
    return prepare_data(dataset_dir, geometry, plan, output / "split.json", **options)


def parts(data: PreparedData) -> dict[str, list[str]]:
    return {"train": data.train.names, "validation": data.validation.names, "test": data.test.names}


def test_duplicates_stay_together(classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = prepare(classes, tmp_path)
    assert data.class_names == ("COBBLESTONE", "GLOBULES", "NETWORK")
    assert len(data.train) + len(data.validation) + len(data.test) == 54
    for names in parts(data).values():
        assert all((f"{name}_copy" in names) == (name in names) for name in names if name[-1] in "02468")
    assert "near-duplicates: 18 pairs, 0 of them in different parts" in capsys.readouterr().out
    with (tmp_path / "duplicates.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    assert all(row["first"] + "_copy" == row["second"] and row["first_part"] == row["second_part"] for row in rows)


def test_duplicates_apart_are_reported(classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = prepare(classes, tmp_path, group_duplicates=False)
    part_of = {name: part for part, names in parts(data).items() for name in names}
    apart = sum(part_of[name] != part_of[f"{name}_copy"] for name in part_of if f"{name}_copy" in part_of)
    assert apart > 0
    assert f"near-duplicates: 18 pairs, {apart} of them in different parts" in capsys.readouterr().out


def test_images_labels_and_groups_are_those_of_the_names(classes: Path, tmp_path: Path) -> None:
    data = prepare(classes, tmp_path)
    for images in (data.train, data.validation, data.test):
        for i, name in enumerate(images.names):
            assert torch.equal(images[i]["image"], read_image(classes / f"{name}.png", 32))
            assert data.class_names[images.labels[i]] == name.split("/")[0]
            assert images.groups[i] == name.removesuffix("_copy")
    counts = Counter(name.split("/")[0] for name in data.test.names)
    assert all(3 <= count <= 4 for count in counts.values())


def test_loaded_images_are_used_again_for_other_labels(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(classes, tmp_path / "first", labels_per_class=4, label_seed=0)
    expected = prepare(classes, tmp_path / "read", labels_per_class=4, label_seed=1)
    monkeypatch.setattr("monai_fgssl.data.prepare.load_images", None)
    again = prepare(classes, tmp_path / "again", labels_per_class=4, label_seed=1, loaded=first)
    assert again.train.labels.tolist() == expected.train.labels.tolist() != first.train.labels.tolist()
    for part in PARTS:
        ours, theirs = (getattr(data, part) for data in (again, expected))
        assert (ours.names, ours.groups) == (theirs.names, theirs.groups)
        everything = list(range(len(ours)))
        assert torch.equal(ours[everything]["image"], theirs[everything]["image"])
    for file in ("split.json", "duplicates.csv"):
        assert (tmp_path / "again" / file).read_bytes() == (tmp_path / "read" / file).read_bytes()


def test_too_few_lesions_once_duplicates_count_as_one(tmp_path: Path) -> None:
    for label, name in enumerate(("a", "b")):
        for number in range(3):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            lesion = 10 * label if label else number
            Image.fromarray(draw_lesion("NETWORK", 48, lesion=lesion)).save(tmp_path / f"set/{name}/{number}.png")
    with pytest.raises(DataError, match=r"there are 1 of b\. .*3 pairs of near-duplicates.* group_duplicates=False"):
        prepare(tmp_path / "set", tmp_path)
    assert not (tmp_path / "split.json").exists()


def test_a_split_is_used_again(classes: Path, tmp_path: Path) -> None:
    first = prepare(classes, tmp_path / "1", seed=5)
    again = prepare(classes, tmp_path / "2", seed=6, split_from=tmp_path / "1" / "split.json")
    assert parts(again) == parts(first)
    assert parts(prepare(classes, tmp_path / "3", seed=6)) != parts(first)
    assert (tmp_path / "2" / "split.json").read_text() == (tmp_path / "1" / "split.json").read_text()
    split = json.loads((tmp_path / "1" / "split.json").read_text())
    other = {name: split[name] for name in FRACTIONS} | {"sha256": "0" * 64}
    (tmp_path / "other.json").write_text(json.dumps(other))
    with pytest.raises(DataError, match="split of another data set"):
        prepare(classes, tmp_path / "4", split_from=tmp_path / "other.json")


def test_a_number_of_labels_that_a_class_does_not_have_is_told(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = prepare(classes, tmp_path, labels_per_class=1000)
    counts = data.train.labels.bincount().tolist()
    told = ", ".join(f"{name} ({count})" for name, count in zip(data.class_names, counts, strict=True))
    assert f"note: train has fewer than 1000 labeled images of {told}" in capsys.readouterr().out


def test_folds(classes: Path, tmp_path: Path) -> None:
    folds = [prepare(classes, tmp_path / str(fold), num_folds=3, fold=fold) for fold in range(3)]
    tested = [name for data in folds for name in data.test.names]
    assert sorted(tested) == sorted(f"{path.parent.name}/{path.stem}" for path in classes.rglob("*.png"))
    for data in folds:
        assert not set(data.train.groups) & set(data.test.groups)
        # A quarter of what is not tested: 0.2 of 0.8.
        assert len(data.validation) == pytest.approx(9, abs=4)
    with pytest.raises(DataError, match=r"fold must be in 0...2 \(num_folds 3\), got 3"):
        prepare(classes, tmp_path, num_folds=3, fold=3)


def test_forgotten_labels(classes: Path, tmp_path: Path) -> None:
    whole = prepare(classes, tmp_path / "1")
    data = prepare(classes, tmp_path / "2", label_fraction=0.3)
    assert parts(data) == parts(whole)
    known = data.train.labels >= 0
    assert 0 < known.sum() < 0.5 * len(data.train)
    assert torch.equal(data.train.labels[known], whole.train.labels[known])
    assert torch.equal(data.test.labels, whole.test.labels)


def test_images_without_labels(classes: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(classes / "NETWORK", tmp_path / "images")
    with pytest.raises(DataError, match=r"no image in .* has a label, so it is good for pre-training only"):
        prepare(folder, tmp_path)
    data = prepare(folder, tmp_path, require_labels=False)
    assert data.class_names == ()
    assert [len(images) for images in (data.train, data.validation, data.test)] == [18, 0, 0]
    assert data.train.labels.tolist() == [-1] * 18
    assert len(data.train.labeled()) == 0


def test_images_of_an_official_part_name_the_data_set(lesions: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"but {lesions} has some: use that as dataset_dir"):
        prepare(lesions / "ISIC2018_Task3_Training_Input", tmp_path)


def test_synthetic_lesions_have_no_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = prepare(None, tmp_path, synthetic_images=140)
    assert len(data.class_names) == len(TEXTURES)
    assert "140 images in" in capsys.readouterr().out
    with (tmp_path / "duplicates.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1


def test_scored_parts(classes: Path, tmp_path: Path) -> None:
    data = prepare(classes, tmp_path)

    def load(part: str | None, class_names: tuple[str, ...] = data.class_names) -> list[str]:
        images = load_test_images(classes, part, tmp_path / "split.json", class_names, 32)
        assert all(
            class_names[label] == name.split("/")[0] for label, name in zip(images.labels, images.names, strict=True)
        )
        return images.names

    assert load(None) == data.test.names
    assert len(load("all")) == len(load("Training")) == 54
    # A model may know more classes, in any order.
    assert load(None, ("NETWORK", "STREAKS", "GLOBULES", "COBBLESTONE")) == data.test.names
    with pytest.raises(DataError, match="but the model was trained for GLOBULES"):
        load("all", ("GLOBULES",))
    with pytest.raises(DataError, match=r"has no part 'Test' \(part\): it has train"):
        load("Test")
    with pytest.raises(DataError, match=r"no image in .* has a label"):
        load_test_images(classes / "NETWORK", "all", "", data.class_names, 32)


def test_official_part_of_another_name(lesions: Path, tmp_path: Path) -> None:
    data = shutil.copytree(lesions, tmp_path / "data")
    for path in data.glob("ISIC2018_Task3_Training_*"):
        path.rename(path.with_name(path.name.replace("Training", "Clinic")))
    class_names = prepare(lesions, tmp_path).class_names
    assert len(load_test_images(data, "Clinic", "", class_names, 32)) == 140
    with pytest.raises(DataError, match=r"looked for ISIC2018_Task3_Test_Input/"):
        load_test_images(lesions, "Test", "", class_names, 32)
