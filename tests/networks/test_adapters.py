# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Adapters against the weights that they represent."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from monai_fgssl.bundle import load_pretrained, load_weights, make_network, save_model
from monai_fgssl.engines.handlers.saver import WeightsSaver
from monai_fgssl.networks import HierarchicalNet, PooledNet, add_adapters, load_plain_state, plain_state
from monai_fgssl.utils.errors import SettingsError

SIZE, RANK = 32, 3
NETWORKS = ["timm:test_vit", "timm:eva02_tiny_patch14_224", "timm:test_convnext", "vit-tiny"]


def make(name: str = "timm:test_vit", seed: int = 0) -> HierarchicalNet:
    torch.manual_seed(seed)
    size = 28 if "patch14" in name else SIZE
    return HierarchicalNet(name, num_classes=2, width=8, embedding_dim=4, image_size=size).eval()


def images(name: str = "") -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, *[28 if "patch14" in name else SIZE] * 2)


def learn(network: nn.Module) -> None:
    """Any change of what can learn in the backbone."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in network.backbone.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


@pytest.mark.parametrize("name", NETWORKS)
def test_adapters_are_nothing_at_first_and_all_that_learns(name: str) -> None:
    plain, net = make(name), make(name)
    x = images(name)
    assert add_adapters(net, RANK, x.shape[-1]) is net
    torch.testing.assert_close(net(x), plain(x), rtol=0, atol=0)
    learning = {n: p for n, p in net.backbone.named_parameters() if p.requires_grad}
    assert learning
    assert all(".lora_" in n for n in learning)
    assert all(RANK in p.shape for p in learning.values())
    # Each of them moves the output: none is in a layer that is read past it.
    learn(net)
    gradients = torch.autograd.grad(net(x).square().sum(), list(learning.values()), allow_unused=True)
    assert all(gradient is not None and gradient.any() for gradient in gradients)
    parts = net.backbone.parts()
    assert {id(p) for part in parts for p in part} >= {id(p) for p in learning.values()}
    # A decay by stages slows the adapters of early stages.
    groups = net.parameter_groups(1.0, 1.0, 0.0, stage_lr_decay=0.5)
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len({rates[id(p)] for p in learning.values()}) > 1


@pytest.mark.parametrize("name", NETWORKS)
def test_the_plain_state_is_that_of_a_network_without_adapters(name: str) -> None:
    net = add_adapters(make(name), RANK, images(name).shape[-1])
    learn(net)
    plain = make(name, seed=3)
    plain.load_state_dict(plain_state(net))
    torch.testing.assert_close(plain(images(name)), net(images(name)), rtol=1e-4, atol=1e-5)
    other = add_adapters(make(name, seed=4), RANK, images(name).shape[-1])
    learn(other)
    load_plain_state(other, plain_state(net))
    torch.testing.assert_close(other(images(name)), plain(images(name)), rtol=0, atol=0)
    # The new adapters can learn.
    loss = other(images(name)).square().sum()
    gradients = torch.autograd.grad(loss, [p for p in other.backbone.parameters() if p.requires_grad])
    assert any(gradient.any() for gradient in gradients)


def test_files_of_a_run_know_nothing_of_adapters(tmp_path: Path) -> None:
    net = add_adapters(make(), RANK, SIZE)
    learn(net)
    expected = net(images()).detach()
    save_model(net, tmp_path / "model.pt", ["a", "b"], SIZE)
    model = make_network(tmp_path, tmp_path / "model.pt").eval()
    load_weights(model, tmp_path / "model.pt")
    torch.testing.assert_close(model(images()), expected, rtol=1e-4, atol=1e-5)
    saver = WeightsSaver(net, tmp_path / "best.pt")
    saver.save()
    learn(net)
    saver.load()
    torch.testing.assert_close(net(images()), expected, rtol=1e-4, atol=1e-5)
    for start in (make(seed=5), add_adapters(make(seed=6), RANK, SIZE)):
        load_pretrained(start, tmp_path / "best.pt")
        torch.testing.assert_close(start(images()), expected, rtol=1e-4, atol=1e-5)


def test_a_classifier_on_the_same_backbone_thaws_nothing() -> None:
    net = add_adapters(make(), RANK, SIZE)
    before = [n for n, p in net.backbone.named_parameters() if p.requires_grad]
    PooledNet.of(net, 2)
    assert [n for n, p in net.backbone.named_parameters() if p.requires_grad] == before


def test_networks_without_linear_layers_and_installations_without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"--lora_rank 4: the backbone has no linear layers.*--freeze_stages"):
        add_adapters(HierarchicalNet("resnet18", width=8, embedding_dim=4), 4, SIZE)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(
        ImportError, match=r"--lora_rank 4 needs peft, which is missing: pip install 'monai-fgssl\[lora\]'"
    ):
        add_adapters(make(), 4, SIZE)
    net = make()
    assert add_adapters(net, None, SIZE) is net
