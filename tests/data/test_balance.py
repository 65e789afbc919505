# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Class weights against scikit-learn and the paper's formula; balanced epochs."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from monai_fgssl.data.balance import balanced_order, class_weights, loss_weights
from monai_fgssl.utils.errors import DataError


@st.composite
def label_lists(draw: st.DrawFn) -> list[int]:
    counts = draw(st.lists(st.integers(1, 40), min_size=1, max_size=6))
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return draw(st.permutations(labels))


@settings(deadline=None, max_examples=50)
@given(label_lists())
def test_balanced_weights_are_those_of_scikit_learn(labels: list[int]) -> None:
    num_classes = max(labels) + 1
    expected = compute_class_weight("balanced", classes=np.arange(num_classes), y=labels)
    weights = class_weights(torch.tensor(labels), num_classes)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(expected / expected.mean(), rel=1e-6)
    assert class_weights([*labels, -1, -1], num_classes).tolist() == weights.tolist()
    root = class_weights(labels, num_classes, "square_root")
    assert root.tolist() == pytest.approx(np.sqrt(expected) / np.sqrt(expected).mean(), rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(label_lists(), st.sampled_from([0.0, 0.5, 0.9, 0.999, 0.999999]))
def test_effective_number(labels: list[int], beta: float) -> None:
    num_classes = max(labels) + 1
    # E_n = 1 + beta + ... + beta^(n - 1), the sum that eq. 2 of the paper closes.
    expected = np.array([1 / sum(beta**k for k in range(count)) for _, count in sorted(Counter(labels).items())])
    weights = class_weights(labels, num_classes, "effective_number", beta)
    assert weights.tolist() == pytest.approx(expected * num_classes / expected.sum(), rel=1e-6)


def test_limits_of_the_effective_number() -> None:
    labels = [0] * 90 + [1] * 9 + [2]
    assert class_weights(labels, 3, "effective_number", 0).tolist() == [1, 1, 1]
    near_one = class_weights(labels, 3, "effective_number", 1 - 1e-9)
    assert near_one.tolist() == pytest.approx(class_weights(labels, 3).tolist(), rel=1e-4)


def test_weighted_loss_counts_classes_alike() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    losses = torch.where(labels == 0, 0.25, 2.0)
    weights = class_weights(labels, 2)[labels]
    assert float((weights * losses).sum() / weights.sum()) == pytest.approx((0.25 + 2.0) / 2)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([0, 2], 3), DataError, "no image of class 1 has a label"),
        (([-1, -1], 1), DataError, "no image of class 0 has a label"),
        (([0, 3], 3), ValueError, r"labels must be in 0...2, got 0...3"),
        (([0], 1, "inverse"), ValueError, "got 'inverse'"),
        (([0], 1, "effective_number", 1.0), ValueError, r"beta must be in \[0, 1\), got 1.0"),
    ],
)
def test_weights_of_bad_input(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        class_weights(*arguments)


@settings(deadline=None, max_examples=80)
@given(label_lists(), st.integers(0, 5))
def test_balanced_order_properties(labels: list[int], seed: int) -> None:
    order = balanced_order(labels, np.random.default_rng(seed))
    assert len(order) == len(labels)
    drawn = Counter(labels[position] for position in order)
    shares = [drawn[label] for label in set(labels)]
    assert max(shares) - min(shares) <= 1
    # No image comes again before every other of its class has come.
    for label in set(labels):
        times = Counter(position for position in order.tolist() if labels[position] == label)
        of_class = [times[position] for position, other in enumerate(labels) if other == label]
        assert max(of_class) - min(of_class) <= 1
    assert balanced_order(labels, np.random.default_rng(seed)).tolist() == order.tolist()


def test_epochs_differ_and_show_all_images_in_time() -> None:
    labels = torch.tensor([0] * 95 + [1] * 5)
    orders = [balanced_order(labels, np.random.default_rng([3, epoch])) for epoch in range(12)]
    assert orders[0].tolist() != orders[1].tolist()
    assert set(np.concatenate(orders).tolist()) == set(range(100))
    # Expected counts of images of one class are equal: 50 / 95 in each epoch.
    counts = np.bincount(np.concatenate([balanced_order(labels, np.random.default_rng(i)) for i in range(2000)]))
    assert counts[:95] / 2000 == pytest.approx(50 / 95, abs=0.06)
    assert counts[95:] / 2000 == pytest.approx(10)
    # Classes are mixed, not one after the other.
    assert 10 < sum(labels[orders[0][:50]].tolist()) < 40


def test_odd_images_go_to_all_classes() -> None:
    extra = Counter(
        np.bincount(np.array([0, 0, 1, 2])[balanced_order([0, 0, 1, 2], np.random.default_rng(i))]).argmax()
        for i in range(300)
    )
    assert min(extra.values()) > 60


@pytest.mark.parametrize("labels", [[], [0, -1]])
def test_order_of_bad_input(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="needs images, and a label for each"):
        balanced_order(labels, np.random.default_rng(0))


def test_weights_of_findings_make_both_answers_count_the_same() -> None:
    labels = torch.tensor([[1, 1, 0], [0, 1, -1], [0, 1, 0], [0, -1, 0], [-1, 1, 0]])
    weights = loss_weights("weights", labels, 3, "cpu")
    assert weights is not None
    # Three images without the first finding, one with it. The others are always or never there.
    assert weights.tolist() == [3, 1, 1]
    roots = loss_weights("sqrt_weights", labels, 3, "cpu")
    assert roots is not None
    assert roots.tolist() == pytest.approx([3**0.5, 1, 1])
    assert loss_weights(None, labels, 3, "cpu") is None
