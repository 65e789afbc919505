# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_files import write_dicom
from PIL import Image

from monai_fgssl.bundle import SettingsError, copy_bundle, make_network, read_record, save_model
from monai_fgssl.data import read_csv_list
from monai_fgssl.label.model import LabelModel
from monai_fgssl.label.options import train_settings
from monai_fgssl.label.pictures import as_png
from monai_fgssl.label.training import (
    fine_tune,
    newest_weights,
    pretrain,
    train_stats,
    training_refusal,
    write_data_list,
)
from monai_fgssl.networks import EnsembleNet, HierarchicalNet, PooledNet
from monai_fgssl.report.pictures import draw_image
from monai_fgssl.tasks import read_labels
from monai_fgssl.utils.tensors import read_state_dict

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)


def test_a_patient_is_a_group_without_a_name(tmp_path: Path) -> None:
    images: list[tuple[str | Path, str]] = []
    for number, patient in enumerate(["ID1", "ID2", "ID1", None]):
        path = write_dicom(tmp_path / f"{number}.dcm", PIXELS, PatientID=patient)
        images.append((path, "a, b" if number else ""))
    Image.fromarray(PIXELS).save(tmp_path / "photo.png")
    (tmp_path / "series").mkdir()
    write_dicom(tmp_path / "series" / "1.dcm", PIXELS, PatientID="ID2")
    images += [(tmp_path / "photo.png", "a, b"), (tmp_path / "series", "c")]
    assert write_data_list(tmp_path / "list", images) == tmp_path / "list.csv"
    text = (tmp_path / "list.csv").read_text(encoding="utf-8")
    assert "ID" not in text
    rows = list(csv.DictReader(text.splitlines()))
    patients = [row["patient"] for row in rows]
    assert patients == ["patient_1", "patient_2", "patient_1", "", "", "patient_2"]
    assert [row["label"] for row in rows] == ["", "a, b", "a, b", "a, b", "a, b", "c"]
    assert read_csv_list(tmp_path / "list.csv").class_names == ("a, b", "c")


def test_too_few_labels_are_counted(tmp_path: Path) -> None:
    images = [("x.png", name) for name in "aaabb"]
    with pytest.raises(SettingsError, match=r"at least 3 labeled images each; there are: a \(3\), b \(2\)"):
        fine_tune(tmp_path, images, {})
    with pytest.raises(SettingsError, match="two classes or more"):
        fine_tune(tmp_path, images[:3], {})


def test_a_list_of_findings_says_what_is_known(tmp_path: Path) -> None:
    images: list[tuple[str | Path, dict[str, bool]]] = []
    # A name may have any sign, and an earlier label says nothing about a later finding.
    answers = [{"Mass | 2": True, "patient": False}, {"Mass | 2": False}, {"Mass | 2": True, "patient": True}]
    for number, answer in enumerate(answers):
        images.append((write_dicom(tmp_path / f"{number}.dcm", PIXELS, PatientID=f"ID{number % 2}"), answer))
    file = write_data_list(tmp_path / "list", images)
    assert "ID" not in file.read_text(encoding="utf-8")
    table = read_labels(file, task="multilabel")
    assert table.class_names == ("Mass | 2", "patient")
    assert [item["label"] for item in table.items] == [(1, 0), (0, -1), (1, 1)]
    assert [item["group"] for item in table.items] == ["patient_1", "patient_2", "patient_1"]


def test_a_finding_needs_images_with_it_and_without_it() -> None:
    both = [{"a": True, "b": False}] * 3 + [{"a": False, "b": True}] * 3
    assert training_refusal(both) is None
    # A finding that nobody has seen is left out.
    assert training_refusal([one | {"c": False} for one in both]) is None
    told = training_refusal([*both, {"c": True}])
    assert told is not None
    assert "a (3 with, 3 without), b (3 with, 3 without), c (1 with, 0 without)" in told
    assert "two findings or more" in str(training_refusal([{"a": True, "b": False}] * 3 + [{"a": False}] * 3))
    assert "there are: none" in str(training_refusal([{"a": False, "b": False}] * 9))


@pytest.mark.slow
def test_findings_are_learned_from_the_labels_of_the_page(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    rng = np.random.default_rng(0)
    images: list[tuple[str | Path, dict[str, bool]]] = []
    for number in range(60):
        red, blue = rng.random(2) < 0.5
        picture = rng.integers(90, 130, (32, 32, 3), dtype=np.uint8)
        picture[:16] = (220, 40, 40) if red else picture[:16]
        picture[16:] = (40, 40, 220) if blue else picture[16:]
        Image.fromarray(picture).save(tmp_path / f"{number:02}.png")
        images.append((tmp_path / f"{number:02}.png", {"red": bool(red), "blue": bool(blue)}))
    request = {"backbone": "tiny-cnn", "image_size": 32, "width": 8, "embedding_dim": 4, "max_epochs": 8}
    settings = train_settings(request | {"device": "cpu", "amp": "false", "task": "multilabel"})
    # Pre-training needs no labels, and its weights are of no task.
    pretrain(root, [(image, "") for image, _ in images], settings | {"max_epochs": 1})
    fine_tune(root, images, settings)
    assert read_record(root)["task"] == "multilabel"
    assert train_stats(root)["metrics"]["macro_auc"]["value"] > 0.9
    model = LabelModel(root, "cpu", several=True)
    right = sum(
        model.predict(image)["findings"] == [name for name in ("red", "blue") if answers[name]]
        for image, answers in images
    )
    assert right > 50
    # The next training keeps the findings; one of the other kind of labels takes the weights alone.
    assert newest_weights(root)[1]["task"] == "multilabel"
    assert "class_order" not in newest_weights(root)[1]
    one_class = [(image, "red" if answers["red"] else "other") for image, answers in images]
    fine_tune(root, one_class, train_settings({"max_epochs": 1, "device": "cpu", "amp": "false"}))
    assert read_record(root)["task"] == "multiclass"


@pytest.mark.slow
def test_the_reason_of_a_failed_run_is_told(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    for number in range(6):
        (tmp_path / f"{number}.png").write_text("no picture")
    with pytest.raises(SettingsError, match=r"\d\.png"):
        fine_tune(root, [(tmp_path / f"{number}.png", "ab"[number % 2]) for number in range(6)], {"device": "cpu"})
    assert train_stats(root) == {}
    assert (root / "output" / "train" / "unfinished.txt").is_file()


def test_the_newest_weights_and_their_settings(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    assert newest_weights(root) == (None, {})
    network = HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4)
    model = root / "models" / "model.pt"
    save_model(network, model, ["a", "b"], 48)
    weights, settings = newest_weights(root)
    assert weights == str(model)
    assert (settings["backbone"], settings["width"], settings["embedding_dim"], settings["image_size"]) == (
        "resnet18",
        8,
        4,
        48,
    )
    # What it says must be what the bundle takes.
    again = HierarchicalNet(**{k: v for k, v in settings.items() if k not in ("image_size", "window", "spacing")})
    assert again.definition() == network.definition() | {"num_classes": again.definition()["num_classes"]}
    pretrained = root / "output" / "pretrain" / "pretrained.pt"
    pretrained.parent.mkdir(parents=True)
    torch.save({}, pretrained)
    (pretrained.parent / "settings.json").write_text(json.dumps({"width": 16, "max_epochs": 3}), encoding="utf-8")
    later = model.stat().st_mtime + 5
    os.utime(pretrained, (later, later))
    assert newest_weights(root) == (str(pretrained), {"width": 16})


@pytest.mark.parametrize(("kind", "fine_tuning"), [(PooledNet, "probe"), (EnsembleNet, "ensemble")])
def test_a_model_is_trained_again_in_the_same_way(
    kind: type[PooledNet] | type[EnsembleNet], fine_tuning: str, tmp_path: Path
) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    model = root / "models" / "model.pt"
    blocks = {} if kind is PooledNet else {"stages": [2, 3], "width": 8, "embedding_dim": 4, "linear_projection": True}
    save_model(kind("resnet34", num_classes=2, stem="small", **blocks), model, ["a", "b"], 48)
    weights, settings = newest_weights(root)
    assert weights == str(model)
    expected = {"backbone": "resnet34", "stem": "small", "image_size": 48, "fine_tuning": fine_tuning}
    assert settings == expected | blocks


def test_weights_that_can_not_be_used_are_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    model = root / "models" / "model.pt"
    save_model(HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4), model, ["a", "b"], 48)
    pretrained = root / "output" / "pretrain" / "pretrained.pt"
    pretrained.parent.mkdir(parents=True)
    pretrained.write_bytes(b"anything")
    later = model.stat().st_mtime + 5
    os.utime(pretrained, (later, later))
    assert newest_weights(root)[0] == str(model)
    assert "training does not start from pretrained.pt: pretrained.pt is damaged" in (capsys.readouterr().out)
    torch.save({}, pretrained)
    os.utime(pretrained, (later, later))
    (pretrained.parent / "settings.json").write_text("[]", encoding="utf-8")
    assert newest_weights(root)[0] == str(model)
    # Weights of another network than the record's.
    torch.save(HierarchicalNet("resnet18", num_classes=5, width=8, embedding_dim=4).state_dict(), model)
    assert newest_weights(root) == (None, {})


def test_the_picture_is_what_the_loader_reads(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "small.png")
    assert (draw_image(tmp_path / "small.png") == PIXELS).all()
    Image.fromarray(PIXELS).resize((2000, 1500)).save(tmp_path / "large.png")
    assert draw_image(tmp_path / "large.png").shape == (768, 1024, 3)
    assert as_png(PIXELS).startswith(b"\x89PNG")


def test_a_volume_is_drawn_by_its_middle_slice(tmp_path: Path) -> None:
    import nibabel

    values = np.zeros((10, 12, 8), np.float32)
    values[2, 3, 4] = 100
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1, 1, 1])), tmp_path / "volume.nii.gz")
    picture = draw_image(tmp_path / "volume.nii.gz", 3)
    assert picture.shape == (12, 10, 3)
    assert picture.max() == 255
    assert (picture > 0).sum() == 3


def test_only_the_same_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    for number in range(3):
        Image.fromarray(PIXELS).save(tmp_path / f"{number}.png")
    # In place of Python: notes how it was called, and fails.
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/called"\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))

    def goes_on(count: int, **settings: int) -> bool:
        with pytest.raises(SettingsError, match="status 1"):
            pretrain(root, [(tmp_path / f"{number}.png", "") for number in range(count)], settings)
        return "--resume true" in (tmp_path / "called").read_text()

    assert not goes_on(2)
    assert goes_on(2)
    assert not goes_on(3)
    assert goes_on(3)
    assert not goes_on(3, seed=1)
    save_model(HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4), root / "models/model.pt", "ab", 48)
    assert not goes_on(3, seed=1)
    assert goes_on(3, seed=1)
    # Trained again, under the same name.
    os.utime(root / "models" / "model.pt", (1, 1))
    assert not goes_on(3, seed=1)


@pytest.mark.slow
def test_adapters_learn_in_the_app(tmp_path: Path) -> None:
    rank = 2
    root = copy_bundle("fgssl", tmp_path / "bundle")
    images: list[tuple[str | Path, str]] = []
    for number in range(18):
        Image.fromarray(np.roll(PIXELS, number, 0)).save(tmp_path / f"{number}.png")
        images.append((tmp_path / f"{number}.png", "ab"[number % 2]))
    request = {"backbone": "timm:test_vit", "image_size": 32, "grids": [2, 1, 1], "width": 8, "embedding_dim": 4}
    request |= {"max_epochs": 1, "learning_rate": 0.01, "warmup_epochs": 0, "device": "cpu", "amp": "false"}
    request |= {"lora_rank": rank, "ema_decay": 0.5, "freeze_stages": 1}
    settings = train_settings(request)
    assert settings == request
    pretrain(root, images, settings | {"pretrain_warmup_epochs": 0})
    pretrained = root / "output" / "pretrain" / "pretrained.pt"
    assert newest_weights(root)[0] == str(pretrained)
    # What belongs to the network is taken over; the adapters are asked for again.
    fine_tune(root, images, {name: settings[name] for name in settings if name not in ("backbone", "image_size")})
    assert isinstance(make_network(root), EnsembleNet)
    model = read_state_dict(root / "models" / "model.pt")
    adapted = 0
    for name, before in read_state_dict(pretrained).items():
        if not name.startswith("backbone."):
            continue
        # The probe keeps the network that the fine-tuning started from.
        assert torch.equal(model[f"probe.{name}"], before), name
        change = (model[name] - before).double()
        if ".blocks." in name and before.ndim == 2 and change.any():
            # The first stage is frozen, with its adapters.
            assert ".blocks.0." not in name
            assert torch.linalg.matrix_rank(change, rtol=1e-3) <= rank
            adapted += 1
        else:
            assert not change.any(), name
    assert adapted > 0
    assert train_stats(root)["epochs"] == 1
