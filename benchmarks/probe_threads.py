# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Time a linear probe with one BLAS thread and with all of them, alone and beside another busy program.

Prints Markdown: ``python -m benchmarks.probe_threads > benchmarks/results/probe_threads.md``, on an idle machine.
"""

from __future__ import annotations

import argparse
import datetime
import os
import time
from statistics import median
from unittest.mock import patch

import torch

from monai_fgssl.metrics import probes

from .busy_cores import OTHERS, beside
from .timing import command, processor

SIZES = ((40, 512), (400, 512), (1000, 1024))
"""Images and features of a probe: few labels, a whole data set, and features of all stages."""
CLASSES = 7


def seconds(images: int, features: int, elements_for_threads: float) -> float:
    """Seconds to solve one probe, with several threads for matrices of at least ``elements_for_threads``."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % CLASSES
    centers = torch.randn(CLASSES, features, generator=generator)
    samples = 0.3 * centers[labels] + torch.randn(images, features, generator=generator)
    with patch.object(probes, "ELEMENTS_FOR_THREADS", elements_for_threads):
        start = time.perf_counter()
        probes.solve_linear_probe(samples, labels, [str(number) for number in range(images)], CLASSES)
        return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    print("# Threads of a linear probe\n")
    print(
        f"Command: `{command()}`  \nMachine: {processor()}; torch {torch.__version__}; load before the run {load:.1f}  "
    )
    print(f"Date: {datetime.date.today()}\n")
    print(f"Seconds of a cross-validated solution for {CLASSES} classes, median of {args.repeats} that take turns.")
    print(f"By default, one thread solves matrices of fewer than {probes.ELEMENTS_FOR_THREADS:,} numbers.\n")
    print("| images x features | other program uses | one thread | all threads | all / one |")
    print("| --- | --- | ---: | ---: | ---: |")
    for images, features in SIZES:
        for other, source in OTHERS.items():
            times: dict[float, list[float]] = {float("inf"): [], 0: []}
            with beside(source):
                for _ in range(args.repeats):
                    for limit, found in times.items():
                        found.append(seconds(images, features, limit))
            one, several = (median(found) for found in times.values())
            print(
                f"| {images:,} x {features:,} | {other} | {one:.2f} | {several:.2f} | {several / one:.1f} |", flush=True
            )


if __name__ == "__main__":
    main()
