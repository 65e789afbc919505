# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Run the bundle's default run on synthetic lesions with many seeds, and compare it with other settings.

    python -m benchmarks.synthetic --seeds 0 1 2 3 4 5 6 7 8 9

Every run is the command of the README with other settings, in a separate process. A run is skipped if its `result.json`
exists already. Fine-tunings share the weights of their pre-training.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from scipy import stats

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.utils.files import atomic_write

RESULTS = Path(__file__).parent / "results"
# The color changes of the regularized view, used for the distorted view too.
SAME_COLORS = {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "grayscale_prob": 0.0}
SLOW_BACKBONE = "$@network_def.parameter_groups(0.1 * @learning_rate, @learning_rate, @weight_decay)"
PROGRESSIVE = ["--schedule", "progressive", "--puzzles", "true", "--max_epochs", "15"]
NONE, DEFAULT = "random weights", "default"

FORMER = ["--label_fraction", "0.1", "--seeds", "1", "--pretrain_epochs", "40", "--max_epochs", "60"]
FORMER += ["--fine_tuning", "full"]
"""Earlier defaults, which the results were measured with. Today's default command has fewer labels, more seeds, and a
probe beside the fine-tuned network."""

PRETRAININGS: dict[str, list[str]] = {
    "160 epochs": ["--pretrain_epochs", "160"],
    DEFAULT: [],
    "progressive, as many passes": ["--pretrain_schedule", "progressive", "--pretrain_epochs", "10"],
    "colors hardly distorted": [f"--distorted_view#{name}={value}" for name, value in SAME_COLORS.items()],
    NONE: ["--pretrain_epochs", "0"],
}
"""Options of each pre-training by name, the longest first."""

FINE_TUNINGS: dict[str, list[str]] = {
    DEFAULT: [],
    "backbone at a tenth of the learning rate": ["--train#optimizer#params", SLOW_BACKBONE],
    "15 epochs": ["--max_epochs", "15"],
    "progressive with puzzles, as many passes": PROGRESSIVE,
    "half the labels, as many steps": ["--label_fraction", "0.05", "--max_epochs", "180"],
    "twice the labels, as many steps": ["--label_fraction", "0.2", "--max_epochs", "26"],
}
"""Options of each fine-tuning by name."""
AFTER = {DEFAULT: list(FINE_TUNINGS), "160 epochs": [DEFAULT, "half the labels, as many steps"]}
"""Fine-tunings by pre-training. Other pre-trainings have only the default fine-tuning."""
SAME_RANDOM = {"backbone at a tenth of the learning rate": DEFAULT}
"""Fine-tunings that would slow random weights down, each with the fine-tuning that random weights get instead."""


def machine() -> str:
    """Device and versions for the page of results."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return f"{device}, torch {torch.__version__}, monai {monai.__version__}"


@dataclass(frozen=True)
class Run:
    """One command.

    Attributes:
        pretraining: key of :data:`PRETRAININGS`.
        fine_tuning: key of :data:`FINE_TUNINGS`.
        seed: seed of lesions, split, labels, weights, order, puzzles and views.
    """

    pretraining: str
    fine_tuning: str
    seed: int

    def folder(self, work_dir: Path) -> Path:
        """Folder of the results of this run."""
        words = (self.pretraining, self.fine_tuning, str(self.seed))
        return work_dir.joinpath(*(word.replace(" ", "_").replace(",", "") for word in words)).resolve()

    def make(self, work_dir: Path) -> None:
        """Make this run if its results do not exist yet."""
        folder = self.folder(work_dir)
        if (folder / "result.json").is_file():
            return
        folder.mkdir(parents=True, exist_ok=True)
        options = ["--seed", str(self.seed), "--compare", "false", *FORMER, *FINE_TUNINGS[self.fine_tuning]]
        if self.fine_tuning == DEFAULT or self.pretraining == NONE:
            options += PRETRAININGS[self.pretraining]
        else:
            before = Run(self.pretraining, DEFAULT, self.seed).folder(work_dir)
            options += ["--pretrained", str(before / "pretrained.pt"), "--pretrain_epochs", "0"]
        places = {
            "--config_file": shipped_bundle("fgssl") / "configs" / "train.json",
            "--output_dir": folder,
            "--model_path": folder / "model.pt",
            "--synthetic_dir": work_dir.resolve() / f"lesions_{self.seed}",
        }
        command = [sys.executable, "-m", "monai.bundle", "run", *map(str, chain(*places.items())), *options]
        with (folder / "log.txt").open("w") as log:
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode:
                raise SystemExit(f"error: {shlex.join(command)} failed, see {log.name}")
        result = json.loads((folder / "metrics.json").read_text()) | {"machine": machine()}
        with atomic_write(folder / "result.json") as temporary:
            temporary.write_text(json.dumps(result))
        print(f"{time.strftime('%H:%M:%S')} {self.pretraining}, {self.fine_tuning}, seed {self.seed}", flush=True)

    def result(self, work_dir: Path) -> dict[str, Any]:
        """Content of the file ``result.json`` of this run."""
        return json.loads((self.folder(work_dir) / "result.json").read_text())

    def score(self, work_dir: Path, metric: str) -> float:
        """Value of a metric on the test part."""
        (scores,) = self.result(work_dir)["methods"].values()
        return float(scores[metric]["value"])


def fine_tunings(pretraining: str) -> list[str]:
    """Names of the fine-tunings that follow a pre-training."""
    if pretraining == NONE:
        return [name for name in FINE_TUNINGS if name not in SAME_RANDOM]
    return AFTER.get(pretraining, [DEFAULT])


def chains(pretrainings: Iterable[str], seeds: Iterable[int]) -> list[list[Run]]:
    """Groups of runs that must follow each other: a pre-training and its fine-tunings."""
    return [
        [Run(pretraining, name, seed) for name in fine_tunings(pretraining)]
        for pretraining in PRETRAININGS
        if pretraining in pretrainings
        for seed in seeds
    ]


def interval(values: Sequence[float]) -> str:
    """Mean with its 95 % interval by Student's t, as text."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:+.3f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"


def report(runs: Sequence[Run], work_dir: Path, command: str) -> str:
    """Return the results as a Markdown page."""
    seeds = sorted({run.seed for run in runs})
    machines = sorted({run.result(work_dir)["machine"] for run in runs})
    lines = [
        "# Synthetic lesions: the default run and other choices, over many seeds\n",
        f"`{command}`, {time.strftime('%Y-%m-%d')}; runs on {'; '.join(machines)}.\n",
        "FG-SSL against the same network fine-tuned from random weights with the same labels and as many steps, on "
        f"the test parts of {len(seeds)} seeds. A seed draws lesions, split, labels, weights, order, puzzles and views "
        "anew. "
        "Macro F1: mean and, in brackets, standard deviation over the seeds. Difference: mean with its 95 % interval "
        "over the seeds (Student's t), and its lowest and highest value. The interval of a single run's report is "
        "over test images only: it knows nothing of what another seed would give.\n",
        "| pre-training | fine-tuning | macro F1 FG-SSL | macro F1 random weights | difference | lowest to highest | "
        "AUC difference |",
        "| --- " * 7 + "|",
    ]
    for pretraining, fine_tuning in dict.fromkeys((run.pretraining, run.fine_tuning) for run in runs):
        if pretraining == NONE:
            continue
        reference = SAME_RANDOM.get(fine_tuning, fine_tuning)
        scores = {
            metric: [
                [
                    run.score(work_dir, metric)
                    for run in (Run(pretraining, fine_tuning, seed), Run(NONE, reference, seed))
                ]
                for seed in seeds
            ]
            for metric in ("macro_f1", "macro_auc")
        }
        differences = {metric: [ours - random for ours, random in pairs] for metric, pairs in scores.items()}
        ours, random = (f"{np.mean(s):.3f} ({np.std(s):.3f})" for s in zip(*scores["macro_f1"], strict=True))
        lowest, highest = (f"{extreme(differences['macro_f1']):+.3f}" for extreme in (min, max))
        lines.append(
            f"| {pretraining} | {fine_tuning} | {ours} | {random} | {interval(differences['macro_f1'])} | "
            f"{lowest} to {highest} | {interval(differences['macro_auc'])} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make all runs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--pretrainings", nargs="+", choices=list(PRETRAININGS), default=list(PRETRAININGS))
    parser.add_argument("--work_dir", type=Path, default=Path("synthetic_runs"), help="folder where the runs are kept")
    parser.add_argument(
        "--processes", type=int, default=1, help="number of runs at the same time; on a CPU, give each one thread"
    )
    arguments = parser.parse_args()
    groups = chains([*arguments.pretrainings, NONE], arguments.seeds)

    def make(group: list[Run]) -> None:
        for run in group:
            run.make(arguments.work_dir)

    with ThreadPoolExecutor(arguments.processes) as pool:
        list(pool.map(make, groups))
    words = ["python", "-m", "benchmarks.synthetic", "--seeds", *map(str, arguments.seeds)]
    if set(arguments.pretrainings) != set(PRETRAININGS):
        words += ["--pretrainings", *arguments.pretrainings]
    command = shlex.join(words)
    page = report(list(chain(*groups)), arguments.work_dir, command)
    with atomic_write(RESULTS / "synthetic.md") as temporary:
        temporary.write_text(page)


if __name__ == "__main__":
    main()
