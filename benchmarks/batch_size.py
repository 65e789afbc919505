# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure the images per second of pre-training for several batch sizes.

Prints Markdown and draws a plot: ``python -m benchmarks.batch_size --plot benchmarks/results/batch_size.png``.

Four variants take turns at every batch size: the step of the authors' scheme, our step, our step as recommended, and
the bare backbone as the limit. On a GPU, for ResNet-50: ``--device cuda --backbone resnet50 --image_size 224 --grids 32
16 8 --peak_tflops P``. P is the peak rate of the card for bfloat16 matrices; with it the page shows the used share.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import os
from statistics import median

import torch
from matplotlib.figure import Figure

from monai_fgssl.report.style import COLORS, save_figure, style

from .pretrain import LIMIT, floating_point_operations, make_limit, make_variant, peak_memory, timed
from .timing import command, machine

FAST = "early exit + channels_last + bfloat16 + fused AdamW"
VARIANTS = {
    "authors' scheme": "authors' scheme",
    "ours, same mathematics": FAST,
    "ours, narrow block, joint": f"{FAST} + narrow block + joint",
    "backbone alone": LIMIT,
}


def measure(args: argparse.Namespace, batch_size: int) -> dict[str, tuple[float, float]]:
    """Measure images/s (median of the rounds) and TFLOP/s of each variant."""
    size = (batch_size, 3, args.image_size, args.image_size)
    args.images = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    functions = {
        label: make_limit(args) if name == LIMIT else make_variant(args, name) for label, name in VARIANTS.items()
    }
    # The calls that count operations also warm up.
    work = {label: floating_point_operations(function) for label, function in functions.items()}
    rounds = [{label: timed(f, args.device) for label, f in functions.items()} for _ in range(args.repeats)]
    seconds = {label: median(r[label] for r in rounds) for label in functions}
    return {label: (batch_size / s, work[label] / s / 1e12) for label, s in seconds.items()}


def draw(args: argparse.Namespace, rates: dict[int, dict[str, tuple[float, float]]]) -> None:
    """Draw all variants on one plot."""
    with style():
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for label, color in zip(VARIANTS, COLORS, strict=False):
            axes.plot(list(rates), [row[label][0] for row in rates.values()], marker="o", color=color, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(rates), [str(batch_size) for batch_size in rates])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("batch size")
        axes.set_ylabel("images/s")
        figure.legend(loc="outside upper center", ncols=2)
        save_figure(figure, args.plot)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512])
    parser.add_argument("--grids", type=int, nargs="+", default=[4, 2, 1])
    parser.add_argument("--narrow_width", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak_tflops", type=float, help="peak rate of the device in bfloat16, in TFLOP/s")
    parser.add_argument("--plot", help="PNG file for the plot")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rates = {}
    for batch_size in args.batch_sizes:
        rates[batch_size] = measure(args, batch_size)
        gc.collect()
    if args.plot:
        draw(args, rates)

    print("# Pre-training against the batch size\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {machine(args.device)}; torch {torch.__version__}, {args.threads} threads  ")
    print(f"Date: {datetime.date.today()}\n")
    print(f"{args.backbone}, {args.image_size} px, grids {args.grids}, narrow blocks {args.narrow_width} wide. Medians")
    print(f"of {args.repeats} rounds in which all take turns. An image makes eight passes (joint: five).\n")
    print("| batch | " + " | ".join(f"{label}, images/s" for label in VARIANTS) + " |")
    print("| ---: " * (len(VARIANTS) + 1) + "|")
    for batch_size, row in rates.items():
        print(f"| {batch_size} | " + " | ".join(f"{row[label][0]:.1f}" for label in VARIANTS) + " |")
    share = f", and its share of {args.peak_tflops:g}" if args.peak_tflops else ""
    print(f"\nTFLOP/s, forward and backward as they are counted{share}:\n")
    print("| batch | " + " | ".join(VARIANTS) + " |")
    print("| ---: " * (len(VARIANTS) + 1) + "|")
    for batch_size, row in rates.items():
        cells = (f"{r:.2f}" + (f" ({r / args.peak_tflops:.0%})" if args.peak_tflops else "") for _, r in row.values())
        print(f"| {batch_size} | " + " | ".join(cells) + " |")
    print(f"\nPeak memory of all variants together: {peak_memory(args.device):.1f} GiB.")


if __name__ == "__main__":
    main()
