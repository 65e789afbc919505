# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from monai_fgssl.networks import PlainNet


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_classifier_reads_the_mean_of_the_last_map(spatial_dims):
    torch.manual_seed(0)
    net = PlainNet("resnet18", spatial_dims, in_channels=1, num_classes=5, embedding_dim=7).eval()
    x = torch.rand(2, 1, *[64] * spatial_dims)
    last = net.backbone((x - 0.5) / 0.5)[-1].double()
    pooled = torch.stack([torch.stack([channel.mean() for channel in sample]) for sample in last])
    expected = pooled @ net.classifier.weight.double().T + net.classifier.bias.double()
    torch.testing.assert_close(net(x).double(), expected, rtol=1e-4, atol=1e-5)


def test_projector_is_three_layers_as_in_barlow_twins():
    torch.manual_seed(0)
    net = PlainNet("resnet18", embedding_dim=7)
    x = torch.rand(4, 3, 64, 64)
    z = net.vectors_at_step(x, 1)

    hidden = net.backbone((x - 0.5) / 0.5)[-1].mean(dim=(2, 3)).double()
    weights = [module.weight.double() for module in net.projector if isinstance(module, torch.nn.Linear)]
    for weight in weights[:2]:
        hidden = hidden @ weight.T
        # Norms of a fresh network in training: the batch's own statistics, biased variance, eps 1e-5.
        hidden = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
        hidden = hidden.clamp(min=0)
    torch.testing.assert_close(z.double(), hidden @ weights[2].T, rtol=1e-3, atol=1e-4)
    assert z.shape == (4, 7)


def test_the_projector_is_no_part_of_the_classifier():
    net = PlainNet("resnet18", embedding_dim=7)
    net(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is None for parameter in net.projector.parameters())
    assert all(parameter.grad is not None for parameter in net.backbone.parameters())
