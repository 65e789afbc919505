# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""An ensemble predicts with the weighted logits of its two members, and training changes only the first."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_fgssl.networks import EnsembleNet, HierarchicalNet, PooledNet


def make_members(spatial_dims: int = 2) -> tuple[HierarchicalNet, EnsembleNet]:
    torch.manual_seed(0)
    tuned = HierarchicalNet(
        "resnet18", spatial_dims, 1, num_classes=4, stages=(1, 2), width=8, embedding_dim=7, stem="small", mean=0.3
    ).eval()
    ensemble = EnsembleNet.of(tuned)
    ensemble.member_weights.copy_(torch.tensor([0.25, 1.0]))
    return tuned, ensemble


def images(spatial_dims: int = 2) -> Tensor:
    return torch.rand(3, 1, *[32] * spatial_dims)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_prediction_is_the_weighted_sum_of_the_logits(spatial_dims: int) -> None:
    tuned, ensemble = make_members(spatial_dims)
    x = images(spatial_dims)
    with torch.no_grad():
        expected = tuned(x) / 4 + ensemble.probe(x)
        members = ensemble.member_logits(x)
        torch.testing.assert_close(ensemble(x), expected, rtol=0, atol=1e-5)
        torch.testing.assert_close(members[:, 0], tuned(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(members[:, 1], ensemble.probe(x), rtol=0, atol=1e-5)


def test_steps_are_those_of_the_tuned_member_and_the_last_one_has_the_probe() -> None:
    tuned, ensemble = make_members()
    x = images()
    with torch.no_grad():
        steps, alone = ensemble.stage_logits(x), tuned.stage_logits(x)
        assert steps.shape == (3, ensemble.num_steps, 4)
        torch.testing.assert_close(steps[:, :-1], alone[:, :-1] / 4, rtol=0, atol=1e-6)
        torch.testing.assert_close(steps[:, -1], alone[:, -1] / 4 + ensemble.probe(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(steps.sum(1), ensemble(x), rtol=0, atol=1e-6)
        for step in range(1, ensemble.num_steps + 1):
            torch.testing.assert_close(ensemble.logits_at_step(x, step), steps[:, step - 1], rtol=0, atol=1e-5)
        torch.testing.assert_close(ensemble.stage_vectors(x), tuned.stage_vectors(x), rtol=0, atol=0)


def test_training_changes_the_tuned_member_only() -> None:
    tuned, ensemble = make_members()
    x, labels = images(), torch.tensor([0, 1, 2])
    ensemble.copy_backbone()
    before = {name: value.clone() for name, value in ensemble.state_dict().items()}
    # Trainers see the network without the probe.
    optimizer = torch.optim.SGD(tuned.parameter_groups(0.1, 0.1, 0.0))
    for _ in range(2):
        tuned.train()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(tuned(x), labels).backward()
        optimizer.step()
    after = ensemble.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any(name.startswith("probe.") or name == "member_weights" for name in changed)
    with torch.no_grad():
        tuned.eval()
        torch.testing.assert_close(ensemble.eval().member_logits(x)[:, 0], tuned(x), rtol=0, atol=1e-5)
    # Now the copy differs from the backbone, until it is made again.
    assert not torch.equal(ensemble.probe.stage_means(x)[-1], ensemble.stage_means(x)[-1])
    ensemble.copy_backbone()
    for mine, theirs in zip(ensemble.probe.stage_means(x), ensemble.stage_means(x), strict=True):
        assert torch.equal(mine, theirs)


def test_the_probe_reads_all_stages_and_is_never_trained() -> None:
    tuned, ensemble = make_members()
    assert not hasattr(tuned, "probe")
    assert isinstance(ensemble.probe, PooledNet)
    assert ensemble.probe.stage_indices == [0, 1, 2]
    assert not any(parameter.requires_grad for parameter in ensemble.probe.parameters())
    ensemble.train()
    assert ensemble.backbone.training
    assert not any(module.training for module in ensemble.probe.modules())
    learned = {id(p) for group in ensemble.parameter_groups(0.1, 0.1, 0.0) for p in group["params"]}
    assert learned == {id(p) for p in tuned.parameters()}
