# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The bundle's default run, clocked, over several seeds; and with the first seed what two of its choices do.

    python benchmarks/synthetic.py --seeds 0 1 2

Every run is the command that the README prints, in a process of its own. A run whose `metrics.json` is there already
is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import monai
import torch

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.data.atomic import atomic_write

RESULTS = Path(__file__).parent / "results"
# The colour changes of the regularised view, also in the distorted one.
SAME_COLOURS = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "grayscale_prob": 0.0}
# As many passes through the network as the default.
PROGRESSIVE = ["--pretrain_schedule", "progressive", "--pretrain_epochs", "10"]
PROGRESSIVE += ["--schedule", "progressive", "--puzzles", "true", "--max_epochs", "15"]
VARIANTS: dict[str, list[str]] = {
    "default": [],
    "colours hardly distorted": [f"--distorted_view#{name}={value}" for name, value in SAME_COLOURS.items()],
    "progressive": PROGRESSIVE,
}


def run(seed: int, options: list[str], folder: Path) -> dict[str, Any]:
    """Make one run, and return its `metrics.json` with the wall-clock time and the load of the machine before it."""
    config = shipped_bundle("fgssl") / "configs" / "train.json"
    load = os.getloadavg()[0]
    start = time.time()
    settings = ["--config_file", str(config), "--output_dir", str(folder), "--model_path", str(folder / "model.pt")]
    command = [sys.executable, "-m", "monai.bundle", "run", *settings, "--seed", str(seed), *options]
    subprocess.run(command, check=True)
    result = json.loads((folder / "metrics.json").read_text())
    return result | {"minutes": (time.time() - start) / 60, "load": load}


def cell(interval: dict[str, float], signed: bool = False) -> str:
    """A value with its interval."""
    form = "{:+.3f} [{:+.3f}, {:+.3f}]" if signed else "{:.3f} [{:.3f}, {:.3f}]"
    return form.format(interval["value"], interval["low"], interval["high"])


def report(results: list[tuple[str, int, dict[str, Any]]]) -> str:
    """The results as a Markdown page."""
    seeds = " ".join(str(seed) for seed in sorted({seed for _, seed, _ in results}))
    lines = [
        "# The default run, on synthetic lesions\n",
        f"`python benchmarks/synthetic.py --seeds {seeds}`, "
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, monai {monai.__version__}.\n",
        "FG-SSL against the same fine-tuning from random weights, on the same test images, with 95 % intervals by "
        "bootstrap over lesions. A seed draws lesions, split, labels, weights, order, puzzles and views anew. kNN is "
        "the accuracy on the validation part at the end of pre-training (chance: 0.143). Minutes are those of the "
        "whole command, data and comparison included; load is that of the machine just before it. Progressive: an "
        "optimizer step for each stage with every batch and puzzles in both phases, as in the paper, with as many "
        f"passes through the network (`{' '.join(PROGRESSIVE)}`).\n",
        "| variant | seed | macro F1 FG-SSL | macro F1 random | difference | AUC difference | kNN | minutes | load |",
        "| --- " * 9 + "|",
    ]
    for variant, seed, result in results:
        methods, difference = result["methods"], result["differences"]["FG-SSL - random weights"]
        _, knn = result["history"]["pre-train"]["knn_accuracy"][-1]
        lines.append(
            f"| {variant} | {seed} | {cell(methods['FG-SSL']['macro_f1'])} | "
            f"{cell(methods['random weights']['macro_f1'])} | {cell(difference['macro_f1'], signed=True)} | "
            f"{cell(difference['macro_auc'], signed=True)} | {knn:.3f} | "
            f"{result['minutes']:.1f} | {result['load']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make all runs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work_dir", default="synthetic_runs", help="where the runs are kept")
    arguments = parser.parse_args()
    runs = [("default", seed) for seed in arguments.seeds]
    runs += [(variant, arguments.seeds[0]) for variant in VARIANTS if variant != "default"]
    results = []
    for variant, seed in runs:
        folder = (Path(arguments.work_dir) / f"{variant.replace(' ', '_')}_{seed}").resolve()
        file = folder / "result.json"
        if not file.is_file():
            result = run(seed, VARIANTS[variant], folder)
            with atomic_write(file) as temporary:
                temporary.write_text(json.dumps(result))
        results.append((variant, seed, json.loads(file.read_text())))
        with atomic_write(RESULTS / "synthetic.md") as temporary:
            temporary.write_text(report(results))


if __name__ == "__main__":
    main()
