# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of inference, against the network's own answers."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import Lambdad
from PIL import Image
from torch import Tensor

from monai_fgssl.data import DataError, ImageStream
from monai_fgssl.engines import HierarchicalEvaluator
from monai_fgssl.metrics import (
    SEVERAL_CLASSES,
    UNDECIDED_FINDING,
    UNLIKE_TRAINING,
    FindingSets,
    LogitAdjustment,
    PredictionSets,
    Thresholds,
    fit_feature_distances,
)
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.report import HeatMapWriter, ResultWriter, stage_heat_maps
from monai_fgssl.report.heat_maps import draw_heat_maps
from monai_fgssl.report.results import describe
from monai_fgssl.tasks import TASKS

CLASSES = ["DOTS", "STREAKS", "NETWORK"]
NUM_IMAGES = 7


def read(number: int) -> Tensor:
    if number == 4:
        raise DataError("number 4 is damaged.")
    return torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(number))


@pytest.fixture
def network() -> HierarchicalNet:
    torch.manual_seed(0)
    return HierarchicalNet("resnet18", num_classes=3, width=16, embedding_dim=8).eval()


def run(network: HierarchicalNet, folder: Path, numbers: list[int], **options: Any) -> ResultWriter:
    items = [{"image": number, "name": f"folder/image{number}"} for number in numbers]
    stream = ImageStream(Dataset(items, Lambdad("image", read)), batch_size=2)
    calibration = {
        name: options.pop(name)
        for name in ("temperature", "prediction_sets", "adjustment", "feature_distances")
        if name in options
    }
    writer = ResultWriter(folder, CLASSES, stream, **calibration)
    handlers = [writer, *options.pop("handlers", [])]
    HierarchicalEvaluator("cpu", stream, network, val_handlers=handlers, **options).run()
    return writer


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_tables_hold_what_the_network_says(network: HierarchicalNet, tmp_path: Path, temperature: float) -> None:
    run(network, tmp_path, list(range(NUM_IMAGES)), temperature=temperature)
    readable = [number for number in range(NUM_IMAGES) if number != 4]
    with torch.no_grad():
        logits = network.stage_logits(torch.stack([read(number) for number in readable])).double()
    expected = (logits.sum(1) / temperature).softmax(1).numpy()
    rows = read_csv(tmp_path / "predictions.csv")
    assert [row["image"] for row in rows] == [f"folder/image{number}" for number in readable]
    assert list(rows[0])[:4] == ["image", *CLASSES]
    np.testing.assert_allclose([[float(row[name]) for name in CLASSES] for row in rows], expected, atol=1e-6)
    assert [row["prediction"] for row in rows] == [CLASSES[i] for i in expected.argmax(1)]
    entropy = -(expected * np.log(expected)).sum(1) / np.log(3)
    np.testing.assert_allclose([float(row["entropy"]) for row in rows], entropy, atol=1e-6)
    stages = [
        [[float(row[f"{s}_{n}"]) for n in CLASSES] for s in ("stage1", "stage2", "stage3", "concat")] for row in rows
    ]
    np.testing.assert_allclose(stages, logits.softmax(2), atol=1e-6)
    records = json.loads((tmp_path / "predictions.json").read_text())
    for row, record in zip(rows, records, strict=True):
        assert row["image"] == record["image"]
        assert float(row["DOTS"]) == pytest.approx(record["probabilities"]["DOTS"], abs=1e-6)
        assert float(row["concat_NETWORK"]) == pytest.approx(record["stages"]["concat"]["NETWORK"], abs=1e-6)
        assert float(row["stage_disagreement"]) == pytest.approx(record["stage_disagreement"], abs=1e-6)
        assert row["orientation_disagreement"] == ""
        assert record["orientation_disagreement"] is None


def test_failures_are_listed_and_raised_at_the_end(network: HierarchicalNet, tmp_path: Path) -> None:
    writer = run(network, tmp_path, list(range(NUM_IMAGES)))
    assert read_csv(tmp_path / "failures.csv") == [{"image": "folder/image4", "reason": "number 4 is damaged."}]
    with pytest.raises(DataError, match=r"1 of 7 images.*\n  - number 4 is damaged\."):
        writer.raise_failures()
    # A run without failures leaves no list of an earlier one.
    run(network, tmp_path, [0, 1]).raise_failures()
    assert not (tmp_path / "failures.csv").exists()


def test_predicted_images_without_a_report_are_counted_apart(network: HierarchicalNet, tmp_path: Path) -> None:
    writer = run(network, tmp_path, list(range(NUM_IMAGES)))
    writer.stream.incomplete.append(("folder/image2", "number 2 has no Study Instance UID."))
    expected = (
        r"1 of 7 images have no result, since they could not be read; 1 of 7 images have a prediction, but no report "
        r"or heat map\. All are in .*failures.csv:\n  - number 4 is damaged\.\n  - number 2 has no Study Instance UID\."
    )
    with pytest.raises(DataError, match=expected):
        writer.raise_failures()
    writer.stream.failures.clear()
    with pytest.raises(DataError, match=r"^1 of 7 images have a prediction, but no report"):
        writer.raise_failures()


def test_a_heat_map_that_cannot_be_written_costs_no_other(network: HierarchicalNet, tmp_path: Path) -> None:
    items = [{"image": number, "name": name} for number, name in enumerate(("a", "b" * 300, "c" * 240))]
    stream = ImageStream(Dataset(items, Lambdad("image", read)), batch_size=2)
    writer = ResultWriter(tmp_path, CLASSES, stream)
    handlers = [writer, HeatMapWriter(tmp_path, stream)]
    HierarchicalEvaluator("cpu", stream, network, val_handlers=handlers).run()
    assert sorted(path.stem for path in (tmp_path / "heat_maps").iterdir()) == ["a", "c" * 240]
    assert [row["image"] for row in read_csv(tmp_path / "predictions.csv")] == [item["name"] for item in items]
    ((name, reason),) = stream.incomplete
    assert name == "b" * 300
    assert "has no heat map, since it could not be written" in reason
    assert [row["image"] for row in read_csv(tmp_path / "failures.csv")] == [name]


def test_no_readable_image_at_all(network: HierarchicalNet, tmp_path: Path) -> None:
    writer = run(network, tmp_path, [4])
    assert read_csv(tmp_path / "predictions.csv") == []
    assert json.loads((tmp_path / "predictions.json").read_text()) == []
    with pytest.raises(DataError, match="1 of 1"):
        writer.raise_failures()


def test_an_interrupted_run_leaves_what_was_there(network: HierarchicalNet, tmp_path: Path) -> None:
    run(network, tmp_path, [0])
    before = (tmp_path / "predictions.csv").read_bytes()
    items = [{"image": 1, "name": "a"}]
    stream = ImageStream(Dataset(items, Lambdad("image", lambda _: torch.rand(1, 32, 32))), batch_size=1)
    with pytest.raises(ValueError, match=r"got \[1, 1, 32, 32\]"):
        HierarchicalEvaluator("cpu", stream, network, val_handlers=[ResultWriter(tmp_path, CLASSES, stream)]).run()
    assert (tmp_path / "predictions.csv").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.csv", "predictions.json"]


def test_disagreement_of_orientations(network: HierarchicalNet, tmp_path: Path) -> None:
    run(network, tmp_path, [0, 1, 2], orientations=True)
    rows = read_csv(tmp_path / "predictions.csv")
    assert all(0 < float(row["orientation_disagreement"]) < 1 for row in rows)


def test_heat_maps_are_pictures_of_the_predicted_class(network: HierarchicalNet, tmp_path: Path) -> None:
    run(network, tmp_path, [0, 1, 2], handlers=[HeatMapWriter(tmp_path)])
    files = sorted((tmp_path / "heat_maps" / "folder").iterdir())
    assert [file.name for file in files] == ["image0.png", "image1.png", "image2.png"]
    picture = np.asarray(Image.open(files[1]))
    assert picture.shape == (256, 4 * 256, 3)
    heat = stage_heat_maps(network, read(1)[None])[0]
    # Where a stage has no evidence, its panel shows the image itself, which is the first panel.
    for k, panel in enumerate(np.split(picture, 4, axis=1)[1:]):
        changed = np.abs(panel.astype(int) - picture[:, :256]).max(2).reshape(32, 8, 32, 8).max((1, 3)) > 0
        assert not changed[(torch.nn.functional.max_pool2d(heat[k][None], 3, 1, 1)[0] == 0).numpy()].any()
        assert changed[(heat[k] > 0.5).numpy()].all()


def test_sets_of_possible_classes_and_triage(network: HierarchicalNet, tmp_path: Path) -> None:
    numbers = [number for number in range(NUM_IMAGES) if number != 4]
    with torch.no_grad():
        logits = network.stage_logits(torch.stack([read(number) for number in numbers])).double().sum(1) / 1.5
    probabilities = logits.softmax(1).numpy()
    # Between the second largest values of the images, so that some have one possible class and some two.
    second = np.sort(probabilities, axis=1)[:, 1]
    limit = 1 - float(np.median(second))
    sets = PredictionSets(0.9, (limit,) * 3, "threshold")
    run(network, tmp_path, numbers, temperature=1.5, prediction_sets=sets)
    rows = read_csv(tmp_path / "predictions.csv")
    records = json.loads((tmp_path / "predictions.json").read_text())
    for row, record, values in zip(rows, records, probabilities, strict=True):
        possible = [CLASSES[k] for k in np.argsort(-values) if 1 - values[k] <= limit] or [CLASSES[values.argmax()]]
        assert row["prediction_set"] == "; ".join(possible)
        assert record["prediction_set"] == possible
        assert row["triage"] == record["triage"] == ("predict" if len(possible) == 1 else "refer")
        assert row["reasons"] == ("" if len(possible) == 1 else SEVERAL_CLASSES)
    assert {row["triage"] for row in rows} == {"predict", "refer"}


def test_images_unlike_the_training_images_are_referred(network: HierarchicalNet, tmp_path: Path) -> None:
    with torch.no_grad():
        means = torch.cat(network.stage_means(torch.stack([read(number) for number in (0, 1, 2)])), dim=1)
    # The limit is that of the farther one of two images, so the third one may be above.
    rule = fit_feature_distances(means[:2], means[:2], network.backbone.channels)
    scores = rule.scores(means)
    assert scores[2] > 1
    sets = PredictionSets(0.9, (0.0,) * 3, "threshold")
    run(network, tmp_path, [0, 1, 2], prediction_sets=sets, feature_distances=rule, stage_means=True)
    rows = read_csv(tmp_path / "predictions.csv")
    records = json.loads((tmp_path / "predictions.json").read_text())
    for row, record, score in zip(rows, records, scores, strict=True):
        assert float(row["distance"]) == pytest.approx(score, rel=1e-4)
        assert record["distance"] == pytest.approx(score, rel=1e-4)
        assert (row["triage"], row["reasons"]) == (("refer", UNLIKE_TRAINING) if score > 1 + 1e-6 else ("predict", ""))
        assert record["reasons"] == ([UNLIKE_TRAINING] if row["reasons"] else [])


def test_balanced_decisions_name_another_class_and_leave_the_probabilities(
    network: HierarchicalNet, tmp_path: Path
) -> None:
    with torch.no_grad():
        values = (network.stage_logits(read(0)[None]).sum(1) / 1.5).softmax(1)[0].tolist()
    first, second, last = np.argsort(values)[::-1].tolist()
    # With strength 1 the second class wins by 1 %.
    prior = np.zeros(3)
    prior[first], prior[second], prior[last] = values[first], 0.99 * values[second], 2.0
    rule = LogitAdjustment(1.0, tuple(prior / prior.sum()))
    sets = PredictionSets(0.9, (1 - values[first],) * 3, "threshold")
    options = {"temperature": 1.5, "prediction_sets": sets}
    heat_maps = HeatMapWriter(tmp_path / "balanced", temperature=1.5, adjustment=rule)
    run(network, tmp_path / "likeliest", [0], **options)
    run(network, tmp_path / "balanced", [0], **options, adjustment=rule, handlers=[heat_maps])
    (plain,), (row,) = (read_csv(tmp_path / name / "predictions.csv") for name in ("likeliest", "balanced"))
    assert (plain["prediction"], row["prediction"]) == (CLASSES[first], CLASSES[second])
    assert [row[name] for name in CLASSES] == [plain[name] for name in CLASSES]
    # The set of the likeliest class alone gets the predicted one too, so a person looks.
    assert (plain["prediction_set"], plain["triage"]) == (CLASSES[first], "predict")
    assert (row["prediction_set"], row["triage"]) == (f"{CLASSES[first]}; {CLASSES[second]}", "refer")
    (record,) = json.loads((tmp_path / "balanced" / "predictions.json").read_text())
    assert record["prediction"] == CLASSES[second]
    expected = draw_heat_maps(read(0), stage_heat_maps(network, read(0)[None], [second])[0])
    with Image.open(tmp_path / "balanced" / "heat_maps" / "folder" / "image0.png") as picture:
        assert np.array_equal(np.asarray(picture), expected)


def test_without_a_rule_nothing_is_said_of_possible_classes(network: HierarchicalNet, tmp_path: Path) -> None:
    run(network, tmp_path, [0])
    (row,) = read_csv(tmp_path / "predictions.csv")
    (record,) = json.loads((tmp_path / "predictions.json").read_text())
    assert (row["prediction_set"], row["triage"], row["distance"], row["reasons"]) == ("",) * 4
    assert [record[name] for name in ("prediction_set", "triage", "distance", "reasons")] == [None] * 4
    assert (row["prediction_set"], row["triage"]) == ("", "")
    assert (record["prediction_set"], record["triage"]) == (None, None)


def test_findings_are_described_one_by_one() -> None:
    logits = torch.tensor([[[2.0, -1.0, 0.0], [1.0, -2.0, 0.0]], [[-3.0, -3.0, -3.0], [0.0, 0.0, 0.0]]])
    both, none = describe(
        logits,
        logits.sum(1)[:, None],
        ["a", "b", "c"],
        temperature=2.0,
        adjustment=Thresholds((0.5, 0.5, 0.5)),
        task=TASKS["multilabel"],
    )
    expected = [1 / (1 + math.exp(-value / 2)) for value in (3.0, -3.0, 0.0)]
    assert list(both["probabilities"].values()) == pytest.approx(expected, rel=1e-5)
    entropies = [-(p * math.log2(p) + (1 - p) * math.log2(1 - p)) for p in expected]
    assert both["entropy"] == pytest.approx(sum(entropies) / 3, rel=1e-5)
    assert (both["prediction"], none["prediction"]) == ("a; c", "none")
    assert both["prediction_set"] is None
    assert both["stages"]["stage1"]["a"] == pytest.approx(1 / (1 + math.exp(-2.0)), rel=1e-5)
    # The stages agree more on the first image than on the second.
    assert 0 < both["stage_disagreement"] < none["stage_disagreement"] < 1


def test_undecided_findings_are_named_and_referred() -> None:
    logits = torch.logit(torch.tensor([[[0.9, 0.1, 0.5]], [[0.45, 0.1, 0.7]]]))
    sets = FindingSets(0.9, (0.3, 0.3, None), (0.6, 0.6, None))
    sure, unsure = describe(
        logits, logits, ["a", "b", "c"], prediction_sets=sets, adjustment=Thresholds((0.5, 0.5, 0.6)),
        task=TASKS["multilabel"],
    )  # fmt: skip
    assert (sure["prediction"], sure["prediction_set"], sure["undecided_findings"]) == ("a", ["a"], [])
    assert (sure["triage"], sure["reasons"]) == ("predict", [])
    # The likeliest first; a may be there or not, and c has no rule.
    assert (unsure["prediction"], unsure["prediction_set"], unsure["undecided_findings"]) == ("c", ["c", "a"], ["a"])
    assert (unsure["triage"], unsure["reasons"]) == ("refer", [UNDECIDED_FINDING])
