# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Calculate the speed of pre-training on many GPUs, and compare the bytes with those that two real processes send.

Prints Markdown: ``python -m benchmarks.scaling --plot benchmarks/results/scaling.png > benchmarks/results/scaling.md``.

Bytes and operations of an iteration are counted on the real network on the CPU. Rates are assumptions: they are
arguments of the command, and no GPU is measured.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from monai_fgssl.engines import PreTrainer
from monai_fgssl.networks import HierarchicalNet, distribute

from . import traffic
from .timing import command, processor
from .traffic import counted_wrappers

FLOAT = 4
BATCH = 2


@dataclass
class Iteration:
    """Cost of one iteration, which does not depend on the number of GPUs.

    Attributes:
        flops: operations for each image, forward and backward.
        gradients: bytes of the gradients that are averaged.
        norms: number of batch norms that all forwards pass through.
        channels: number of channels of these batch norms, added up.
        losses: number of losses, one for each step.
    """

    flops: float
    gradients: int
    norms: int
    channels: int
    losses: int


def make_trainer(args: argparse.Namespace, backbone: str, schedule: str, size: int, distributed: bool) -> PreTrainer:
    torch.manual_seed(0)
    network: nn.Module = HierarchicalNet(backbone, width=args.width, embedding_dim=args.features)
    images = torch.randint(0, 256, (BATCH, 3, size, size), dtype=torch.uint8)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    network = distribute(network) if distributed else network
    return traffic.make_trainer(network, images, optimizer, [8, 4, 2], schedule)


def count(args: argparse.Namespace, backbone: str, schedule: str) -> Iteration:
    """Run one iteration in one process, and count its cost."""
    trainer = make_trainer(args, backbone, schedule, args.image_size, distributed=False)
    gradients: list[int] = []
    channels: list[int] = []
    for module in trainer.network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_pre_hook(lambda norm, _: channels.append(norm.num_features))

    def count_gradients() -> None:
        gradients.extend(p.numel() for p in trainer.network.parameters() if p.grad is not None)

    trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, count_gradients)
    with FlopCounterMode(display=False) as counter:
        trainer.run()
    return Iteration(
        flops=counter.get_total_flops() / BATCH,
        gradients=FLOAT * sum(gradients),
        norms=len(channels),
        channels=sum(channels),
        losses=trainer.num_steps,
    )


def loss_bytes(args: argparse.Namespace, iteration: Iteration) -> int:
    """Bytes that a loss sends: matrix, means, variances and number of samples. The backward sends nothing."""
    return FLOAT * iteration.losses * (args.features**2 + 4 * args.features + 1)


def payload_on_cpus(args: argparse.Namespace, iteration: Iteration) -> int:
    """All bytes that a process on a CPU hands to the group.

    Batch norms add up moments in the forward, and two sums in the backward.
    """
    norms = FLOAT * (4 * iteration.channels + iteration.norms)
    return iteration.gradients + norms + loss_bytes(args, iteration)


def count_in_process(args: argparse.Namespace, backbone: str, schedule: str) -> int:
    """Bytes that this process hands to its group in one iteration."""
    sent: list[int] = []
    original = dist.all_reduce

    trainer = make_trainer(args, backbone, schedule, 64, distributed=True)

    def counted(tensor: Tensor, *arguments: Any, **kwargs: Any) -> Any:
        sent.append(tensor.numel() * tensor.element_size())
        return original(tensor, *arguments, **kwargs)

    dist.all_reduce = counted
    # The buckets of gradients go through all_reduce, which is counted already.
    with counted_wrappers([]):
        trainer.run()
    return sum(sent)


def count_in_two_processes(args: argparse.Namespace, backbone: str, schedule: str) -> int:
    """Bytes that one of two real gloo processes hands to the group in one iteration."""
    return int(traffic.run_processes(count_in_process, (args, backbone, schedule), 2, "spawn"))


@dataclass
class Prediction:
    """Seconds of one iteration, and bytes that one GPU sends in it."""

    compute: float
    gradients: float
    norms: float
    loss: float
    seconds: float
    efficiency: float


def predict(args: argparse.Namespace, iteration: Iteration, gpus: int) -> Prediction:
    """Predict an iteration with ring collectives.

    Gradients are sent while the backward computes. The GPU waits for all other collectives.
    """
    ring = 2 * (gpus - 1) / gpus
    within = gpus <= args.node_gpus
    bandwidth = 1e9 * (args.nvlink_gb if within else args.network_gb)
    latency = 1e-6 * args.latency_us * math.log2(gpus)
    gradients = ring * iteration.gradients
    # torch.nn.SyncBatchNorm gathers mean, deviation and count of all GPUs, and adds up two sums in the backward.
    norms = FLOAT * ((gpus - 1) * (2 * iteration.channels + iteration.norms) + ring * 2 * iteration.channels)
    loss = ring * loss_bytes(args, iteration)
    compute = args.batch_size * iteration.flops / (1e12 * args.tflops)
    # The backward has two thirds of the operations.
    hidden = 2 / 3 * compute
    waiting = (norms + loss) / bandwidth + latency * (2 * iteration.norms + 3 * iteration.losses)
    seconds = compute + waiting + max(0.0, gradients / bandwidth - hidden)
    return Prediction(compute, gradients, norms, loss, seconds, compute / seconds)


def print_gathering(args: argparse.Namespace, iterations: Iterable[Iteration]) -> None:
    """Print the bytes of the loss's matrix beside the bytes of the features that the matrix is computed from."""
    gpus = (2, *args.gpus)
    rows = []
    for count in gpus:
        matrix = 2 * (count - 1) / count * FLOAT * args.features**2
        rows.append([matrix, *((count - 1) * 2 * FLOAT * args.features * batch for batch in (16, 64))])
    savings = [
        iteration.losses * (row[0] - min(row)) / (2 * (count - 1) / count * iteration.gradients)
        for iteration in iterations
        for count, row in zip(gpus, rows, strict=True)
    ]
    print("\n## The loss: matrix or features\n")
    print(f"MB that a GPU sends for one loss of {args.features} features, by a ring: the {args.features} x")
    print(f"{args.features} matrix, or the vectors of both views, gathered. The features are less where the global")
    print(
        f"batch is below {args.features}. In the cases below that would save at most {100 * max(savings):.0f} % of what"
    )
    print("the gradients take, and the matrix stays the same for any batch, so it is always the matrix that is sent.\n")
    print("| GPUs | matrix | features, batch 16 each | features, batch 64 each |")
    print("| ---: | ---: | ---: | ---: |")
    for count, row in zip(gpus, rows, strict=True):
        print(f"| {count} | {' | '.join(f'{value / 1e6:.2f}' for value in row)} |")


def plot(path: str, curves: dict[str, list[tuple[int, float]]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(xscale="log", xlabel="GPUs", ylabel="efficiency (model)", ylim=(0, 1.02))
    axes.set_xticks([gpus for gpus, _ in points], [str(gpus) for gpus, _ in points])
    axes.minorticks_off()
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet18", "resnet50"])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=64, help="images for each GPU")
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--tflops", type=float, default=70, help="sustained rate of a GPU, in TFLOP/s")
    parser.add_argument("--node_gpus", type=int, default=8, help="number of GPUs of a node")
    parser.add_argument("--nvlink_gb", type=float, default=300, help="rate of a GPU within a node, in GB/s")
    parser.add_argument("--network_gb", type=float, default=40, help="rate of a GPU between nodes, in GB/s")
    parser.add_argument(
        "--latency_us", type=float, default=10, help="latency of a collective for each doubling of GPUs, in us"
    )
    parser.add_argument("--plot", help="file for the plot")
    args = parser.parse_args()
    torch.set_num_threads(1)

    print("# Pre-training on many GPUs: a model on paper\n")
    print("**Not a measurement.** Bytes and operations are counted from the real network; times follow from them and")
    print("from rates that are assumed. Nothing here was run on more than one machine, or on a GPU.\n")
    print(f"Command: `{command()}`  ")
    print(f"Counted on: {processor()}; torch {torch.__version__}  ")
    print(f"Date: {datetime.date.today()}\n")
    print(f"Assumed: {args.tflops:g} TFLOP/s sustained by a GPU (H100 class, bfloat16, bound by its memory),")
    print(f"{args.nvlink_gb:g} GB/s within a node of {args.node_gpus} GPUs and {args.network_gb:g} GB/s for each GPU")
    print(f"between nodes, {args.latency_us:g} us for a collective and doubling of the GPUs, ring collectives.")
    print("Gradients (float32) travel while the backward, two thirds of the computing, goes on; statistics of batch")
    print(f"norms and the loss make the GPU wait. {args.image_size} px, {args.batch_size} images for each GPU, blocks")
    print(f"{args.width} wide, {args.features} features. Efficiency is computing over all.")
    print("MB are those that a GPU sends in an iteration, ms those of the iteration.\n")
    print("| backbone, schedule | GPUs | computing, ms | gradients, MB | norms, MB | loss, MB | all, ms | efficiency |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    iterations = {
        (backbone, schedule): count(args, backbone, schedule)
        for backbone in args.backbones
        for schedule in ("progressive", "joint")
    }
    curves: dict[str, list[tuple[int, float]]] = {}
    for (backbone, schedule), iteration in iterations.items():
        for gpus in args.gpus:
            p = predict(args, iteration, gpus)
            sent = " | ".join(f"{value / 1e6:.1f}" for value in (p.gradients, p.norms, p.loss))
            print(
                f"| {backbone}, {schedule} | {gpus} | {1e3 * p.compute:.0f} | {sent} | {1e3 * p.seconds:.0f} | "
                f"{p.efficiency:.2f} |"
            )
            curves.setdefault(f"{backbone}, {schedule}", []).append((gpus, p.efficiency))
    print_gathering(args, iterations.values())
    print("\n## Check: bytes of two real processes\n")
    print("One iteration on two gloo processes of this machine's CPU, bytes that a process hands to all collectives,")
    print("against the same sum from the counts above (batch norms as on CPUs: moments are added up, not gathered).")
    print("Other ways to average gradients: `python -m benchmarks.gradient_averaging`.\n")
    print("| backbone, schedule | counted, bytes | model, bytes |")
    print("| --- | ---: | ---: |")
    for (backbone, schedule), iteration in iterations.items():
        counted = count_in_two_processes(args, backbone, schedule)
        print(f"| {backbone}, {schedule} | {counted:,} | {payload_on_cpus(args, iteration):,} |")
    if args.plot:
        plot(args.plot, curves)
        print(f"\n![Efficiency against GPUs]({os.path.basename(args.plot)})")


if __name__ == "__main__":
    main()
