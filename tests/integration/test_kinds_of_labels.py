# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Each kind of labels from files to a model and its use, on images whose answer is known."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from dicom_files import write_dicom
from PIL import Image
from pydicom.dataset import Dataset
from sklearn.metrics import cohen_kappa_score, f1_score, mean_absolute_error, roc_auc_score
from test_bundle import run_command

from monai_fgssl.bundle import SettingsError, copy_bundle, load_weights, make_network, read_record
from monai_fgssl.data.layouts.aptos2019 import APTOS2019_CLASSES
from monai_fgssl.label.model import LabelModel
from monai_fgssl.label.training import newest_weights
from monai_fgssl.report.heat_maps import draw_heat_maps

SMALL = {
    "image_size": 32,
    "backbone": "tiny-cnn",
    "width": 16,
    "embedding_dim": 16,
    "pretrain_epochs": 1,
    "max_epochs": 3,
    "batch_size": 16,
    "pretrain_batch_size": 32,
    "compare": False,
    "device": "cpu",
    "amp": False,
}
GRADES = ["absent", "mild", "moderate", "severe"]


def spots(number: int, rng: np.random.Generator) -> np.ndarray:
    """Picture with red spots."""
    picture = 110 + rng.integers(0, 20, (32, 32, 3))
    add_spots(picture, number, (220, 40, 40), rng)
    return picture.astype(np.uint8)


def add_spots(picture: np.ndarray, number: int, color: tuple[int, ...], rng: np.random.Generator) -> None:
    for row, column in rng.integers(0, 28, (number, 2)):
        picture[row : row + 4, column : column + 4] = color


def run(folder: Path, config_file: str, **settings: Any) -> str:
    result = run_command("monai.bundle", "run", "--config_file", config_file, cwd=folder, **settings)
    assert result.returncode == 0, result.stderr
    return result.stdout


def read_rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle trained on pictures with 0, 3, 6 or 9 spots, whose grades have names."""
    images = tmp_path_factory.mktemp("spots")
    rng = np.random.default_rng(0)
    rows = [("image", "grade")]
    for number in range(200):
        grade = number % len(GRADES)
        Image.fromarray(spots(3 * grade, rng)).save(images / f"{number:03}.png")
        rows.append((f"{number:03}.png", GRADES[grade]))
    (images / "grades.csv").write_text("".join(f"{','.join(row)}\n" for row in rows), encoding="utf-8")
    folder = copy_bundle("fgssl", tmp_path_factory.mktemp("user") / "mine")
    fractions = "{'train': 0.5, 'validation': 0.25, 'test': 0.25}"
    settings = SMALL | {"dataset_dir": images, "task": "ordinal", "class_order": GRADES, "fractions": fractions}
    printed = run(folder, "train.json", **settings)
    assert "mean absolute error" in printed
    return folder


def test_grades_are_learned_and_scored_in_their_order(graded: Path) -> None:
    output = graded / "output"
    content = json.loads((output / "metrics.json").read_text())
    record = read_record(graded)
    assert (record["task"], record["class_names"]) == ("ordinal", GRADES)
    found = content["methods"]["FG-SSL"]
    truth = {row["image"].removesuffix(".png"): row["grade"] for row in read_rows(images_of(content) / "grades.csv")}
    rows = read_rows(output / "predictions.csv")
    labels = [GRADES.index(truth[row["image"]]) for row in rows]
    predicted = [int(np.argmax([float(row[name]) for name in GRADES])) for row in rows]
    assert found["kappa"]["value"] == pytest.approx(cohen_kappa_score(labels, predicted, weights="quadratic"))
    assert found["mean_absolute_error"]["value"] == pytest.approx(mean_absolute_error(labels, predicted))
    assert found["kappa"]["value"] > 0.8
    # The best epoch is that of the highest kappa.
    assert "val_kappa" in content["history"]["fine-tune"]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "Kappa of each method" in page


def test_grades_of_real_fundus_photographs_are_learned(aptos2019: Path, tmp_path: Path) -> None:
    rows = read_rows(aptos2019 / "train.csv")
    some = np.random.default_rng(0).permutation(len(rows))[:600]
    (tmp_path / "images" / "train_images").mkdir(parents=True)
    lines = ["id_code,diagnosis"]
    for row in (rows[number] for number in some):
        (image,) = (aptos2019 / "train_images").glob(f"{row['id_code']}.*")
        (tmp_path / "images" / "train_images" / image.name).symlink_to(image)
        lines.append(f"{row['id_code']},{row['diagnosis']}")
    (tmp_path / "images" / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    folder = copy_bundle("fgssl", tmp_path / "mine")
    fractions = "{'train': 0.6, 'validation': 0.2, 'test': 0.2}"
    settings = SMALL | {"dataset_dir": tmp_path / "images", "task": "ordinal", "fractions": fractions}
    run(folder, "train.json", **settings | {"max_epochs": 8, "linear_probe": False})
    # Kappa needs the order of the grades; their names are not in the order of the alphabet.
    assert read_record(folder)["class_names"] == list(APTOS2019_CLASSES)
    found = json.loads((folder / "output" / "metrics.json").read_text())
    truth = {row["id_code"]: int(row["diagnosis"]) for row in rows}
    predictions = read_rows(folder / "output" / "predictions.csv")
    labels = [truth[row["image"]] for row in predictions]
    predicted = [int(np.argmax([float(row[name]) for name in APTOS2019_CLASSES])) for row in predictions]
    kappa = found["methods"]["FG-SSL"]["kappa"]
    assert kappa["value"] == pytest.approx(cohen_kappa_score(labels, predicted, weights="quadratic"))
    # Better than chance.
    assert kappa["low"] > 0


def images_of(content: dict[str, Any]) -> Path:
    return Path(content["settings"]["dataset_dir"])


def test_a_model_of_grades_is_evaluated_used_and_exported(graded: Path, tmp_path: Path) -> None:
    content = json.loads((graded / "output" / "metrics.json").read_text())
    images = images_of(content)
    run(graded, "['configs/train.json','configs/evaluate.json']", dataset_dir=images, device="cpu", amp=False)
    evaluated = json.loads((graded / "output" / "evaluation" / "metrics.json").read_text())
    for name, row in content["methods"]["FG-SSL"].items():
        assert evaluated["methods"]["model"][name]["value"] == pytest.approx(row["value"], abs=1e-6), name
    few = tmp_path / "few"
    few.mkdir()
    for name in sorted(images.glob("*.png"))[:8]:
        shutil.copy(name, few)
    options = {"dataset_dir": few, "device": "cpu", "amp": False}
    run(graded, "configs/inference.json", **options, output_dir=tmp_path / "torch", heat_maps=True)
    run(graded, "['configs/inference.json','configs/export_onnx.json']", model_path=graded / "models" / "model.pt")
    onnx = graded / "models" / "model.onnx"
    run(graded, "configs/inference.json", **options, model_path=onnx, output_dir=tmp_path / "onnx")
    first, second = (read_rows(tmp_path / kind / "predictions.csv") for kind in ("torch", "onnx"))
    for name in GRADES:
        np.testing.assert_allclose([float(row[name]) for row in first], [float(row[name]) for row in second], atol=1e-4)
    sums = np.sum([[float(row[name]) for name in GRADES] for row in first], axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-5)
    assert len(list((tmp_path / "torch" / "heat_maps").iterdir())) == len(first)


def test_the_label_app_takes_a_model_of_grades(graded: Path) -> None:
    content = json.loads((graded / "output" / "metrics.json").read_text())
    model = LabelModel(graded, "cpu")
    rows = {row["image"]: row for row in read_rows(graded / "output" / "predictions.csv")}
    name, row = next(iter(rows.items()))
    result = model.predict(str(images_of(content) / f"{name}.png"), [])
    for grade in GRADES:
        assert result["probabilities"][grade] == pytest.approx(float(row[grade]), abs=1e-5)
    # The next training keeps the order of the grades.
    weights, settings = newest_weights(graded)
    assert weights == str(graded / "models" / "model.pt")
    assert (settings["task"], settings["class_order"]) == ("ordinal", GRADES)


COLORS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 220)}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle trained on pictures with spots of any of three colors, or none; a tenth of the answers is not known."""
    images = tmp_path_factory.mktemp("colors")
    rng = np.random.default_rng(0)
    rows = [("image", *COLORS, "site")]
    for number in range(200):
        picture = 110 + rng.integers(0, 20, (32, 32, 3))
        there = rng.random(3) < (0.5, 0.4, 0.25)
        for color, is_there in zip(COLORS.values(), there, strict=True):
            add_spots(picture, 4 * is_there, color, rng)
        Image.fromarray(picture.astype(np.uint8)).save(images / f"{number:03}.png")
        answers = ["" if rng.random() < 0.1 else str(int(one)) for one in there]
        rows.append((f"{number:03}.png", *answers, "clinic" if number % 3 else "practice"))
    (images / "list.csv").write_text("".join(f"{','.join(row)}\n" for row in rows), encoding="utf-8")
    folder = copy_bundle("fgssl", tmp_path_factory.mktemp("user") / "findings")
    fractions = "{'train': 0.5, 'validation': 0.25, 'test': 0.25}"
    settings = SMALL | {"dataset_dir": images, "fractions": fractions, "subgroup_columns": "site"}
    printed = run(folder, "train.json", **settings)
    assert "By site: " in printed
    assert "an image may have several of the classes, or none (multilabel)" in printed
    return folder


def test_findings_are_learned_and_scored_where_they_are_known(found: Path) -> None:
    content = json.loads((found / "output" / "metrics.json").read_text())
    record = read_record(found)
    assert (record["task"], record["class_names"]) == ("multilabel", list(COLORS))
    truth = {row["image"].removesuffix(".png"): row for row in read_rows(images_of(content) / "list.csv")}
    rows = read_rows(found / "output" / "predictions.csv")
    aucs = []
    for k, name in enumerate(COLORS):
        known = [row for row in rows if truth[row["image"]][name]]
        labels = [int(truth[row["image"]][name]) for row in known]
        aucs.append(roc_auc_score(labels, [float(row[name]) for row in known]))
        predicted = [float(row[name]) >= record["thresholds"][k] for row in known]
        of_finding = content["classes"][name]
        assert of_finding["f1"] == pytest.approx(f1_score(labels, predicted))
        assert of_finding["unknown"] == len(rows) - len(known)
    assert content["methods"]["FG-SSL"]["macro_auc"]["value"] == pytest.approx(np.mean(aucs), abs=1e-3)
    assert np.mean(aucs) > 0.9
    for row in rows:
        above = [name for k, name in enumerate(COLORS) if float(row[name]) >= record["thresholds"][k]]
        assert row["prediction"] == ("; ".join(above) or "none")


def test_a_model_of_findings_is_evaluated_used_and_exported(found: Path, tmp_path: Path) -> None:
    content = json.loads((found / "output" / "metrics.json").read_text())
    images = images_of(content)
    run(found, "['configs/train.json','configs/evaluate.json']", dataset_dir=images, device="cpu", amp=False)
    evaluated = json.loads((found / "output" / "evaluation" / "metrics.json").read_text())
    for name, row in content["methods"]["FG-SSL"].items():
        assert evaluated["methods"]["model"][name]["value"] == pytest.approx(row["value"], abs=1e-6), name
    few = tmp_path / "few"
    few.mkdir()
    for name in sorted(images.glob("*.png"))[:8]:
        shutil.copy(name, few)
    options = {"dataset_dir": few, "device": "cpu", "amp": False}
    run(found, "configs/inference.json", **options, output_dir=tmp_path / "red", heat_maps=True, heat_map_class="red")
    run(found, "['configs/inference.json','configs/export_onnx.json']", model_path=found / "models" / "model.pt")
    onnx = found / "models" / "model.onnx"
    run(found, "configs/inference.json", **options, model_path=onnx, output_dir=tmp_path / "onnx")
    first, second = (read_rows(tmp_path / kind / "predictions.csv") for kind in ("red", "onnx"))
    for name in COLORS:
        np.testing.assert_allclose([float(row[name]) for row in first], [float(row[name]) for row in second], atol=1e-4)
    assert [row["prediction"] for row in first] == [row["prediction"] for row in second]
    assert len(list((tmp_path / "red" / "heat_maps").iterdir())) == 8


def scripted(folder: Path, path: Path) -> torch.Tensor:
    """Logits of the bundle's model as TorchScript, as the guide makes it, for a picture."""
    network = make_network(folder).eval()
    load_weights(network, folder / "models" / "model.pt")
    script = torch.jit.script(network)
    image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        return script(image)[0] / read_record(folder)["temperature"]


@pytest.mark.parametrize("kind", ["graded", "found"])
def test_a_scripted_model_gives_the_probabilities_of_the_task(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    content = json.loads((folder / "output" / "metrics.json").read_text())
    row = read_rows(folder / "output" / "predictions.csv")[0]
    logits = scripted(folder, images_of(content) / f"{row['image']}.png")
    probabilities = logits.sigmoid() if kind == "found" else logits.softmax(0)
    names = read_record(folder)["class_names"]
    np.testing.assert_allclose(probabilities, [float(row[name]) for name in names], atol=1e-4)


def test_undecided_findings_are_referred(found: Path, tmp_path: Path) -> None:
    content = json.loads((found / "output" / "metrics.json").read_text())
    sets = read_record(found)["prediction_sets"]
    assert (sets["coverage"], len(sets["lowest"])) == (0.9, 3)
    assert None not in sets["lowest"]
    assert content["abstention"]["covered"]["value"] > 0.8
    assert content["abstention"]["without_rule"] == []
    page = (found / "output" / "report.html").read_text(encoding="utf-8")
    assert "true answer possible" in page
    # The curve of the answers is drawn beside it.
    assert 0 <= content["abstention"]["risk_area"] < 0.5
    assert (found / "output" / "risk_coverage.png").exists()
    few = tmp_path / "few"
    few.mkdir()
    for name in sorted(images_of(content).glob("*.png"))[:40]:
        shutil.copy(name, few)
    run(found, "configs/inference.json", dataset_dir=few, device="cpu", amp=False, output_dir=tmp_path / "results")
    for row in read_rows(tmp_path / "results" / "predictions.csv"):
        expected = []
        for k, name in enumerate(COLORS):
            probability, predicted = float(row[name]), name in row["prediction"].split("; ")
            may_be = predicted or probability >= sets["lowest"][k] - 1e-6
            may_not = not predicted or probability <= sets["highest"][k] + 1e-6
            assert may_be == (name in row["prediction_set"].split("; "))
            expected += [name] if may_be and may_not else []
        assert row["undecided_findings"] == "; ".join(expected)
        assert ("a finding is undecided" in row["reasons"].split("; ")) == bool(expected)
        assert row["triage"] == ("refer" if row["reasons"] else "predict")


def test_subgroups_of_findings_are_scored(found: Path) -> None:
    content = json.loads((found / "output" / "metrics.json").read_text())
    truth = {row["image"].removesuffix(".png"): row for row in read_rows(images_of(content) / "list.csv")}
    rows = read_rows(found / "output" / "predictions.csv")
    for site, one in content["subgroups"]["site"]["subgroups"].items():
        inside = [row for row in rows if truth[row["image"]]["site"] == site]
        assert one["images"] == len(inside)
        pairs = [
            (int(truth[row["image"]][name]), name in row["prediction"].split("; "))
            for row in inside
            for name in COLORS
            if truth[row["image"]][name]
        ]
        if one["metrics"] is not None:
            assert one["metrics"]["micro_f1"]["value"] == pytest.approx(f1_score(*zip(*pairs, strict=True)))
    assert any(one["metrics"] for one in content["subgroups"]["site"]["subgroups"].values())


def test_findings_are_cross_validated_and_a_score_of_sets_is_refused(found: Path, tmp_path: Path) -> None:
    content = json.loads((found / "output" / "metrics.json").read_text())
    settings = SMALL | {"dataset_dir": images_of(content), "pretrain_epochs": 0, "max_epochs": 1}
    # The model of all folds must not replace that of the other tests.
    outputs = {"output_dir": tmp_path / "cv", "model_path": tmp_path / "cv" / "model.pt"}
    run(found, "configs/train.json", **settings, num_folds=3, fold="all", **outputs)
    joined = json.loads((tmp_path / "cv" / "metrics.json").read_text())
    # Each image is predicted once, by the model that has not seen it.
    assert joined["num_test_images"] == len({row["image"] for row in read_rows(tmp_path / "cv" / "predictions.csv")})
    known = [row for row in read_rows(images_of(content) / "list.csv") if any(row[name] for name in COLORS)]
    assert joined["num_test_images"] == len(known)
    ((method, row),) = joined["methods"].items()
    assert method.endswith(", 3 folds")
    assert [set(fold) for fold in joined["folds"]] == [set(row)] * 3
    refused = run_command(
        "monai.bundle", "run", "--config_file", "configs/train.json", cwd=found, **settings, set_score="threshold",
        output_dir=tmp_path / "refused",
    )  # fmt: skip
    assert refused.returncode == 1
    assert "--set_score threshold is for sets of possible classes. Of several findings" in refused.stderr
    assert not (tmp_path / "refused").exists()


def test_grades_have_sets_of_possible_grades_and_the_heat_map_of_a_chosen_grade(graded: Path, tmp_path: Path) -> None:
    content = json.loads((graded / "output" / "metrics.json").read_text())
    assert 0 < content["abstention"]["covered"]["value"] <= 1
    few = tmp_path / "few"
    few.mkdir()
    for name in sorted(images_of(content).glob("*.png"))[:6]:
        shutil.copy(name, few)
    options = {"dataset_dir": few, "device": "cpu", "amp": False, "heat_maps": True, "heat_map_class": "severe"}
    run(graded, "configs/inference.json", **options, output_dir=tmp_path / "results")
    model = LabelModel(graded, "cpu")
    for row in read_rows(tmp_path / "results" / "predictions.csv"):
        possible = row["prediction_set"].split("; ")
        assert row["prediction"] in possible
        assert row["triage"] == ("predict" if len(possible) == 1 and float(row["distance"]) <= 1 else "refer")
        path = few / f"{row['image']}.png"
        drawn = np.asarray(Image.open(tmp_path / "results" / "heat_maps" / f"{row['image']}.png"))
        expected = draw_heat_maps(model.read(path)[0], model.heat_maps(path, "severe"))
        np.testing.assert_allclose(drawn.astype(int), expected.astype(int), atol=2)


def test_a_report_of_findings_says_what_the_table_says(found: Path, tmp_path: Path) -> None:
    content = json.loads((found / "output" / "metrics.json").read_text())
    studies = tmp_path / "studies"
    studies.mkdir()
    names = sorted(path.stem for path in images_of(content).glob("*.png"))[:4]
    for name in names:
        write_dicom(studies / f"{name}.dcm", np.asarray(Image.open(images_of(content) / f"{name}.png")))
    options = {"dataset_dir": studies, "dicom": True, "heat_maps": True, "heat_map_class": "blue", "device": "cpu"}
    run(found, "configs/inference.json", **options, amp=False, output_dir=tmp_path / "results")
    thresholds = read_record(found)["thresholds"]
    for row in read_rows(tmp_path / "results" / "predictions.csv"):
        report = pydicom.dcmread(tmp_path / "results" / "dicom" / f"{row['image']}_report.dcm")
        said = {}
        for group in groups_of(report):
            name = text_of(group, "Tracking Identifier")
            if name in COLORS:
                numbers = [
                    float(item.MeasuredValueSequence[0].NumericValue)
                    for item in group.ContentSequence
                    if item.ValueType == "NUM"
                ]
                (answer,) = [
                    item.ConceptCodeSequence[0].CodeMeaning
                    for item in group.ContentSequence
                    if item.ConceptNameCodeSequence[0].CodeMeaning == name
                ]
                said[name] = (*numbers, answer)
        assert list(said) == list(COLORS)
        for k, (name, (probability, threshold, answer)) in enumerate(said.items()):
            assert probability == pytest.approx(float(row[name]), abs=1e-6)
            assert threshold == pytest.approx(thresholds[k], abs=1e-6)
            assert (answer == "Yes") == (name in row["prediction"].split("; "))
        picture = pydicom.dcmread(tmp_path / "results" / "dicom" / f"{row['image']}_heat_maps.dcm")
        assert picture.DerivationDescription.endswith("for blue.")


def groups_of(report: Dataset) -> list[Dataset]:
    (measurements,) = [item for item in report.ContentSequence if named(item) == "Imaging Measurements"]
    return list(measurements.ContentSequence)


def text_of(group: Dataset, name: str) -> str:
    (item,) = [item for item in group.ContentSequence if named(item) == name]
    return item.TextValue


def named(item: Dataset) -> str:
    return item.ConceptNameCodeSequence[0].CodeMeaning


def test_a_report_of_a_grade_says_what_the_table_says(graded: Path, tmp_path: Path) -> None:
    content = json.loads((graded / "output" / "metrics.json").read_text())
    studies = tmp_path / "studies"
    studies.mkdir()
    for name in sorted(path.stem for path in images_of(content).glob("*.png"))[:4]:
        write_dicom(studies / f"{name}.dcm", np.asarray(Image.open(images_of(content) / f"{name}.png")))
    options = {"dataset_dir": studies, "dicom": True, "device": "cpu", "amp": False}
    run(graded, "configs/inference.json", **options, output_dir=tmp_path / "results")
    for row in read_rows(tmp_path / "results" / "predictions.csv"):
        group = groups_of(pydicom.dcmread(tmp_path / "results" / "dicom" / f"{row['image']}_report.dcm"))[0]
        values = [item for item in group.ContentSequence if named(item) == "Probability"]
        grades = [item.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning for item in values]
        assert grades == GRADES
        for item, grade in zip(values, GRADES, strict=True):
            assert float(item.MeasuredValueSequence[0].NumericValue) == pytest.approx(float(row[grade]), abs=1e-6)
        (finding,) = [item for item in group.ContentSequence if named(item) == "Finding"]
        assert finding.ConceptCodeSequence[0].CodeMeaning == row["prediction"]


def test_the_label_app_takes_a_model_of_findings(found: Path) -> None:
    content = json.loads((found / "output" / "metrics.json").read_text())
    model = LabelModel(found, "cpu", several=True)
    row = read_rows(found / "output" / "predictions.csv")[0]
    result = model.predict(str(images_of(content) / f"{row['image']}.png"), [])
    for color in COLORS:
        assert result["probabilities"][color] == pytest.approx(float(row[color]), abs=1e-5)
    assert result["prediction"] == row["prediction"]
    with pytest.raises(SettingsError, match="several classes in one image"):
        LabelModel(found, "cpu").load()


def test_findings_in_volumes(tmp_path: Path) -> None:
    images = tmp_path / "volumes"
    images.mkdir()
    rng = np.random.default_rng(0)
    items = []
    for number in range(48):
        volume = rng.normal(0, 1, (16, 16, 8))
        there = rng.random(2) < 0.5
        volume[:8] += 6 * there[0]
        volume[:, :, 4:] -= 6 * there[1]
        nib.save(nib.Nifti1Image(volume.astype(np.float32), np.diag([1, 1, 2, 1])), images / f"{number:02}.nii")
        items.append({"image": f"{number:02}.nii", "label": [int(one) for one in there]})
    content = {"labels": {"0": "left", "1": "above"}, "training": items}
    (images / "list.json").write_text(json.dumps(content), encoding="utf-8")
    folder = copy_bundle("fgssl_volume", tmp_path / "mine")
    settings = SMALL | {"image_size": "[16,16,8]", "width": 8, "embedding_dim": 8, "batch_size": 8, "max_epochs": 2}
    run(folder, "train.json", **settings | {"pretrain_batch_size": 8, "backbone": "resnet10", "dataset_dir": images})
    assert read_record(folder)["class_names"] == ["left", "above"]
    found = json.loads((folder / "output" / "metrics.json").read_text())["methods"]["FG-SSL"]
    assert found["macro_auc"]["value"] > 0.8
    run(folder, "configs/inference.json", dataset_dir=images, output_dir=tmp_path / "results", device="cpu", amp=False)
    rows = read_rows(tmp_path / "results" / "predictions.csv")
    truth = {item["image"].removesuffix(".nii"): item["label"] for item in items}
    labels = [truth[row["image"]][0] for row in rows]
    assert roc_auc_score(labels, [float(row["left"]) for row in rows]) > 0.8
