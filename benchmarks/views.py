# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Compare the time of the views of a batch, and of their parts, with a plain copy of the same bytes.

Prints Markdown: ``python -m benchmarks.views > benchmarks/results/views.md``.
"""

from __future__ import annotations

import argparse
import datetime
import os
from functools import partial

import torch

from monai_fgssl.functional import DISTORTED, REGULARIZED, ViewSettings, random_view

from .timing import command, milliseconds, processor

VIEWS = {
    "**regularized view**": REGULARIZED,
    "**distorted view**": DISTORTED,
    "flips and transpositions (of half the images)": ViewSettings(flip_prob=0.5, transpose_prob=0.5),
    "crop and rotation (all)": ViewSettings(crop_scale=(0.5, 1.0), rotate_prob=1.0, rotate_range=20.0),
    "brightness, contrast, saturation (all)": ViewSettings(
        jitter_prob=1.0, brightness=0.3, contrast=0.3, saturation=0.2
    ),
    "blur (all)": ViewSettings(blur_prob=1.0, blur_sigma=(0.1, 1.0)),
    "solarisation (all)": ViewSettings(solarize_prob=1.0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--image_sizes", type=int, nargs="+", default=[64, 224])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    columns = [(size, threads) for size in args.image_sizes for threads in args.threads]

    batches = {size: torch.rand(args.batch_size, 3, size, size) for size in args.image_sizes}
    copies = {(size, threads): milliseconds(batches[size].clone, threads) for size, threads in columns}

    print("# Views: time per image\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {processor()}; torch {torch.__version__}; load before the run {os.getloadavg()[0]:.1f}  ")
    print(f"Date: {datetime.date.today()}\n")
    print(
        f"Batches of {args.batch_size} RGB images in float32; each image and run has its own random draw. Milliseconds"
    )
    print("per image, fastest of the runs in 1 s; in brackets, the time divided by that of `images.clone()`.\n")
    print("| | " + " | ".join(f"{size} px, {threads} thread(s)" for size, threads in columns) + " |")
    print("|" + " --- |" * (len(columns) + 1))
    print("| plain copy | " + " | ".join(f"{copies[column] / args.batch_size:.4f}" for column in columns) + " |")
    for name, settings in VIEWS.items():
        cells = []
        for size, threads in columns:
            time = milliseconds(partial(random_view, batches[size], settings), threads)
            cells.append(f"{time / args.batch_size:.4f} ({time / copies[size, threads]:.0f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
