# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Trainings and evaluations on two and four real processes against those on one process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from monai_fgssl.bundle import network_to_train
from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines import HierarchicalEvaluator, PreTrainer, ProgressiveTrainer
from monai_fgssl.engines.handlers import BackboneFreezer, FastestPrecision, PredictionCollector
from monai_fgssl.engines.handlers import precision as precision_handler
from monai_fgssl.losses import CrossCorrelationLoss, GlobalCrossEntropyLoss
from monai_fgssl.metrics import epoch_metric
from monai_fgssl.networks import HierarchicalNet, PrecisionChoice, StagedBackbone, distribute, unwrap
from monai_fgssl.tasks import TASKS, make_loss
from monai_fgssl.transforms import RandDistortedView

pytestmark = pytest.mark.slow

WORLD_SIZES = (2, 4)
CLASS_WEIGHTS = (0.2, 1.0, 3.0)
# Of each process in each of two steps.
UNEVEN_SHARES = {2: [5, 3], 4: [3, 1, 2, 2]}
TRAININGS = [
    (kind, schedule, loader)
    for kind, schedule in (("pretrain", "progressive"), ("pretrain", "joint"), ("train", "progressive"))
    for loader in ("uneven last batch", "uneven shares")
] + [
    ("grades", "progressive", "uneven shares"),
    ("frozen backbone", "joint", "uneven shares"),
    ("shared backbone", "joint", "uneven shares"),
]
EVALUATION_BATCHES = (9, 3)


def make_images(count: int) -> CachedImages:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)
    names = [str(i) for i in range(count)]
    return CachedImages(pixels, torch.randint(0, 3, (count,), generator=generator), names, names)


def make_network() -> HierarchicalNet:
    def stage(channels_in: int, channels_out: int) -> nn.Module:
        convolution = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1)
        return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())

    torch.manual_seed(0)
    stages = [stage(4, 4), stage(4, 8), stage(8, 8), stage(8, 8)]
    backbone = StagedBackbone(stage(3, 4), stages, (4, 8, 8, 8), (4, 8, 16, 32))
    return HierarchicalNet(backbone, num_classes=3, width=8, embedding_dim=6).double()


def make_batches(loader: str, rank: int, world_size: int, processes: int) -> Iterable[dict[str, Any]]:
    """For a training on `world_size` processes, the same images as one of `processes` processes takes in a step."""
    images = make_images(24)
    if loader == "uneven last batch":
        batch_size = 10 // processes * (processes // world_size)
        return make_loader(images, batch_size, shuffle=True, seed=3, rank=rank, world_size=world_size)
    sizes = UNEVEN_SHARES[processes] if world_size > 1 else [8]
    first = sum(sizes[:rank])
    return [images[list(range(8 * step + first, 8 * step + first + sizes[rank]))] for step in range(2)]


def same_view(images: Tensor, generator: torch.Generator) -> Tensor:
    return images


def mirrored_view(images: Tensor, generator: torch.Generator) -> Tensor:
    return 0.8 * images.flip(-1) + 0.1 * images.roll(3, -2)


def in_double_precision(batch: dict[str, Any], *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    return batch["image"].double() / 255, batch["label"]


def train(
    kind: str, schedule: str, batches: Iterable[dict[str, Any]], network: nn.Module, **more: Any
) -> dict[str, Tensor]:
    if kind == "shared backbone":
        # The network of the pre-training stays beside it, as in the bundle.
        network = network_to_train(network, "lp_ft", 3)
    settings: dict[str, Any] = {
        "device": "cpu",
        "max_epochs": 2 if kind == "frozen backbone" else 1,
        "train_data_loader": batches,
        "network": network,
        "optimizer": torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, weight_decay=0.01),
        "grids": [1] * (unwrap(network).num_steps - 1),
        "schedule": schedule,
        "prepare_batch": in_double_precision,
        **more,
    }
    if kind == "pretrain":
        PreTrainer(
            loss_function=CrossCorrelationLoss(),
            regularized_view=same_view,
            distorted_view=mirrored_view,
            **settings,
        ).run()
    else:
        weights = torch.tensor(CLASS_WEIGHTS, dtype=torch.float64)
        loss = make_loss(TASKS["ordinal" if kind == "grades" else "multiclass"], weights)
        assert isinstance(loss, GlobalCrossEntropyLoss) == (kind != "grades" and dist.is_initialized())
        trainer = ProgressiveTrainer(loss_function=loss, view=same_view, **settings)
        BackboneFreezer(network, *((0.5, 2) if kind == "frozen backbone" else ())).attach(trainer)
        trainer.run()
    return {name: value.clone() for name, value in unwrap(network).state_dict().items()}


def evaluate(batch_size: int) -> dict[str, Any]:
    network, computed, predictions = make_network(), [], PredictionCollector()
    network.backbone.register_forward_pre_hook(lambda _, args: computed.append(len(args[0])))
    evaluator = HierarchicalEvaluator(
        device="cpu",
        val_data_loader=make_loader(make_images(23), batch_size),
        network=network,
        prepare_batch=in_double_precision,
        orientations=True,
        key_val_metric={"macro_auc": epoch_metric("macro_auc")},
        additional_metrics={"accuracy": epoch_metric("accuracy")},
        val_handlers=[predictions],
    )
    evaluator.run()
    return {
        "names": predictions.names,
        "labels": predictions.labels,
        "logits": predictions.stage_logits,
        "metrics": dict(evaluator.state.metrics),
        "computed": sum(computed),
    }


def what_the_network_sees() -> dict[str, Tensor]:
    """Puzzle of step 1 and distorted view of step 4, where all processes begin with the same images."""
    seen: list[Tensor] = []
    network = make_network().float()
    network.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    PreTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[make_images(8)[list(range(8))]],
        network=distribute(network),
        optimizer=torch.optim.SGD(network.parameters(), lr=0.01),
        loss_function=CrossCorrelationLoss(),
        grids=[8, 4, 2],
        regularized_view=same_view,
        distorted_view=RandDistortedView().batch,
    ).run()
    return {"puzzle": seen[0], "distorted": seen[-1]}


def fastest_precision(rank: int) -> dict[str, Any]:
    """Choice and weights after a trial in which every process finds another precision the fastest."""
    precision_handler.STEPS_WORTH_A_TRIAL = 1
    choice = PrecisionChoice(exact=True)
    names = [candidate.name for candidate in choice.candidates]
    readings: list[float] = [0.0]

    def clock() -> float:
        is_fastest = choice.current.name == names[rank % 2]
        readings.append(readings[-1] + (0.3 if is_fastest else 0.6))
        return readings[-1]

    handler = FastestPrecision(choice, clock=clock)
    batches = make_batches("uneven shares", rank, dist.get_world_size(), dist.get_world_size())
    more = {"precision": choice, "train_handlers": [handler]}
    weights = train("pretrain", "joint", batches, distribute(make_network()), **more)
    return {"name": str(choice), "weights": weights}


def bytes_of_the_loss(features: int) -> tuple[int, int]:
    """Tensors that the loss of ``(5, features)`` in float64 hands to the group, forward and backward."""
    sent = []
    original = dist.all_reduce

    def counted(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        sent.append(tensor.numel() * tensor.element_size())
        return original(tensor, *args, **kwargs)

    dist.all_reduce = counted
    try:
        a, b = (torch.randn(5, features, dtype=torch.float64, requires_grad=True) for _ in range(2))
        loss = CrossCorrelationLoss()(a, b)
        forward = sum(sent)
        loss.backward()
    finally:
        dist.all_reduce = original
    return forward, sum(sent) - forward


def run_rank(rank: int, world_size: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ.update(address | {"LOCAL_RANK": str(rank)})
    dist.init_process_group("gloo")
    results: dict[str, Any] = {
        "trained": [
            train(kind, schedule, make_batches(loader, rank, world_size, world_size), distribute(make_network()))
            for kind, schedule, loader in TRAININGS
        ],
        "evaluated": [evaluate(batch_size) for batch_size in EVALUATION_BATCHES],
        "seen": what_the_network_sees(),
        "bytes": bytes_of_the_loss(7),
        "precision": fastest_precision(rank),
    }
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.barrier()
    # Past all destructors: that of a gloo group can wait for ever, see tests/losses/test_cross_correlation.py.
    os._exit(0)


@pytest.fixture(scope="module", params=WORLD_SIZES)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Results of each process."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(run_rank, args=(request.param, port, str(folder)), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(request.param)]


@pytest.mark.parametrize("case", range(len(TRAININGS)), ids=[" ".join(case) for case in TRAININGS])
def test_the_weights_are_those_of_one_process_with_the_global_batch(case: int, ranks: list[dict[str, Any]]) -> None:
    kind, schedule, loader = TRAININGS[case]
    before = make_network().state_dict()
    expected = train(kind, schedule, make_batches(loader, 0, 1, len(ranks)), make_network())
    moved = {name: (expected[name] - before[name]).abs().max() for name in before.keys() & expected.keys()}
    assert moved["backbone.stages.3.0.weight"] > 1e-4
    # The stem is frozen in all epochs, or learns as the rest.
    assert moved["backbone.stem.0.weight"] == 0 if kind == "frozen backbone" else moved["backbone.stem.0.weight"] > 1e-4
    for name, value in expected.items():
        # Running statistics too.
        torch.testing.assert_close(ranks[0]["trained"][case][name], value, rtol=1e-8, atol=1e-10, msg=name)
        for other in ranks[1:]:
            assert torch.equal(other["trained"][case][name], ranks[0]["trained"][case][name]), name


@pytest.mark.parametrize("case", range(len(EVALUATION_BATCHES)))
def test_an_evaluation_counts_each_image_once(case: int, ranks: list[dict[str, Any]]) -> None:
    expected = evaluate(EVALUATION_BATCHES[case])
    for rank in ranks:
        found = rank["evaluated"][case]
        assert found["names"] == [str(i) for i in range(23)]
        assert torch.equal(found["labels"], expected["labels"])
        torch.testing.assert_close(found["logits"], expected["logits"])
        assert found["metrics"] == pytest.approx(expected["metrics"])
    # Eight orientations each; a process without an image in a batch computes one nevertheless.
    batches = make_loader(make_images(23), EVALUATION_BATCHES[case]).sampler
    spare = sum(max(0, len(ranks) - len(batch)) for batch in batches)
    assert sum(rank["evaluated"][case]["computed"] for rank in ranks) == 8 * (23 + spare)


def test_each_process_has_its_own_puzzles_and_distortions(ranks: list[dict[str, Any]]) -> None:
    pieces = [rank["seen"]["puzzle"].flatten(2).sort().values for rank in ranks]
    for one, other in combinations(range(len(ranks)), 2):
        assert torch.equal(pieces[one], pieces[other])
        for view in ("puzzle", "distorted"):
            differ = (ranks[one]["seen"][view] != ranks[other]["seen"][view]).flatten(1).any(1)
            assert differ.all()


def test_the_loss_sends_the_matrix_and_the_statistics_once(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["bytes"] == (8 * (7 * 7 + 4 * 7 + 1), 0)


def test_the_first_process_chooses_the_precision(ranks: list[dict[str, Any]]) -> None:
    expected = train("pretrain", "joint", make_batches("uneven shares", 0, 1, len(ranks)), make_network())
    for rank in ranks:
        assert rank["precision"]["name"] == "float32"
        # The trial has left no trace.
        for name, value in expected.items():
            torch.testing.assert_close(rank["precision"]["weights"][name], value, rtol=1e-8, atol=1e-10, msg=name)
