# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The loss of grades against sums of probabilities in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from monai_fgssl.functional import cumulative_logits
from monai_fgssl.losses import CumulativeCrossEntropyLoss


def loss_by_sums(logits: Tensor, labels: Tensor, weights: list[float]) -> float:
    """Weighted mean over the images of the mean over the thresholds, from sums of probabilities, in Python floats."""
    total, weight_sum = 0.0, 0.0
    for row, label in zip(logits.double().softmax(1).tolist(), labels.tolist(), strict=True):
        answers = [sum(row[k + 1 :]) for k in range(len(row) - 1)]
        of_image = sum(-math.log(p if label > k else 1 - p) for k, p in enumerate(answers)) / len(answers)
        total += weights[label] * of_image
        weight_sum += weights[label]
    return total / weight_sum


def make_batch(num_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(30, num_classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(num_classes, (30,), generator=generator)


@pytest.mark.parametrize("num_classes", [2, 3, 6])
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_sums(num_classes: int, weighted: bool) -> None:
    logits, labels = make_batch(num_classes)
    weights = [0.5 + k for k in range(num_classes)] if weighted else [1.0] * num_classes
    loss = CumulativeCrossEntropyLoss(torch.tensor(weights) if weighted else None)
    expected = loss_by_sums(logits, labels, weights)
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-12)
    assert loss(logits.float(), labels).item() == pytest.approx(expected, rel=1e-5)
    half = logits.bfloat16()
    assert loss(half, labels).item() == pytest.approx(loss_by_sums(half, labels, weights), rel=1e-5)


def test_of_two_classes_is_the_cross_entropy() -> None:
    logits, labels = make_batch(2)
    weights = torch.tensor([0.3, 2.0], dtype=torch.float64)
    torch.testing.assert_close(
        CumulativeCrossEntropyLoss(weights)(logits, labels), cross_entropy(logits, labels, weights)
    )


def test_distance_matters() -> None:
    loss = CumulativeCrossEntropyLoss()
    sure = 5 * torch.eye(5)[[0]]
    values = [loss(sure, torch.tensor([label])).item() for label in range(5)]
    assert values == sorted(values)
    # The cross entropy of a wrong class does not depend on the distance.
    assert cross_entropy(sure, torch.tensor([1])).item() == pytest.approx(cross_entropy(sure, torch.tensor([4])).item())


def test_the_true_probabilities_have_the_lowest_expected_loss() -> None:
    shares = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64)
    loss = CumulativeCrossEntropyLoss()

    def expected(logits: Tensor) -> Tensor:
        losses = [loss(logits[None], torch.tensor([label])) for label in range(4)]
        return (shares * torch.stack(losses)).sum()

    truth = shares.log().requires_grad_()
    lowest = expected(truth)
    (gradient,) = torch.autograd.grad(lowest, truth)
    assert gradient.abs().max() < 1e-12
    for seed in range(20):
        other = truth.detach() + torch.randn(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert expected(other) > lowest


def test_large_logits_give_numbers() -> None:
    logits = torch.tensor([[90.0, -90.0, 0.0], [-3e4, 3e4, 0.0]], requires_grad=True)
    loss = CumulativeCrossEntropyLoss()(logits, torch.tensor([2, 0]))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_answers_never_contradict_each_other() -> None:
    logits, _ = make_batch(6)
    answers = cumulative_logits(logits.reshape(5, 6, 6))
    assert answers.shape == (5, 6, 5)
    assert (answers.diff(dim=-1) < 0).all()
