# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Time a pre-training iteration beside another busy program, with OpenMP threads that spin or sleep while they wait.

Prints Markdown: ``python -m benchmarks.busy_cores > benchmarks/results/busy_cores.md``, on an idle machine.

OpenMP reads its settings when torch is loaded, so each measurement is a process of its own. The settings take turns.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import torch

from .pretrain import make_parser, make_variant, parse
from .timing import command, machine

WAITING = {"default": {}, "passive": {"OMP_WAIT_POLICY": "passive"}, "one thread": {"OMP_NUM_THREADS": "1"}}
"""Environment variables of each way to wait."""

OTHERS = {
    "none": "",
    "one core": "while True: pass",
    "all cores": "import torch\nmatrix = torch.rand(1500, 1500)\nwhile True: matrix @ matrix",
}
"""Python source of the program that runs beside the iteration."""

VARIANT = "early exit + narrow block + joint"


@contextmanager
def beside(source: str) -> Iterator[None]:
    """Run a Python program in the background."""
    if not source:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", source]) as process:
        try:
            time.sleep(3)  # until it computes
            yield
        finally:
            process.kill()


def main() -> None:
    parser = make_parser(__doc__)
    parser.set_defaults(backbone="resnet18", image_size=64, batch_size=32, grids=[8, 4, 2], repeats=3)
    parser.add_argument("--seconds", type=float, default=6.0, help="duration of one measurement")
    parser.add_argument("--child", action="store_true", help="print images/s of one measurement: for this program only")
    args = parse(parser)
    if args.child:
        print(images_per_second(args))
        return

    load = os.getloadavg()[0]
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(args.repeats):
        for other, source in OTHERS.items():
            for waiting, variables in WAITING.items():
                environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
                with beside(source):
                    child = subprocess.run(
                        [sys.executable, "-m", "benchmarks.busy_cores", "--child", *sys.argv[1:]]
                        + (["--threads", "1"] if waiting == "one thread" else []),
                        env=environment | variables,
                        capture_output=True,
                        text=True,
                        check=True,
                    )
                rates.setdefault((other, waiting), []).append(float(child.stdout.split()[-1]))

    print("# Pre-training beside another busy program\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {machine('cpu')}; torch {torch.__version__}, {args.threads} threads; load before ", end="")
    print(f"the run {load:.1f}  ")
    print(f"Date: {datetime.date.today()}\n")
    print(
        f"{args.backbone}, {args.image_size} px, batch {args.batch_size}, float32. Images/s, median of {args.repeats}"
    )
    print("processes of each kind that take turns; in brackets the lowest and the highest. `passive` is the value of")
    print("`OMP_WAIT_POLICY`: threads sleep while they wait. By default they compute for some milliseconds first.\n")
    print(f"| other program uses | {' | '.join(WAITING)} | passive / default |")
    print("| --- " * (len(WAITING) + 2) + "|")
    for other in OTHERS:
        cells = [rates[other, waiting] for waiting in WAITING]
        ratio = median(rates[other, "passive"]) / median(rates[other, "default"])
        texts = [f"{median(values):.0f} [{min(values):.0f}, {max(values):.0f}]" for values in cells]
        print(f"| {other} | {' | '.join(texts)} | {ratio:.2f} |")


def images_per_second(args: argparse.Namespace) -> float:
    """Run iterations for some seconds, and return the rate."""
    iterate = make_variant(args, VARIANT)
    iterate()
    start, number = time.perf_counter(), 0
    while time.perf_counter() - start < args.seconds:
        iterate()
        number += 1
    return number * args.batch_size / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
