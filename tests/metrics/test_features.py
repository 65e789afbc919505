# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measures of features where the answer is known, and kNN against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from monai_fgssl.metrics import effective_rank, feature_std, knn_accuracy, knn_votes


def test_effective_rank_of_known_spectra() -> None:
    generator = torch.Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(64, 64, generator=generator, dtype=torch.float64))
    centered = basis - basis.mean(0)
    u = torch.linalg.svd(centered, full_matrices=False)[0][:, :5]
    for scales in ([1.0] * 5, [1.0, 0.0, 0.0, 0.0, 0.0], [4.0, 2.0, 1.0, 1.0, 0.0]):
        share = np.array([s for s in scales if s]) / sum(scales)
        expected = math.exp(-(share * np.log(share)).sum())
        assert effective_rank(u * torch.tensor(scales, dtype=torch.float64) + 3.0) == pytest.approx(expected, rel=1e-5)
    assert effective_rank(torch.full((10, 4), 0.3)) == 0.0


def test_feature_std_of_a_sphere_and_of_a_point() -> None:
    features = torch.randn(5000, 64, generator=torch.Generator().manual_seed(0))
    assert feature_std(features) == pytest.approx(1, abs=0.02)
    assert feature_std(torch.ones(100, 64)) == pytest.approx(0, abs=1e-9)


def test_knn_equals_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=300)
    features = rng.normal(size=(300, 8)) * rng.uniform(0.1, 10, 8) + 2 * np.eye(8)[labels]
    train, val = slice(200), slice(200, None)
    standard = (features - features[train].mean(0)) / features[train].std(0)
    reference = KNeighborsClassifier(15, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07))
    predicted = reference.fit(standard[train], labels[train]).predict(standard[val])
    votes = knn_votes(*map(torch.from_numpy, (features[train], labels[train], features[val])), 5, neighbors=15)
    shares = votes / votes.sum(1, keepdim=True)
    np.testing.assert_allclose(shares[:, :4], reference.predict_proba(standard[val]), rtol=0, atol=1e-12)
    assert shares[:, 4].tolist() == [0] * 100
    ours = knn_accuracy(
        torch.from_numpy(features[train]),
        torch.from_numpy(labels[train]),
        torch.from_numpy(features[val]),
        torch.from_numpy(labels[val]),
        neighbors=15,
    )
    assert ours["accuracy"] == pytest.approx(accuracy_score(labels[val], predicted))
    assert ours["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels[val], predicted))


def test_neighbors_vote_on_each_finding_they_know() -> None:
    centers = torch.tensor([[10.0, 0.0], [0.0, 10.0], [-10.0, -10.0]])
    features = centers.repeat_interleave(8, 0) + 0.1 * torch.randn(24, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 0], [0, 1], [0, 0]]).repeat_interleave(8, 0)
    known = labels.clone()
    known[::4] = -1
    found = knn_accuracy(features, known, features, known, neighbors=6)
    assert found == {"accuracy": 1.0, "balanced_accuracy": 1.0}
    # All answers turned around, except for those that are not known.
    turned = torch.where(known < 0, known, 1 - known)
    assert knn_accuracy(features, known, features, turned, neighbors=6) == {"accuracy": 0.0, "balanced_accuracy": 0.0}
