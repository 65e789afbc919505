# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The solved linear probe against scikit-learn's own pipeline and cross-validation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from monai_fgssl.metrics import solve_linear_probe


def make_features(num_classes: int, per_class: int = 60, overlap: float = 2.0) -> tuple[Tensor, Tensor, list[str]]:
    """Features of unlike scales and means; two images of each group."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(num_classes), per_class)
    features = np.eye(12)[labels] + overlap * rng.normal(size=(len(labels), 12))
    features = features * rng.uniform(0.1, 10, 12) + rng.uniform(-5, 5, 12)
    groups = [f"lesion {i // 2}" for i in range(len(labels))]
    return torch.from_numpy(features), torch.from_numpy(labels), groups


@pytest.mark.parametrize("num_classes", [2, 5])
def test_probabilities_are_those_of_scikit_learn(num_classes: int) -> None:
    features, labels, groups = make_features(num_classes)
    probe = solve_linear_probe(features, labels, groups, num_classes, penalties=(0.1,))
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-8, max_iter=10000))
    expected.fit(features.numpy(), labels.numpy())
    found = (features.float() @ probe.weight.T + probe.bias).softmax(1)
    np.testing.assert_allclose(found.numpy(), expected.predict_proba(features.numpy()), atol=1e-3)
    assert probe.penalty == 0.1


def test_weights_count_an_image_several_times() -> None:
    """Of a class with weight 3 each image is there three times: the same problem, with a penalty for as many images."""
    features, labels, groups = make_features(3)
    kept = (labels > 0) | (torch.arange(len(labels)) % 6 < 2)
    features, labels = features[kept], labels[kept]
    groups = [group for group, is_kept in zip(groups, kept.tolist(), strict=True) if is_kept]
    weights = torch.tensor([3.0, 1.0, 1.0])
    probe = solve_linear_probe(features, labels, groups, 3, penalties=(0.1,), class_weights=weights)
    scaler = StandardScaler().fit(features.numpy())
    times = weights.long()[labels]
    repeated = scaler.transform(features.repeat_interleave(times, 0).numpy())
    expected = LogisticRegression(C=0.1 * len(labels) / len(repeated), tol=1e-8, max_iter=10000)
    expected.fit(repeated, labels.repeat_interleave(times).numpy())
    found = (features.float() @ probe.weight.T + probe.bias).softmax(1)
    np.testing.assert_allclose(found.numpy(), expected.predict_proba(scaler.transform(features.numpy())), atol=2e-3)
    plain = solve_linear_probe(features, labels, groups, 3, penalties=(0.1,))
    rare = [(features.float() @ p.weight.T + p.bias).argmax(1).eq(0).sum() for p in (probe, plain)]
    assert rare[0] > rare[1]
    # Only ratios matter.
    scaled = solve_linear_probe(features, labels, groups, 3, penalties=(0.1,), class_weights=7 * weights)
    torch.testing.assert_close(scaled.weight, probe.weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("overlap", "low", "high"), [(3.0, 1e-4, 1e-1), (0.2, 1e-1, 10.0)])
def test_the_penalty_has_the_lowest_held_out_loss_over_whole_groups(overlap: float, low: float, high: float) -> None:
    features, labels, groups = make_features(4, overlap=overlap)
    penalties = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
    losses = []
    for penalty in penalties:
        probabilities = cross_val_predict(
            make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1000)),
            features.numpy(),
            labels.numpy(),
            groups=groups,
            cv=StratifiedGroupKFold(5, shuffle=True, random_state=0),
            method="predict_proba",
        )
        losses.append(log_loss(labels.numpy(), probabilities))
    chosen = solve_linear_probe(features, labels, groups, 4, penalties).penalty
    assert chosen == penalties[int(np.argmin(losses))]
    assert low <= chosen <= high


def test_copies_of_an_image_do_not_weaken_the_penalty() -> None:
    """Of noise nothing can be learned; by copies in another fold it could be remembered."""
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(60, 30, generator=generator), torch.arange(60) % 3
    copies, their_labels = features.repeat(4, 1), labels.repeat(4)
    groups = [str(i) for i in range(60)] * 4
    assert solve_linear_probe(copies, their_labels, groups, 3).penalty <= 1e-3
    apart = [str(i) for i in range(240)]
    assert solve_linear_probe(copies, their_labels, apart, 3).penalty >= 1


def test_a_class_without_images_is_never_predicted() -> None:
    features, labels, groups = make_features(3)
    probe = solve_linear_probe(features, torch.tensor([0, 2, 4])[labels], groups, 5)
    predicted = (features.float() @ probe.weight.T + probe.bias).argmax(1)
    assert set(predicted.tolist()) == {0, 2, 4}
    assert not probe.weight[[1, 3]].any()


@pytest.mark.parametrize("groups", [["a"] * 6, ["a"] * 3 + ["b"] * 3, list("abcdef")])
def test_very_few_images_are_enough(groups: list[str]) -> None:
    features = torch.tensor([[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]])
    probe = solve_linear_probe(features, torch.tensor([0, 0, 0, 1, 1, 1]), groups, 2)
    assert (features @ probe.weight.T + probe.bias).argmax(1).tolist() == [0, 0, 0, 1, 1, 1]


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two classes, got 1"):
        solve_linear_probe(torch.rand(4, 2), torch.tensor([1, 1, 1, 1]), list("abcd"), 3)


def test_each_finding_is_solved_where_it_is_known() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 5))
    labels = (features @ rng.normal(size=(5, 3)) + rng.normal(size=(80, 3)) > 0).astype(int)
    labels[rng.random((80, 3)) < 0.2] = -1
    labels[:, 2] = np.where(labels[:, 2] == 1, 0, labels[:, 2])
    weights = torch.tensor([1.0, 3.0, 1.0])
    groups = [str(number) for number in range(80)]
    probe = solve_linear_probe(
        torch.from_numpy(features), torch.from_numpy(labels), groups, 3, penalties=[0.1], class_weights=weights
    )
    for k in range(2):
        known = labels[:, k] >= 0
        x, y = features[known], labels[known, k]
        counts = np.where(y == 1, float(weights[k]), 1.0)
        scaler = StandardScaler().fit(x)
        expected = LogisticRegression(C=0.1, max_iter=1000).fit(scaler.transform(x), y, counts / counts.mean())
        logits = features @ probe.weight[k].double().numpy() + float(probe.bias[k])
        np.testing.assert_allclose(logits, expected.decision_function(scaler.transform(features)), atol=1e-3)
    # A finding that no image has: its logit is the share (0 + 1) / (n + 2) of all images.
    known = int((labels[:, 2] >= 0).sum())
    assert (probe.weight[2] == 0).all()
    assert probe.bias[2].sigmoid().item() == pytest.approx(1 / (known + 2), rel=1e-4)
    with pytest.raises(ValueError, match="some labeled images have, and others do not"):
        solve_linear_probe(torch.from_numpy(features), torch.zeros(80, 2, dtype=torch.int64), groups, 2)
