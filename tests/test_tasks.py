# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Loss, metrics and refusals of each task."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score
from torch import nn

from monai_fgssl.bundle import SettingsError, check_settings, shipped_bundle
from monai_fgssl.data import DataError
from monai_fgssl.losses import CumulativeCrossEntropyLoss
from monai_fgssl.tasks import TASKS, make_loss, read_labels, task_named, task_of


def test_each_name_gives_its_task() -> None:
    assert {name: task_named(name).name for name in TASKS} == {name: name for name in TASKS}
    with pytest.raises(SettingsError, match="--task must be one of multiclass"):
        task_named("regression")


def test_the_loss_takes_the_weights_and_further_arguments() -> None:
    weights = torch.tensor([1.0, 2.0])
    loss = make_loss(TASKS["multiclass"], weights, label_smoothing=0.1)
    assert isinstance(loss, nn.CrossEntropyLoss)
    assert (loss.weight.tolist(), loss.label_smoothing) == ([1, 2], 0.1)
    ordinal = make_loss(TASKS["ordinal"], weights)
    assert isinstance(ordinal, CumulativeCrossEntropyLoss)
    assert ordinal.weight is not None
    assert ordinal.weight.tolist() == [1, 2]


@pytest.mark.parametrize(("labels", "expected"), [([0, 1, 2, 3, 3], None), ([3, 3, 3, 3, 3], 0.0)])
def test_the_best_epoch_of_grades_is_chosen_by_kappa(labels: list[int], expected: float | None) -> None:
    task, logits = TASKS["ordinal"], torch.eye(4)[[1, 1, 2, 2, 3]] if expected is None else torch.eye(4)[[3] * 5]
    output = {"pred": logits, "label": torch.tensor(labels)}
    engine = Engine(lambda _engine, _batch: output)
    ((name, metric),) = task.key_epoch_metric().items()
    metric.attach(engine, name)
    engine.run([0])
    kappa = cohen_kappa_score(labels, logits.argmax(1), weights="quadratic") if expected is None else expected
    assert engine.state.metrics == {"kappa": pytest.approx(kappa)}
    assert set(task.other_epoch_metrics()) == set(task.metrics) - {"kappa"}
    assert set(task.tiles) <= set(task.metrics)


def test_the_best_epoch_of_findings_is_chosen_by_macro_auc() -> None:
    task, generator = TASKS["multilabel"], torch.Generator().manual_seed(0)
    logits, labels = torch.randn(20, 2, generator=generator), torch.randint(-1, 2, (20, 2), generator=generator)
    engine = Engine(lambda _engine, _batch: {"pred": logits, "label": labels})
    for name, metric in (task.key_epoch_metric() | task.other_epoch_metrics()).items():
        metric.attach(engine, name)
    engine.run([0])
    known = [labels[:, k] >= 0 for k in range(2)]
    aucs = [roc_auc_score(labels[rows, k], logits[rows, k]) for k, rows in enumerate(known)]
    scores = [f1_score(labels[rows, k], logits[rows, k].sigmoid() > 0.5) for k, rows in enumerate(known)]
    assert engine.state.metrics["macro_auc"] == pytest.approx(sum(aucs) / 2)
    assert engine.state.metrics["macro_f1"] == pytest.approx(sum(scores) / 2)
    assert set(engine.state.metrics) == set(task.metrics)
    assert task.key_metric == "macro_auc"


def test_the_loss_of_findings_ignores_what_is_not_known() -> None:
    loss = make_loss(TASKS["multilabel"], torch.tensor([1.0, 2.0]))
    assert loss(torch.zeros(1, 2), torch.tensor([[-1, 1]])).item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("balance", "sampling"), ("decision", "balanced")],
)
def test_settings_for_one_class_are_refused_for_findings(setting: str, value: object) -> None:
    TASKS["multilabel"].check({"balance": "weights", "decision": "likeliest"})
    TASKS["multiclass"].check({setting: value})
    with pytest.raises(SettingsError, match=f"--{setting} .*needs images with one class each"):
        TASKS["multilabel"].check({setting: value})


@pytest.mark.parametrize(("setting", "value"), [("coverage_by_class", True), ("set_score", "threshold")])
def test_sets_of_possible_classes_are_refused_for_findings(setting: str, value: object) -> None:
    # Their defaults are no wish.
    TASKS["multilabel"].check({"coverage": 0.95, "coverage_by_class": False, "set_score": "raps"})
    TASKS["ordinal"].check({setting: value})
    with pytest.raises(SettingsError, match=f"--{setting} {value} is for sets of possible classes.*leave it out"):
        TASKS["multilabel"].check({setting: value})


def test_folders_have_no_findings(lesions: Path) -> None:
    with pytest.raises(DataError, match="--task multilabel needs a list"):
        read_labels(lesions, task="multilabel")
    assert task_of(None, read_labels(lesions, task=None)).name == "multiclass"


def test_an_order_without_grades_is_refused(lesions: Path) -> None:
    with pytest.raises(SettingsError, match="--class_order is for --task ordinal"):
        read_labels(lesions, task="multiclass", class_order=["a", "b"])


def test_synthetic_lesions_have_no_grades() -> None:
    settings = {"task": "ordinal", "dataset_dir": None, "spatial_dims": 2}
    with pytest.raises(SettingsError, match="--task ordinal needs images with such labels"):
        check_settings(str(shipped_bundle("fgssl")), settings)
