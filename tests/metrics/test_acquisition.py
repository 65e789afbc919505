# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Strategies of active learning against plain loops in numpy and float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import entropy

from monai_fgssl.metrics import acquisition
from monai_fgssl.metrics.acquisition import (
    STRATEGIES,
    choose,
    core_set,
    disagreement_scores,
    entropy_scores,
    margin_scores,
    mix,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_core_set(features: NDArray[np.float64], labeled: NDArray[np.float64], k: int) -> list[int]:
    """Algorithm 1 of Sener & Savarese as it is written."""
    centers = list(labeled)
    chosen: list[int] = []
    for _ in range(k):
        distance = [
            -1.0 if i in chosen else min(np.sqrt(((row - center) ** 2).sum()) for center in centers)
            for i, row in enumerate(features)
        ]
        chosen.append(int(np.argmax(distance)))
        centers.append(features[chosen[-1]])
    return chosen


def test_high_scores_are_uncertain() -> None:
    prob = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.6, 0.2, 0.2]])
    assert entropy_scores(prob).argsort().tolist() == [0, 1, 2]
    assert margin_scores(prob).argsort().tolist() == [0, 2, 1]
    stage_prob = torch.stack([prob, prob[[1, 1, 2]]], dim=1)
    assert disagreement_scores(stage_prob).argmax() == 0


def test_scores_by_numpy() -> None:
    prob = (2 * draw(30, 5)).softmax(-1)
    np.testing.assert_allclose(entropy_scores(prob), entropy(prob.numpy(), axis=1) / np.log(5))
    ordered = np.sort(prob.numpy(), axis=1)
    np.testing.assert_allclose(margin_scores(prob), 1 - ordered[:, -1] + ordered[:, -2])
    stage_prob = (2 * draw(30, 3, 5)).softmax(-1)
    of_mean = entropy(stage_prob.numpy().mean(1), axis=1)
    expected = of_mean - entropy(stage_prob.numpy(), axis=2).mean(1)
    np.testing.assert_allclose(disagreement_scores(stage_prob), expected / np.log(3))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("block", [1, 20, 2**24])
def test_core_set_is_the_greedy_algorithm(monkeypatch: pytest.MonkeyPatch, seed: int, block: int) -> None:
    monkeypatch.setattr(acquisition, "BLOCK", block)
    features, labeled = draw(40, 3, seed=seed), draw(7, 3, seed=seed + 100)
    assert core_set(features, labeled, 12).tolist() == slow_core_set(features.numpy(), labeled.numpy(), 12)


def test_core_set_covers_no_worse_than_twice_the_best() -> None:
    """Gonzalez (1985): what the greedy choice guarantees, against all choices of two centers."""
    features, labeled = draw(12, 2), draw(1, 2, seed=1)

    def radius(chosen: list[int]) -> float:
        return float(torch.cdist(features, torch.cat([labeled, features[chosen]])).amin(1).max())

    best = min(radius([i, j]) for i in range(12) for j in range(12))
    assert radius(core_set(features, labeled, 2).tolist()) <= 2 * best


def test_core_set_without_labels_starts_in_the_middle() -> None:
    features = torch.tensor([[0.0], [1.0], [2.2], [10.0], [-9.0]])
    assert core_set(features, torch.empty(0, 1), 3).tolist() == [1, 4, 3]


def test_core_set_of_equal_images_takes_each_once() -> None:
    for labeled in (torch.zeros(0, 2), torch.zeros(1, 2), torch.ones(1, 2)):
        assert sorted(core_set(torch.ones(6, 2), labeled, 6).tolist()) == list(range(6))


def test_mix_is_the_core_set_of_the_uncertain() -> None:
    prob, features, labeled = draw(60, 4).softmax(-1), draw(60, 3, seed=1), draw(5, 3, seed=2)
    ordered = np.sort(prob.numpy(), axis=1)
    uncertain = np.argsort(ordered[:, -1] - ordered[:, -2])[:20]
    expected = uncertain[slow_core_set(features.numpy()[uncertain], labeled.numpy(), 4)]
    assert mix(prob, features, labeled, 4, prefilter=5).tolist() == expected.tolist()


def test_choose_by_name() -> None:
    prob, stage_prob = draw(50, 4).softmax(-1), draw(50, 3, 4).softmax(-1)
    features, labeled = draw(50, 3, seed=1), draw(5, 3, seed=2)
    given = {"prob": prob, "stage_prob": stage_prob, "features": features, "labeled_features": labeled}
    expected = {
        "entropy": np.argsort(-entropy_scores(prob).numpy())[:6],
        "margin": np.argsort(-margin_scores(prob).numpy())[:6],
        "disagreement": np.argsort(-disagreement_scores(stage_prob).numpy())[:6],
        "core_set": core_set(features, labeled, 6),
        "mix": mix(prob, features, labeled, 6),
    }
    assert set(expected) | {"random"} == set(STRATEGIES)
    for strategy, positions in expected.items():
        assert choose(strategy, 50, 6, **given).tolist() == positions.tolist(), strategy


def test_random_draws_without_replacement_and_evenly() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [choose("random", 10, 4, generator=generator).tolist() for _ in range(2000)]
    assert all(len(set(positions)) == 4 for positions in draws)
    counts = np.bincount(np.ravel(draws), minlength=10)
    # 800 expected of each, standard deviation 22.
    assert np.abs(counts - 800).max() < 110


def test_equal_scores_keep_their_order() -> None:
    assert choose("entropy", 100, 5, prob=torch.full((100, 2), 0.5)).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_all_and_none_can_be_chosen(strategy: str) -> None:
    for size in (1, 8):
        given = {
            "prob": draw(size, 3).softmax(-1),
            "stage_prob": draw(size, 2, 3).softmax(-1),
            "features": draw(size, 2),
            "labeled_features": torch.empty(0, 2, dtype=torch.float64),
        }
        assert sorted(choose(strategy, size, size, **given).tolist()) == list(range(size))
        assert choose(strategy, size, 0, **given).tolist() == []


def test_mistakes_are_told() -> None:
    prob = torch.full((4, 2), 0.5)
    with pytest.raises(ValueError, match=r"one of random, entropy.*got 'best'"):
        choose("best", 4, 1)
    with pytest.raises(ValueError, match="'margin' needs prob"):
        choose("margin", 4, 1)
    with pytest.raises(ValueError, match="'mix' needs labeled_features"):
        choose("mix", 4, 1, prob=prob, features=prob)
    with pytest.raises(ValueError, match="prob must have a row for each of the 5 images, got 4"):
        choose("entropy", 5, 1, prob=prob)
    with pytest.raises(ValueError, match="number of images, 4, got 5"):
        choose("random", 4, 5)
    with pytest.raises(ValueError, match="number of images, 4, got 5"):
        core_set(prob, prob, 5)
