# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The network of several folds or seeds predicts with the mean of its members' calibrated probabilities."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monai_fgssl.networks import MeanEnsembleNet, OnnxNet, export_onnx
from monai_fgssl.report import stage_heat_maps

SMALL: dict[str, Any] = {"backbone": "tiny-cnn", "in_channels": 1, "num_classes": 4}


def make_ensemble(member: str, independent: bool = False, spatial_dims: int = 2) -> MeanEnsembleNet:
    torch.manual_seed(0)
    net = MeanEnsembleNet(member, 3, independent, spatial_dims=spatial_dims, **SMALL).eval()
    net.temperatures.copy_(torch.tensor([0.02, 1.0, 3.0]))
    return net


def mean_of_members(net: MeanEnsembleNet, x: Tensor) -> Tensor:
    found = []
    for member, temperature in zip(net.members, net.temperatures.tolist(), strict=True):
        logits = member(x).double() / temperature
        found.append(logits.sigmoid() if net.independent else logits.softmax(1))
    return torch.stack(found).mean(0)


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("member", ["EnsembleNet", "HierarchicalNet", "PlainNet", "PooledNet"])
@torch.no_grad()
def test_the_probabilities_are_the_mean_of_those_of_the_members(
    member: str, independent: bool, spatial_dims: int
) -> None:
    net = make_ensemble(member, independent, spatial_dims)
    x = torch.rand(3, 1, *[32] * spatial_dims)
    expected = mean_of_members(net, x)
    # Otherwise a mean of logits would pass too.
    mean = torch.stack([m(x).double() / t for m, t in zip(net.members, net.temperatures.tolist(), strict=True)]).mean(0)
    assert (expected - (mean.sigmoid() if independent else mean.softmax(1))).abs().max() > 1e-3
    for logits in (
        net(x),
        net.stage_logits(x).sum(1),
        net.logits_at_step(x, 1),
        net.stage_logits_and_means(x)[0][:, 0],
    ):
        actual = logits.sigmoid() if independent else logits.softmax(1)
        torch.testing.assert_close(actual.double(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(net.stage_logits_and_means(x)[1], torch.cat(net.members[0].stage_means(x), 1))


@pytest.mark.parametrize("independent", [False, True])
def test_certain_members_give_finite_logits(independent: bool) -> None:
    net = make_ensemble("PlainNet", independent)
    net.temperatures.fill_(1e-6)
    assert net(torch.rand(2, 1, 32, 32)).isfinite().all()


def test_a_definition_makes_the_same_network_again() -> None:
    net = make_ensemble("EnsembleNet", independent=True)
    definition = net.definition()
    assert definition.pop("_target_") == "monai_fgssl.networks.MeanEnsembleNet"
    again = MeanEnsembleNet(**definition).eval()
    again.load_state_dict(net.state_dict())
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(again(x), net(x), rtol=0, atol=0)


@pytest.mark.parametrize("arguments", [("Linear", 2), ("MeanEnsembleNet", 2), ("PlainNet", 0)])
def test_other_members_are_refused(arguments: tuple[str, int]) -> None:
    with pytest.raises(ValueError, match="must be"):
        MeanEnsembleNet(*arguments)


@pytest.mark.parametrize("independent", [False, True])
@torch.no_grad()
def test_exports_equal_the_network(independent: bool, tmp_path) -> None:
    net = make_ensemble("EnsembleNet", independent)
    x = torch.rand(3, 1, 32, 32)
    with torch.jit.optimized_execution(False):
        scripted = torch.jit.script(net)
        torch.testing.assert_close(scripted(x), net(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(scripted.stage_logits(x), net.stage_logits(x), rtol=0, atol=1e-5)
    export_onnx(net, tmp_path / "model.onnx", (1, 32, 32))
    exported = OnnxNet(tmp_path / "model.onnx", num_threads=1)
    logits, means = exported.stage_logits_and_means(x)
    torch.testing.assert_close(logits, net.stage_logits(x), rtol=0, atol=1e-4)
    torch.testing.assert_close(means, torch.cat(net.stage_means(x), dim=1), rtol=0, atol=1e-5)
    assert exported.num_steps == net.num_steps == 1


def test_heat_maps_are_the_mean_over_the_members() -> None:
    net = make_ensemble("HierarchicalNet")
    x = torch.rand(2, 1, 32, 32)
    heat = stage_heat_maps(net, x, [1, 2])
    assert heat.shape == stage_heat_maps(net.members[0], x, [1, 2]).shape
    # With one temperature for all, members that are all the same give the map of one of them.
    net.temperatures.fill_(2.0)
    for member in net.members[1:]:
        member.load_state_dict(net.members[0].state_dict())
    torch.testing.assert_close(
        stage_heat_maps(net, x, [1, 2]), stage_heat_maps(net.members[0], x, [1, 2]), rtol=1e-4, atol=1e-5
    )
