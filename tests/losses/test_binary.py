# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The loss of findings against a loop in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monai_fgssl.losses import MaskedBinaryCrossEntropyLoss


def make_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20, 3, generator=generator, dtype=torch.float64)
    return logits, torch.randint(-1, 2, (20, 3), generator=generator)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 4.0]])
def test_equals_the_loop_over_known_answers(weights: list[float] | None) -> None:
    logits, labels = make_batch()
    losses = []
    for row, truth in zip(logits.sigmoid().tolist(), labels.tolist(), strict=True):
        for k, (p, answer) in enumerate(zip(row, truth, strict=True)):
            if answer >= 0:
                losses.append(-(weights or [1, 1, 1])[k] * math.log(p) if answer else -math.log(1 - p))
    loss = MaskedBinaryCrossEntropyLoss(None if weights is None else torch.tensor(weights))
    assert loss(logits, labels).item() == pytest.approx(sum(losses) / len(losses), rel=1e-12)
    assert loss(logits.float(), labels).item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_what_is_not_known_teaches_nothing() -> None:
    logits, labels = make_batch()
    logits.requires_grad_()
    MaskedBinaryCrossEntropyLoss()(logits, labels).backward()
    assert logits.grad is not None
    assert (logits.grad[labels < 0] == 0).all()
    assert (logits.grad[labels >= 0] != 0).all()
    nothing = MaskedBinaryCrossEntropyLoss()(logits, torch.full_like(labels, -1))
    assert nothing.item() == 0
