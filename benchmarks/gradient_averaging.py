# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Compare ways to average gradients over processes: equality of the weights, bytes sent, and seconds.

Prints Markdown: ``python -m benchmarks.gradient_averaging > benchmarks/results/gradient_averaging.md``. With
``--differences`` it prints the second part of that page: how far the weights differ, in float32 and float64. A
difference from rounding shrinks with the precision; a difference from a fault does not.

All ways train the same network on the same images in real gloo processes, and take turns with one iteration each. The
time of an iteration is the time of the slowest process. The collectives of batch norms and of the loss are equal in all
ways, so only the bytes of gradients are counted.

- Hooks of our own: each gradient is sent in buckets as soon as it is computed. This package worked this way earlier.
- DDP, one for the network: all forwards and the loss of an optimizer step are the ``forward`` of one module, in
  ``DistributedDataParallel`` with ``find_unused_parameters=True``.
- DDP, one for each kind of step: ``monai_fgssl.networks.distributed.GradientAverage``. This package works this way now.
"""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from monai.engines.utils import IterationEvents
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from monai_fgssl.engines import PreTrainer
from monai_fgssl.networks import HierarchicalNet, distribute

from . import traffic
from .timing import command, processor
from .traffic import count_buckets, counted_wrappers

OWN, WHOLE, SPLIT = "hooks of our own", "DDP, one for the network", "DDP, one for each kind of step"
BUCKET_BYTES = 8 * 2**20
SMALLEST = 1e-3
"""Smallest value that a difference is a share of. The bias of a batch norm before a linear layer and another batch norm
has no effect on the loss, so it stays 0 but for rounding errors. These must not be compared with each other."""


class OwnHooks:
    """Send gradients in buckets as soon as they are computed, and wait for them when the backward has ended."""

    def __init__(self, trainer: PreTrainer) -> None:
        self.bytes = 0
        self.bucket: list[Tensor] = []
        self.sent: list[tuple[dist.Work, Tensor, list[Tensor]]] = []
        for parameter in trainer.module.parameters():
            parameter.register_post_accumulate_grad_hook(self.collect)
        trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.finish)

    def collect(self, parameter: Tensor) -> None:
        """Add the gradient of a parameter to the bucket."""
        self.bucket.append(parameter)
        if sum(p.numel() * p.element_size() for p in self.bucket) >= BUCKET_BYTES:
            self.send()

    def send(self) -> None:
        """Send the gradients of the bucket."""
        grads = torch.cat([p.grad.flatten() for p in self.bucket if p.grad is not None]).div_(dist.get_world_size())
        self.bytes += grads.nbytes
        work = dist.all_reduce(grads, async_op=True)
        assert work is not None
        self.sent.append((work, grads, self.bucket))
        self.bucket = []

    def finish(self) -> None:
        """Wait for all gradients that were sent."""
        if self.bucket:
            self.send()
        for work, grads, parameters in self.sent:
            work.wait()
            for parameter, grad in zip(parameters, grads.split([p.numel() for p in parameters]), strict=True):
                assert parameter.grad is not None
                parameter.grad.copy_(grad.view(parameter.shape))
        self.sent = []


class Parameters(nn.Module):
    """Module with given parameters, whose ``forward`` is a given function."""

    def __init__(self, parameters: Sequence[nn.Parameter], function: Callable[..., Any]) -> None:
        super().__init__()
        self.held = nn.ParameterList(parameters)
        self.function = function

    def forward(self, *args: Any) -> Any:
        """Call the function."""
        return self.function(*args)


def passed(loss: Tensor, kind: Hashable) -> Tensor:
    """Return a loss without a change."""
    return loss


def make_trainer(
    args: argparse.Namespace, schedule: str, way: str, sent: list[int] | None, dtype: torch.dtype = torch.float32
) -> PreTrainer:
    torch.manual_seed(0)
    network: nn.Module = HierarchicalNet(args.backbone, width=args.width, embedding_dim=args.features).to(dtype)
    # The trainer gives images in float32.
    first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, inputs: (inputs[0].to(dtype),))
    network = distribute(network)
    generator = torch.Generator().manual_seed(dist.get_rank())
    size = (args.batch_size, 3, args.image_size, args.image_size)
    images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    trainer = traffic.make_trainer(network, images, optimizer, args.grids, schedule)
    if way == OWN:
        trainer._average = passed  # type: ignore[assignment]
        own = OwnHooks(trainer)
        if sent is not None:
            trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, lambda: sent.append(own.bytes))
    elif way == WHOLE:
        trainer._average = passed  # type: ignore[assignment]
        wrapper = DistributedDataParallel(
            Parameters(list(network.parameters()), trainer._group_loss), find_unused_parameters=True
        )
        trainer._group_loss = wrapper  # type: ignore[method-assign]
        if sent is not None:
            count_buckets(wrapper, sent)
    return trainer


def iterate(trainer: PreTrainer, iterations: int) -> None:
    for _ in range(iterations):
        trainer.state.max_epochs = trainer.state.epoch + 1
        trainer.run()


def time_iteration(trainer: PreTrainer, iterations: int) -> tuple[float, float]:
    """Measure seconds of an iteration on the slowest process, and the sum of seconds of computing in all processes."""
    dist.barrier()
    start, computed = time.perf_counter(), time.process_time()
    iterate(trainer, iterations)
    seconds = torch.tensor((time.perf_counter() - start) / iterations)
    computing = torch.tensor((time.process_time() - computed) / iterations)
    dist.all_reduce(seconds, dist.ReduceOp.MAX)
    dist.all_reduce(computing)
    return seconds.item(), computing.item()


def measure(args: argparse.Namespace, schedule: str) -> Any:
    """Measure in one of several processes: bytes sent by each way, seconds of all rounds, differences of weights."""
    # This number of iterations contains each kind of step once.
    iterations = 4 if schedule == "alternating" else 1
    sent = {}
    for way in args.ways:
        counted: list[int] = []
        with counted_wrappers(counted):
            iterate(make_trainer(args, schedule, way, counted), iterations)
        # The last count of our own hooks is a sum already.
        sent[way] = counted[-1] if way == OWN else sum(counted)
        if way == WHOLE:
            # Each backward also sends the map of used parameters: an integer for each parameter.
            groups = len(args.grids) + 1 if schedule == "progressive" else iterations
            sent[way] += 4 * groups * len(list(HierarchicalNet(args.backbone).parameters()))
        sent[way] //= iterations
    trainers = {way: make_trainer(args, schedule, way, None) for way in args.ways}
    for trainer in trainers.values():
        iterate(trainer, 2 * iterations)
    rounds = [{way: time_iteration(trainers[way], iterations) for way in args.ways} for _ in range(args.repeats)]
    states = {way: trainer.module.state_dict() for way, trainer in trainers.items()}
    differences = {way: largest_difference(state, states[args.ways[0]]) for way, state in states.items()}
    return sent, rounds, differences


def largest_difference(state: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> float:
    """Return the largest difference of any weight or statistic, as a share of the largest value of its tensor."""
    return max(
        ((value - reference[name]).abs().max() / reference[name].abs().max().clamp_min(SMALLEST)).item()
        for name, value in state.items()
        if value.is_floating_point()
    )


def measure_differences(args: argparse.Namespace, schedule: str, dtype: torch.dtype) -> dict[str, list[float]]:
    """Compare each way's weights with those of the first way, after each of ``args.iterations``."""
    states: dict[str, list[dict[str, Tensor]]] = {}
    for way in args.ways:
        trainer, done = make_trainer(args, schedule, way, None, dtype), 0
        states[way] = []
        for iterations in args.iterations:
            iterate(trainer, iterations - done)
            done = iterations
            states[way].append({name: value.clone() for name, value in trainer.module.state_dict().items()})
    return {way: list(map(largest_difference, states[way], states[args.ways[0]])) for way in args.ways}


def print_differences(args: argparse.Namespace) -> None:
    counts = [f"after {count}" for count in args.iterations]
    print(f"| processes | schedule | precision | way | {' | '.join(counts)} |")
    print(f"| ---: | --- | --- | --- |{' ---: |' * len(counts)}")
    for processes in args.processes:
        for schedule in args.schedules:
            for dtype in (torch.float32, torch.float64):
                found = traffic.run_processes(measure_differences, (args, schedule, dtype), processes, "fork")
                for way in args.ways[1:]:
                    shares = " | ".join(f"{share:.0e}" for share in found[way])
                    print(f"| {processes} | {schedule} | {str(dtype)[6:]} | {way} | {shares} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--schedules", nargs="+", default=["alternating", "joint", "progressive"])
    parser.add_argument("--ways", nargs="+", default=[OWN, WHOLE, SPLIT])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--features", type=int, default=128)
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=16, help="images for each process")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--differences", action="store_true", help="print only the differences of the weights")
    parser.add_argument("--iterations", type=int, nargs="+", default=[1, 4], help="for --differences, ascending")
    args = parser.parse_args()
    args.grids = [4, 2, 1]

    print("# Averaging gradients over processes\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {processor()}; torch {torch.__version__}, 1 thread for each process  ")
    print(f"Date: {datetime.date.today()}\n")
    if args.differences:
        sizes = f"{args.image_size} px, {args.batch_size} images for each process"
        print(f"{args.backbone}, {sizes}, gloo. Largest difference")
        print(
            f'from the weights and statistics of "{args.ways[0]}" after so many iterations, as a share of the largest'
        )
        print(f"value of the tensor, or of {SMALLEST:g} if that is larger.\n")
        print_differences(args)
        return
    print(
        f"{args.backbone}, {args.image_size} px, {args.batch_size} images for each process, gloo. MB are those of the"
    )
    print("gradients that a process hands to the group in an iteration. Seconds of an iteration: median of")
    print(f"{args.repeats} rounds in which all take turns; the ratio is the median of the rounds' ratios to the first")
    print("row, with the lowest and the highest. Computing is that of all processes together: what else the machine")
    print("does changes it less. The difference is the largest one of any weight or statistic after all iterations, as")
    print(f"a share of the largest value of its tensor, or of {SMALLEST:g} if that is larger.\n")
    print("| processes | schedule | way | MB | s | ratio | computing, s | ratio | difference |")
    print("| ---: | --- | --- | ---: | ---: | --- | ---: | --- | ---: |")
    for processes in args.processes:
        for schedule in args.schedules:
            # Processes are forked, so that they need not import everything again. Nothing has been computed yet.
            sent, rounds, differences = traffic.run_processes(measure, (args, schedule), processes, "fork")
            for way in args.ways:
                columns = []
                for kind in range(2):
                    ratios = sorted(r[way][kind] / r[args.ways[0]][kind] for r in rounds)
                    columns.append(
                        f"{median(r[way][kind] for r in rounds):.2f} | "
                        f"{median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
                    )
                print(
                    f"| {processes} | {schedule} | {way} | {sent[way] / 1e6:.1f} | {' | '.join(columns)} "
                    f"| {differences[way]:.0e} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
