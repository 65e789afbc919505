# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Disturb a data store of the Label app while it saves labels, and look for lost labels.

Prints Markdown: ``python -m benchmarks.chaos_labels > benchmarks/results/chaos_labels.md``. It needs an environment
with the extra ``label``.

A process saves one label after another, and logs each label that was confirmed. Faults, at random moments: SIGKILL,
SIGTERM, a full disk, a read-only disk, a deleted or damaged index, a deleted or damaged label file, a second process.
After each fault every image must have the label that was confirmed last, or the label that was being saved.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from monai_fgssl.label.answers import Label

from .faults import OF_A_DISK, any_file, damage, small_disk, spoiled
from .timing import command, processor

FAULTS = (
    "kill",
    "SIGTERM",
    *OF_A_DISK,
    "deleted index",
    "damaged index",
    "deleted label file",
    "damaged label file",
    "second process",
)
IMAGES = 20
CLASSES = ("nevus", "melanoma", "keratosis")
INDEX = "datastore_v2.json"
MEGABYTES = 8
LONGEST_WAIT = 0.5
"""Largest number of seconds until a fault."""


class Labeler:
    """A process that saves labels as fast as it can, until it is stopped.

    Args:
        studies: folder of the data store.
        log: file that gets one line before each label is saved, and one line when the label is confirmed.
        images: names of the images to label.
        seed: seed of images and classes.
    """

    def __init__(self, studies: Path, log: Path, images: Sequence[str], seed: int) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                _label(studies, log, images, random.Random(seed))
            finally:
                os._exit(1)

    def stop(self, number: signal.Signals) -> None:
        """Send a signal to the process and wait for its end, unless the process has ended already."""
        if self.pid:
            os.kill(self.pid, number)
            os.waitpid(self.pid, 0)
            self.pid = 0


def _label(studies: Path, log: Path, images: Sequence[str], rng: random.Random) -> None:
    from fastapi import HTTPException

    from monai_fgssl.label.datastore import FINAL, ClassDatastore

    with open(log, "a", buffering=1) as lines:
        # The disk may be full or read-only already.
        store = None
        while True:
            try:
                store = store or ClassDatastore(str(studies), CLASSES)
                image, name = rng.choice(images), rng.choice(CLASSES)
                lines.write(f"asked {image} {name}\n")
                store.save_label(image, "", FINAL, {"class": name})
                lines.write(f"saved {image} {name}\n")
            except (HTTPException, OSError):
                lines.write("refused\n")
                time.sleep(0.01)


class Labels:
    """Requested and confirmed labels, in the order of the logs."""

    def __init__(self) -> None:
        self.confirmed: dict[str, Label] = {}
        self.possible: dict[str, set[Label]] = {}
        self.count = 0

    def read(self, log: Path) -> None:
        """Add the lines of a log, and empty the log."""
        for line in log.read_text().splitlines() if log.exists() else ():
            event, *label = line.split()
            if event == "asked":
                self.possible.setdefault(label[0], set()).add(label[1])
            elif event == "saved":
                self.count += 1
                self.confirmed[label[0]] = label[1]
                self.possible[label[0]] = {label[1]}
        log.unlink(missing_ok=True)

    def lost(self, found: dict[str, Label]) -> list[str]:
        """Images whose label is not one of the allowed labels."""
        return [
            f"{image} is {found.get(image)}, was confirmed as {name}"
            for image, name in self.confirmed.items()
            if found.get(image) not in self.possible[image]
        ]

    def settle(self, found: dict[str, Label]) -> None:
        """Take the labels that were found as the only allowed labels from now on."""
        for image in self.possible:
            if image in found:
                self.confirmed[image] = found[image]
                self.possible[image] = {found[image]}


def run_chaos(
    faults: int, seed: int, kinds: Sequence[str] = FAULTS, tell: Callable[[str], object] = print
) -> tuple[Counter[str], int, list[str]]:
    """Disturb a data store.

    Args:
        faults: number of faults.
        seed: seed of labels, kinds and moments.
        kinds: kinds of faults, from :data:`FAULTS`.
        tell: function that is called with a line about each fault.

    Returns:
        Number of faults of each kind, number of confirmed labels, and a sentence for each problem.
    """
    from monai_fgssl.label.datastore import ClassDatastore

    rng, done, problems, labels = random.Random(seed), Counter[str](), [], Labels()
    with small_disk(MEGABYTES) as (disk, is_small_disk):
        studies = disk / "studies"
        studies.mkdir()
        for number in range(IMAGES):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(studies / f"image{number}.png")
        kinds = [kind for kind in kinds if is_small_disk or kind not in OF_A_DISK]
        images = [f"image{number}" for number in range(IMAGES)]
        log, other_log = disk.parent / "log.txt", disk.parent / "other.txt"
        waiting: list[str] = []
        while done.total() < faults:
            waiting = waiting or rng.sample(list(kinds), len(kinds))
            kind = waiting.pop()
            done[kind] += 1
            is_shared = kind == "second process"
            # With two processes on the same image, this check could not know which label came last.
            labeler = Labeler(studies, log, images[::2] if is_shared else images, rng.randrange(2**32))
            other = Labeler(studies, other_log, images[1::2], rng.randrange(2**32)) if is_shared else None
            try:
                time.sleep(rng.uniform(0, LONGEST_WAIT))
                _disturb(kind, labeler, disk, studies, rng)
            finally:
                for process in (labeler, other):
                    if process is not None:
                        process.stop(signal.SIGKILL)
            labels.read(log)
            labels.read(other_log)
            store = ClassDatastore(str(studies), CLASSES)
            found = store.labeled()
            lost = labels.lost(found)
            problems += [f"{kind}: {sentence}" for sentence in lost]
            labels.settle(found)
            tell(f"{done.total()}: {kind}: {labels.count} labels confirmed, {len(lost)} lost")
    return done, labels.count, problems


def _disturb(kind: str, labeler: Labeler, disk: Path, studies: Path, rng: random.Random) -> None:
    """Inject a fault, and end the process."""
    label_files = studies / "labels" / "final"
    if kind in OF_A_DISK:
        with spoiled(kind, disk, rng):
            time.sleep(rng.uniform(0, LONGEST_WAIT))
            labeler.stop(signal.SIGKILL)
        return
    if kind == "deleted index":
        (studies / INDEX).unlink(missing_ok=True)
    elif kind == "deleted label file" and (file := any_file(label_files, rng, "*.json")) is not None:
        file.unlink(missing_ok=True)
    # The process survives some faults. It is then ended at another moment.
    if kind.startswith("deleted"):
        time.sleep(rng.uniform(0, LONGEST_WAIT))
    labeler.stop(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
    # Change the file while no process writes it. A program that writes wrong bytes is a different problem.
    if kind == "damaged index" and (studies / INDEX).exists():
        damage(studies / INDEX, rng)
    elif kind == "damaged label file" and (file := any_file(label_files, rng, "*.json")) is not None:
        damage(file, rng)


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    done, count, problems = run_chaos(args.faults, args.seed, tell=lambda line: print(line, file=sys.stderr))
    print(f"# Labels under faults\n\nCommand: `{command()}`  \nMachine: {processor()}  ")
    print(f"Date: {time.strftime('%Y-%m-%d')}\n")
    print(f"{done.total()} faults while {count} labels of {IMAGES} images were confirmed. After each fault, each image")
    print("must have its last confirmed label, or the label that was being saved.\n")
    print("| fault | how often |\n| --- | ---: |")
    for kind in FAULTS:
        print(f"| {kind} | {done[kind]} |")
    print(f"\nLabels lost: {len(problems)}")
    for problem in problems:
        print(f"\n- {problem}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
