# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Ways to fine-tune a pre-trained network with few labels, compared on the validation part.

- ``run`` makes the trainings. It writes a row for each outcome to ``fine_tuning_recipes.csv``, with metrics on the
  validation part only. Predictions of all parts stay in the work folder.
- ``differences`` compares each recipe of FG-SSL with plain training on the validation part.
- ``test`` compares one chosen recipe with others on the test part, once.
- ``page`` rewrites the tables of ``fine_tuning_recipes.md`` from the CSV files.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.networks.utils import eval_mode
from monai.utils import set_determinism
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.optim.swa_utils import AveragedModel

from monai_fgssl.data import CachedImages, PreparedData, make_loader
from monai_fgssl.engines.handlers import BatchNormUpdater
from monai_fgssl.engines.heads import solve_heads
from monai_fgssl.metrics import solve_linear_probe
from monai_fgssl.utils.files import atomic_write

from . import PACKAGE
from .methods import FINE_TUNINGS, configure
from .protocol import DATA_SETS, SPLITS, label_budget, load_data, repeated
from .scoring import difference, measure, resample_weights
from .training import transfer_weights

RESULTS = Path(__file__).parents[1] / "results"
VALIDATION_CSV = RESULTS / "fine_tuning_recipes.csv"
DIFFERENCES_CSV = RESULTS / "fine_tuning_recipes_differences.csv"
TEST_CSV = RESULTS / "fine_tuning_recipes_test.csv"
PAGE = RESULTS / "fine_tuning_recipes.md"

DECIDES, SECOND = "macro_auc", "macro_f1"
SHARES = (0.25, 0.5, 0.75)
"""Shares of the fine-tuned weights in interpolations. The two ends, 0 and 1, are always measured."""
EMA_DECAY = 0.999
RESAMPLES = 10000

STARTS = {
    "fgssl": ("FG-SSL", "progressive"),
    "barlow_twins": ("Barlow Twins", "plain"),
    "none": ("random weights, hierarchical", "progressive"),
    "none_plain": ("random weights, plain", "plain"),
}
"""Label of each pre-training, and the fine-tuning of :mod:`methods` that uses the same network."""


@dataclass(frozen=True)
class Training:
    """Changes of the bundle's fine-tuning.

    Attributes:
        solved: start from solved classifiers of all steps.
        pooled: start from a solved classifier on the means of all stages, without blocks.
        distilled: learn the teacher's probabilities of all training images, labeled or not, instead of labels.
        stage_lr_decay: see :meth:`monai_fgssl.networks.HierarchicalNet.parameter_groups`.
        freeze_backbone: share of the epochs in which the backbone is frozen.
        times: factor of the number of epochs; the product is rounded.
        learning_rate: learning rate of the heads.
    """

    solved: bool = False
    pooled: bool = False
    distilled: bool = False
    stage_lr_decay: float = 1.0
    freeze_backbone: float = 0.0
    times: float = 1
    learning_rate: float = 0.001


TRAININGS = {
    "full": Training(),
    "lp_ft": Training(solved=True, stage_lr_decay=0.65, freeze_backbone=0.25),
    "lp_ft_low": Training(solved=True, stage_lr_decay=0.65, freeze_backbone=0.25, learning_rate=0.0002),
    "lp_ft_long": Training(solved=True, stage_lr_decay=0.65, freeze_backbone=0.25, times=3),
    "pooled": Training(pooled=True, stage_lr_decay=0.65, freeze_backbone=0.25),
    "pooled_low": Training(pooled=True, stage_lr_decay=0.65, freeze_backbone=0.25, learning_rate=0.0002),
    # An epoch shows all images of the training part, about three times as many as with a tenth of the labels.
    "distilled": Training(distilled=True, times=1 / 3),
    "distilled_pooled": Training(pooled=True, distilled=True, stage_lr_decay=0.65, freeze_backbone=0.25, times=1 / 3),
}

OUTCOMES = {
    "full": "full: as the bundle does, best epoch by macro F1",
    "full_auc": "full, best epoch by macro AUC",
    "full_ema": "full, last epoch, EMA of the weights",
    "probe": "probe: solved classifiers of all steps on the frozen network",
    "probe_backbone": "one probe on the means of the backbone's stages",
    "lp_ft": "(a) LP-FT: solved classifiers, then all with stage-wise decay, a quarter frozen; best epoch by macro AUC",
    "lp_ft_f1": "(a), best epoch by macro F1",
    "lp_ft_ema": "(b) LP-FT, last epoch, EMA of the weights",
    "lp_ft_mix": "(c) weights between probe and LP-FT, share chosen on validation",
    "lp_ft_and_probe": "(f) mean probability of probe and LP-FT",
    "lp_ft_ema_and_probe": "(f) mean probability of probe and LP-FT with EMA",
    "lp_ft_low": "(a) with a fifth of the learning rate",
    "lp_ft_low_f1": "the same, best epoch by macro F1",
    "lp_ft_low_ema": "the same, last epoch, EMA",
    "lp_ft_low_mix": "the same, (c)",
    "lp_ft_low_and_probe": "the same, (f)",
    "lp_ft_low_ema_and_probe": "the same, (f) with EMA",
    "lp_ft_long": "(b) LP-FT with three times the epochs, best epoch by macro AUC",
    "lp_ft_long_f1": "the same, best epoch by macro F1",
    "lp_ft_long_ema": "(b) LP-FT with three times the epochs, last epoch, EMA",
    "lp_ft_long_mix": "the same, (c)",
    "lp_ft_long_and_probe": "the same, (f)",
    "lp_ft_long_ema_and_probe": "the same, (f) with EMA",
    "full_and_probe_backbone": "(f) mean probability of full and the probe on the stages' means",
    "full_ema_and_probe_backbone": "the same with EMA",
    "pooled": "(a) LP-FT of a classifier on the stages' means; best epoch by macro AUC",
    "pooled_f1": "the same, best epoch by macro F1",
    "pooled_ema": "the same, last epoch, EMA",
    "pooled_mix": "the same, (c)",
    "pooled_and_probe": "the same, (f)",
    "pooled_ema_and_probe": "the same, (f) with EMA",
    "pooled_low": "(a) LP-FT of a classifier on the stages' means with a fifth of the learning rate",
    "pooled_low_f1": "the same, best epoch by macro F1",
    "pooled_low_ema": "the same, last epoch, EMA",
    "pooled_low_mix": "the same, (c)",
    "pooled_low_and_probe": "the same, (f)",
    "pooled_low_ema_and_probe": "the same, (f) with EMA",
    "distilled": "(g) full, taught the teacher's probabilities of all training images; best epoch by macro AUC",
    "distilled_f1": "the same, best epoch by macro F1",
    "distilled_ema": "the same, last epoch, EMA",
    "distilled_and_teacher": "the same, mean probability with the teacher",
    "distilled_ema_and_teacher": "the same with EMA, mean probability with the teacher",
    "distilled_pooled": "(g) LP-FT on the stages' means, taught in the same way; best epoch by macro AUC",
    "distilled_pooled_f1": "the same, best epoch by macro F1",
    "distilled_pooled_ema": "the same, last epoch, EMA",
    "distilled_pooled_and_teacher": "the same, mean probability with the teacher",
    "distilled_pooled_ema_and_teacher": "the same with EMA, mean probability with the teacher",
}
TEACHERS = {"fgssl": "probe_backbone", "barlow_twins": "probe_backbone", "none": "full", "none_plain": "full"}
"""Outcome that is the teacher in (g), by start. Features of random weights would be useless teachers."""
PARTS = ("train", "validation", "test")
TODAY = "full"

Array = NDArray[np.float64]
Probabilities = dict[str, Array]
"""Probabilities ``(N, num_classes)`` by part."""


class DistillationLoss(nn.Module):
    """Cross-entropy with target probabilities, which are looked up by the positions of images.

    Args:
        targets: class probabilities ``(N, num_classes)``, one row for each image.

    Source:
        Hinton et al., Distilling the Knowledge in a Neural Network, 2015; with unlabeled images Chen et al., Big
        Self-Supervised Models are Strong Semi-Supervised Learners, NeurIPS 2020, sec. 2:
        https://arxiv.org/abs/2006.10029
    """

    targets: Tensor

    def __init__(self, targets: Tensor) -> None:
        super().__init__()
        self.register_buffer("targets", targets)

    def forward(self, logits: Tensor, positions: Tensor) -> Tensor:
        """Mean loss of a batch of logits ``(B, num_classes)`` and positions ``(B,)``."""
        return cross_entropy(logits, self.targets[positions])


@dataclass(frozen=True)
class Task:
    """A data set, a start and a choice of labels, with the folders of data and results."""

    data_set: str
    start: str
    seed: int
    budget: float
    data_dir: Path
    work_dir: Path
    changes: tuple[tuple[str, Any], ...]
    splits: Path = SPLITS

    def data(self, image_size: int) -> PreparedData:
        """Load the three parts of the data set."""
        images = str(self.work_dir / "images")
        return load_data(str(self.data_dir), self.data_set, "grouped", image_size, images, self.splits)

    def weights(self) -> dict[str, Tensor] | None:
        """State dict of the pre-trained network; None for random weights.

        Raises:
            FileNotFoundError: when the pre-training does not exist yet.
        """
        if self.start.startswith("none"):
            return None
        epochs = dict(self.changes)["pretrain_epochs"]
        for file in sorted((self.work_dir / "pretrained").glob(f"{self.data_set}_{self.start}_s0_*.pt")):
            content = torch.load(file, weights_only=True)
            if max(epoch for series in content["history"].values() for epoch, _ in series) == epochs:
                return content["network"]
        raise FileNotFoundError(
            f"no {self.data_set}_{self.start}_s0_*.pt of {epochs} epochs in {self.work_dir / 'pretrained'}."
        )

    def predictions(self, training: str) -> Path:
        """File of the predictions of a training."""
        changes = dict(self.changes)
        name = (
            f"{self.data_set}_{self.start}_{training}_{100 * self.budget:g}_{changes['image_size']}px"
            f"_e{changes['max_epochs']}_s{self.seed}.npz"
        )
        return self.work_dir / "recipes" / name

    def predicted(self, outcome: str, part: str) -> Array | None:
        """Probabilities ``(N, num_classes)`` of an outcome on a part; None if the outcome was not made yet."""
        for training in ("probe", *TRAININGS):
            file = self.predictions(training)
            if file.is_file():
                with np.load(file) as arrays:
                    if f"{outcome}/{part}" in arrays:
                        return arrays[f"{outcome}/{part}"]
        return None


class Keeper:
    """Copies of the weights: those of the best epoch by each metric, and their moving average."""

    def __init__(self, network: nn.Module, metrics: Sequence[str]) -> None:
        self.network = network
        self.best = dict.fromkeys(metrics, -1.0)
        self.states: dict[str, dict[str, Tensor]] = {}
        self.average = AveragedModel(network, avg_fn=self._average)

    @staticmethod
    def _average(average: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
        # At first the average covers few steps, as usual. Otherwise the initial weights would dominate.
        decay = min(EMA_DECAY, (1 + float(count)) / (10 + float(count)))
        return average + (1 - decay) * (value - average)

    def attach(self, trainer: Any, evaluator: Any) -> None:
        """Attach this to a trainer and an evaluator."""
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: self.average.update_parameters(self.network))
        evaluator.add_event_handler(Events.COMPLETED, self._keep)

    def _keep(self, engine: Any) -> None:
        for name, best in self.best.items():
            if engine.state.metrics[name] > best:
                self.best[name] = engine.state.metrics[name]
                self.states[name] = deepcopy(self.network.state_dict())


class Bench:
    """The network of a task with its data, as the bundle's configuration makes them."""

    def __init__(self, task: Task, training: Training, folder: str) -> None:
        self.task = task
        settings = dict(task.changes)
        settings["max_epochs"] = round(settings["max_epochs"] * training.times)
        settings |= {"freeze_backbone": training.freeze_backbone, "learning_rate": training.learning_rate}
        settings |= {"stage_lr_decay": training.stage_lr_decay}
        # The bundle makes the network with one classifier for this recipe.
        settings["fine_tuning"] = "lp_ft" if training.pooled else "full"
        self.parser = parser = configure(FINE_TUNINGS[STARTS[task.start][1]], settings)
        self.data = task.data(settings["image_size"])
        self.labeled = label_budget(self.data.train, task.budget, task.seed)
        set_determinism(task.seed)
        parts: Mapping[str, Any] = {
            "data": self.data,
            "class_names": self.data.class_names,
            "device": "cpu",
            "seed": task.seed,
            "output_dir": folder,
        }
        for name, value in parts.items():
            parser[name] = value
        # As in training.py: with few labels, each image is seen more often.
        size = max(1, round(len(self.data.train) * task.budget**0.5))
        parser["train#dataset"] = repeated(self.labeled, size, task.seed)
        if training.distilled:
            self._distill()
        pretrained: Any = parser.get_parsed_content("network")
        self.network: Any = parser.get_parsed_content("train#network")
        weights = task.weights()
        if weights is None:
            self.update_norms(self.network)
        else:
            # The weights include batch-norm statistics that were measured at the end of the pre-training.
            transfer_weights(pretrained, weights, "all")

    def _distill(self) -> None:
        """Train on all images of the training part, with a teacher's probabilities instead of labels."""
        train, task = self.data.train, self.task
        known = task.predicted(TEACHERS[task.start], "train")
        if known is None:
            raise FileNotFoundError(
                f"{task.data_set}, {task.start}: make {TEACHERS[task.start]} first, it is the teacher."
            )
        targets = torch.from_numpy(known).float()
        positions = {name: position for position, name in enumerate(train.names)}
        rows = torch.tensor([positions[name] for name in self.labeled.names])
        targets[rows] = one_hot(self.labeled.labels, targets.shape[1]).float()
        order = torch.arange(len(train))
        self.parser["train#dataset"] = CachedImages(train.store, order, train.names, train.groups, train.rows)
        self.parser["train#loss"] = DistillationLoss(targets)

    def update_norms(self, network: nn.Module) -> None:
        """Measure the statistics of batch norms as the bundle does."""
        parser = self.parser
        precision, loader = (parser.get_parsed_content(name) for name in ("precision", "batch_norm_dataloader"))
        BatchNormUpdater(network, loader, "cpu", precision=precision).update()

    def autocast(self) -> torch.autocast:
        """Mixed precision if the bundle uses it."""
        return self.parser.get_parsed_content("precision").autocast()

    def solve(self) -> None:
        """Solve the classifiers of all steps."""
        solve_heads(self.network, self.labeled, "cpu")

    def predict(self, state: Mapping[str, Tensor] | None = None, parts: Sequence[str] = PARTS) -> Probabilities:
        """Predict probabilities of the parts as the bundle's evaluator does."""
        if state is not None:
            self.network.load_state_dict(state)
        return self.predict_with(self.network, parts)

    @torch.no_grad()
    def predict_with(self, network: Any, parts: Sequence[str] = PARTS) -> Probabilities:
        """Predict probabilities of the parts with another network."""
        result = {}
        for part in parts:
            loader = make_loader(getattr(self.data, part), batch_size=128)
            with eval_mode(network), self.autocast():
                logits = [network.stage_logits(batch["image"].float() / 255).float().sum(1) for batch in loader]
            result[part] = torch.cat(logits).double().softmax(1).numpy()
        return result

    def score(self, prob: Probabilities) -> dict[str, float]:
        """Metrics on the validation part."""
        values = measure(prob["validation"], self.data.validation.labels.numpy(), self.data.class_names)
        return {name: float(values[name][0]) for name in (DECIDES, SECOND)}


@torch.no_grad()
def _stage_means(network: Any, images: CachedImages) -> Tensor:
    with eval_mode(network):
        batches = []
        for batch in make_loader(images, batch_size=128):
            maps = network.backbone(network.normalize(batch["image"].float() / 255))
            batches.append(torch.cat([stage.flatten(2).mean(2) for stage in maps], dim=1))
    return torch.cat(batches)


def make_probes(task: Task) -> dict[str, Probabilities]:
    """Make both probes of a start."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(task, Training(), folder)
    known, labeled = _stage_means(bench.network, bench.labeled), bench.labeled
    probe = solve_linear_probe(known, labeled.labels, labeled.groups, len(bench.data.class_names))
    backbone = {}
    for part in PARTS:
        logits = _stage_means(bench.network, getattr(bench.data, part)) @ probe.weight.T + probe.bias
        backbone[part] = logits.double().softmax(1).numpy()
    bench.solve()
    return {"probe": bench.predict(), "probe_backbone": backbone}


def make_training(task: Task, name: str) -> dict[str, Probabilities]:
    """Make all outcomes of a training."""
    training = TRAININGS[name]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(task, training, folder)
        network = bench.network
        if training.solved or training.pooled:
            bench.solve()
        start = deepcopy(network.state_dict())
        trainer = bench.parser.get_parsed_content("train#trainer")
        keeper = Keeper(network, (DECIDES, SECOND))
        keeper.attach(trainer, bench.parser.get_parsed_content("validate#evaluator"))
        trainer.run()
    average = keeper.average.module
    bench.update_norms(average)
    ema = bench.predict_with(average)
    tuned = bench.predict(keeper.states[DECIDES])
    best_f1 = bench.predict(keeper.states[SECOND])
    if training.distilled:
        teacher = _teacher(task)
        return {
            name: tuned,
            f"{name}_f1": best_f1,
            f"{name}_ema": ema,
            f"{name}_and_teacher": _mean(teacher, tuned),
            f"{name}_ema_and_teacher": _mean(teacher, ema),
        }
    if not (training.solved or training.pooled):
        found = {name: best_f1, f"{name}_auc": tuned, f"{name}_ema": ema}
        if TEACHERS[task.start] == "probe_backbone":
            teacher = _teacher(task)
            found[f"{name}_and_probe_backbone"] = _mean(teacher, tuned)
            found[f"{name}_ema_and_probe_backbone"] = _mean(teacher, ema)
        return found
    probe = bench.predict(start)
    return {
        name: tuned,
        f"{name}_f1": best_f1,
        f"{name}_ema": ema,
        f"{name}_mix": _interpolate(bench, start, keeper.states[DECIDES], probe, tuned),
        f"{name}_and_probe": _mean(probe, tuned),
        f"{name}_ema_and_probe": _mean(probe, ema),
    }


def _mean(one: Probabilities, other: Probabilities) -> Probabilities:
    return {part: (one[part] + other[part]) / 2 for part in one}


def _teacher(task: Task) -> Probabilities:
    """Load the predictions of the teacher of a start, which must exist already."""
    found = {part: task.predicted(TEACHERS[task.start], part) for part in PARTS}
    missing = [part for part, prob in found.items() if prob is None]
    if missing:
        raise FileNotFoundError(f"{task.data_set}, {task.start}: make the training of {TEACHERS[task.start]} first.")
    return {part: prob for part, prob in found.items() if prob is not None}


def _interpolate(
    bench: Bench, start: dict[str, Tensor], end: dict[str, Tensor], probe: Probabilities, tuned: Probabilities
) -> Probabilities:
    """Predict with the best of several interpolations of two networks (WiSE-FT, Wortsman et al., CVPR 2022)."""
    best, score = (tuned, bench.score(tuned)[DECIDES])
    if (value := bench.score(probe)[DECIDES]) > score:
        best, score = probe, value
    chosen = None
    for share in SHARES:
        mixed = {
            key: torch.lerp(start[key], end[key], share) if start[key].is_floating_point() else end[key] for key in end
        }
        bench.network.load_state_dict(mixed)
        bench.update_norms(bench.network)
        value = bench.score(bench.predict(parts=["validation"]))[DECIDES]
        if value > score:
            chosen, score = deepcopy(bench.network.state_dict()), value
    return best if chosen is None else bench.predict(chosen)


def run(tasks: Sequence[Task], trainings: Sequence[str]) -> None:
    """Make the missing trainings one after the other."""
    # All trainings of one choice of labels are made before the next choice, so that comparisons are complete early.
    for task, name in itertools.product(tasks, trainings):
        file = task.predictions(name)
        if file.is_file():
            continue
        began = time.process_time()
        outcomes = make_probes(task) if name == "probe" else make_training(task, name)
        seconds = time.process_time() - began
        file.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {
            f"{key}/{part}": prob for key, parts in outcomes.items() for part, prob in parts.items()
        }
        with atomic_write(file) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **arrays)
        _write_rows(task, name, outcomes, seconds)


KEYS = ("data_set", "start", "outcome", "budget", "image_size", "pretrain_epochs", "epochs", "seed")
COLUMNS = (*KEYS, DECIDES, SECOND, "cpu_seconds")


def _read(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _write_rows(task: Task, training: str, outcomes: Mapping[str, Probabilities], seconds: float) -> None:
    data = task.data(dict(task.changes)["image_size"])
    rows = _read(VALIDATION_CSV)
    for name, prob in outcomes.items():
        values = measure(prob["validation"], data.validation.labels.numpy(), data.class_names)
        changes = dict(task.changes)
        numbers = (f"{task.budget:g}", *(str(changes[key]) for key in ("image_size", "pretrain_epochs", "max_epochs")))
        row = dict(zip(KEYS, (task.data_set, task.start, name, *numbers, str(task.seed)), strict=True))
        row |= {metric: f"{float(values[metric][0]):.4f}" for metric in (DECIDES, SECOND)}
        row["cpu_seconds"] = f"{seconds:.0f}"
        rows.append(row)
        print(f"{task.data_set} {task.start} {name} seed {task.seed}: {row[DECIDES]} {row[SECOND]}", flush=True)
    unique = {tuple(row[key] for key in KEYS): row for row in rows}
    _write(VALIDATION_CSV, COLUMNS, [unique[key] for key in sorted(unique)])


def _write(file: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    with atomic_write(file) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


LIMITS = ("difference", "low", "high", "corrected_low", "corrected_high")


def compare(tasks: Sequence[Task], winner: str) -> None:
    """Compare a recipe with others on the test part, once, paired by image and by choice of labels.

    Intervals are corrected for the choice among m recipes (Bonferroni): their level is 1 - 0.05 / m.
    """
    rows = []
    for data_set in sorted({task.data_set for task in tasks}):
        others = {
            (start, outcome): _draws(tasks, data_set, start, outcome, "test")
            for start, outcome in itertools.product(STARTS, (TODAY, "probe", winner))
        }
        rows += _differences(data_set, winner, others.pop(("fgssl", winner)), others)
    _write(TEST_CSV, tuple(rows[0]), rows)


def compare_with_plain(tasks: Sequence[Task]) -> None:
    """Compare every recipe of FG-SSL with today's plain training on the validation part."""
    rows = []
    for data_set in sorted({task.data_set for task in tasks}):
        plain = {("none_plain", TODAY): _draws(tasks, data_set, "none_plain", TODAY, "validation")}
        for outcome in OUTCOMES:
            rows += _differences(data_set, outcome, _draws(tasks, data_set, "fgssl", outcome, "validation"), plain)
    _write(DIFFERENCES_CSV, tuple(rows[0]), rows)


Draws = dict[int, dict[str, Any]]
"""Result of :func:`_draws`, by choice of labels."""


def _differences(
    data_set: str, winner: str, ours: Draws, others: Mapping[tuple[str, str], Draws]
) -> list[dict[str, str]]:
    """Rows with the differences between a recipe of FG-SSL and others. Recipes without results have no row."""
    rows = []
    names = {row["outcome"] for row in _read(VALIDATION_CSV)} - {TODAY}
    for (start, outcome), other in others.items():
        if not ours or not other:
            continue
        for metric in (DECIDES, SECOND):
            found = difference(ours, other, metric, level=1 - 0.05 / len(names))
            plain = difference(ours, other, metric)
            if found is None or plain is None:
                continue
            row = {"data_set": data_set, "winner": winner, "other_start": start, "other": outcome, "metric": metric}
            row |= {"seeds": str(len(ours.keys() & other.keys())), "variants": str(len(names))}
            values = (plain["value"], plain["low"], plain["high"], found["low"], found["high"], plain["p"])
            rows.append(row | {name: f"{value:.4f}" for name, value in zip((*LIMITS, "p"), values, strict=True)})
    return rows


def _draws(tasks: Sequence[Task], data_set: str, start: str, outcome: str, part: str) -> dict[int, dict[str, Any]]:
    """Metrics of an outcome on a part and in each resample of the part's groups, by seed."""
    result = {}
    for task in tasks:
        if (task.data_set, task.start) != (data_set, start):
            continue
        prob = task.predicted(outcome, part)
        if prob is None:
            continue
        data = task.data(dict(task.changes)["image_size"])
        images = getattr(data, part)
        labels, names = images.labels.numpy(), data.class_names
        values = measure(prob, labels, names)
        draws = measure(prob, labels, names, resample_weights(images.groups, RESAMPLES))
        result[task.seed] = {
            "values": {metric: float(values[metric][0]) for metric in (DECIDES, SECOND)},
            "draws": {metric: draws[metric] for metric in (DECIDES, SECOND)},
        }
    return result


def write_page() -> None:
    """Write the tables into the page, between its markers."""
    text = PAGE.read_text(encoding="utf-8")
    tables = {
        "validation": _validation_tables(),
        "differences": _differences_table(_read(DIFFERENCES_CSV)),
        "test": _differences_table(_read(TEST_CSV)),
    }
    for marker, lines in tables.items():
        before, rest = text.split(f"<!-- {marker} -->\n", 1)
        after = rest.split(f"<!-- end of {marker} -->", 1)[1]
        text = "\n".join((f"{before}<!-- {marker} -->", *lines, f"<!-- end of {marker} -->")) + after
    with atomic_write(PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _validation_tables() -> list[str]:
    lines = []
    tables = defaultdict(list)
    for row in _read(VALIDATION_CSV):
        tables[row["data_set"], row["image_size"], row["pretrain_epochs"]].append(row)
    for (data_set, image_size, pretrain_epochs), rows in sorted(tables.items()):
        starts = [start for start in STARTS if any(row["start"] == start for row in rows)]
        lines += [
            "",
            f"**{data_set}**, {image_size} px, {pretrain_epochs} epochs of pre-training: macro AUC / macro F1 on",
        ]
        lines += ["the validation part, mean over choices of labels (n):"]
        lines += ["", f"| recipe | {' | '.join(STARTS[start][0] for start in starts)} |"]
        lines += ["| --- |" + " --- |" * len(starts)]
        for outcome, label in OUTCOMES.items():
            cells = []
            for start in starts:
                found = [row for row in rows if (row["start"], row["outcome"]) == (start, outcome)]
                means = (
                    [np.mean([float(row[metric]) for row in found]) for metric in (DECIDES, SECOND)] if found else []
                )
                cells.append(f"{means[0]:.3f} / {means[1]:.3f} ({len(found)})" if found else "")
            if any(cells):
                lines.append(f"| {label} | {' | '.join(cells)} |")
    return [*lines, ""]


def _differences_table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    if not rows:
        return ["", "Not made yet.", ""]
    lines = ["", "| data set | FG-SSL with this recipe | minus | metric | difference, 95 % | corrected interval | n |"]
    lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
    for r in rows:
        other = f"{STARTS[r['other_start']][0]}, {r['other']}"
        numbers = {
            key: f"{float(r[key]):+.3f}" for key in ("difference", "low", "high", "corrected_low", "corrected_high")
        }
        lines.append(
            f"| {r['data_set']} | {r['winner']} | {other} | {r['metric']} | {numbers['difference']} "
            f"[{numbers['low']}, {numbers['high']}] | [{numbers['corrected_low']}, {numbers['corrected_high']}] "
            f"| {r['seeds']} |"
        )
    return [*lines, ""]


def main(words: Sequence[str] | None = None) -> None:
    """Run the command of the command line.

    Args:
        words: arguments of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(
        f"python -m {PACKAGE} recipes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "differences", "test", "page"))
    parser.add_argument("--winner", choices=OUTCOMES, help="with test: recipe to compare")
    parser.add_argument("--data_dir", type=Path, help="has a folder for each data set")
    parser.add_argument("--work_dir", type=Path, help="has pretrained/ of run.py; gets recipes/")
    parser.add_argument("--data_sets", nargs="+", default=["aptos2019", "isic2018"], choices=DATA_SETS)
    parser.add_argument("--starts", nargs="+", default=list(STARTS), choices=STARTS)
    parser.add_argument("--trainings", nargs="+", default=["probe", *TRAININGS], choices=["probe", *TRAININGS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="choices of labels")
    parser.add_argument("--budget", type=float, default=0.1, help="share of the labels")
    parser.add_argument("--image_size", type=int, default=96)
    parser.add_argument("--pretrain_epochs", type=int, default=80)
    parser.add_argument("--max_epochs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(words)
    if arguments.action == "page":
        write_page()
        return
    if arguments.data_dir is None or arguments.work_dir is None:
        parser.error("--data_dir and --work_dir are needed")
    torch.set_num_threads(arguments.threads)
    changes = tuple((name, getattr(arguments, name)) for name in ("image_size", "pretrain_epochs", "max_epochs"))
    tasks = [
        Task(data_set, start, seed, arguments.budget, arguments.data_dir, arguments.work_dir, changes)
        for data_set in arguments.data_sets
        for start in arguments.starts
        for seed in arguments.seeds
    ]
    if arguments.action == "run":
        run(tasks, arguments.trainings)
    elif arguments.action == "differences":
        compare_with_plain(tasks)
    elif arguments.winner is None:
        parser.error("test needs --winner")
    else:
        compare(tasks, arguments.winner)
