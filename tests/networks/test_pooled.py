# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The linear classifier on the means of all stages, against a calculation by hand."""

from __future__ import annotations

import pytest
import torch

from monai_fgssl.networks import HierarchicalNet, PooledNet


def means_by_hand(net: PooledNet, x: torch.Tensor) -> torch.Tensor:
    """Of the stages that the classifier reads, in float64, channel by channel."""
    maps = net.backbone((x - 0.5) / 0.5)
    read = [maps[index].double() for index in net.stage_indices]
    return torch.stack([torch.stack([channel.mean() for one in read for channel in one[i]]) for i in range(len(x))])


@pytest.mark.parametrize(("spatial_dims", "stages"), [(2, None), (3, None), (2, (1, 3)), (2, 1)])
def test_classifier_reads_the_standardized_means_of_the_stages(spatial_dims, stages):
    torch.manual_seed(0)
    net = PooledNet("resnet18", spatial_dims, in_channels=1, num_classes=5, stages=stages).eval()
    size = sum(net.backbone.channels[index] for index in net.stage_indices)
    with torch.no_grad():
        net.feature_mean.copy_(torch.rand(size))
        net.feature_std.copy_(torch.rand(size) + 0.5)
    x = torch.rand(2, 1, *[64] * spatial_dims)
    means = means_by_hand(net, x)
    assert means.shape == (2, size)
    vectors = (means - net.feature_mean.double()) / net.feature_std.double()
    expected = vectors @ net.classifier.weight.double().T + net.classifier.bias.double()
    torch.testing.assert_close(net(x).double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.stage_vectors(x)[:, 0].double(), vectors, rtol=1e-4, atol=1e-5)
    # As a probe computes it, from features that are known.
    known = net.select(torch.cat(net.stage_means(x), dim=1))
    torch.testing.assert_close(net.classify(known), net(x), rtol=1e-5, atol=1e-6)


def test_every_weight_learns_and_the_standardization_stays():
    torch.manual_seed(0)
    net = PooledNet("resnet18", num_classes=3)
    net.fit_standardization(torch.rand(9, 960) * 7)
    fixed = net.feature_mean.clone(), net.feature_std.clone()
    net(torch.rand(4, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.parameters())
    assert torch.equal(net.feature_mean, fixed[0])
    assert torch.equal(net.feature_std, fixed[1])


def test_standardization_is_that_of_the_images_and_leaves_constant_features_alone():
    net = PooledNet("resnet18", stages=[0], num_classes=3)
    means = 100 + torch.rand(50, 64) * torch.logspace(-3, 3, 64)
    means[:, 5] = 0.25
    net.fit_standardization(means)
    vectors = (means - net.feature_mean) / net.feature_std
    varied = [index for index in range(64) if index != 5]
    # float32 holds 100 to seven digits.
    torch.testing.assert_close(vectors[:, varied].std(0, correction=0), torch.ones(63), rtol=1e-2, atol=0)
    torch.testing.assert_close(vectors[:, varied][:, 20:].mean(0), torch.zeros(43), rtol=0, atol=1e-3)
    assert not vectors[:, 5].any()


def test_a_network_of_the_same_backbone_shares_it():
    torch.manual_seed(0)
    start = HierarchicalNet("resnet18", stem="small", width=16, embedding_dim=8, stages=(0, 2), mean=0.3, std=0.2)
    start.eval()
    net = PooledNet.of(start, num_classes=4)
    assert not net.training
    assert net.stage_indices == [0, 1, 2]
    x = torch.rand(2, 3, 32, 32)
    for mine, theirs in zip(net.stage_means(x), start.stage_means(x), strict=True):
        assert torch.equal(mine, theirs)
    with torch.no_grad():
        start.backbone.stages[0][0].conv1.weight.mul_(2)
    for mine, theirs in zip(net.stage_means(x), start.stage_means(x), strict=True):
        assert torch.equal(mine, theirs)
    definition = net.definition()
    assert (definition["backbone"], definition["stem"], definition["num_classes"]) == ("resnet18", "small", 4)
    again = PooledNet(**{name: value for name, value in definition.items() if name != "_target_"})
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(x), net(x))
