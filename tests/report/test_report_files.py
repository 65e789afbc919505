# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of a run: numbers can be read back, pictures are not empty, and no file is incomplete."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import precision_recall_fscore_support

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import classification_metrics
from monai_fgssl.report import (
    Report,
    plot_comparison,
    plot_confusion,
    plot_learning_curves,
    plot_roc,
    write_predictions,
)
from monai_fgssl.report.conclusion import conclusion
from monai_fgssl.report.tables import write_metrics
from monai_fgssl.utils.errors import DataError
from monai_fgssl.utils.files import atomic_write

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
        "agreement.png",
        "confusion_matrix.png",
        "learning_curves.png",
        "metrics.json",
        "model_card.md",
        "predictions.csv",
        "predictions.npz",
        "report.html",
        "risk_coverage.png",
        "roc.png",
    ]


def test_report_of_several_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(tmp_path, CLASSES, {})
    ours, theirs = [make_predictions(seed) for seed in (0, 1)], [make_predictions(seed) for seed in (2, 3)]
    report.add("ours, linear probe", make_predictions(4))
    report.add("ours, linear probe", make_predictions(5))
    for method, of_seeds in (("ours", ours), ("theirs", theirs)):
        for predictions in of_seeds:
            report.add(method, predictions)
    content = report.write({})
    # What pictures and CSV are of comes first; the probe has nothing to be compared with.
    assert list(content["methods"]) == ["ours", "theirs", "ours, linear probe"]
    assert list(content["differences"]) == ["ours - theirs"]
    assert content["seeds"] == 2
    scores = [[classification_metrics(p.probabilities, p.labels)["macro_f1"] for p in of] for of in (ours, theirs)]
    assert [row["macro_f1"] for row in content["by_seed"]["ours"]] == scores[0]
    means = np.mean(scores, axis=1)
    assert content["methods"]["ours"]["macro_f1"]["value"] == pytest.approx(means[0])
    assert content["differences"]["ours - theirs"]["macro_f1"]["value"] == pytest.approx(means[0] - means[1])
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    np.testing.assert_allclose(np.array(rows[1:])[:, 1:].astype(float), ours[0].probabilities, atol=1e-6)
    printed = capsys.readouterr().out
    assert "60 test images, means of 2 seeds, 95 % intervals over lesions and seeds" in printed
    assert f"{means[0] - means[1]:+.3f} [" in printed
    assert max(map(len, printed.splitlines()[:-1])) <= 100


def test_classes_have_the_figures_of_scikit_learn(tmp_path: Path) -> None:
    report, predictions = Report(tmp_path, CLASSES, {}), make_predictions(0)
    report.add("ours", predictions)
    classes = report.write({})["classes"]
    labels, predicted = predictions.labels, predictions.probabilities.argmax(1)
    precision, recall, _, images = precision_recall_fscore_support(labels, predicted)
    assert [row["images"] for row in classes.values()] == images.tolist()
    assert [row["recall"] for row in classes.values()] == pytest.approx(recall.tolist())
    assert [row["precision"] for row in classes.values()] == pytest.approx(precision.tolist())


def interval(value: float, low: float, high: float) -> dict[str, dict[str, float]]:
    return {"macro_f1": {"value": value, "low": low, "high": high}}


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        (interval(0.2, 0.1, 0.3), "raises macro F1 by 0.200 [0.100, 0.300]: 0.700 against 0.500 from random weights"),
        (interval(-0.2, -0.3, -0.1), "lowers macro F1 by 0.200 [0.100, 0.300]: 0.700 against 0.500"),
        (interval(0.2, 0.0, 0.3), "makes no difference beyond chance in macro F1 (+0.200 [+0.000, +0.300]): 0.700"),
        (interval(-0.2, -0.3, 0.0), "makes no difference beyond chance in macro F1 (-0.200 [-0.300, +0.000]): 0.700"),
    ],
)
def test_the_conclusion_is_that_of_the_interval(gain: dict[str, dict[str, float]], words: str) -> None:
    ours, other = interval(0.7, 0.6, 0.8), interval(0.5, 0.4, 0.6)
    sentence = conclusion(ours, other, gain, [6, 6, 7], 1100, seeds=3, num_test_images=320)
    assert sentence.startswith("With 6 to 7 labels per class, pre-training on 1,100 images without their labels ")
    assert words in sentence
    assert sentence.endswith("(the whole network fine-tuned, 3 seeds, 320 test images).")
    frozen = conclusion(ours, other, gain, [6], None, seeds=1, num_test_images=20, frozen=True, epochs=15)
    assert "pre-training " + words.split()[0] in frozen
    assert frozen.startswith("With 6 labels per class, pre-training ")
    assert frozen.endswith("(a linear classifier of the frozen network, 20 test images).")


@pytest.mark.parametrize(
    ("recipe", "start", "words"),
    [
        ("full", "random weights", "the whole network fine-tuned"),
        ("ensemble", "random weights", "the fine-tuned network with a probe, against the whole network fine-tuned"),
        ("ensemble", "given weights", "the fine-tuned network with a probe"),
    ],
)
def test_the_conclusion_names_both_recipes_and_the_length_of_the_fine_tuning(
    recipe: str, start: str, words: str
) -> None:
    values = interval(0.7, 0.6, 0.8)
    sentence = conclusion(values, values, values, [6], 9, 1, 20, start=start, epochs=15, recipe=recipe)
    assert sentence.startswith("With 6 labels per class and 15 epochs of fine-tuning, pre-training on 9 images ")
    assert sentence.endswith(f" from {start} ({words}, 20 test images).")


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


@pytest.mark.parametrize("name", ["$a$b$c^$", "<$5 and >$9", "a_{b$", "_other", "naevus, benign", "\\frac", "100 %"])
def test_names_of_classes_are_shown_as_they_are(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores = np.arange(30) % 3, np.random.default_rng(0).dirichlet(np.ones(3), 30)
    figures: list[Figure] = []

    def keep(figure: Figure, path: Path) -> None:
        figures.append(figure)
        figure.savefig(path)

    monkeypatch.setattr("monai_fgssl.report.figures.save_figure", keep)
    plot_confusion(labels, scores.argmax(1), ["A", name, "C"], tmp_path / "confusion.png")
    plot_roc(labels, scores, ["A", name, "C"], tmp_path / "roc.png")
    ticks = [text.get_text() for text in figures[0].axes[0].get_xticklabels()]
    legend = [text.get_text() for text in figures[1].axes[0].get_legend().get_texts()]
    for text in (ticks[1], legend[1].rsplit(" (", 1)[0]):
        assert text.replace(r"\$", "$").strip() == name
    assert len(legend) == 3


@pytest.mark.parametrize("names", [["image", "B"], ["A", "prediction"], ["entropy", "B"], ["MEL", "stage1_MEL"]])
def test_classes_called_like_other_columns_are_refused_at_the_start(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"have the names of other columns of predictions.csv \("):
        Report(tmp_path, names, {})


def test_figures_are_written_though_a_picture_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no picture")

    monkeypatch.setattr("monai_fgssl.report.run.plot_confusion", fail)
    report = Report(tmp_path, CLASSES, {})
    report.add("ours", make_predictions(0))
    with pytest.raises(RuntimeError, match="no picture"):
        report.write({})
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "predictions.csv", "predictions.npz"}


def test_learning_curves_show_every_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("monai_fgssl.report.figures.save_figure", lambda figure, path: figures.append(figure))
    history = {
        "pre-train": {f"loss_stage{k}": [(1, 5.0), (2, 4.0 - k)] for k in range(10)} | {"rank_concat": [(0, 9.0)]},
        "fine-tune": {"val_macro_f1": [(1, 0.2), (3, 0.6)], "epoch_seconds": [(1, 3.0)]},
    }
    plot_learning_curves(history, tmp_path / "curves.png")
    shown = {
        f"{axes.get_title(loc='left')}, {line.get_label()}": [tuple(pair) for pair in line.get_xydata().tolist()]
        for axes in figures[0].axes
        if axes.get_visible()
        for line in axes.lines
    }
    expected = {f"pre-train: loss of each step, stage{k}": [(1, 5.0), (2, 4.0 - k)] for k in range(10)}
    expected["pre-train: effective rank of the features, concat"] = [(0, 9.0)]
    expected["fine-tune: validation images, macro F1"] = [(1, 0.2), (3, 0.6)]
    assert shown == expected
    labels = {axes.get_title(loc="left"): axes.get_xlabel() for axes in figures[0].axes if axes.get_visible()}
    assert labels["pre-train: effective rank of the features"] == "epoch, 0: before the first step"
    assert labels["pre-train: loss of each step"] == "epoch"
    # A curve that another one hides is seen at its edges.
    widths = [line.get_linewidth() for line in figures[0].axes[0].lines]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 2 * widths[-1]


def test_the_comparison_shows_the_mean_and_every_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("monai_fgssl.report.figures.save_figure", lambda figure, path: figures.append(figure))
    plot_comparison({"ours": [[(1, 0.2), (2, 0.6)], [(1, 0.4), (2, 0.8)]], "$a$": [[(2, 0.5)]]}, tmp_path / "c.png")
    axes = figures[0].axes[0]
    thick = {line.get_label(): line.get_xydata().tolist() for line in axes.lines if line.get_linewidth() > 1}
    assert list(thick) == ["ours", r"\$a\$"]
    np.testing.assert_allclose(thick["ours"], [(1, 0.3), (2, 0.7)])
    thin = [line.get_xydata().tolist() for line in axes.lines if line.get_linewidth() < 1]
    assert thin == [[[1, 0.2], [2, 0.6]], [[1, 0.4], [2, 0.8]]]


def test_the_report_compares_the_courses_of_all_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("monai_fgssl.report.run.plot_comparison", lambda *arguments: drawn.append(arguments))
    report = Report(tmp_path, CLASSES, {})
    for seed, method in enumerate(("ours", "theirs")):
        report.add(method, make_predictions(seed))
    own = {"fine-tune": {"val_macro_f1": [(1, 0.4)]}}
    picture = tmp_path / "comparison.png"
    picture.write_bytes(b"of an earlier run")
    report.write(own)
    # There is nothing to compare with, and the picture of an earlier run would be wrong.
    assert not drawn
    assert not picture.exists()
    report.add_course("theirs", {"val_macro_f1": [(1, 0.2)], "loss": [(1, 9.0)]})
    report.add_course("ours", {"val_macro_f1": [(1, 0.5)]})
    report.add_course("without epochs", {})
    report.write(own)
    assert drawn == [({"ours": [[(1, 0.4)], [(1, 0.5)]], "theirs": [[(1, 0.2)]]}, picture, "macro F1")]


def test_confusion_matrix_and_areas_are_those_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr("monai_fgssl.report.figures.save_figure", lambda figure, path: figures.append(figure))
    labels, predicted = [0, 0, 0, 1, 1, 2], [0, 1, 1, 1, 0, 2]
    plot_confusion(labels, predicted, CLASSES, tmp_path / "confusion.png")
    texts = {tuple(map(round, text.get_position())): text.get_text() for text in figures[0].axes[0].texts}
    # (column, row): predicted, true.
    assert {place: text for place, text in texts.items() if text != "0"} == {
        (0, 0): "1",
        (1, 0): "2",
        (1, 1): "1",
        (0, 1): "1",
        (2, 2): "1",
    }
    scores = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.3, 0.7, 0], [0.2, 0.8, 0], [0.35, 0.65, 0], [0, 0, 1]])
    plot_roc(labels, scores, CLASSES, tmp_path / "roc.png")
    legend = [text.get_text() for text in figures[1].axes[0].get_legend().get_texts()]
    # Class A: of 3 x 3 pairs only 0.3 against 0.35 is the wrong way round; class B: 0.7 against 0.65.
    assert legend == ["A (3) 0.889", "B (2) 0.875", "C (1) 1.000"]
    assert [figure.axes[0].get_title(loc="left") for figure in figures] == ["6 images", "6 images"]


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


def test_metrics_are_json_for_every_reader(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = {"macro_auc": float("nan"), "values": [float("inf"), (1, -float("inf"))], "name": "NaN", "n": 3}
    write_metrics(tmp_path / "metrics.json", content)
    found = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert found == {"macro_auc": None, "values": [None, [1, None]], "name": "NaN", "n": 3}
