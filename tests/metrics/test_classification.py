# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics against scikit-learn, and intervals against what theory says of them."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import decollate_batch
from sklearn import metrics

from monai_fgssl.metrics import (
    METRICS,
    bootstrap_difference,
    bootstrap_intervals,
    classification_metrics,
    epoch_metric,
)


def make_scores(size: int, num_classes: int, seed: int, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=size)
    scores = rng.dirichlet(np.ones(num_classes), size) + 0.3 * np.eye(num_classes)[labels]
    return (np.round(scores, 1) if ties else scores), labels


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@settings(max_examples=60, deadline=None)
@given(st.integers(2, 60), st.integers(2, 7), st.integers(0, 1000), st.booleans())
def test_equal_to_scikit_learn(size: int, num_classes: int, seed: int, ties: bool) -> None:
    scores, labels = make_scores(size, num_classes, seed, ties)
    predicted = scores.argmax(1)
    ours = classification_metrics(scores, labels)
    assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert ours["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert ours["macro_f1"] == pytest.approx(metrics.f1_score(labels, predicted, average="macro"))
    aucs = [
        metrics.roc_auc_score(labels == label, scores[:, label])
        for label in range(num_classes)
        if 0 < (labels == label).sum() < size
    ]
    if aucs:
        assert ours["macro_auc"] == pytest.approx(np.mean(aucs))
    else:
        assert math.isnan(ours["macro_auc"])


def test_interval_of_an_accuracy_is_binomial() -> None:
    scores, labels = make_scores(2000, 3, 0)
    interval = bootstrap_intervals(scores, labels)["accuracy"]
    share = (scores.argmax(1) == labels).mean()
    half = 1.96 * math.sqrt(share * (1 - share) / 2000)
    assert interval["value"] == pytest.approx(share)
    assert interval["low"] == pytest.approx(share - half, abs=0.15 * half)
    assert interval["high"] == pytest.approx(share + half, abs=0.15 * half)


def test_repeated_images_of_a_lesion_do_not_narrow_the_interval() -> None:
    scores, labels = make_scores(300, 3, 1)
    single = bootstrap_intervals(scores, labels, num_resamples=400)["macro_f1"]
    lesions = [f"lesion{i}" for i in range(300)] * 4
    repeated = bootstrap_intervals(np.tile(scores, (4, 1)), np.tile(labels, 4), lesions, num_resamples=400)["macro_f1"]
    careless = bootstrap_intervals(np.tile(scores, (4, 1)), np.tile(labels, 4), num_resamples=400)["macro_f1"]
    width = single["high"] - single["low"]
    assert repeated["high"] - repeated["low"] == pytest.approx(width, rel=0.2)
    assert careless["high"] - careless["low"] < 0.7 * width


def test_difference_is_paired() -> None:
    scores, labels = make_scores(200, 3, 2)
    same = bootstrap_difference(scores, scores, labels, num_resamples=50)
    assert all(value == 0 for interval in same.values() for value in interval.values())
    better = np.eye(3)[labels]
    difference = bootstrap_difference(better, scores, labels, num_resamples=200)
    for name in METRICS:
        single = classification_metrics(scores, labels)[name]
        assert difference[name]["value"] == pytest.approx(1 - single)
        assert 0 < difference[name]["low"] < difference[name]["high"]


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3,\)"):
        classification_metrics(np.ones((2, 3)), [0, 1, 2])
    with pytest.raises(ValueError, match="from 0 to 2, got -1 to 1"):
        classification_metrics(np.ones((2, 3)), [-1, 1])


def test_epoch_metric_is_of_all_batches() -> None:
    scores, labels = make_scores(30, 3, 3)
    logits = torch.from_numpy(scores).log()
    batches = [{"pred": logits[a:b], "label": torch.from_numpy(labels[a:b])} for a, b in pairwise((0, 11, 23, 30))]
    for prepare in (lambda batch: batch, decollate_batch):
        engine = Engine(lambda _engine, batch, prepare=prepare: prepare(batch))
        for name in METRICS:
            epoch_metric(name).attach(engine, name)
        engine.run(batches)
        assert engine.state.metrics == pytest.approx(classification_metrics(scores, labels))
