# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A network of every family learns on two processes as on one process."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_families import BATCH, FAMILIES, make_images, make_network
from torch import Tensor, nn

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines import ProgressiveTrainer
from monai_fgssl.losses import GlobalCrossEntropyLoss
from monai_fgssl.networks import distribute

pytestmark = pytest.mark.slow


def in_float64(images: Tensor, _: torch.Generator) -> Tensor:
    return images.double()


def trained(name: str, rank: int = 0, world_size: int = 1) -> dict[str, Tensor]:
    """Weights and statistics after one step; each process has its part of the batch.

    In float64, since the norms of deep stages see one pixel of each image, which magnifies rounding a thousand times.
    """
    net = make_network(name).double()
    if world_size > 1:
        distribute(net)
    pixels, names = make_images(name)[:BATCH], [str(number) for number in range(BATCH)]
    images = CachedImages(pixels, torch.arange(BATCH) % 3, names, names)
    ProgressiveTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=make_loader(images, BATCH // world_size, rank=rank, world_size=world_size),
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=1e-3),
        loss_function=GlobalCrossEntropyLoss() if world_size > 1 else nn.CrossEntropyLoss(),
        grids=[1, 1, 1],
        schedule="joint",
        view=in_float64,
    ).run()
    return {key: value.clone() for key, value in net.state_dict().items()}


def run_rank(rank: int, world_size: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ.update(address | {"LOCAL_RANK": str(rank)})
    dist.init_process_group("gloo")
    for name in FAMILIES:
        torch.save(trained(name, rank, world_size), Path(folder) / f"{name}.{rank}.pt")
    dist.barrier()
    # Past all destructors: that of a gloo group can wait for ever, see tests/losses/test_cross_correlation.py.
    os._exit(0)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the state of each family on each process."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(run_rank, args=(2, port, str(folder)), nprocs=2)
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_two_processes_learn_as_one(name: str, ranks: Path) -> None:
    expected, start = trained(name), make_network(name).double().state_dict()
    first, second = (torch.load(ranks / f"{name}.{rank}.pt", weights_only=True) for rank in range(2))
    assert any(not torch.equal(value, start[key]) for key, value in expected.items())
    for key, value in expected.items():
        assert torch.equal(first[key], second[key]), key
        if value.is_floating_point():
            moved = (value - start[key]).abs().max().item()
            torch.testing.assert_close(first[key], value, rtol=1e-9, atol=1e-6 * moved + 1e-12, msg=key)
