# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Time ``monai-fgssl probe`` from files to report, and its parts.

    python -m benchmarks.probe --dataset_dir DIR > benchmarks/results/probe.md

Without ``--dataset_dir`` the benchmark draws 6,000 JPEG files in 7 classes. All words after ``--`` are passed to the
command.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .timing import command, processor

NUM_IMAGES, NUM_CLASSES = 6000, 7
GOAL_SECONDS = 90
PARTS = {
    "features": r"features of \d+ images in ([\d.]+) s",
    "classifier": r"classifier solved on .* in ([\d.]+) s",
}


def draw(folder: Path) -> None:
    """Write smooth random pictures whose colors depend slightly on the class."""
    rng = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        label = number % NUM_CLASSES
        coarse = rng.integers(0, 236, (28, 28, 3), np.uint8)
        coarse[..., label % 3] += 3 * label
        path = folder / f"class_{label}" / f"{number:05d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(coarse).resize((224, 224), Image.Resampling.BICUBIC).save(path, quality=92)


def measure(dataset_dir: Path, threads: int, settings: Sequence[str]) -> dict[str, float | str]:
    """Run the command in an empty folder; return seconds of wall clock, processors, and parts of the command."""
    with tempfile.TemporaryDirectory() as folder:
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        ran = subprocess.run(
            [sys.executable, "-m", "monai_fgssl", "probe", str(dataset_dir.resolve()), "--device", "cpu", *settings],
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
            check=False,
        )
        wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    found: dict[str, float | str] = {
        "whole command": wall,
        "processor time": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }
    for name, pattern in PARTS.items():
        match = re.search(pattern, ran.stdout)
        assert match is not None, ran.stdout
        found[name] = float(match[1])
    images = re.search(r"^(\d+) images in", ran.stdout, re.MULTILINE)
    table = re.search(r"│ linear probe +│(.*)│", ran.stdout)
    assert images is not None
    assert table is not None
    found["images"] = images[1]
    found["metrics"] = " · ".join(cell.strip() for cell in table[1].split("│"))
    return found


def main() -> None:
    """Measure, and print a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset_dir", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("settings", nargs="*", help="settings of the command, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as drawn:
        if arguments.dataset_dir is None:
            draw(Path(drawn))
        source = arguments.dataset_dir or Path(drawn)
        load = os.getloadavg()[0]
        runs = [measure(source, arguments.threads, arguments.settings) for _ in range(arguments.repeats)]
    best = min(runs, key=lambda run: float(run["whole command"]))
    print("# Time of a linear probe\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {processor()}, {arguments.threads} threads  ")
    busy = f"{load:.1f} processes wanted a core before, {os.getloadavg()[0]:.1f} after"
    print(f"Load of the machine: {busy} ({os.cpu_count()} cores)  ")
    print(f"Date: {datetime.date.today()}\n")
    print(f"{best['images']} images; the fastest of {len(runs)} run(s). Aim: {GOAL_SECONDS} s on 2 free cores.\n")
    print("| | seconds |\n| --- | --- |")
    for name in ("whole command", "features", "classifier", "processor time"):
        print(f"| {name} | {float(best[name]):.1f} |")
    print(
        "\nThe whole command includes Python's start, reading and decoding, near-duplicates, split, features, "
        "cross-validation, report and figures. Processor time is the sum over cores: other work on the machine makes "
        "the clock's seconds longer, and leaves it nearly as it is.\n"
    )
    print(f"Test part (accuracy, balanced accuracy, macro F1, macro AUC): {best['metrics']}")


if __name__ == "__main__":
    main()
