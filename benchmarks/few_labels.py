# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Run the command of the README with many generator seeds, to see if its result holds for other lesions too.

    python -m benchmarks.few_labels --seeds 10 11 12 13 14 15 16 17 18 19

Each run is a separate process with default settings. Only `--seed` differs: it changes lesions, split, labels and
weights. A run is skipped if its `metrics.json` exists already. The defaults were chosen on the seeds from 100 up, and
the epochs of pre-training raised from 16 to 20 after runs of the seeds 0 to 9. None of these may be reported here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.utils.files import atomic_write

from .synthetic import RESULTS, interval, machine

WANTED = 0.10
"""Gain in macro F1 that a run should show."""
FIRST_SEED_OF_CHOICES = 100
SEEN = range(10)
"""Seeds after which the epochs of pre-training were raised."""
PAIRS = {
    "fine-tuned": ("FG-SSL", "random weights"),
    "linear probe": ("FG-SSL, linear probe", "random weights, linear probe"),
}
"""Pairs of methods that are compared, by the heading of the comparison."""
END_OF_PHASE = re.compile(r"^(.+) \d+/\d+: .*, took ([\d:]+)$", re.MULTILINE)
"""Pattern of the line that a phase prints at its end."""


def run(seed: int, work_dir: Path, options: Sequence[str]) -> dict[str, Any]:
    """Make one run if it does not exist yet, and return its results."""
    folder = work_dir.resolve() / f"seed_{seed}"
    result = folder / "result.json"
    if not result.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        config = shipped_bundle("fgssl") / "configs" / "train.json"
        places = ["--output_dir", str(folder / "output"), "--model_path", str(folder / "model.pt")]
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), "--seed", str(seed)]
        start, computed, load = time.perf_counter(), processor_seconds(), os.getloadavg()[0]
        log_file = folder / "log.txt"
        with log_file.open("w") as log:
            if subprocess.run([*command, *places, *options], stdout=log, stderr=subprocess.STDOUT).returncode:
                raise SystemExit(f"error: {shlex.join(command)} failed, see {log_file}")
        content = json.loads((folder / "output" / "metrics.json").read_text())
        content |= {"seconds": time.perf_counter() - start, "processor_seconds": processor_seconds() - computed}
        content |= {"load_before": load, "phases": phases(log_file.read_text()), "machine": machine()}
        with atomic_write(result) as temporary:
            temporary.write_text(json.dumps(content))
        print(f"{time.strftime('%H:%M:%S')} seed {seed}: {' '.join(content['conclusions'])}", flush=True)
    return json.loads(result.read_text())


def processor_seconds() -> float:
    """Seconds of computing so far, over all cores, by child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def phases(log: str) -> dict[str, float]:
    r"""Read the seconds of each phase from the text that a run has printed.

    Example:
        >>> phases("pre-train 16/16: loss 1.2, 412 images/s, took 1:05\n")
        {'pre-train': 65.0}
    """
    found = {}
    for title, clock in END_OF_PHASE.findall(log):
        found[title] = float(sum(int(part) * 60**power for power, part in enumerate(reversed(clock.split(":")))))
    return found


def times(runs: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Lines of a Markdown table with the time of each phase and the total time of each run."""
    columns = ["seed", "load before", "pre-training, s", "images/s", "fine-tuning, s", "all, s", "processor, s"]
    lines = ["## Time\n", f"| {' | '.join(columns)} |", "| ---: " * len(columns) + "|"]
    for seed, content in runs.items():
        seconds = content["phases"]
        pretraining = seconds["pre-train"]
        images = content["data"]["train"]["images"] * content["settings"]["pretrain_epochs"]
        others = sum(value for title, value in seconds.items() if title != "pre-train")
        lines.append(
            f"| {seed} | {content['load_before']:.1f} | {pretraining:.0f} | {images / max(pretraining, 1):.0f} "
            f"| {others:.0f} | {content['seconds']:.0f} | {content['processor_seconds']:.0f} |"
        )
    total = sorted(content["processor_seconds"] for content in runs.values())
    lines.append(
        "\nSeconds that passed depend on what else the machine does, which its load before each run tells. Those of "
        f"the processor are the run's alone, over all cores: {total[0]:.0f} to {total[-1]:.0f}. On two idle cores a "
        "run takes between half of them and all of them."
    )
    return lines


def wins(runs: Mapping[int, Mapping[str, Any]], pair: tuple[str, str]) -> int:
    """Count the runs whose gain in macro F1 is at least :data:`WANTED`, with an interval above 0."""
    gains = [content["differences"][" - ".join(pair)]["macro_f1"] for content in runs.values()]
    return sum(gain["value"] >= WANTED and gain["low"] > 0 for gain in gains)


def report(runs: Mapping[int, Mapping[str, Any]], command: str) -> str:
    """Return the results as a Markdown page."""
    first = next(iter(runs.values()))
    labels = [first["data"]["train"][f"class {name}"] for name in first["class_names"]]
    machines = sorted({content["machine"] for content in runs.values()})
    lines = [
        "# Few labels: the command of the README, over many seeds of the generator\n",
        f"`{command}`, {time.strftime('%Y-%m-%d')}; runs on {'; '.join(machines)}.\n",
        f"Each row is one run of the default command: {first['data']['train']['images']:,} training images, "
        f"{min(labels)} to {max(labels)} labels per class, one pre-training of "
        f"{first['settings']['pretrain_epochs']} epochs, {first['seeds']} fine-tunings from different seeds, the same "
        "from random weights, and a linear probe of the frozen network of both. Macro F1 on the test part "
        f"({first['num_test_images']} images), means over the fine-tunings; in brackets 95 % intervals over images and "
        f"seeds of the fine-tuning. The defaults were chosen on generator seeds from {FIRST_SEED_OF_CHOICES} up, "
        f"and the epochs of pre-training raised from 16 to 20 after runs of the seeds {SEEN[0]} to {SEEN[-1]}. The "
        "seeds below had no part in either.\n",
    ]
    for title, pair in PAIRS.items():
        lines += [f"## {title[0].upper()}{title[1:]}\n", f"| seed | {pair[0]} | {pair[1]} | difference |"]
        lines += ["| --- " * 4 + "|"]
        gains = []
        for seed, content in runs.items():
            ours, other = (content["methods"][name]["macro_f1"]["value"] for name in pair)
            gain = content["differences"][" - ".join(pair)]["macro_f1"]
            gains.append(gain["value"])
            bounds = f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
            lines.append(f"| {seed} | {ours:.3f} | {other:.3f} | {bounds} |")
        lines.append(
            f"\nA gain of {WANTED:.2f} or more with an interval above 0: {wins(runs, pair)} of {len(runs)} seeds. Mean "
            f"gain {interval(gains)} (95 % interval over the generator's seeds, Student's t).\n"
        )
    lines += times(runs)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make all runs and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10, 20)))
    parser.add_argument("--work_dir", type=Path, default=Path("few_labels_runs"), help="folder where the runs are kept")
    arguments, options = parser.parse_known_args()
    runs = {seed: run(seed, arguments.work_dir, options) for seed in arguments.seeds}
    command = shlex.join(["python", "-m", "benchmarks.few_labels", "--seeds", *map(str, arguments.seeds), *options])
    page = report(runs, command)
    # Trials of other settings are only printed, as are runs with seeds that settings were chosen on.
    if options or any(seed in SEEN or seed >= FIRST_SEED_OF_CHOICES for seed in arguments.seeds):
        print(page)
        return
    with atomic_write(RESULTS / "few_labels.md") as temporary:
        temporary.write_text(page)


if __name__ == "__main__":
    main()
