# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A user's own images: pre-training on a folder without labels, fine-tuning on a folder for each class."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from monai_fgssl.data import read_isic2018

REPOSITORY = Path(__file__).parents[2]
SMALL = {"image_size": 32, "width": 16, "embedding_dim": 16, "max_epochs": 1}
SMALL |= {"batch_size": 8, "pretrain_batch_size": 16}


def run(config_file: str, dataset_dir: Path, output: Path, **changes: object) -> str:
    settings = SMALL | {"dataset_dir": dataset_dir, "output_dir": output, "model_path": output / "model.pt"} | changes
    options = [text for name, value in (settings | {"device": "cpu"}).items() for text in (f"--{name}", str(value))]
    result = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "--config_file", config_file, *options],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_from_unlabeled_images_to_classes_in_folders(lesions: Path, tmp_path: Path) -> None:
    unlabeled, classes = tmp_path / "unlabeled", tmp_path / "classes"
    unlabeled.mkdir()
    table = read_isic2018(lesions)
    names = table.class_names[:3]
    # The sex is made up: it alternates from lesion to lesion.
    groups = sorted({item["group"] for item in table.items})
    sex_of = {item["name"]: "FM"[groups.index(item["group"]) % 2] for item in table.items}
    (tmp_path / "sex.csv").write_text("\n".join(["image,sex", *map(",".join, sex_of.items())]))
    for item in table.items:
        shutil.copy(item["image"], unlabeled)
        if item["label"] < len(names):
            folder = classes / names[item["label"]]
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(item["image"], folder)

    pretraining = "['bundles/fgssl/configs/train.json','bundles/fgssl/configs/pretrain.json']"
    printed = run(pretraining, unlabeled, tmp_path / "first", pretrain_epochs=1)
    assert f"{len(table.items)} images" in printed
    assert "before pre-training: rank concat" in printed
    pretrained = tmp_path / "first" / "pretrained.pt"
    settings = {"pretrained": pretrained, "pretrain_epochs": 0, "compare": False, "balance": "sampling"}
    settings |= {"subgroup_columns": "sex", "subgroup_file": tmp_path / "sex.csv"}
    run("bundles/fgssl/train.json", classes, tmp_path / "second", **settings)
    record = json.loads((tmp_path / "second" / "model.json").read_text())
    assert record["class_names"] == sorted(names)
    with (tmp_path / "second" / "predictions.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["image", *record["class_names"]]
    found = json.loads((tmp_path / "second" / "metrics.json").read_text())["subgroups"]["sex"]["subgroups"]
    tested = [sex_of[Path(name).name] for name in json.loads((tmp_path / "second" / "split.json").read_text())["test"]]
    assert {sex: row["images"] for sex, row in found.items()} == {sex: tested.count(sex) for sex in ("F", "M")}
    before = torch.load(pretrained, weights_only=True)
    after = torch.load(tmp_path / "second" / "model.pt", weights_only=True)
    changes = [
        float((after[name] - value).norm() / value.norm())
        for name, value in before.items()
        if name.endswith("conv1.weight") and name in after
    ]
    # One epoch of fine-tuning moves weights a little; other random weights would be at a distance of about 1.4.
    assert changes
    assert max(changes) < 0.5
    # The same split again, from its file.
    again = settings | {"split_from": tmp_path / "second" / "split.json", "seed": 7}
    assert "as in" in run("bundles/fgssl/train.json", classes, tmp_path / "third", **again)
    splits = [json.loads((tmp_path / name / "split.json").read_text()) for name in ("second", "third")]
    assert splits[0] == splits[1]
