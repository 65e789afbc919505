# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Time a pre-training iteration: the authors' scheme, each part of our scheme, and the lower limit.

Prints Markdown: ``python -m benchmarks.pretrain > benchmarks/results/pretrain.md``.

All variants see the same images and take turns, so that other work of the machine slows them equally. The authors'
scheme is implemented from the paper: every step computes the whole network for both views, in float32, and a loop cuts
the puzzles.
"""

from __future__ import annotations

import argparse
import datetime
import os
import resource
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from monai_fgssl.engines import PreTrainer
from monai_fgssl.engines.pretrainer import Views
from monai_fgssl.losses import CrossCorrelationLoss
from monai_fgssl.networks import HierarchicalNet, make_backbone
from monai_fgssl.networks.precision import move
from monai_fgssl.transforms import RandDistortedView, RandRegularizedView

from .jigsaw import loop_per_image
from .timing import command, machine

AUTHORS_WIDTH, FEATURES = 1024, 512


class AuthorsTrainer(PreTrainer):
    """Pre-trainer of the authors' scheme: every step computes the whole network for both views."""

    def step_loss(self, step: int, inputs: Views, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """See the base class."""
        regularized = inputs.regularized
        if step < self.num_steps:
            grid = self.grids[step - 1]
            assert isinstance(grid, int)
            regularized = loop_per_image(regularized, grid)
        features, other = (self.network.stage_vectors(view)[:, step - 1] for view in (regularized, inputs.distorted))
        return features, self.loss_function(features, other)


def make_variant(args: argparse.Namespace, name: str) -> Callable[[], None]:
    """Return a function that runs one iteration. The name lists the differences from the authors' scheme."""
    parts = [part.strip() for part in name.split("+")]
    torch.manual_seed(0)
    width = args.narrow_width if "narrow block" in parts else AUTHORS_WIDTH
    network = HierarchicalNet(args.backbone, width=width, embedding_dim=FEATURES)
    network.to(args.device)
    if "channels_last" in parts:
        move(network, args.device, torch.channels_last)
    if "compile" in parts:
        network.compile()
    optimizer = torch.optim.AdamW(network.parameters(), fused="fused AdamW" in parts)
    trainer = (AuthorsTrainer if "authors' scheme" in parts else PreTrainer)(
        device=torch.device(args.device),
        max_epochs=0,
        train_data_loader=[{"image": args.images}],
        network=network,
        optimizer=optimizer,
        loss_function=CrossCorrelationLoss(),
        grids=args.grids,
        regularized_view=RandRegularizedView().batch,
        distorted_view=RandDistortedView().batch,
        schedule="joint" if "joint" in parts else "progressive",
        amp="bfloat16" in parts,
        amp_kwargs={"dtype": torch.bfloat16},
        to_kwargs={"memory_format": torch.channels_last} if "channels_last" in parts else None,
    )

    def iterate() -> None:
        trainer.state.max_epochs = trainer.state.epoch + 1
        trainer.run()

    return iterate


def make_limit(args: argparse.Namespace) -> Callable[[], None]:
    """Return a function that runs the plain backbone as fast as possible: eight forwards and backwards of one batch."""
    torch.manual_seed(0)
    network = make_backbone(args.backbone)
    move(network, args.device, torch.channels_last)
    images = args.images.to(args.device, memory_format=torch.channels_last).float() / 255

    def iterate() -> None:
        for _ in range(2 * (len(args.grids) + 1)):
            with torch.autocast(torch.device(args.device).type, dtype=torch.bfloat16):
                loss = network(images)[-1].float().square().mean()
            network.zero_grad(set_to_none=True)
            loss.backward()

    return iterate


VARIANTS = (
    "authors' scheme",
    "early exit",
    "early exit + channels_last",
    "early exit + channels_last + bfloat16",
    "early exit + channels_last + bfloat16 + fused AdamW",
    "early exit + channels_last + bfloat16 + fused AdamW + compile",
    "early exit + channels_last + bfloat16 + fused AdamW + narrow block",
    "early exit + channels_last + bfloat16 + fused AdamW + narrow block + joint",
)
LIMIT = "backbone alone, 8 forwards and backwards, channels_last + bfloat16"


def floating_point_operations(function: Callable[[], None]) -> int:
    """Count the floating-point operations of one call, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def timed(function: Callable[[], None], device: str) -> float:
    start = time.perf_counter()
    function()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser of the options that define the iteration."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--grids", type=int, nargs="+", default=[32, 16, 8])
    parser.add_argument("--narrow_width", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=5)
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, set the number of threads, and draw the images of the iteration."""
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    size = (args.batch_size, 3, args.image_size, args.image_size)
    args.images = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return args


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    args = parse(parser)
    load = os.getloadavg()[0]

    functions = {name: make_variant(args, name) for name in args.variants}
    functions[LIMIT] = make_limit(args)
    flops: dict[str, int] = {}
    for name, function in functions.items():
        function()
        flops[name] = 0 if "compile" in name else floating_point_operations(function)
    rounds: list[dict[str, float]] = []
    for _ in range(args.repeats):
        rounds.append({name: timed(function, args.device) for name, function in functions.items()})

    print("# One iteration of pre-training\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {machine(args.device)}; torch {torch.__version__}, {args.threads} threads; load before ", end="")
    print(f"the run {load:.1f}  ")
    print(f"Date: {datetime.date.today()}\n")
    print(f"{args.backbone}, {args.image_size} px, batch {args.batch_size}, grids {args.grids}, blocks {AUTHORS_WIDTH}")
    print(f"wide (narrow: {args.narrow_width}). Median of {args.repeats} rounds in which all take turns; the speed-up")
    print("is the median of the rounds' ratios to the first row, with the lowest and the highest.\n")
    print("| variant | s | speed-up | images/s | TFLOP | TFLOP/s |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    first = args.variants[0]
    for name in functions:
        seconds = median(r[name] for r in rounds)
        ratios = sorted(r[first] / r[name] for r in rounds)
        work = f"{flops[name] / 1e12:.2f} | {flops[name] / 1e12 / seconds:.2f}" if flops[name] else "|"
        print(
            f"| {name} | {seconds:.2f} | {median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}] | "
            f"{args.batch_size / seconds:.2f} | {work} |"
        )
    print(f"\nPeak memory of the process: {peak_memory(args.device):.1f} GiB.")


def peak_memory(device: str) -> float:
    """Peak memory of all variants together, in GiB."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.max_memory_allocated()) / 2**30
    # The system reports kibibytes on Linux and bytes on macOS.
    unit: Any = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


if __name__ == "__main__":
    main()
