# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Uncertainties against scipy in float64."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from monai_fgssl.metrics.uncertainty import disagreement, margin, predictive_entropy


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(2).softmax(-1)


def test_entropy_is_scipys() -> None:
    probabilities = draw(20, 7)
    expected = entropy(probabilities.numpy(), axis=1) / np.log(7)
    np.testing.assert_allclose(predictive_entropy(probabilities).numpy(), expected, rtol=1e-6)


def test_entropy_of_certainty_and_of_ignorance() -> None:
    torch.testing.assert_close(predictive_entropy(torch.tensor([[1.0, 0, 0], [1 / 3] * 3])), torch.tensor([0.0, 1.0]))


def test_margin_by_sorting() -> None:
    probabilities = draw(20, 5)
    ordered = np.sort(probabilities.numpy(), axis=1)
    np.testing.assert_allclose(margin(probabilities).numpy(), ordered[:, -1] - ordered[:, -2])


def test_disagreement_of_two_stages_is_scipys() -> None:
    stages = draw(20, 2, 5)
    expected = [jensenshannon(a, b, base=2) ** 2 for a, b in stages.numpy()]
    np.testing.assert_allclose(disagreement(stages).numpy(), expected, rtol=1e-6)


def test_disagreement_is_0_for_equal_and_1_for_opposite_stages() -> None:
    equal = draw(3, 1, 5).expand(3, 4, 5)
    torch.testing.assert_close(disagreement(equal), torch.zeros(3, dtype=torch.float64), atol=1e-7, rtol=0)
    torch.testing.assert_close(disagreement(torch.eye(4)[None]), torch.ones(1))


def test_order_of_stages_does_not_matter() -> None:
    stages = draw(6, 4, 3)
    torch.testing.assert_close(disagreement(stages), disagreement(stages.flip(1)))


def test_a_single_prediction_agrees_with_itself() -> None:
    assert disagreement(draw(3, 1, 5)).tolist() == [0, 0, 0]
