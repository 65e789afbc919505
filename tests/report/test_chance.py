# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Chance of the seed and chance of the test images, on data whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.report import Report
from monai_fgssl.report.chance import measure_chance, measure_folds, sentence_on_chance, sentence_on_folds
from monai_fgssl.report.stored import Stored
from monai_fgssl.tasks import MULTICLASS, TASKS

TASK = TASKS[MULTICLASS]
IMAGES = 400


def predictions(right: list[float]) -> tuple[np.ndarray, torch.Tensor, list[str], np.ndarray]:
    """Two classes; each seed is right for a share of the images of each class."""
    labels = np.arange(IMAGES) % 2
    places = np.arange(IMAGES) // 2
    decided = np.stack([np.where(places < share * IMAGES / 2, labels, 1 - labels) for share in right])
    probabilities = np.where(np.eye(2)[decided] == 1, 0.9, 0.1)
    return probabilities, torch.from_numpy(labels), [str(i) for i in range(IMAGES)], decided


def test_seeds_that_agree_leave_only_the_chance_of_the_images() -> None:
    found = measure_chance(TASK, *predictions([0.8, 0.8, 0.8]))
    assert found["accuracy"]["seeds"] == pytest.approx(0, abs=1e-12)
    # Standard deviation of a share of independent images.
    assert found["accuracy"]["images"] == pytest.approx((0.8 * 0.2 / IMAGES) ** 0.5, rel=0.15)


def test_seeds_that_differ_have_the_standard_deviation_of_their_values() -> None:
    right = [0.6, 0.7, 0.95]
    found = measure_chance(TASK, *predictions(right))
    assert found["accuracy"]["seeds"] == pytest.approx(np.std(right, ddof=1))
    images = np.mean([(share * (1 - share) / IMAGES) ** 0.5 for share in right])
    assert found["accuracy"]["images"] == pytest.approx(images, rel=0.15)
    sentence = sentence_on_chance(found, "accuracy", 3)
    assert f"accuracy: {found['accuracy']['seeds']:.3f} from the seed of the fine-tuning (3 seeds)" in sentence


def test_a_single_seed_tells_nothing_of_seeds() -> None:
    assert measure_chance(TASK, *predictions([0.8])) == {}


def fold(right: list[float]) -> Stored:
    probabilities, labels, names, decided = predictions(right)
    return Stored("m", ("a", "b"), tuple(names), tuple(names), labels.numpy(), probabilities, decided)


def test_folds_that_agree_leave_only_the_chance_of_their_images() -> None:
    folds, found = measure_folds(TASK, [fold([0.8]), fold([0.8]), fold([0.8])])
    assert [row["accuracy"] for row in folds] == pytest.approx([0.8] * 3)
    assert found["accuracy"]["folds"] == pytest.approx(0, abs=1e-12)
    assert found["accuracy"]["images"] == pytest.approx((0.8 * 0.2 / IMAGES) ** 0.5, rel=0.15)
    assert "seeds" not in found["accuracy"]


def test_folds_vary_with_the_fold_the_seed_and_the_images() -> None:
    folds, found = measure_folds(TASK, [fold([0.9, 0.8]), fold([0.8, 0.7])])
    row = found["accuracy"]
    assert row["folds"] == pytest.approx(np.std([0.85, 0.75], ddof=1))
    assert row["seeds"] == pytest.approx(np.std([0.0, 0.1], ddof=1))
    assert row["images"] == pytest.approx(np.sqrt(np.mean([0.09, 0.16, 0.16, 0.21]) / IMAGES), rel=0.15)
    sentence = sentence_on_folds(folds, found, "accuracy")
    assert sentence.startswith("Accuracy of each fold: 0.850, 0.750; standard deviation 0.071. The choice of")
    assert sentence.endswith("the seed of the fine-tuning one of 0.071.")


def test_the_model_of_all_seeds_is_measured_beside_its_members(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = torch.arange(90) % 3
    names = [str(number) for number in range(90)]
    report = Report(tmp_path, ["a", "b", "c"], {})
    for seed in range(3):
        # Each seed is sure of a wrong class for another third of the images, so the mean is always right.
        shown = torch.where(torch.arange(90) // 30 == seed, (labels + 1) % 3, labels)
        logits = 5.0 * torch.nn.functional.one_hot(shown, 3)[:, None]
        report.add("FG-SSL", PredictionCollector(names, names, [labels], [logits]))
    report.joined = tmp_path / "seeds.pt", None
    content = report.write({})
    assert content["joined"]["metrics"]["accuracy"]["value"] == 1
    assert content["methods"]["FG-SSL"]["accuracy"]["value"] == pytest.approx(2 / 3)
    sentence = "The one model of all 3 seeds (seeds.pt) has a macro F1 of 1.000 [1.000, 1.000]; its members have 0.667"
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert sentence in " ".join((tmp_path / "report.html").read_text().split())
