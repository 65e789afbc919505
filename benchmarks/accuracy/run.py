# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure the accuracy of FG-SSL and of other methods: make the runs that are missing.

    python -m benchmarks.accuracy run --data_dir DIR --question a --data_sets isic2018 aptos2019 --seeds 0 1 2
    python -m benchmarks.accuracy run --data_dir DIR --pretrainings fgssl none --fine_tunings progressive plain \
        --budgets 0.1 --set grids=[8,4,2] distorted_view#grayscale_prob=0

DIR has a folder in the official layout for each data set (``isic2018``, ``isic2017``, ``aptos2019``). The first form
makes the runs of questions. If methods or budgets are given, it makes only their runs. The second form makes every
combination of its arguments. ``--dry_run`` only lists the runs.

Every finished run is a file in ``benchmarks/accuracy/new_runs``. ``python -m benchmarks.accuracy collect`` adds such
files to the table of runs. A run in the folder or the table is never made again. All runs that differ only in
fine-tuning share a pre-training. A pre-training that was stopped continues from there. ``--processes`` share the work:
on a CPU, use one process with ``--threads 1`` for each core; on a GPU, use as many as keep it busy. More processes may
join with the same ``--work_dir``.
``python -m benchmarks.accuracy report`` makes the page.

VICReg and SimSiam are pre-trained with lightly, which needs torchvision. If lightly has a separate environment, make
their kNN runs there (``--pretrainings vicreg simsiam --fine_tunings knn``), and the other fine-tunings anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import date
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from scipy.special import softmax

from monai_fgssl.bundle import SettingsError
from monai_fgssl.data import DataError

from ..timing import processor
from . import PACKAGE
from .claims import claim
from .methods import FINE_TUNINGS, FORMER_PARTS, PRETRAININGS, Run, configure, describe, needed_modules
from .protocol import DATA_SETS, SPLITS, make_split, split_file
from .questions import QUESTIONS, SCALES
from .scoring import measure
from .store import NEW_RUNS, PROBABILITIES, TABLE, load_table, read_run, write_run
from .training import Place, Result, finish, pretrain

HERE = Path(__file__).resolve().parent
# Seconds per image on 2 cores at 64 px, by phase and network. Estimates use them until there are measured runs.
GUESSES = {
    ("pretrain", "hierarchical"): 0.029,
    ("pretrain", "plain"): 0.012,
    ("fine-tune", "progressive"): 0.017,
    ("fine-tune", "plain"): 0.0045,
}
PROBE_SECONDS = 40.0
SECONDS_TO_WAIT = 20.0
"""Seconds before runs of other processes are tried again, when no other run is left."""
# Approximate number of images of each training part, for estimates only.
SIZES = {"isic2018": 4190, "isic2017": 1600, "aptos2019": 2050}


def machine(device: str) -> str:
    """Name of the processor."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name()
    return f"{processor()}, {torch.get_num_threads()} thread(s)"


def commit() -> str:
    """Commit of the repository, followed by ``+`` if the code has changed since; "" outside of git."""

    def git(*words: str) -> str:
        try:
            return subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, text=True).stdout.strip()
        except FileNotFoundError:
            return ""

    code = [str(HERE.parents[1] / name) for name in ("monai_fgssl", "bundles")]
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *code, *map(str, HERE.glob("*.py")))
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def is_there(module: str) -> bool:
    """True if a module can be imported."""
    try:
        import_module(module)
    except Exception:
        return False
    return True


def record(run: Run, result: Result, device: str) -> dict[str, Any]:
    """Content of the file of a run. It has no names of images: probabilities follow the order of the split file."""
    scores: dict[str, Any] = {}
    for part, logits in result.logits.items():
        # Metrics are measured after rounding, so that the probabilities in the file give the metrics in the file.
        kept = np.round(1e4 * softmax(logits / result.temperature, axis=1)).astype(int)
        values = measure(kept / 1e4, result.labels[part], DATA_SETS[run.data_set].class_names)
        scores[part] = {name: _rounded(value.item()) for name, value in values.items()}
        if part == "test":
            test_prob = kept.tolist()
    return {
        "name": run.name(),
        "run": {name: value for name, value in vars(run).items() if name != "settings"} | {"settings": run.changes()},
        "settings": {
            "pretrain": describe(run.pretraining, "pretrain", run.settings) if run.pretraining != "none" else None,
            "fine-tune": describe(run.fine_tuning, "fine-tune", run.settings),
        },
        "commit": commit(),
        "date": date.today().isoformat(),
        "machine": machine(device),
        "versions": {"torch": torch.__version__, "monai": monai.__version__},
        "seconds": {phase: round(values["seconds"], 1) for phase, values in result.phases.items()},
        "images": {phase: values["images"] for phase, values in result.phases.items()},
        "details": result.details,
        "temperature": _rounded(result.temperature),
        "metrics": scores,
        "history": {phase: _rounded_series(values["history"]) for phase, values in result.phases.items()},
        PROBABILITIES: test_prob,
    }


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if np.isfinite(value) else None


def _rounded_series(history: dict[str, list[tuple[int, float]]]) -> dict[str, list[list[float | None]]]:
    return {name: [[epoch, _rounded(value)] for epoch, value in series] for name, series in history.items()}


def estimate(run: Run, done: Sequence[dict[str, Any]], pretrained: bool) -> float:
    """Estimate the seconds of a run from similar runs on such a machine, else from :data:`GUESSES`."""
    parser = configure(FINE_TUNINGS[run.fine_tuning], run.changes())
    size = (parser.get_parsed_content("image_size") / 64) ** 2
    seconds = PROBE_SECONDS * size
    if run.fine_tuning in ("progressive", "plain"):
        images = parser.get_parsed_content("max_epochs") * SIZES[run.data_set] * run.budget**0.5
        rate = _rate(done, "fine-tune", "fine_tuning", run.fine_tuning)
        seconds = images * (GUESSES["fine-tune", run.fine_tuning] * size if rate is None else rate)
    if run.pretraining != "none" and not pretrained:
        images = configure(PRETRAININGS[run.pretraining], run.changes()).get_parsed_content("pretrain_epochs")
        images *= SIZES[run.source]
        rate = _rate(done, "pretrain", "pretraining", run.pretraining)
        network = "hierarchical" if run.pretraining in ("fgssl", "hierarchy") else "plain"
        seconds += images * (GUESSES["pretrain", network] * size if rate is None else rate)
    return seconds


def _rate(done: Sequence[dict[str, Any]], phase: str, kind: str, name: str) -> float | None:
    """Median seconds per image of the runs of one kind."""
    rates = [
        content["seconds"][phase] / content["images"][phase]
        for content in done
        if content["run"][kind] == name and content["images"].get(phase)
    ]
    return float(np.median(rates)) if rates else None


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """Read words ``name=value`` as values by name. A value that is not valid JSON is text."""
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise SettingsError(f"--set {word}: write name=value.")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def wanted_runs(arguments: argparse.Namespace) -> list[Run]:
    """List the runs that the command line asks for, each once, the most decisive first."""
    settings = parse_settings(arguments.set)
    runs: list[Run] = []
    if arguments.question:
        for letter in arguments.question:
            runs += QUESTIONS[letter].runs(arguments.data_sets, arguments.seeds, arguments.scale)
        for field, chosen in (
            ("pretraining", arguments.pretrainings),
            ("fine_tuning", arguments.fine_tunings),
            ("budget", arguments.budgets),
        ):
            runs = [run.but(settings) for run in runs if not chosen or getattr(run, field) in chosen]
    else:
        names = ("transfer", "pretrain_on", "split", "select_on", "pretrain_seed")
        common = {name: getattr(arguments, name) for name in names}
        for seed, data_set, budget, pretraining, fine_tuning in product(
            arguments.seeds,
            arguments.data_sets,
            arguments.budgets or [1.0],
            arguments.pretrainings or ["fgssl"],
            arguments.fine_tunings or ["progressive"],
        ):
            run = Run(data_set, pretraining, fine_tuning, seed, budget, **common)
            runs.append(run.but(settings))
    return list({run.name(): run for run in runs}.values())


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        f"python -m {PACKAGE} run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", type=Path, required=True, help="folder that has a folder for each data set")
    parser.add_argument(
        "--work_dir", type=Path, default=Path("accuracy_runs"), help="folder for decoded images and pre-trained weights"
    )
    parser.add_argument("--runs_dir", type=Path, default=NEW_RUNS, help="folder for the files of new runs")
    parser.add_argument(
        "--table_dir", type=Path, default=TABLE, help="folder of the table of runs; runs in the table are not repeated"
    )
    parser.add_argument("--splits_dir", type=Path, default=SPLITS)
    parser.add_argument("--make_splits", action="store_true", help="make the split files that are missing, and stop")
    parser.add_argument("--question", nargs="+", choices=list(QUESTIONS), default=[])
    parser.add_argument(
        "--scale", choices=list(SCALES), default="small", help="size of a question; all but small need a GPU"
    )
    parser.add_argument("--data_sets", nargs="+", choices=list(DATA_SETS), default=["isic2018", "aptos2019"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--pretrain_seed", type=int, help="seed of a single pre-training for all seeds (a question has its own rule)"
    )
    parser.add_argument("--pretrainings", nargs="+", choices=list(PRETRAININGS))
    parser.add_argument("--fine_tunings", nargs="+", choices=list(FINE_TUNINGS))
    parser.add_argument("--budgets", type=float, nargs="+", help="shares of the training labels")
    parser.add_argument("--transfer", choices=("all", "backbone"), default="all")
    parser.add_argument(
        "--pretrain_on", choices=["", *DATA_SETS], default="", help="data set of the pre-training, if it is another one"
    )
    parser.add_argument("--split", choices=("grouped", "random"), default="grouped")
    parser.add_argument("--select_on", choices=("validation", "test"), default="validation")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings of the bundle, any id")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="number of threads of PyTorch; by default its own choice")
    parser.add_argument("--processes", type=int, default=1, help="number of processes that share the work")
    parser.add_argument("--dry_run", action="store_true", help="list the runs and about how long they take")
    return parser


def main(words: Sequence[str]) -> None:
    """Make the missing runs."""
    arguments = make_parser().parse_args(words)
    if arguments.processes > 1 and not arguments.dry_run:
        sys.exit(share(words, arguments.processes, arguments.threads))
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    try:
        if arguments.make_splits:
            for name in arguments.data_sets:
                if not split_file(name, "random", arguments.splits_dir).is_file():
                    make_split(arguments.data_dir, name, arguments.splits_dir)
            return
        make_runs(arguments)
    except (DataError, SettingsError) as error:
        sys.exit(f"error: {error}")


def share(words: Sequence[str], processes: int, threads: int | None) -> int:
    """Run a command line in several processes, and stop them when this one is stopped.

    Args:
        words: the command line.
        processes: number of processes.
        threads: number of threads of each process, also for libraries that read it from the environment.

    Returns:
        The exit status: 0 when all processes have finished.
    """
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    command = [sys.executable, "-m", PACKAGE, "run", *words, "--processes", "1"]
    children: list[subprocess.Popen[bytes]] = []

    def stop(*_: object) -> None:
        for child in children:
            child.terminate()

    # Set this before the first process starts, so that a signal never leaves a process running.
    signal.signal(signal.SIGTERM, stop)
    for _ in range(processes):
        children.append(subprocess.Popen(command, env=environment))
    while True:
        try:
            return max(abs(child.wait()) for child in children)
        except KeyboardInterrupt:
            # The terminal has interrupted the children too: wait until they have written their checkpoints.
            continue


def make_runs(arguments: argparse.Namespace) -> None:
    """Make the runs that are missing, or list them."""
    runs = wanted_runs(arguments)
    done = list(load_table(arguments.table_dir).runs.values())
    done += [read_run(file)[0] for file in sorted(arguments.runs_dir.glob("*.json"))]
    there = {content["name"] for content in done}
    missing = [run for run in runs if run.name() not in there]
    for run in missing:
        for part in run.former_parts():
            raise SettingsError(
                f"{part} is no longer part of the benchmark: use {FORMER_PARTS[part]}, or make the run at the commit "
                "that `show` names for runs like it."
            )
    place = Place(arguments.data_dir, arguments.work_dir.resolve(), arguments.device, arguments.splits_dir)
    known = {file.stem for file in (place.work_dir / "pretrained").glob("*.pt")}
    # Weights that another environment has pre-trained can be fine-tuned in this one.
    needs = {run: needed_modules(run, run.pretrained_name() in known) for run in missing}
    lacking = {module for modules in needs.values() for module in modules if not is_there(module)}
    left_out = [run for run in missing if lacking.intersection(needs[run])]
    missing = [run for run in missing if run not in left_out]
    if left_out:
        names = ", ".join(sorted({run.pretraining for run in left_out}))
        print(
            f"{len(left_out)} runs ({names}) are left out: {', '.join(sorted(lacking))} can't be imported. Lightly "
            "needs torchvision: pip install lightly in an environment of its own."
        )
    print(f"{len(runs)} runs, {len(runs) - len(missing)} of them there or left out, {len(missing)} to make")
    here = machine(place.device)
    done = [content for content in done if content["machine"] == here]
    total = 0.0
    for number, run in enumerate(missing, 1):
        seconds = estimate(run, done, run.pretraining == "none" or run.pretrained_name() in known)
        known.add(run.pretrained_name())
        total += seconds
        print(f"{number}/{len(missing)} {run.name()}: about {seconds / 60:.1f} min, {total / 3600:.1f} h until then")
    if not arguments.dry_run:
        work_off(missing, place, arguments.runs_dir)


def work_off(runs: Sequence[Run], place: Place, folder: Path) -> None:
    """Make runs while other processes do the same. A run that another process works on is tried again later."""
    waiting = list(runs)
    while waiting:
        left = [run for run in waiting if not make(run, place, folder)]
        if len(left) == len(waiting):
            time.sleep(SECONDS_TO_WAIT)
        waiting = left


def make(run: Run, place: Place, folder: Path) -> bool:
    """Make a run if it does not exist yet; return False if another process is making the run or its pre-training."""
    with claim(place.work_dir / "claims" / run.name()) as mine:
        if not mine:
            return False
        if (folder / f"{run.name()}.json").is_file():
            return True
        start = time.time()
        with claim(place.work_dir / "claims" / run.pretrained_name()) as free:
            if not free:
                return False
            print(f"{time.strftime('%H:%M:%S')} {run.name()}", flush=True)
            pretrained = pretrain(run, place)
        result = finish(run, pretrained, place)
        content = record(run, result, place.device)
        write_run(content, folder)
        scores = content["metrics"]["validation"]
        shown = ", ".join(f"{name} {scores[name]:.3f}" for name in DATA_SETS[run.data_set].metrics)
        print(f"  {time.time() - start:.0f} s, validation part: {shown}", flush=True)
    return True
