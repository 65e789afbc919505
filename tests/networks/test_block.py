# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from monai_fgssl.losses import CrossCorrelationLoss
from monai_fgssl.networks import HierarchicalBlock, ProjectionHead


def randomize_norms(module: torch.nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
            for tensor in (part.weight.data, part.bias.data, part.running_mean, part.running_var):
                tensor.uniform_(0.5, 1.5)


def norm(x: np.ndarray, module: torch.nn.Module) -> np.ndarray:
    """Batch norm over axis 1 with the running statistics."""
    mean, variance, weight, bias = (
        tensor.detach().numpy().reshape(1, -1, *[1] * (x.ndim - 2))
        for tensor in (module.running_mean, module.running_var, module.weight, module.bias)
    )
    return (x - mean) / np.sqrt(variance + module.eps) * weight + bias


def convolve(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Same-size cross-correlation with zero padding, as a sum over the kernel's offsets."""
    kernel, spatial = weight.shape[2:], x.shape[2:]
    padded = np.pad(x, [(0, 0), (0, 0)] + [(k // 2, k // 2) for k in kernel])
    result = np.zeros((x.shape[0], weight.shape[0], *spatial))
    for offset in itertools.product(*map(range, kernel)):
        window = padded[(..., *(slice(o, o + size) for o, size in zip(offset, spatial, strict=True)))]
        result += np.einsum("oi,bi...->bo...", weight[(..., *offset)], window)
    return result


@pytest.mark.parametrize("shape", [(5, 7), (1, 1), (3, 4, 5)])
def test_pool_is_the_maximum_of_two_convolutions(shape):
    torch.manual_seed(0)
    block = HierarchicalBlock(len(shape), in_channels=3, width=8, embedding_dim=5, num_classes=2).double().eval()
    randomize_norms(block)
    x = torch.randn(2, 3, *shape, dtype=torch.float64)

    expected = x.numpy()
    for convolution in block.convolutions:
        weight = convolution.conv.weight.detach().numpy()
        expected = np.maximum(norm(convolve(expected, weight), convolution.adn.N), 0)
    expected = expected.reshape(2, 8, -1).max(axis=2)

    assert [tuple(c.conv.weight.shape[2:]) for c in block.convolutions] == [(1,) * len(shape), (3,) * len(shape)]
    assert block.convolutions[0].conv.out_channels == 4
    np.testing.assert_allclose(block.pool(x).detach().numpy(), expected, atol=1e-12)
    assert torch.equal(block(x), block.head(block.pool(x)))
    assert torch.equal(block(x, project=True), block.head(block.pool(x), project=True))


def test_head_is_norm_linear_norm_elu_and_a_linear_classifier():
    torch.manual_seed(0)
    head = ProjectionHead(in_features=6, embedding_dim=4, num_classes=3).double().eval()
    randomize_norms(head)
    x = torch.randn(5, 6, dtype=torch.float64)

    first, linear, second, _ = head.projector
    hidden = norm(x.numpy(), first) @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    hidden = norm(hidden, second)
    z = np.where(hidden > 0, hidden, np.expm1(hidden))
    logits = z @ head.classifier.weight.detach().numpy().T + head.classifier.bias.detach().numpy()

    np.testing.assert_allclose(head(x, project=True).detach().numpy(), z, atol=1e-12)
    np.testing.assert_allclose(head(x).detach().numpy(), logits, atol=1e-12)


def test_linear_projection_is_below_norm_and_elu():
    torch.manual_seed(0)
    usual, below = (ProjectionHead(6, 4, 3, linear_projection=linear).double().eval() for linear in (False, True))
    randomize_norms(usual)
    below.load_state_dict(usual.state_dict())
    x = torch.randn(5, 6, dtype=torch.float64)

    first, linear = usual.projector[:2]
    expected = norm(x.numpy(), first) @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()
    np.testing.assert_allclose(below(x, project=True).detach().numpy(), expected, atol=1e-12)
    assert torch.equal(below(x), usual(x))


def test_our_loss_does_not_see_the_norm():
    """Of a head without ELU: why the option is one of the ELU alone."""
    torch.manual_seed(0)
    head = ProjectionHead(6, 4, 3).double().train()
    randomize_norms(head)
    first, second = torch.randn(2, 9, 6, dtype=torch.float64)
    linear, normed = head.projector[:2], head.projector[:3]
    loss = CrossCorrelationLoss()
    torch.testing.assert_close(
        loss(linear(first), linear(second)), loss(normed(first), normed(second)), rtol=1e-4, atol=0
    )


def test_pooling_ignores_where_the_maximum_is():
    torch.manual_seed(0)
    block = HierarchicalBlock(2, in_channels=3, width=8, embedding_dim=5, num_classes=2).eval()
    x = torch.randn(2, 3, 6, 6)
    shifted = torch.zeros(2, 3, 12, 12)
    shifted[..., 4:10, 2:8] = x
    centered = torch.zeros(2, 3, 12, 12)
    centered[..., 3:9, 3:9] = x
    torch.testing.assert_close(block.pool(shifted), block.pool(centered))


def test_too_narrow():
    with pytest.raises(ValueError, match=r"width must be at least 2 .* got 1"):
        HierarchicalBlock(2, in_channels=3, width=1, embedding_dim=5, num_classes=2)
