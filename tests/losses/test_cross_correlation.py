# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The loss against a float64 loop over the paper's formula, and the loss on two processes against one process."""

from __future__ import annotations

import math
import os
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from monai_fgssl.functional import cross_correlation
from monai_fgssl.losses import CrossCorrelationLoss


def loss_by_formula(a: Tensor, b: Tensor, redundancy_weight: float) -> float:
    """Barlow Twins eq. 1 and 2, entry by entry in Python floats."""
    rows_a, rows_b = a.double().tolist(), b.double().tolist()
    n, d = len(rows_a), len(rows_a[0])

    def standardized(rows: list[list[float]]) -> list[list[float]]:
        columns = []
        for i in range(d):
            column = [row[i] for row in rows]
            mean = sum(column) / n
            std = math.sqrt(sum((v - mean) ** 2 for v in column) / n)
            columns.append([(v - mean) / std for v in column])
        return columns

    za, zb = standardized(rows_a), standardized(rows_b)
    total = 0.0
    for i in range(d):
        for j in range(d):
            c = sum(za[i][s] * zb[j][s] for s in range(n)) / n
            total += (1 - c) ** 2 if i == j else redundancy_weight * c**2
    return total


def two_views(n: int = 12, d: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return a, 0.5 * a + torch.randn(n, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("redundancy_weight", [0.0, 5e-3, 1.0])
@pytest.mark.parametrize(("n", "d"), [(2, 3), (12, 5), (7, 16)])
def test_equals_the_formula(n: int, d: int, redundancy_weight: float) -> None:
    a, b = two_views(n, d)
    expected = loss_by_formula(a, b, redundancy_weight)
    loss = CrossCorrelationLoss(redundancy_weight)
    assert loss(a, b).item() == pytest.approx(expected, rel=1e-12)
    assert loss(a.float(), b.float()).item() == pytest.approx(expected, rel=1e-4)


def test_identical_views_have_a_diagonal_of_one() -> None:
    a, _ = two_views()
    torch.testing.assert_close(cross_correlation(a, a).diagonal(), torch.ones(5, dtype=torch.float64))


def test_gradcheck() -> None:
    a, b = (view.requires_grad_() for view in two_views())
    assert torch.autograd.gradcheck(CrossCorrelationLoss(), (a, b))


def test_invariant_to_scale_and_shift_of_each_feature() -> None:
    a, b = two_views()
    scale = torch.tensor([0.1, 3.0, 100.0, 0.5, 7.0], dtype=torch.float64)
    loss = CrossCorrelationLoss()
    torch.testing.assert_close(loss(a * scale + 4, b * scale.flip(0) - 1), loss(a, b))


def test_a_constant_feature_gives_no_nan_and_a_correlation_of_zero() -> None:
    a, b = (view.float() for view in two_views())
    a[:, 2] = 100.0
    a.requires_grad_()
    correlation = cross_correlation(a, b)
    assert correlation[2].abs().max() < 0.05
    CrossCorrelationLoss()(a, b).backward()
    assert a.grad is not None
    assert torch.isfinite(a.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype: torch.dtype) -> None:
    a, b = (view.to(dtype) for view in two_views(64, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = CrossCorrelationLoss()(a, b)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(loss_by_formula(a, b, 5e-3), rel=1e-4)


def test_errors_name_the_shapes() -> None:
    loss = CrossCorrelationLoss()
    with pytest.raises(ValueError, match="at least 2 samples in the batch, got 1"):
        loss(torch.ones(1, 4), torch.ones(1, 4))
    with pytest.raises(ValueError, match=r"\(4, 3\) and \(4, 2\)"):
        loss(torch.ones(4, 3), torch.ones(4, 2))
    with pytest.raises(ValueError, match="redundancy_weight must be at least 0, got -1"):
        CrossCorrelationLoss(-1)
    with pytest.raises(ValueError, match="eps must be positive, got 0"):
        CrossCorrelationLoss(eps=0)


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)).double()


def train_rank(rank: int, world_size: int, port: int, sizes: list[int], output: str) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
    network = nn.parallel.DistributedDataParallel(make_network())
    a, b = two_views(sum(sizes), 6)
    start = sum(sizes[:rank])
    rows = slice(start, start + sizes[rank])
    loss = CrossCorrelationLoss()(network(a[rows]), network(b[rows]))
    loss.backward()
    torch.save({"loss": loss.detach(), "grads": [p.grad for p in network.parameters()]}, f"{output}.{rank}")
    dist.barrier()
    # Past all destructors: in torch 2.13 that of a gloo group can join a thread that waits for the interpreter lock
    # which the destructor's own thread holds, and the process then never ends.
    os._exit(0)


@pytest.mark.parametrize("sizes", [[6, 6], [7, 5]])
def test_two_processes_give_loss_and_gradients_of_one(sizes: list[int], tmp_path) -> None:
    network = make_network()
    a, b = two_views(sum(sizes), 6)
    expected = CrossCorrelationLoss()(network(a), network(b))
    expected.backward()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    output = str(tmp_path / "rank")
    mp.spawn(train_rank, args=(2, port, sizes, output), nprocs=2)
    for rank in range(2):
        result = torch.load(f"{output}.{rank}", weights_only=True)
        torch.testing.assert_close(result["loss"], expected.detach(), rtol=1e-10, atol=0)
        for grad, parameter in zip(result["grads"], network.parameters(), strict=True):
            torch.testing.assert_close(grad, parameter.grad, rtol=1e-9, atol=1e-12)
