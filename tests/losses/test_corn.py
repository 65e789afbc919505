# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The loss that the benchmark of grades compares with: its values and probabilities are those of the paper."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.ordinal import CornLoss, corn_probabilities


def test_each_question_is_asked_of_the_images_that_it_concerns() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64)
    labels = [0, 1, 2, 3, 3, 1]
    costs = []
    for row, label in zip(logits.tolist(), labels, strict=True):
        for k in range(3):
            if label >= k:
                above = 1 / (1 + math.exp(-row[k]))
                costs.append(-math.log(above if label > k else 1 - above))
    assert CornLoss()(logits, torch.tensor(labels)).item() == pytest.approx(sum(costs) / len(costs), rel=1e-12)


def test_probabilities_are_products_of_the_conditional_ones() -> None:
    logits = torch.tensor([[0.0, math.log(3), 5.0]], dtype=torch.float64)
    # Above 0: 1 / 2. Above 1, if above 0: 3 / 4. The last logit has no use.
    assert corn_probabilities(logits)[0].tolist() == pytest.approx([1 / 2, 1 / 8, 3 / 8])
    many = corn_probabilities(torch.randn(100, 5, dtype=torch.float64))
    assert bool((many >= 0).all())
    assert many.sum(1).tolist() == pytest.approx([1.0] * 100)


def test_the_loss_is_lowest_at_the_shares_of_the_classes() -> None:
    shares = torch.tensor([5, 3, 2])
    labels = torch.arange(3).repeat_interleave(shares)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=50)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = CornLoss()(logits.expand(len(labels), 3), labels)
        loss.backward()
        return loss

    optimizer.step(step)
    assert corn_probabilities(logits.detach()[None])[0].tolist() == pytest.approx([0.5, 0.3, 0.2], abs=1e-5)
