# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Disturb a short training many times, and compare its final weights and predictions bit for bit.

Prints Markdown: ``python -m benchmarks.chaos > benchmarks/results/chaos.md``. Each fault is reported on stderr.

Faults, at random moments: SIGKILL, SIGTERM, SIGINT, a full disk, a read-only disk, a deleted file, a damaged file, a
clock that goes back. A full disk and a read-only disk need Linux and its administrator, because only the administrator
may mount a small disk. A run that is stopped must end with one line, without a traceback, and with the exit status of
its signal. The same command must then continue the run, and write results again that a fault has deleted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import runpy
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.utils.command import stop_quietly
from monai_fgssl.utils.files import LEFTOVER

from .faults import OF_A_DISK, any_file, damage, small_disk, spoiled
from .timing import command, processor

FAULTS = ("kill", "SIGTERM", "SIGINT", "full disk", "read-only disk", "deleted file", "damaged file", "clock")
SIGNALS = {"kill": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
FAULTS_IN_A_RUN = 12
"""Number of faults after which a training may end, so that several trainings are compared."""
SECONDS_UNTIL_HUNG = 600.0
MEGABYTES = 200

SETTINGS: dict[str, object] = {
    "synthetic_images": 140,
    "image_size": 32,
    "stages": [0, 1],
    "grids": [4, 2],
    "width": 8,
    "embedding_dim": 8,
    "pretrain_epochs": 2,
    "max_epochs": 3,
    "label_fraction": 1,
    "compare": False,
    "seeds": 1,
    # Every epoch prints a line.
    "progress_seconds": 0,
    # A checkpoint after each iteration, so that a fault can hit any file while it is written.
    "checkpoint_minutes": 0,
    "device": "cpu",
}
RESULTS = ("predictions.csv", "split.json")
"""Files that must have the same bytes at the end."""
RECORD = Path("models", "model.json")
"""File with the checksum of the weights, which must be the same."""


@dataclass
class Outcome:
    """Outcome of a run with faults.

    Attributes:
        faults: number of faults of each kind.
        trainings: number of trainings that ended.
        problems: one sentence for each problem.
    """

    faults: Counter[str] = field(default_factory=Counter)
    trainings: int = 0
    problems: list[str] = field(default_factory=list)


class Run:
    """``python -m monai.bundle run`` in a copy of this process, which has imported everything already."""

    def __init__(self, output: Path, synthetic: Path, log: Path) -> None:
        self.log = log
        settings = {
            **SETTINGS,
            "resume": True,
            "output_dir": output,
            "model_path": output / "models" / "model.pt",
            "synthetic_dir": synthetic,
        }
        arguments = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
        self.pid = os.fork()
        if self.pid == 0:
            self._become(["run", "--config_file", str(shipped_bundle("fgssl") / "configs" / "train.json"), *arguments])

    def _become(self, arguments: Sequence[str]) -> None:
        code = 70
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            self._let_the_clock_go_back()
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            # pytest has replaced both streams by its own objects.
            sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
            sys.argv = ["monai.bundle", *arguments]
            # In a new process, the import of monai_fgssl does this.
            stop_quietly()
            try:
                runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(end.code is not None)
            except BaseException as error:
                code = 1
                try:
                    sys.excepthook(type(error), error, error.__traceback__)
                except SystemExit as end:
                    # A process that was stopped: see monai_fgssl.utils.command.
                    code = int(end.code or 0)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _let_the_clock_go_back(self) -> None:
        real = time.time, time.time_ns
        back = 0

        def go_back(number: int, frame: object) -> None:
            nonlocal back
            back += 86_400

        signal.signal(signal.SIGUSR1, go_back)
        time.time = lambda: real[0]() - back
        time.time_ns = lambda: real[1]() - 1_000_000_000 * back

    def ended(self, seconds: float) -> int | None:
        """Wait up to ``seconds`` for the end; return the exit status (negative after a signal), or None if it runs."""
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                return None
            time.sleep(0.01)

    def send(self, number: signal.Signals) -> None:
        """Send a signal if the process still runs."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def text(self) -> str:
        """Return the text that the process has printed."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Chaos:
    """Trainings in a folder, and the faults that disturb them.

    Args:
        folder: folder to work in.
        seed: seed of the faults.
        kinds: kinds of faults, from :data:`FAULTS`.
        is_small_disk: True if the folder is on a separate small disk, which may be filled.
        tell: function that is called with a line about each fault.
    """

    def __init__(
        self, folder: Path, seed: int, kinds: Sequence[str], is_small_disk: bool, tell: Callable[[str], object]
    ) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.kinds = [kind for kind in kinds if is_small_disk or kind not in OF_A_DISK]
        self.tell = tell
        self.outcome = Outcome()
        self.synthetic = folder / "images"
        self.log = folder.parent / "log.txt"
        self._waiting: list[str] = []

    def undisturbed(self) -> None:
        """Train once without a fault, as the reference for the results of all other trainings."""
        for name in ("first", "reference"):
            # The first training also makes the images, which takes time.
            started = time.monotonic()
            run = Run(self.folder / name, self.synthetic, self.log)
            code = run.ended(SECONDS_UNTIL_HUNG)
            if code != 0:
                raise RuntimeError(f"the training ends with {code} without any fault:\n{run.text()}")
            self.seconds = time.monotonic() - started
            self.expected = digests(self.folder / name)
            shutil.rmtree(self.folder / name)

    def disturb(self, count: int) -> Outcome:
        """Inject ``count`` faults, in as many trainings as needed."""
        while sum(self.outcome.faults.values()) < count:
            left = count - sum(self.outcome.faults.values())
            self._train(self.folder / "run", min(FAULTS_IN_A_RUN, left))
        return self.outcome

    def _train(self, output: Path, faults: int) -> None:
        code = None
        while code != 0:
            run = Run(output, self.synthetic, self.log)
            code = run.ended(self.rng.uniform(0, 0.5 * self.seconds) if faults else SECONDS_UNTIL_HUNG)
            while code is None:
                if not faults:
                    self.outcome.problems.append("a training hung without a fault")
                    run.send(signal.SIGKILL)
                    run.ended(SECONDS_UNTIL_HUNG)
                    return
                kind = self._next_kind()
                self.outcome.faults[kind] += 1
                faults -= 1
                code = self._inject(kind, run, output)
                self.tell(f"{sum(self.outcome.faults.values())}: {kind}: {code} {last_line(run.text())[:120]}")
                if code is None:
                    code = run.ended(self.rng.uniform(0, 0.5 * self.seconds) if faults else SECONDS_UNTIL_HUNG)
            if code != 0:
                self._check_end(code, run.text())
        if not all((output / name).is_file() for name in (*RESULTS, RECORD)):
            # A fault has deleted a file that was written already: the same command writes it again.
            code = Run(output, self.synthetic, self.log).ended(SECONDS_UNTIL_HUNG)
            self.tell(f"a deleted result: once more: {code}")
        self._compare(output)
        shutil.rmtree(output)

    def _next_kind(self) -> str:
        if not self._waiting:
            # Use all kinds equally often.
            self._waiting = self.rng.sample(self.kinds, len(self.kinds))
        return self._waiting.pop()

    def _inject(self, kind: str, run: Run, output: Path) -> int | None:
        """Inject a fault; return the exit status if the fault has ended the training, else None."""
        if kind in SIGNALS:
            run.send(SIGNALS[kind])
            return run.ended(SECONDS_UNTIL_HUNG)
        if kind == "clock":
            run.send(signal.SIGUSR1)
            return run.ended(0)
        if kind == "deleted file":
            if (file := any_file(output, self.rng)) is not None:
                file.unlink(missing_ok=True)
            return run.ended(0)
        if kind == "damaged file":
            # Change the file while no process writes it. A program that writes wrong bytes is a different problem.
            run.send(signal.SIGKILL)
            code = run.ended(SECONDS_UNTIL_HUNG)
            if (file := any_file(output, self.rng)) is not None:
                damage(file, self.rng)
            return code
        with spoiled(kind, self.folder, self.rng):
            return run.ended(0.2 * self.seconds)

    def _check_end(self, code: int, text: str) -> None:
        """Check that a training that a fault has ended reports it in one line."""
        lines = [line for line in text.splitlines() if line.strip()]
        by_signal = {-signal.SIGKILL: None, 128 + signal.SIGTERM: "SIGTERM", 128 + signal.SIGINT: "SIGINT"}
        problems = self.outcome.problems
        if "Traceback" in text:
            problems.append(f"a traceback: {text[text.index('Traceback') :][-1500:]}")
        elif code in by_signal:
            name = by_signal[code]
            if name and not any(f"stopped by {name}" in line for line in lines):
                problems.append(f"ended with {code} without a word")
        elif code != 1 or not lines or not any(line.startswith("error: ") for line in lines[-5:]):
            problems.append(f"ended with {code}: {lines[-3:]}")

    def _compare(self, output: Path) -> None:
        self.outcome.trainings += 1
        found = digests(output)
        for name, expected in self.expected.items():
            if found.get(name) != expected:
                self.outcome.problems.append(f"{name} differs from that of the training without faults")
        left = [path.name for path in output.rglob("*") if LEFTOVER.fullmatch(path.name)]
        if left:
            self.outcome.problems.append(f"left behind: {left}")


def digests(output: Path) -> dict[str, str]:
    """Checksums of the final results of a training."""
    found = {
        name: hashlib.sha256((output / name).read_bytes()).hexdigest() for name in RESULTS if (output / name).is_file()
    }
    record = output / RECORD
    if record.is_file():
        found["models/model.pt"] = json.loads(record.read_text())["weights_sha256"]
    return found


def last_line(text: str) -> str:
    """Last non-empty line of a text."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def run_chaos(
    faults: int, seed: int, kinds: Sequence[str] = FAULTS, tell: Callable[[str], object] = print
) -> tuple[Outcome, bool]:
    """Disturb trainings.

    Args:
        faults: number of faults.
        seed: seed of kinds and moments.
        kinds: kinds of faults, from :data:`FAULTS`.
        tell: function that is called with a line about each fault.

    Returns:
        Outcome, and True if there was a small disk.
    """
    # Import these before the first fork, so that no training spends time on it.
    import torch

    import monai_fgssl.engines
    import monai_fgssl.report  # noqa: F401

    torch.set_num_threads(1)
    with small_disk(MEGABYTES) as (folder, is_small_disk):
        chaos = Chaos(folder, seed, kinds, is_small_disk, tell)
        chaos.undisturbed()
        return chaos.disturb(faults), is_small_disk


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    outcome, is_small_disk = run_chaos(args.faults, args.seed, tell=lambda line: print(line, file=sys.stderr))
    disk = f"a disk of {MEGABYTES} MB" if is_small_disk else "an ordinary folder: no faults of a disk"
    print(f"# A training under faults\n\nCommand: `{command()}`  \nMachine: {processor()}  ")
    print(f"Date: {time.strftime('%Y-%m-%d')}; {disk}\n")
    print(f"{sum(outcome.faults.values())} faults in {outcome.trainings} trainings of {SETTINGS['synthetic_images']}")
    print(
        "images. Each must end with the same weights, predictions and split as a training without faults, bit for bit,"
    )
    print("and leave no temporary file. A training that a fault ends must say so in one line.\n")
    print("| fault | how often |\n| --- | ---: |")
    for kind in FAULTS:
        print(f"| {kind} | {outcome.faults[kind]} |")
    print(f"\nProblems: {len(outcome.problems)}")
    for problem in outcome.problems:
        print(f"\n- {problem}")
    return int(bool(outcome.problems))


if __name__ == "__main__":
    sys.exit(main())
