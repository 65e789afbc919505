# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Compare batch-norm statistics of few images with the statistics of all images, in a run of the bundle.

Prints Markdown: ``python -m benchmarks.batch_norm > benchmarks/results/batch_norm.md``.

The run is the bundle's own run on synthetic lesions. In some epochs of the fine-tuning, the statistics are measured on
several random subsets of the training images, for each size of the subset. The test part is predicted with each result.
Then the run continues as if nothing had been measured.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from copy import deepcopy
from statistics import mean, pstdev
from typing import Any

import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.networks.utils import eval_mode
from sklearn.metrics import f1_score
from torch import Tensor

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.bundle.locate import config_path
from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines.handlers import BatchNormUpdater

from .timing import command, processor

RUNNING = "running averages"


class Probe:
    """Predictions of one network with batch-norm statistics from different sets of images."""

    def __init__(self, args: argparse.Namespace, network: Any, train: CachedImages, test: CachedImages) -> None:
        self.args = args
        self.network = network
        self.train = train
        self.test = test
        self.seconds: dict[int, list[float]] = {}
        self.rows: list[tuple[int, str, list[float], list[float], list[float]]] = []

    @torch.no_grad()
    def predict(self) -> Tensor:
        """Probabilities ``(N, num_classes)`` of the test part."""
        with eval_mode(self.network):
            logits = [self.network(batch["image"].float() / 255) for batch in make_loader(self.test, 128)]
        return torch.cat(logits).softmax(1)

    def measure(self, positions: Sequence[int]) -> None:
        """Measure the statistics on some of the training images."""
        train = self.train
        images = CachedImages(
            train.store,
            train.labels[list(positions)],
            [train.names[i] for i in positions],
            [train.groups[i] for i in positions],
            train.rows[list(positions)],
        )
        loader = make_loader(images, self.args.batch_size)
        start = time.perf_counter()
        BatchNormUpdater(self.network, loader, "cpu", num_batches=len(loader)).update()
        self.seconds.setdefault(len(positions), []).append(time.perf_counter() - start)

    def compare(self, epoch: int) -> None:
        """Add a row for each number of images."""
        before = deepcopy(self.network.state_dict())
        labels = self.test.labels
        running = self.predict()
        self.measure(range(len(self.train)))
        expected = self.predict()
        score = f1_score(labels, expected.argmax(1), average="macro")

        def add(name: str, predictions: Sequence[Tensor]) -> None:
            changed = [100 * (found.argmax(1) != expected.argmax(1)).float().mean().item() for found in predictions]
            moved = [(found - expected).abs().sum(1).mean().item() / 2 for found in predictions]
            scores = [f1_score(labels, found.argmax(1), average="macro") - score for found in predictions]
            self.rows.append((epoch, name, changed, moved, scores))

        add(RUNNING, [running])
        generator = torch.Generator().manual_seed(epoch)
        for count in self.args.counts:
            predictions = []
            for _ in range(self.args.draws):
                self.measure(torch.randperm(len(self.train), generator=generator)[:count].tolist())
                predictions.append(self.predict())
            add(str(count), predictions)
        self.network.load_state_dict(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrain_epochs", type=int, default=10)
    parser.add_argument("--max_epochs", type=int, default=60)
    parser.add_argument("--epochs", type=int, nargs="+", default=[1, 5, 20, 60], help="epochs at which to compare")
    parser.add_argument("--counts", type=int, nargs="+", default=[32, 64, 128, 256, 512])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    root = shipped_bundle("fgssl")
    config = ConfigParser(ConfigParser.load_config_file(config_path(root, "train")))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        # Without the frozen copy of an ensemble, whose statistics do not change.
        changes = {"bundle_root": str(root), "output_dir": folder, "amp": False, "fine_tuning": "full"}
        changes |= {"pretrain_epochs": args.pretrain_epochs, "max_epochs": args.max_epochs}
        # Only the last epoch of pre-training is measured.
        changes |= {"probe_interval": args.pretrain_epochs}
        for name, value in changes.items():
            config[name] = value
        config.get_parsed_content("pretrain#trainer").run()
        trainer = config.get_parsed_content("train#trainer")
        data = config.get_parsed_content("data")
        probe = Probe(args, config.get_parsed_content("network"), data.train, data.test)

        def compare(engine: Any) -> None:
            if engine.state.epoch in args.epochs:
                probe.compare(engine.state.epoch)

        # This must run before the handlers that validate.
        trainer.add_event_handler(Events.ITERATION_COMPLETED(event_filter=at_the_end_of_an_epoch), compare)
        trainer.run()

    print("# How many images the statistics of batch norms need\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {processor()}; torch {torch.__version__}, {args.threads} threads  ")
    print(f"Date: {datetime.date.today()}\n")
    counts = {"train": len(data.train), "labeled": len(data.train.labeled()), "test": len(data.test)}
    print(f"The bundle's run on synthetic lesions, {args.pretrain_epochs} epochs of pre-training on {counts['train']}")
    print(f"images and {args.max_epochs} of fine-tuning with {counts['labeled']} labels. At some epochs the statistics")
    print(f"are measured on some of the training images, drawn at random, {args.draws} times each, and compared with")
    print(f"those of all {counts['train']} by the predictions for {counts['test']} test images: the share whose class")
    print("changes, the mean share of the probability that moves to another class, and macro F1 minus that with all")
    print("(mean and standard deviation).")
    print("Running averages are the statistics that training itself has collected.\n")
    print("| epoch | images | class changes, % | probability moves | macro F1 |")
    print("| ---: | --- | ---: | ---: | --- |")
    for epoch, name, changed, moved, scores in probe.rows:
        score = f"{mean(scores):+.3f} ± {pstdev(scores):.3f}"
        print(f"| {epoch} | {name} | {mean(changed):.1f} | {mean(moved):.3f} | {score} |")
    print("\n| images | s |")
    print("| ---: | ---: |")
    for count, seconds in sorted(probe.seconds.items()):
        print(f"| {count} | {min(seconds):.2f} |")


def at_the_end_of_an_epoch(engine: Any, iteration: int) -> bool:
    """Return True in the last iteration of an epoch, before its handlers have validated."""
    return iteration % engine.state.epoch_length == 0


if __name__ == "__main__":
    main()
