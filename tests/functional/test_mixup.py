# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Mixtures of images against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.nn.functional import cross_entropy, one_hot

from monai_fgssl.functional import mixed_loss, mixup


@given(batch_size=st.integers(1, 6), dims=st.integers(2, 3), alpha=st.floats(0.1, 5), seed=st.integers(0, 2**31))
def test_is_the_weighted_mean_of_two_images(batch_size: int, dims: int, alpha: float, seed: int) -> None:
    x = torch.rand(batch_size, 3, *[4] * dims, dtype=torch.float64)
    mixed, mixture = mixup(x, alpha, torch.Generator().manual_seed(seed))
    assert 0 <= mixture.weight <= 1
    assert sorted(mixture.partners.tolist()) == list(range(batch_size))
    for i, partner in enumerate(mixture.partners.tolist()):
        expected = mixture.weight * x[i].numpy() + (1 - mixture.weight) * x[partner].numpy()
        np.testing.assert_allclose(mixed[i].numpy(), expected, rtol=1e-12)
    again, _ = mixup(x, alpha, torch.Generator().manual_seed(seed))
    assert torch.equal(again, mixed)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_the_weight_is_drawn_from_a_beta_distribution(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [mixup(torch.zeros(1, 1, 1, 1), alpha, generator)[1].weight for _ in range(2000)]
    assert stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_the_loss_is_that_of_soft_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(8, 4, dtype=torch.float64), torch.randint(4, (8,))
    _, mixture = mixup(torch.zeros(8, 1, 2, 2), 1.0, generator)
    targets = one_hot(labels, 4).double()
    soft = mixture.weight * targets + (1 - mixture.weight) * targets[mixture.partners]
    assert mixed_loss(cross_entropy, logits, labels, mixture).item() == pytest.approx(
        cross_entropy(logits, soft).item()
    )
    assert mixed_loss(cross_entropy, logits, labels, None) == cross_entropy(logits, labels)


def test_alpha_must_be_positive() -> None:
    with pytest.raises(ValueError, match="alpha must be positive, got 0"):
        mixup(torch.zeros(2, 1, 2, 2), 0)
