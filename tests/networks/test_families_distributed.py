# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks of families with different norms and blocks learn on two processes as on one process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_families import BATCH, make_images, make_network, unchanged
from torch import Tensor, nn

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines import ProgressiveTrainer
from monai_fgssl.losses import GlobalCrossEntropyLoss
from monai_fgssl.networks import distribute

pytestmark = pytest.mark.slow

# MONAI's EfficientNets are not among them: they drop blocks at random, on each process others.
NAMES = (
    "resnet10",
    "timm:test_efficientnet",
    "timm:test_convnext",
    "timm:test_vit",
    "timm:xcit_nano_12_p16_224",
    "timm:pvt_v2_b0",
)


def trained(name: str, rank: int = 0, world_size: int = 1) -> dict[str, Tensor]:
    """Weights and statistics after two steps; each process has its part of each batch."""
    net = make_network(name)
    if world_size > 1:
        distribute(net)
    pixels, names = make_images(name), [str(number) for number in range(2 * BATCH)]
    images = CachedImages(pixels, torch.arange(2 * BATCH) % 3, names, names)
    ProgressiveTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=make_loader(images, BATCH // world_size, rank=rank, world_size=world_size),
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9),
        loss_function=GlobalCrossEntropyLoss() if world_size > 1 else nn.CrossEntropyLoss(),
        grids=[1, 1, 1],
        schedule="joint",
        view=unchanged,
    ).run()
    return {key: value.clone() for key, value in net.state_dict().items()}


def run_rank(rank: int, world_size: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ.update(address | {"LOCAL_RANK": str(rank)})
    dist.init_process_group("gloo")
    torch.save({name: trained(name, rank, world_size) for name in NAMES}, Path(folder) / f"{rank}.pt")
    dist.barrier()
    # Past all destructors: that of a gloo group can wait for ever, see tests/losses/test_cross_correlation.py.
    os._exit(0)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(run_rank, args=(2, port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_learn_as_one(name: str, ranks: list[dict[str, dict[str, Tensor]]]) -> None:
    expected, start = trained(name), make_network(name).state_dict()
    assert any(not torch.equal(value, start[key]) for key, value in expected.items())
    for key, value in expected.items():
        assert torch.equal(ranks[0][name][key], ranks[1][name][key]), key
        if value.is_floating_point():
            moved = (value - start[key]).abs().max().item()
            torch.testing.assert_close(ranks[0][name][key], value, rtol=1e-3, atol=0.02 * moved + 1e-6, msg=key)
