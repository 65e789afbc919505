# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What a run writes: numbers that come back, pictures that show something, nothing half-written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_fgssl.data.atomic import atomic_write
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import classification_metrics
from monai_fgssl.report import Report, plot_confusion, plot_learning_curves, plot_roc, write_predictions

CLASSES = ["A", "B", "C"]


def make_predictions(seed: int) -> PredictionCollector:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(60) % 3
    logits = torch.randn(60, 2, 3, generator=generator) + torch.nn.functional.one_hot(labels, 3)[:, None]
    return PredictionCollector([f"i{n}" for n in range(60)], [f"g{n // 2}" for n in range(60)], [labels], [logits])


def test_report_of_two_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make_predictions(0), make_predictions(1)
    report = Report(tmp_path, CLASSES, {"seed": 0})
    report.add("ours", first)
    report.add("theirs", second)
    report.write({"train": {"loss_stage1": [(1, 2.0), (2, 1.0)], "val_accuracy": [(2, 0.5)]}, "none": {}})
    content = json.loads((tmp_path / "metrics.json").read_text())
    for name, predictions in (("ours", first), ("theirs", second)):
        expected = classification_metrics(predictions.stage_logits.sum(1).softmax(1), predictions.labels)
        assert {metric: row["value"] for metric, row in content["methods"][name].items()} == pytest.approx(expected)
    stage = classification_metrics(first.stage_logits[:, 0].softmax(1), first.labels)["accuracy"]
    assert content["stages"]["ours, stage1 alone"]["accuracy"]["value"] == pytest.approx(stage)
    assert list(content["differences"]) == ["ours - theirs"]
    assert content["settings"] == {"seed": 0}
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["image", *CLASSES]
    np.testing.assert_allclose(np.array(rows[1:])[:, 1:].astype(float), first.probabilities, atol=1e-6)
    assert [row[0] for row in rows[1:]] == first.names
    assert f"{content['methods']['ours']['accuracy']['value']:.3f}" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "confusion_matrix.png",
        "learning_curves.png",
        "metrics.json",
        "predictions.csv",
        "roc.png",
    ]


@pytest.mark.parametrize("missing", [None, 1])
def test_pictures_are_drawn_also_when_a_class_has_no_images(missing: int | None, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=50)
    labels[labels == missing] = 0
    scores = rng.dirichlet(np.ones(3), 50)
    plot_confusion(labels, scores.argmax(1), CLASSES, tmp_path / "confusion.png")
    plot_roc(labels, scores, CLASSES, tmp_path / "roc.png")
    plot_learning_curves({"a": {"loss_concat": [(1, 3.0), (2, 2.0)]}}, tmp_path / "curves.png")
    for path in tmp_path.iterdir():
        with Image.open(path) as image:
            assert np.asarray(image.convert("L")).std() > 5


def test_wrong_shapes_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\), got \(2, 2\)"):
        write_predictions(tmp_path / "p.csv", ["a", "b"], np.ones((2, 2)), CLASSES)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
