# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Compare the time of the pre-training loop with its step on one batch, and measure its memory as the data set grows.

Prints Markdown: ``python -m benchmarks.loop > benchmarks/results/loop.md``.

The loop takes its batches from images in memory or on disk. The step gets the same batch again and again. They take
turns with one iteration each. Every row is measured in a separate process.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.data.store.image_store import make_store
from monai_fgssl.engines import PreTrainer
from monai_fgssl.losses import CrossCorrelationLoss
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.networks.precision import move
from monai_fgssl.transforms import RandDistortedView, RandRegularizedView

from .timing import command, machine, module


def fill(store: Tensor) -> None:
    """Fill a store with random images one after the other, as decoding does."""
    generator = torch.Generator().manual_seed(0)
    for image in store:
        image.random_(0, 256, generator=generator)


def anonymous_memory() -> float:
    """Memory of this process without mapped files, in MiB. The system can't free this memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def make_trainer(args: argparse.Namespace, batches: Any) -> PreTrainer:
    """Make the trainer of the default pre-training, without an end, whose epoch is one iteration."""
    torch.manual_seed(0)
    network = HierarchicalNet(args.backbone, width=128, embedding_dim=128)
    move(network, args.device, torch.channels_last)
    return PreTrainer(
        device=torch.device(args.device),
        max_epochs=1,
        epoch_length=1,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.AdamW(network.parameters(), fused=True),
        loss_function=CrossCorrelationLoss(),
        grids=[4, 2, 1],
        regularized_view=RandRegularizedView().batch,
        distorted_view=RandDistortedView().batch,
        amp=True,
        amp_kwargs={"dtype": torch.bfloat16},
        to_kwargs={"memory_format": torch.channels_last},
    )


def endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


def iterate(trainer: PreTrainer, device: str) -> float:
    start = time.perf_counter()
    trainer.state.max_epochs = trainer.state.epoch + 1
    trainer.run()
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(args: argparse.Namespace, num_images: int, file: Path | None) -> dict[str, Any]:
    """Measure one row of the table."""
    torch.set_num_threads(args.threads)
    store = make_store((num_images, 3, args.image_size, args.image_size), fill, file)
    images = CachedImages(store, torch.zeros(num_images), ["n"] * num_images, ["g"] * num_images)
    loader = make_loader(images, args.batch_size, shuffle=True, drop_last=True)
    trainers = make_trainer(args, endless(loader)), make_trainer(args, endless([next(iter(loader))]))
    for trainer in trainers:
        iterate(trainer, args.device)
    pairs = [[iterate(trainer, args.device) for trainer in trainers] for _ in range(args.repeats)]
    ratios = sorted(fixed / loop for loop, fixed in pairs)
    return {
        "megabytes": store.nbytes / 2**20,
        "images_per_second": args.batch_size / median(loop for loop, _ in pairs),
        "ratios": [median(ratios), ratios[len(ratios) // 10], ratios[-1 - len(ratios) // 10]],
        "memory": anonymous_memory(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--images", type=int, default=4000, help="number of images in the smallest data set")
    parser.add_argument("--factors", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        num_images, file = args.measure
        print(json.dumps(measure(args, int(num_images), Path(file) if file else None)))
        return

    print("# The loop of pre-training against its step\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {machine(args.device)}; torch {torch.__version__}, {args.threads} threads  ")
    print(f"Date: {datetime.date.today()}\n")
    print(
        f"{args.backbone}, {args.image_size} px, batch {args.batch_size}, views and puzzles included. The ratio is the"
    )
    print(f"loop's images/s divided by those of the same step on one batch in memory: median of {args.repeats}")
    print("pairs, with the 10th and the 90th percentile. Memory is that of the process without files (RssAnon).\n")
    print("| images | where | MiB | images/s | ratio | memory, MiB |")
    print("| ---: | --- | ---: | ---: | --- | ---: |")
    for factor in args.factors:
        for kind in ("memory", "disk"):
            with tempfile.TemporaryDirectory(dir=".") as folder:
                file = str(Path(folder) / "images") if kind == "disk" else ""
                count = factor * args.images
                words = [sys.executable, "-m", module(), *sys.argv[1:], "--measure", str(count), file]
                row = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
            ratio, low, high = row["ratios"]
            print(
                f"| {count} | {kind} | {row['megabytes']:.0f} | {row['images_per_second']:.1f} | "
                f"{ratio:.3f} [{low:.3f}, {high:.3f}] | {row['memory']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
