# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The linear probe of frozen features, against scikit-learn on features that are computed anew."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_images import make_images

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines import probe_frozen
from monai_fgssl.networks import HierarchicalNet


@pytest.mark.parametrize("measure_statistics", [False, True])
def test_predictions_are_those_of_a_logistic_regression(measure_statistics: bool) -> None:
    torch.manual_seed(0)
    network = HierarchicalNet("resnet18", num_classes=3, width=8, embedding_dim=8)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    train, test = (make_images(count, seed=seed, visible_labels=True) for seed, count in enumerate((30, 12)))
    before = deepcopy(network.state_dict())
    loader = make_loader(train, 30) if measure_statistics else None
    found = probe_frozen(network, train, test, "cpu", 4, loader)
    after = network.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert bool(moved) == measure_statistics
    assert all("running_" in name or "num_batches" in name for name in moved)

    def features(images: CachedImages) -> np.ndarray:
        with torch.no_grad():
            maps = network.eval().backbone(network.normalize(images.store.float() / 255))
        return torch.cat([stage.mean((2, 3)) for stage in maps], 1).double().numpy()

    known, labels = features(train), train.labels.numpy()
    # The penalty is chosen within; of all candidates one gives these predictions.
    distances = []
    for penalty in (10.0**exponent for exponent in range(-4, 2)):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=10000, tol=1e-8))
        expected = model.fit(known, labels).predict_proba(features(test))
        distances.append(np.abs(found.probabilities[:, :3].numpy() - expected).max())
    assert min(distances) < 0.02
    # A class without images is never chosen.
    assert float(found.probabilities[:, 3].max()) < 0.05
    assert found.names == test.names
    assert found.groups == test.groups
    assert torch.equal(found.labels, test.labels)
    assert found.stage_logits.shape == (12, 1, 4)
