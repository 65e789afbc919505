# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks with one classifier: one step, which is the prediction."""

from __future__ import annotations

import pytest
import torch

from monai_fgssl.networks import PlainNet, PooledNet, StagedNet

NETWORKS = [PlainNet, PooledNet]


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_one_step_is_the_prediction(kind: type[StagedNet]) -> None:
    torch.manual_seed(0)
    net = kind("resnet18").eval()
    x = torch.rand(2, 3, 64, 64)
    assert net.num_steps == torch.jit.script(net).num_steps == 1
    assert torch.equal(net.logits_at_step(x, 1), net(x))
    assert torch.equal(net.stage_logits(x), net(x)[:, None])
    assert torch.equal(net.stage_vectors(x), net.vectors_at_step(x, 1)[:, None])
    for method in (net.logits_at_step, net.vectors_at_step):
        with pytest.raises(ValueError, match="step must be 1, got 2"):
            method(x, 2)


@pytest.mark.parametrize("stage_lr_decay", [1.0, 0.5])
@pytest.mark.parametrize("kind", NETWORKS)
def test_parameter_groups_split_backbone_and_the_rest(kind: type[StagedNet], stage_lr_decay: float) -> None:
    net = kind("resnet18")
    groups = net.parameter_groups(backbone_lr=0.1, head_lr=1.0, weight_decay=0.01, stage_lr_decay=stage_lr_decay)
    backbone = {id(parameter) for parameter in net.backbone.parameters()}
    for group in groups:
        in_backbone = group["lr"] <= 0.1
        assert all((id(parameter) in backbone) == in_backbone for parameter in group["params"])
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in net.parameters())
