# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Compare the time of the batched jigsaw puzzle with loops over tiles and with plain copies of the same bytes.

Prints Markdown: ``python -m benchmarks.jigsaw > benchmarks/results/jigsaw.md``.
"""

from __future__ import annotations

import argparse
import datetime
import random
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from monai_fgssl.functional import jigsaw, random_permutations

from .timing import command, milliseconds, processor


def swap_tiles(images: Tensor, grid: int) -> None:
    """Swap every tile with the top left tile in random order, as PMG does. All ``images`` share one order."""
    height, width = (size // grid for size in images.shape[2:])
    places = [(row, column) for row in range(grid) for column in range(grid)]
    random.shuffle(places)
    for row, column in places:
        top, left = row * height, column * width
        kept = images[..., :height, :width].clone()
        images[..., :height, :width] = images[..., top : top + height, left : left + width].clone()
        images[..., top : top + height, left : left + width] = kept


def loop_per_image(images: Tensor, grid: int) -> Tensor:
    """Make puzzles with the loop of FG-SSL: each image has its own order."""
    puzzles = images.clone()
    for image in puzzles.split(1):
        swap_tiles(image, grid)
    return puzzles


def loop_per_batch(images: Tensor, grid: int) -> Tensor:
    """Make puzzles with the loop of PMG: all images share one order, which is less work."""
    puzzles = images.clone()
    swap_tiles(puzzles, grid)
    return puzzles


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--grids", type=int, nargs="+", default=[32, 16, 8, 4, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2, help="how long to repeat each measurement")
    args = parser.parse_args()

    def time(function: Callable[..., object], *arguments: object, **keywords: object) -> float:
        return milliseconds(partial(function, *arguments, **keywords), args.threads, args.seconds)

    images = torch.rand(args.batch_size, 3, args.image_size, args.image_size)
    buffer = torch.empty_like(images)
    clone, copy = time(images.clone), time(buffer.copy_, images)

    print("# Jigsaw puzzles: time per batch\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {processor()}; torch {torch.__version__}; {args.threads} thread(s)  ")
    print(f"Date: {datetime.date.today()}\n")
    print(f"Batch {tuple(images.shape)} of float32, {images.nbytes / 1e6:.1f} MB.")
    print(f"Milliseconds per batch, the fastest of the runs in {args.seconds:g} s.\n")
    print(f"A plain copy takes **{clone:.1f}** ms into new memory (`images.clone()`) and")
    print(f"**{copy:.1f}** ms into existing memory (`buffer.copy_(images)`).")
    print("Compare `jigsaw(images, grid)` with the first and `jigsaw(images, grid, out=buffer)` with the second.")
    print("The loops return new memory too.\n")
    print("| grid | tile | loop, order per image | loop, one order | `jigsaw` | loop / it | it / copy ", end="")
    print("| `jigsaw(out=)` | loop / it | it / copy |")
    print("|" + " ---: |" * 10)
    for grid in args.grids:
        loop = time(loop_per_image, images, grid)
        loop_for_all = time(loop_per_batch, images, grid)
        new = time(jigsaw, images, grid)
        reused = time(jigsaw, images, grid, out=buffer)
        print(f"| {grid} | {args.image_size // grid} px | {loop:.1f} | {loop_for_all:.1f} ", end="")
        print(f"| **{new:.1f}** | {loop / new:.1f} | {new / clone:.1f} ", end="")
        print(f"| **{reused:.1f}** | {loop / reused:.1f} | {reused / copy:.1f} |")

    grid = args.grids[0]
    row = args.image_size // grid
    num_rows = images.numel() // row
    shuffled = jigsaw(torch.arange(images.numel()).view_as(images) // row, grid)[..., ::row].flatten()
    sixteenth = images[: len(images) // 16].clone()

    def move_rows(source: Tensor, index: Tensor) -> Tensor:
        target = buffer.view(-1)[: source.numel()].view(1, -1, row)
        return torch.index_select(source.view(1, -1, row), 1, index, out=target)

    draw = time(random_permutations, len(images), grid**2)
    rows = time(move_rows, images, shuffled)
    ordered = time(move_rows, images, torch.arange(num_rows))
    cached = time(move_rows, sixteenth, shuffled[: sixteenth.numel() // row]) * 16
    print(f"\n## What bounds grid {grid}\n")
    print(
        f"{num_rows:,} rows of {4 * row} bytes each move. Without `out=`, the system must provide new memory: this adds"
    )
    print(f"{clone - copy:.1f} ms, the difference between the two copies.\n")
    print("| into existing memory | ms |")
    print("| --- | ---: |")
    print(f"| draw the permutations: sort {len(images) * grid**2:,} random numbers by sample | {draw:.1f} |")
    print(f"| move the rows, one `torch.index_select` | {rows:.1f} |")
    print(f"| the same rows in their old order | {ordered:.1f} |")
    print(f"| the same, shuffled, a sixteenth of the batch 16 times, which the cache holds | {cached:.1f} |")
    print(
        "\nSo scattered reads bound the shuffling: the batch is larger than the cache, and each read waits for memory."
    )


if __name__ == "__main__":
    main()
