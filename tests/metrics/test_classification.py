# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Metrics against scikit-learn, and intervals against theory."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

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
    bootstrap_gap,
    bootstrap_intervals,
    classification,
    classification_metrics,
    epoch_metric,
    resample_weights,
    weighted_metrics,
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


def scikit_learn_metrics(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> dict[str, float | np.ndarray]:
    """The same of one weighting, in float64."""
    num_classes = scores.shape[1]
    predicted = scores.argmax(1)
    used = weights > 0
    there = np.unique(labels[used])
    seen = np.union1d(there, predicted[used])
    recalls, aucs = np.full(num_classes, np.nan), np.full(num_classes, np.nan)
    recalls[there] = metrics.recall_score(labels, predicted, labels=there, average=None, sample_weight=weights)
    if len(there) > 1:
        for label in there:
            aucs[label] = metrics.roc_auc_score(labels == label, scores[:, label], sample_weight=weights)
    kappa = metrics.cohen_kappa_score(labels, predicted, weights="quadratic", sample_weight=weights)
    return {
        "accuracy": metrics.accuracy_score(labels, predicted, sample_weight=weights),
        "balanced_accuracy": np.mean(recalls[there]),
        "macro_f1": metrics.f1_score(labels, predicted, labels=seen, average="macro", sample_weight=weights),
        "macro_auc": np.mean(aucs[there]),
        "kappa": kappa,
        "mean_absolute_error": metrics.mean_absolute_error(labels, predicted, sample_weight=weights),
        "recall": recalls,
        "auc": aucs,
    }


@pytest.mark.parametrize("block", [1, 100, 2**21])
@pytest.mark.parametrize("ties", [False, True])
def test_weighted_metrics_equal_scikit_learn(ties: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification, "BLOCK", block)
    scores, labels = make_scores(40, 5, 4, ties)
    rng = np.random.default_rng(5)
    weights = rng.integers(0, 4, (12, 40)).astype(float)
    # Weights need not be counts; a class may be missing, and so may all others.
    weights[3] = rng.random(40)
    weights[4, labels == 2] = 0
    weights[5, labels != 1] = 0
    found = weighted_metrics(scores, labels, weights)
    for row, of_row in enumerate(weights):
        with np.errstate(invalid="ignore"):
            expected = scikit_learn_metrics(scores, labels, of_row)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][row], value, rtol=0, atol=1e-12, err_msg=f"{name}, row {row}")
    assert found["auc"].shape == (12, 5)
    assert np.isnan(found["auc"][4, 2])
    assert np.isnan(found["macro_auc"][5])


def test_scores_that_are_nan_have_no_metrics() -> None:
    scores, labels = make_scores(30, 3, 6)
    assert not math.isnan(classification_metrics(scores, labels)["macro_auc"])
    scores[4, 1] = np.nan
    assert all(map(math.isnan, classification_metrics(scores, labels).values()))
    assert np.isnan(weighted_metrics(scores, labels, np.ones((2, 30)))["auc"]).all()


def test_groups_are_drawn_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.array([f"g{i}" for i in np.random.default_rng(1).integers(0, 40, 80)])
    weights = resample_weights(groups, 500)
    names = np.unique(groups)
    of_groups = np.stack([weights[:, groups == name].max(1) for name in names], axis=1)
    for name, counts in zip(names, of_groups.T, strict=True):
        assert (weights[:, groups == name] == counts[:, None]).all()
    assert (of_groups.sum(1) == len(names)).all()
    # As often as by chance: a group is drawn 1 time on average, with the variance of a multinomial draw.
    assert of_groups.var() == pytest.approx(1 - 1 / len(names), abs=0.05)
    assert not (weights == resample_weights(groups, 500, seed=1)).all()
    monkeypatch.setattr(classification, "BLOCK", 1000)
    assert (weights == resample_weights(groups, 500)).all()


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("block", [400, 2**21])
def test_intervals_are_quantiles_of_scikit_learn_on_each_resample(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classification, "BLOCK", block)
    (first, labels), (second, _) = make_scores(60, 3, 7), make_scores(60, 3, 8)
    groups = [f"g{i}" for i in np.random.default_rng(9).integers(0, 30, 60)]
    draws: dict[str, list[tuple[float, float]]] = {name: [] for name in METRICS}
    for counts in resample_weights(groups, 25, seed=3).astype(int):
        a, b = (
            scikit_learn_metrics(*(np.repeat(values, counts, axis=0) for values in (scores, labels, np.ones(60))))
            for scores in (first, second)
        )
        for name in METRICS:
            draws[name].append((a[name], b[name]))
    intervals = bootstrap_intervals(first, labels, groups, num_resamples=25, seed=3, confidence=0.8)
    differences = bootstrap_difference(first, second, labels, groups, num_resamples=25, seed=3, confidence=0.8)
    for name, pairs in draws.items():
        a, b = np.array(pairs).T
        for found, values in ((intervals, a), (differences, a - b)):
            bounds = [found[name]["low"], found[name]["high"]]
            np.testing.assert_allclose(bounds, np.quantile(values, (0.1, 0.9)), rtol=0, atol=1e-12)


def test_gap_between_subsets_is_that_of_scikit_learn_on_each_resample() -> None:
    scores, labels = make_scores(90, 3, 7)
    groups = [f"g{i}" for i in np.random.default_rng(9).integers(0, 45, 90)]
    first = np.arange(90) % 3 == 0
    second = np.arange(90) % 3 == 1
    gaps: dict[str, list[float]] = {name: [] for name in METRICS}
    for counts in resample_weights(groups, 25, seed=3).astype(int):
        a, b = (
            scikit_learn_metrics(*(np.repeat(values[s], counts[s], axis=0) for values in (scores, labels, np.ones(90))))
            for s in (first, second)
        )
        for name in METRICS:
            gaps[name].append(a[name] - b[name])
    found = bootstrap_gap(scores, labels, first, second, groups, num_resamples=25, seed=3, confidence=0.8)
    for name, values in gaps.items():
        bounds = [found[name]["low"], found[name]["high"]]
        np.testing.assert_allclose(bounds, np.quantile(values, (0.1, 0.9)), rtol=0, atol=1e-12)
    alone = [classification_metrics(scores[s], labels[s])["macro_f1"] for s in (first, second)]
    assert found["macro_f1"]["value"] == pytest.approx(alone[0] - alone[1])


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


def test_intervals_over_seeds_are_means_of_drawn_seeds_on_each_resample() -> None:
    """Each resample by hand: repeated samples, two of three seeds with replacement, scikit-learn's metrics."""
    labels = make_scores(60, 3, 7)[1]
    first, second = (np.stack([make_scores(60, 3, seed)[0] for seed in seeds]) for seeds in ((1, 2, 3), (4, 5, 6)))
    groups = [f"g{i}" for i in np.random.default_rng(9).integers(0, 30, 60)]
    resamples = resample_weights(groups, 25, seed=3).astype(int)
    intervals = bootstrap_intervals(first, labels, groups, num_resamples=25, seed=3, confidence=0.8)
    differences = bootstrap_difference(first, second, labels, groups, num_resamples=25, seed=3, confidence=0.8)
    rng = np.random.default_rng([3, 1])
    for name in METRICS:
        chosen = rng.integers(3, size=(2, 25))

        def of(scores: np.ndarray, counts: np.ndarray, name: str = name) -> float:
            repeated = (np.repeat(values, counts, axis=0) for values in (scores, labels, np.ones(60)))
            return scikit_learn_metrics(*repeated)[name]

        a, b = (
            [np.mean([of(scores[s], counts) for s in chosen[:, r]]) for r, counts in enumerate(resamples)]
            for scores in (first, second)
        )
        for found, draws in ((intervals, np.array(a)), (differences, np.array(a) - np.array(b))):
            bounds = [found[name]["low"], found[name]["high"]]
            np.testing.assert_allclose(bounds, np.quantile(draws, (0.1, 0.9)), rtol=0, atol=1e-12)
        value = np.mean([classification_metrics(scores, labels)[name] for scores in first])
        assert intervals[name]["value"] == pytest.approx(value)


def test_one_seed_in_a_stack_is_that_seed_alone() -> None:
    scores, labels = make_scores(50, 3, 2)
    assert bootstrap_intervals(scores[None], labels, num_resamples=50) == bootstrap_intervals(
        scores, labels, num_resamples=50
    )


def test_the_variance_over_seeds_is_that_of_a_mean_of_seeds() -> None:
    """Of seeds that differ alone, and not the samples: the interval's variance is the unbiased one of the mean."""
    labels = np.arange(20) % 2
    shares = (0.5, 0.6, 0.8, 0.9)
    # All samples are of one group, so every resample of groups has all of them.
    right = [np.arange(20) < 20 * share for share in shares]
    scores = np.eye(2)[np.where(right, labels, 1 - labels)]
    found = bootstrap_intervals(scores, labels, ["all"] * 20, num_resamples=5000, confidence=0.6827)["accuracy"]
    assert found["value"] == pytest.approx(np.mean(shares))
    error = np.std(shares, ddof=1) / math.sqrt(len(shares))
    assert (found["high"] - found["low"]) / 2 == pytest.approx(error, rel=0.15)


def test_intervals_over_seeds_cover_what_they_promise() -> None:
    """Simulated studies with known chance of samples and seeds: the true value is in most of the intervals."""
    rng, hits, studies, size = np.random.default_rng(0), 0, 150, 80
    labels = np.arange(size) % 2
    # P(skill + hardness + noise > 0) over all three.
    truth = NormalDist(0, math.sqrt(0.3**2 + 1 + 1)).cdf(1)
    for study in range(studies):
        hardness, skill = rng.normal(0, 1, size), rng.normal(1, 0.3, 4)
        right = skill[:, None] + hardness + rng.normal(0, 1, (4, size)) > 0
        scores = np.eye(2)[np.where(right, labels, 1 - labels)]
        found = bootstrap_intervals(scores, labels, num_resamples=200, seed=study)["accuracy"]
        hits += found["low"] <= truth <= found["high"]
    # 95 % are promised; of 150 studies with that chance, fewer than 133 hit once in a thousand times.
    assert hits >= 133


def test_errors() -> None:
    with pytest.raises(ValueError, match="the same number of seeds, got 2 and 3"):
        bootstrap_difference(np.ones((2, 4, 2)), np.ones((3, 4, 2)), [0, 1, 0, 1])
    with pytest.raises(ValueError, match="one seed at least"):
        bootstrap_intervals(np.ones((0, 4, 2)), [0, 1, 0, 1])
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3,\)"):
        classification_metrics(np.ones((2, 3)), [0, 1, 2])
    with pytest.raises(ValueError, match="from 0 to 2, got -1 to 1"):
        classification_metrics(np.ones((2, 3)), [-1, 1])
    with pytest.raises(ValueError, match=r"weights must be \(R, N\) with N = 2, got \(4, 3\)"):
        weighted_metrics(np.ones((2, 3)), [0, 1], np.ones((4, 3)))
    with pytest.raises(ValueError, match="a name for each of the 2 samples, got 3"):
        bootstrap_intervals(np.ones((2, 3)), [0, 1], ["a", "b", "c"])


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


def test_labels_that_are_no_whole_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        classification_metrics([[0.4, 0.6]], [0.5])
