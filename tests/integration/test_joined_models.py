# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""One model of several folds or seeds is used like any other: by commands of the bundle, Label app and TorchScript."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from dicom_files import write_ct_series, write_dicom
from monai.bundle.scripts import ckpt_export
from PIL import Image
from pydicom.dataset import Dataset
from test_bundle import run_command
from test_kinds_of_labels import (
    COLORS,
    GRADES,
    SMALL,
    add_spots,
    groups_of,
    named,
    read_rows,
    run,
    spots,
    text_of,
)
from test_label_server import Server

from monai_fgssl.bundle import copy_bundle, load_weights, make_network, read_record
from monai_fgssl.data import make_synthetic_lesions
from monai_fgssl.label.model import LabelModel
from monai_fgssl.label.training import newest_weights
from monai_fgssl.tasks import task_named

FRACTIONS = "{'train': 0.5, 'validation': 0.3, 'test': 0.2}"


def draw_grades(folder: Path) -> dict[str, Any]:
    """Pictures with 0, 3, 6 or 9 spots."""
    rng = np.random.default_rng(0)
    rows = ["image,grade"]
    for number in range(220):
        Image.fromarray(spots(3 * (number % 4), rng)).save(folder / f"{number:03}.png")
        rows.append(f"{number:03}.png,{GRADES[number % 4]}")
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    return {"task": "ordinal", "class_order": GRADES, "dataset_dir": folder}


def draw_findings(folder: Path) -> dict[str, Any]:
    """Pictures with spots of any of three colors, or none."""
    rng = np.random.default_rng(0)
    rows = [f"image,{','.join(COLORS)}"]
    for number in range(220):
        picture = 110 + rng.integers(0, 20, (32, 32, 3))
        there = rng.random(3) < 0.4
        for color, is_there in zip(COLORS.values(), there, strict=True):
            add_spots(picture, 4 * is_there, color, rng)
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"{number:03}.png")
        # Wrong answers: nothing is certain, so the members differ.
        answers = there ^ (rng.random(3) < 0.25)
        rows.append(f"{number:03}.png,{','.join(str(int(one)) for one in answers)}")
    (folder / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    return {"dataset_dir": folder}


def draw_volumes(folder: Path) -> dict[str, Any]:
    """Volumes of two classes."""
    rng = np.random.default_rng(0)
    for number in range(220):
        volume = rng.normal(100, 20, (16, 16, 8))
        volume[:8] += 60 * (number % 2)
        place = folder / ("left" if number % 2 else "none") / f"{number:03}.nii"
        place.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(volume.astype(np.int16), np.diag([1, 1, 2, 1])), place)
    size = {"image_size": "[16,16,8]", "width": 8, "embedding_dim": 8, "backbone": "resnet10"}
    return size | {"dataset_dir": folder}


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose model is that of two folds, trained by one command. The images are in ``images``."""
    folder = copy_bundle("fgssl", tmp_path_factory.mktemp("user") / "mine")
    make_synthetic_lesions(folder / "images", num_images=280, image_size=32)
    changes = {"dataset_dir": folder / "images", "output_dir": folder / "cv", "fractions": FRACTIONS}
    printed = run(folder, "train.json", **SMALL | changes | {"num_folds": 2, "fold": "all"})
    assert "model of all folds, the mean of 2 models" in printed
    return folder


@pytest.fixture(scope="module")
def few(joined: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few of the images."""
    folder = tmp_path_factory.mktemp("few")
    for path in sorted((joined / "images").rglob("*.png"))[:6]:
        shutil.copy(path, folder)
    assert len(list(folder.iterdir())) == 6
    return folder


def probabilities(output: Path, class_names: list[str]) -> np.ndarray:
    rows = read_rows(output / "predictions.csv")
    return np.array([[float(row[name]) for name in class_names] for row in sorted(rows, key=lambda row: row["image"])])


def test_inference_gives_the_mean_of_the_members_and_onnx_the_same(joined: Path, few: Path, tmp_path: Path) -> None:
    options = {"dataset_dir": few, "device": "cpu", "amp": False}
    names = read_record(joined)["class_names"]
    for fold in range(2):
        model = joined / "cv" / f"fold_{fold}" / "model.pt"
        run(joined, "configs/inference.json", **options, model_path=model, output_dir=tmp_path / str(fold))
    run(joined, "configs/inference.json", **options, output_dir=tmp_path / "all", heat_maps=True)
    found = probabilities(tmp_path / "all", names)
    members = [probabilities(tmp_path / str(fold), names) for fold in range(2)]
    assert np.abs(members[0] - members[1]).max() > 1e-3
    # The table has four decimals or more.
    np.testing.assert_allclose(found, np.mean(members, axis=0), atol=1e-5)
    rows = read_rows(tmp_path / "all" / "predictions.csv")
    assert all(row["prediction_set"] and row["distance"] and row["triage"] for row in rows)
    assert len(list((tmp_path / "all" / "heat_maps").iterdir())) == 6

    run(joined, "['configs/inference.json','configs/export_onnx.json']")
    run(joined, "configs/inference.json", **options, model_path=joined / "models" / "model.onnx", output_dir=tmp_path)
    np.testing.assert_allclose(probabilities(tmp_path, names), found, atol=1e-4)


def test_a_real_label_server_predicts_with_the_model_of_all_folds(
    joined: Path, few: Path, label_python: Path, tmp_path: Path
) -> None:
    run(joined, "configs/inference.json", dataset_dir=few, device="cpu", amp=False, output_dir=tmp_path / "results")
    images = tmp_path / "images"
    shutil.copytree(few, images)
    names = read_record(joined)["class_names"]
    server = Server(label_python, tmp_path, str(images), {}, {"classes": ",".join(names), "bundle": joined})
    try:
        for row in read_rows(tmp_path / "results" / "predictions.csv"):
            answer = server.infer(row["image"])
            assert answer["label"] == row["prediction"]
            scores = {one["label"]: one["score"] for one in answer["prediction"]}
            assert scores == pytest.approx({name: float(row[name]) for name in names}, abs=1e-4)
    finally:
        server.stop()


def test_two_seeds_of_findings_become_one_model_with_the_mean_of_their_probabilities(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    changes = draw_findings(tmp_path / "images") | {"fractions": FRACTIONS, "seeds": 2, "max_epochs": 1}
    folder = copy_bundle("fgssl", tmp_path / "mine")
    printed = run(folder, "train.json", **SMALL | changes)
    assert "The one model of all 2 seeds (seeds.pt) has a macro AUC of" in printed
    found = {}
    output = folder / "output"
    models = {"all": output / "seeds.pt", "1": folder / "models" / "model.pt", "2": output / "seed_2" / "model.pt"}
    for name, model in models.items():
        options = {"dataset_dir": tmp_path / "images" / "list.csv", "device": "cpu", "amp": False}
        run(folder, "configs/inference.json", **options, model_path=model, output_dir=tmp_path / name)
        found[name] = probabilities(tmp_path / name, list(COLORS))
    assert np.abs(found["1"] - found["2"]).max() > 1e-3
    np.testing.assert_allclose(found["all"], (found["1"] + found["2"]) / 2, atol=1e-5)
    record = read_record(folder, output / "seeds.pt")
    assert (record["task"], record["network_def"]["independent"]) == ("multilabel", True)


def as_dicom(image: Path, folder: Path) -> None:
    """Write a picture as a DICOM file, and a volume as a series."""
    if image.suffix == ".nii":
        (folder / image.stem).mkdir()
        write_ct_series(image, folder / image.stem, lambda z: f"{z}.dcm")
    else:
        write_dicom(folder / f"{image.stem}.dcm", np.asarray(Image.open(image)))


def answers_of(report: Dataset) -> dict[str, float]:
    """Probability of each class or finding that a structured report has."""
    found = {}
    for group in groups_of(report):
        for item in group.ContentSequence:
            if item.ValueType == "NUM" and named(item) == "Probability":
                # A class is a modifier of its number, and the group of a finding has the name of the finding.
                of_class = [part.ConceptCodeSequence[0].CodeMeaning for part in item.get("ContentSequence", [])]
                name = of_class[0] if of_class else text_of(group, "Tracking Identifier")
                found.setdefault(name, float(item.MeasuredValueSequence[0].NumericValue))
    return found


@pytest.mark.parametrize(
    ("bundle", "drawn"), [("fgssl", draw_grades), ("fgssl", draw_findings), ("fgssl_volume", draw_volumes)]
)
def test_the_model_of_grades_of_findings_and_of_volumes_is_used_like_any_other(
    bundle: str, drawn: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    images, studies = tmp_path / "images", tmp_path / "studies"
    images.mkdir()
    studies.mkdir()
    changes = drawn(images)
    folder = copy_bundle(bundle, tmp_path / "mine")
    model = folder / "models" / "model.pt"
    settings = SMALL | {"pretrain_epochs": 0, "max_epochs": 1, "fractions": FRACTIONS} | changes
    run(folder, "train.json", **settings, num_folds=2, fold="all", output_dir=folder / "cv", model_path=model)
    record, network = read_record(folder), make_network(folder).eval()
    load_weights(network, model)
    names, task = record["class_names"], task_named(record["task"])
    size = record["image_size"]
    shape = size if isinstance(size, list) else [size, size]
    x = torch.rand(3, record["network_def"]["in_channels"], *shape)
    expected = []
    for fold in range(2):
        file = folder / "cv" / f"fold_{fold}" / "model.pt"
        member = make_network(folder, file).eval()
        load_weights(member, file)
        with torch.no_grad():
            expected.append(task.probabilities(member(x) / read_record(folder, file)["temperature"]))
    with torch.no_grad():
        found = task.probabilities(network(x))
    torch.testing.assert_close(found, (expected[0] + expected[1]) / 2, rtol=0, atol=1e-5)

    few = sorted(path for path in images.rglob("*") if path.suffix in (".png", ".nii"))[:4]
    for image in few:
        as_dicom(image, studies)
    options = {"dataset_dir": studies, "device": "cpu", "amp": False}
    run(folder, "configs/inference.json", **options, dicom=True, heat_maps=True, output_dir=tmp_path / "torch")
    rows = read_rows(tmp_path / "torch" / "predictions.csv")
    assert len(rows) == 4
    app = LabelModel(folder, "cpu", several=task.independent)
    for row in rows:
        assert row["triage"] in ("predict", "refer")
        assert row["distance"]
        report = pydicom.dcmread(tmp_path / "torch" / "dicom" / f"{row['image']}_report.dcm")
        (image,) = [path for path in few if path.stem == row["image"]]
        suggested = app.predict(str(image), [])
        assert suggested["prediction"] == row["prediction"]
        for said in (answers_of(report), suggested["probabilities"]):
            assert said == pytest.approx({name: float(row[name]) for name in names}, abs=1e-5)
        assert (tmp_path / "torch" / "dicom" / f"{row['image']}_heat_maps.dcm").is_file()

    run(folder, "['configs/inference.json','configs/export_onnx.json']", model_path=model)
    onnx = folder / "models" / "model.onnx"
    run(folder, "configs/inference.json", **options, model_path=onnx, output_dir=tmp_path / "onnx")
    for ours, theirs in zip(rows, read_rows(tmp_path / "onnx" / "predictions.csv"), strict=True):
        for name in ("image", "prediction", "prediction_set", "triage"):
            assert ours[name] == theirs[name]
        for name in names:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), abs=1e-4)


def test_monais_command_exports_torchscript(joined: Path, tmp_path: Path) -> None:
    ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(joined / "models" / "model.pt"),
        config_file=str(joined / "configs" / "inference.json"),
        key_in_ckpt="",
        bundle_root=str(joined),
    )
    network = make_network(joined).eval()
    load_weights(network, joined / "models" / "model.pt")
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(x), network(x), rtol=0, atol=1e-5)


def test_the_label_app_takes_the_model_and_does_not_train_on_from_it(
    joined: Path, few: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = LabelModel(joined, "cpu")
    path = str(sorted(few.iterdir())[0])
    result = model.predict(path, [])
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    name = read_record(joined)["class_names"][0]
    assert torch.isfinite(model.heat_maps(path, name)).all()
    scored = model.score(torch.rand(2, 3, 32, 32))
    assert (len(scored.stage_logits), len(scored.features)) == (2, 2)
    assert newest_weights(joined)[0] is None
    assert "one model of several folds or seeds" in capsys.readouterr().out


def test_evaluation_scores_the_model_and_a_training_does_not_start_from_it(joined: Path) -> None:
    options = {"dataset_dir": joined / "images", "device": "cpu", "amp": False}
    run(joined, "['configs/train.json','configs/evaluate.json']", **options, part="train", output_dir=joined / "scored")
    content = json.loads((joined / "scored" / "evaluation" / "metrics.json").read_text())
    assert content["num_test_images"] > 0
    words = ["run", "--config_file", "configs/train.json", "--pretrained", str(joined / "models" / "model.pt")]
    refused = run_command("monai.bundle", *words, cwd=joined, **options, pretrain_epochs=0)
    assert refused.returncode == 1
    assert "error: " in refused.stderr
    assert "a training starts from a single network" in refused.stderr
    assert "images in" not in refused.stdout
