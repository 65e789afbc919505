# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics of subgroups, against scikit-learn on the images of each subgroup alone."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    mean_absolute_error,
    roc_auc_score,
)

from monai_fgssl.data import CachedImages
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import METRICS, bootstrap_intervals
from monai_fgssl.report import Report
from monai_fgssl.report.subgroups import measure_subgroups, sentences_on_subgroups
from monai_fgssl.tasks import TASKS

CLASSES = ["a", "b", "c"]
SIZE = 300


def make() -> tuple[np.ndarray, np.ndarray, list[str], list[str]]:
    """Probabilities that are better for women, labels, lesions of two images each, and sexes."""
    rng = np.random.default_rng(0)
    labels, sexes = rng.integers(0, 3, SIZE), rng.choice(["F", "M", "X", ""], SIZE, p=[0.5, 0.3, 0.05, 0.15])
    logits = rng.normal(size=(SIZE, 3)) + np.where(sexes == "F", 2.0, 0.5)[:, None] * np.eye(3)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return probabilities, labels, [f"g{n // 2}" for n in range(SIZE)], sexes.tolist()


def scikit_learn(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    predicted = probabilities.argmax(1)
    return {
        "accuracy": accuracy_score(labels, predicted),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, average="macro"),
        "macro_auc": np.mean([roc_auc_score(labels == k, probabilities[:, k]) for k in np.unique(labels)]),
    }


def test_figures_are_those_of_scikit_learn() -> None:
    probabilities, labels, groups, sexes = make()
    found = measure_subgroups({"sex": sexes}, probabilities, labels, groups, probabilities.argmax(1), CLASSES)["sex"]
    sex = np.array(sexes)
    assert list(found["subgroups"]) == ["F", "M", "X"]
    assert found["unknown"] == (sex == "").sum()
    # Few lesions: they are counted, not scored.
    assert found["subgroups"]["X"]["metrics"] is None
    assert found["subgroups"]["X"]["images"] == (sex == "X").sum()
    values = {name: scikit_learn(probabilities[sex == name], labels[sex == name]) for name in ("F", "M")}
    for name, row in values.items():
        lesions = {group for group, one in zip(groups, sexes, strict=True) if one == name}
        assert found["subgroups"][name]["groups"] == len(lesions)
        for metric, value in row.items():
            assert found["subgroups"][name]["metrics"][metric]["value"] == pytest.approx(value)
    for metric in METRICS:
        gap = found["gaps"][metric]
        assert (gap["best"], gap["worst"]) == ("F", "M")
        assert gap["value"] == pytest.approx(values["F"][metric] - values["M"][metric])
        assert 0 < gap["low"] < gap["value"] < gap["high"]


def test_a_subgroup_without_a_class_is_compared_by_accuracy_alone() -> None:
    probabilities, labels, groups, _ = make()
    sites = np.where(labels == 2, "arm", np.where(np.arange(SIZE) % 3, "arm", "back"))
    found = measure_subgroups({"site": sites.tolist()}, probabilities, labels, groups, probabilities.argmax(1), CLASSES)
    back = found["site"]["subgroups"]["back"]
    assert back["missing_classes"] == ["c"]
    assert back["metrics"] is not None
    gaps = found["site"]["gaps"]
    assert [metric for metric in METRICS if gaps[metric]] == ["accuracy"]
    assert "largest gap in accuracy" in sentences_on_subgroups(found)[0]


def test_grades_have_a_gap_in_kappa_and_the_smaller_error_is_the_better_one() -> None:
    probabilities, labels, groups, sexes = make()
    predicted, sex = probabilities.argmax(1), np.array(sexes)
    found = measure_subgroups({"sex": sexes}, probabilities, labels, groups, predicted, CLASSES, TASKS["ordinal"])
    gaps = found["sex"]["gaps"]
    kappa, error = (
        {name: measure(labels[sex == name], predicted[sex == name]) for name in ("F", "M")}
        for measure in (partial(cohen_kappa_score, weights="quadratic"), mean_absolute_error)
    )
    assert gaps["kappa"]["value"] == pytest.approx(kappa["F"] - kappa["M"])
    assert gaps["mean_absolute_error"]["value"] == pytest.approx(error["F"] - error["M"])
    assert {gap["best"] for gap in gaps.values()} == {"F"}
    assert "largest gap in kappa" in sentences_on_subgroups(found, "kappa")[0]


def test_one_large_subgroup_has_no_gap() -> None:
    probabilities, labels, groups, _ = make()
    sites = ["arm"] * (SIZE - 4) + ["back"] * 4
    found = measure_subgroups({"site": sites}, probabilities, labels, groups, probabilities.argmax(1), CLASSES)
    assert set(found["site"]["gaps"].values()) == {None}
    assert sentences_on_subgroups(found) == [
        "By site: fewer than two subgroups are large enough to be compared. Not scored, fewer than 20 lesions or "
        "patients: back 2."
    ]


def test_equal_subgroups_have_a_gap_of_zero_between_two_names() -> None:
    _, labels, groups, _ = make()
    sites = np.where(np.arange(SIZE) // 2 % 2, "arm", "back").tolist()
    found = measure_subgroups({"site": sites}, np.eye(3)[labels], labels, groups, labels, CLASSES)["site"]["gaps"]
    for gap in found.values():
        assert (gap["value"], gap["low"], gap["high"]) == (0, 0, 0)
        assert {gap["best"], gap["worst"]} == {"arm", "back"}


def test_seeds_are_averaged() -> None:
    probabilities, labels, groups, sexes = make()
    other = np.random.default_rng(1).permutation(probabilities)
    both = np.stack([probabilities, other])
    found = measure_subgroups({"sex": sexes}, both, labels, groups, both.argmax(2), CLASSES)["sex"]
    women = np.array(sexes) == "F"
    expected = bootstrap_intervals(both[:, women], labels[women], np.array(groups)[women].tolist())
    assert found["subgroups"]["F"]["metrics"] == expected


def test_the_report_has_the_subgroups_whatever_the_order_of_the_predictions(tmp_path: Path) -> None:
    probabilities, labels, groups, sexes = make()
    names = [f"i{n}" for n in range(SIZE)]
    order = np.random.default_rng(2).permutation(SIZE)
    images = CachedImages(
        torch.zeros(SIZE, 3, 2, 2, dtype=torch.uint8), torch.from_numpy(labels), names, groups, subgroups={"sex": sexes}
    )
    report = Report(tmp_path, CLASSES, {"dataset_dir": "lesions"}, test_images=images)
    logits = torch.from_numpy(np.log(probabilities[order]))[:, None]
    collected = PredictionCollector(
        [names[n] for n in order], [groups[n] for n in order], [torch.from_numpy(labels[order])], [logits]
    )
    report.add("FG-SSL", collected)
    content = report.write({})
    found = measure_subgroups({"sex": sexes}, probabilities, labels, groups, probabilities.argmax(1), CLASSES)
    row = content["subgroups"]["sex"]["subgroups"]["M"]["metrics"]["macro_f1"]
    assert row["value"] == pytest.approx(found["sex"]["subgroups"]["M"]["metrics"]["macro_f1"]["value"])
    assert json.loads((tmp_path / "metrics.json").read_text())["subgroups"]["sex"]["unknown"] == sexes.count("")
    page = (tmp_path / "report.html").read_text()
    assert sentences_on_subgroups(content["subgroups"])[0] in page
    assert "too few" in page


@pytest.mark.filterwarnings("ignore:All-NaN slice")
def test_a_subgroup_without_any_finding_has_no_gap_in_what_is_not_known_of_it() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (150, 2))
    site = np.repeat(["A", "B", "none"], 50)
    labels[site == "none"] = 0
    predicted = (rng.random((150, 2)) < 0.5) & (site != "none")[:, None]
    groups = [str(n) for n in range(150)]
    found = measure_subgroups(
        {"site": site.tolist()}, rng.random((150, 2)), labels, groups, predicted, ["a", "b"], TASKS["multilabel"]
    )
    for metric in ("micro_f1", "micro_auc", "micro_average_precision"):
        assert np.isnan(found["site"]["subgroups"]["none"]["metrics"][metric]["value"])
        gap = found["site"]["gaps"][metric]
        assert {gap["best"], gap["worst"]} == {"A", "B"}
        assert gap["value"] >= 0


def test_figures_of_findings_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (300, 3))
    sex = np.where(rng.random(300) < 0.5, "F", "M")
    # Of women the scores are better; some answers are not known.
    probabilities = 1 / (1 + np.exp(-(labels - 0.5) * np.where(sex == "F", 4, 1)[:, None] - rng.normal(size=(300, 3))))
    labels[rng.random((300, 3)) < 0.1] = -1
    # The third finding is never seen in men.
    labels[sex == "M", 2] = np.minimum(labels[sex == "M", 2], 0)
    predicted, groups, task = probabilities > 0.5, [f"g{n // 2}" for n in range(300)], TASKS["multilabel"]
    found = measure_subgroups({"sex": sex.tolist()}, probabilities, labels, groups, predicted, ["a", "b", "c"], task)
    row = found["sex"]
    assert {name: one["missing_classes"] for name, one in row["subgroups"].items()} == {"F": [], "M": ["c"]}
    micro = {}
    scorers = {"micro_auc": roc_auc_score, "micro_average_precision": average_precision_score}
    for name in ("F", "M"):
        inside = sex == name
        known = labels[inside] >= 0
        aucs = [
            roc_auc_score(labels[inside][known[:, k], k], probabilities[inside][known[:, k], k])
            for k in range(3 if name == "F" else 2)
        ]
        micro[name] = {"micro_f1": f1_score(labels[inside][known], predicted[inside][known])}
        micro[name] |= {one: by(labels[inside][known], probabilities[inside][known]) for one, by in scorers.items()}
        assert row["subgroups"][name]["metrics"]["macro_auc"]["value"] == pytest.approx(np.mean(aucs))
        for metric, value in micro[name].items():
            assert row["subgroups"][name]["metrics"][metric]["value"] == pytest.approx(value)
    # A mean over other findings is not comparable, all answers together are.
    assert row["gaps"]["macro_auc"] is None
    for metric in micro["F"]:
        assert row["gaps"][metric]["value"] == pytest.approx(micro["F"][metric] - micro["M"][metric])
    assert "largest gap in micro F1" in sentences_on_subgroups(found, "macro_auc")[0]
    found = measure_subgroups(
        {"sex": sex.tolist()}, probabilities[:, :2], labels[:, :2], groups, predicted[:, :2], ["a", "b"], task
    )
    gap = found["sex"]["gaps"]["macro_auc"]
    assert (gap["best"], gap["worst"]) == ("F", "M")
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    assert "largest gap in macro AUC" in sentences_on_subgroups(found, "macro_auc")[0]
