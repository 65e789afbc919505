# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Distances from the training images in an evaluation, against the network's own means of its stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_images import make_images

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines import HierarchicalEvaluator
from monai_fgssl.engines.calibration import MIN_CALIBRATION_IMAGES, calibrate_distances, distances_of_features
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import UNLIKE_TRAINING, fit_feature_distances
from monai_fgssl.networks import EnsembleNet, HierarchicalNet, PlainNet, PooledNet


def means_of(network: torch.nn.Module, images: CachedImages) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(network.eval().stage_means(images.store[images.rows].float() / 255), dim=1)


@pytest.mark.parametrize("kind", [HierarchicalNet, EnsembleNet, PlainNet, PooledNet])
@pytest.mark.parametrize("orientations", [False, True])
def test_an_evaluation_gives_the_means_of_the_images_as_they_are(kind: type, orientations: bool) -> None:
    torch.manual_seed(0)
    network = kind("tiny-cnn", num_classes=3)
    images = make_images(12)
    rule = fit_feature_distances(means_of(network, images), means_of(network, images), network.backbone.channels)
    collected = PredictionCollector(feature_distances=rule)
    evaluator = HierarchicalEvaluator(
        "cpu", make_loader(images, 5), network, stage_means=True, orientations=orientations, val_handlers=[collected]
    )
    evaluator.run()
    np.testing.assert_allclose(collected.distance_scores, rule.scores(means_of(network, images)), rtol=1e-5)
    plain = PredictionCollector()
    loader = make_loader(images, 5)
    HierarchicalEvaluator("cpu", loader, network, orientations=orientations, val_handlers=[plain]).run()
    torch.testing.assert_close(collected.stage_logits, plain.stage_logits)
    assert plain.distance_scores is None
    assert not network.backbone._forward_hooks


def test_calibration_fits_to_the_training_images_and_refers_noise() -> None:
    torch.manual_seed(0)
    network = HierarchicalNet("tiny-cnn", num_classes=3)
    train, validation = make_images(60), make_images(40)
    rule = calibrate_distances(network, train, validation, "cpu", 0.1)
    assert rule is not None
    expected = fit_feature_distances(
        means_of(network, train), means_of(network, validation), network.backbone.channels, 0.1
    )
    np.testing.assert_allclose(rule.mean, expected.mean, rtol=1e-4)
    assert rule.limit == pytest.approx(expected.limit, rel=1e-3)
    same = distances_of_features(network, means_of(network, train), means_of(network, validation), 0.1)
    assert same is not None
    assert same.limit == pytest.approx(expected.limit, rel=1e-6)
    black = CachedImages(torch.zeros_like(validation.store), validation.labels, validation.names, validation.groups)
    collected = PredictionCollector(feature_distances=rule)
    loader = make_loader(black, 20)
    HierarchicalEvaluator("cpu", loader, network, stage_means=True, val_handlers=[collected]).run()
    assert collected.reasons == [(UNLIKE_TRAINING,)] * len(black)


def test_too_few_images_and_other_networks_get_no_rule(capsys: pytest.CaptureFixture[str]) -> None:
    network, images = HierarchicalNet("tiny-cnn", num_classes=3), make_images(40)
    assert calibrate_distances(network, images, images, "cpu", None) is None
    few = images.select(range(MIN_CALIBRATION_IMAGES - 1))
    assert calibrate_distances(network, images, few, "cpu", 0.02) is None
    assert "no distances from the training images: they need 30 validation images" in capsys.readouterr().out
    assert calibrate_distances(torch.nn.Linear(1, 1), images, images, "cpu", 0.02) is None
    assert "Linear has no stages" in capsys.readouterr().out
