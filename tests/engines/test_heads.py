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
from torch import Tensor

from monai_fgssl.data import CachedImages
from monai_fgssl.engines.heads import solve_heads
from monai_fgssl.networks import HierarchicalNet, PlainNet


def make_images(num_classes: int = 3) -> CachedImages:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(45) % num_classes
    store = torch.randint(0, 256, (45, 3, 32, 32), generator=generator, dtype=torch.uint8)
    store[torch.arange(45), labels] //= 2
    names = [str(i) for i in range(45)]
    return CachedImages(store, labels, names, names)


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
    network, images = make_net(kind), make_images()
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
    network, images = make_net(HierarchicalNet), make_images(num_classes=1)
    before = deepcopy(network.state_dict())
    with pytest.raises(ValueError, match="at least two classes"):
        solve_heads(network, images, "cpu")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    # No hook stays behind.
    assert not any(classifier._forward_pre_hooks for classifier in network.classifiers().values())
