# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A network that is built again from its definition takes the state dict and predicts the same values."""

from __future__ import annotations

import json

import pytest
import torch
from monai.bundle import ConfigParser
from torch import nn

from monai_fgssl.networks import EnsembleNet, HierarchicalNet, PlainNet, PooledNet, make_backbone


@pytest.mark.parametrize(
    "network",
    [
        HierarchicalNet("resnet18", num_classes=5, stages=(1, 3), width=32, embedding_dim=24, stem="small", mean=0.3),
        HierarchicalNet(
            "resnet18",
            spatial_dims=3,
            in_channels=1,
            num_classes=2,
            stages=2,
            width=16,
            embedding_dim=8,
            linear_projection=True,
        ),
        PlainNet("resnet18", num_classes=4, embedding_dim=16),
        PooledNet("resnet18", num_classes=4, stages=(0, 2), std=0.3),
        EnsembleNet("resnet18", num_classes=4, stages=(0, 2), width=16, embedding_dim=8, std=0.3),
    ],
    ids=["hierarchical", "volume", "plain", "pooled", "ensemble"],
)
def test_definition_builds_the_same_network(network: nn.Module) -> None:
    text = json.dumps({"network_def": network.definition()})
    again = ConfigParser(json.loads(text)).get_parsed_content("network_def")
    assert type(again) is type(network)
    again.load_state_dict(network.state_dict())
    x = torch.rand(2, network.in_channels, *[32] * network.spatial_dims)
    torch.testing.assert_close(again.eval()(x), network.eval()(x), rtol=0, atol=0)
    assert torch.equal(again.stage_vectors(x), network.stage_vectors(x))


def test_an_unnamed_backbone_has_no_definition() -> None:
    with pytest.raises(ValueError, match="whose backbone has a name"):
        HierarchicalNet(make_backbone("resnet18", 2, 3)).definition()
