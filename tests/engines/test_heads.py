# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Solved classifiers: each step's logits are those of a probe of the vectors that the step's classifier reads."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from monai.networks.utils import eval_mode
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from small_images import make_images
from torch import Tensor

from monai_fgssl.engines.calibration import MIN_CALIBRATION_IMAGES, weigh_members
from monai_fgssl.engines.heads import solve_heads
from monai_fgssl.metrics import fit_member_weights
from monai_fgssl.networks import EnsembleNet, HierarchicalNet, PlainNet, PooledNet


def make_net(kind: type[HierarchicalNet] | type[PlainNet]) -> HierarchicalNet | PlainNet:
    torch.manual_seed(0)
    small = {"width": 8} if kind is HierarchicalNet else {}
    return kind("resnet18", num_classes=3, embedding_dim=7, **small)


def vectors_of(network: HierarchicalNet | PlainNet, images: Tensor) -> list[Tensor]:
    """Input of the classifiers, by the networks' documentation."""
    with eval_mode(network), torch.no_grad():
        if isinstance(network, HierarchicalNet):
            return list(network.stage_vectors(images).unbind(1))
        return [network.backbone(network.normalize(images))[-1].flatten(2).mean(2)]


@pytest.mark.parametrize("kind", [HierarchicalNet, PlainNet])
def test_each_step_is_the_probe_of_its_vectors(kind: type[HierarchicalNet] | type[PlainNet]) -> None:
    network, images = make_net(kind), make_images(45, visible_labels=True)
    before = deepcopy(network.state_dict())
    penalties = solve_heads(network, images, "cpu")
    pixels = images.store.float() / 255
    with eval_mode(network), torch.no_grad():
        logits = network.stage_logits(pixels)
    for step, (vectors, penalty) in enumerate(zip(vectors_of(network, pixels), penalties.values(), strict=True)):
        expected = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, tol=1e-8, max_iter=10000))
        expected.fit(vectors.double().numpy(), images.labels.numpy())
        np.testing.assert_allclose(
            logits[:, step].softmax(1).numpy(), expected.predict_proba(vectors.double().numpy()), atol=2e-3
        )
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {f"{name}.{what}" for name in penalties for what in ("weight", "bias")}
    assert network.training


def test_names_are_those_of_the_modules() -> None:
    for kind in (HierarchicalNet, PlainNet):
        network = make_net(kind)
        for name, classifier in network.classifiers().items():
            assert network.get_submodule(name) is classifier
        assert len(network.classifiers()) == network.num_steps


def test_images_of_one_class_change_nothing() -> None:
    network, images = make_net(HierarchicalNet), make_images(45, num_classes=1, visible_labels=True)
    before = deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="at least two classes"):
        solve_heads(network, images, "cpu")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    # No hook stays behind.
    assert not any(classifier._forward_pre_hooks for classifier in network.classifiers().values())


def make_pooled(constant: bool = False) -> PooledNet:
    torch.manual_seed(0)
    network = PooledNet("resnet18", num_classes=3)
    if constant:
        # A dead feature, as real backbones have.
        with torch.no_grad():
            network.backbone.stem.conv1.weight[3] = 0
            network.backbone.stages[-1][-1].bn2.weight[7] = -1e-30
    return network


@pytest.mark.parametrize("constant", [False, True])
def test_a_pooled_network_is_the_probe_of_the_means_of_its_stages(constant: bool) -> None:
    network, images = make_pooled(constant), make_images(45, visible_labels=True)
    before = deepcopy(network.state_dict())
    penalties = solve_heads(network, images, "cpu")
    assert set(penalties) == {"classifier"}
    pixels = images.store.float() / 255
    with eval_mode(network), torch.no_grad():
        means = torch.cat([m.flatten(2).mean(2) for m in network.backbone(network.normalize(pixels))], 1).double()
        probabilities = network(pixels).softmax(1).numpy()
        vectors = network.stage_vectors(pixels)
    expected = make_pipeline(StandardScaler(), LogisticRegression(C=penalties["classifier"], tol=1e-8, max_iter=10000))
    expected.fit(means.numpy(), images.labels.numpy())
    np.testing.assert_allclose(probabilities, expected.predict_proba(means.numpy()), atol=2e-3)
    # Training goes on from standardized features.
    assert vectors.mean((0, 1)).abs().max() < 1e-2
    spread = vectors.std((0, 1), correction=0)
    assert ((spread - 1).abs() < 1e-2).logical_or(spread < 1e-2).all()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.weight", "classifier.bias", "feature_mean", "feature_std"}
    assert network.training
    # Once solved, it may be solved again.
    solved = deepcopy(network.state_dict())
    solve_heads(network, images, "cpu")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, solved[name], rtol=0, atol=0)


def test_a_pooled_network_of_some_stages() -> None:
    torch.manual_seed(0)
    network, images = PooledNet("resnet18", num_classes=3, stages=[1, 3]), make_images(45, visible_labels=True)
    solve_heads(network, images, "cpu")
    with eval_mode(network), torch.no_grad():
        vectors = network.stage_vectors(images.store.float() / 255)[:, 0]
    assert vectors.shape == (45, 128 + 512)
    assert vectors.mean(0).abs().max() < 1e-2


def test_images_of_one_class_leave_a_pooled_network_alone() -> None:
    network, images = make_pooled(), make_images(45, num_classes=1, visible_labels=True)
    before = deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="at least two classes"):
        solve_heads(network, images, "cpu")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def make_ensemble() -> EnsembleNet:
    torch.manual_seed(0)
    return EnsembleNet.of(HierarchicalNet("resnet18", num_classes=3, width=8, embedding_dim=7))


def test_the_probe_of_an_ensemble_is_that_of_the_network_as_it_is_now() -> None:
    ensemble, images = make_ensemble(), make_images(45, visible_labels=True)
    with torch.no_grad():
        # As after a pre-training.
        for parameter in ensemble.backbone.parameters():
            parameter.mul_(1.5)
    before = deepcopy(ensemble.state_dict())
    penalties = solve_heads(ensemble, images, "cpu")
    alone = PooledNet.of(ensemble, 3)
    assert solve_heads(alone, images, "cpu") == penalties
    pixels = images.store.float() / 255
    with eval_mode(alone, ensemble), torch.no_grad():
        torch.testing.assert_close(ensemble.probe(pixels), alone(pixels), rtol=0, atol=1e-5)
    changed = {name for name, value in ensemble.state_dict().items() if not torch.equal(value, before[name])}
    assert all(name.startswith("probe.") for name in changed)
    assert "probe.classifier.weight" in changed


def test_members_of_an_ensemble_are_weighed_by_the_validation_part() -> None:
    ensemble, images = make_ensemble(), make_images(45, visible_labels=True)
    solve_heads(ensemble, images, "cpu")
    with torch.no_grad():
        # A member that is far too confident, and of which many predictions are wrong.
        ensemble.concat_head.classifier.weight.mul_(100)
        with eval_mode(ensemble):
            members = ensemble.member_logits(images.store.float() / 255)
    weigh_members(ensemble, images, "cpu")
    np.testing.assert_allclose(
        ensemble.member_weights, fit_member_weights(members, images.labels), rtol=1e-3, atol=1e-3
    )
    assert ensemble.member_weights[0] < 0.1 * ensemble.member_weights[1]
    # Too few images say nothing about the members.
    weigh_members(ensemble, make_images(MIN_CALIBRATION_IMAGES - 1, visible_labels=True), "cpu")
    assert ensemble.member_weights.tolist() == [0.5, 0.5]
    # Other networks have no members.
    weigh_members(make_pooled(), images, "cpu")
