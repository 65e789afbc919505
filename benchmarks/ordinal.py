# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Compare ways to learn grades on APTOS 2019 at equal budget: as ordered classes by two losses, and as unordered ones.

    python -m benchmarks.ordinal --data_dir DIR

``DIR`` has the folder ``aptos2019``. One pre-training without labels; from its weights all losses are trained with the
same labels, images, augmentation, steps and learning rate, and scored after the last step. For each draw of the labels
each is trained once. The decision is compared too: the likeliest grade, or the median of the probabilities, which has
the lowest expected absolute error.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from monai_fgssl.data import SplitPlan, prepare_data, read_table
from monai_fgssl.data.prepare import PreparedData
from monai_fgssl.data.splits import limit_labels
from monai_fgssl.engines import ProgressiveTrainer
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.tasks import TASKS, make_loss
from monai_fgssl.transforms import RandRegularizedView
from monai_fgssl.utils.files import atomic_write
from monai_fgssl.utils.words import interval_text, readable

from .few_labels_why import measure_statistics, pixels, pretrained_network, train
from .synthetic import RESULTS, machine

IMAGE_SIZE = 64
BATCH_SIZE = 32
SHOWN = ("kappa", "mean_absolute_error", "macro_f1", "macro_auc")


def median_grade(probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Grade that splits the probability of each image in halves, ``(..., num_classes)`` to ``(...)``."""
    return (probabilities.cumsum(-1)[..., :-1] < 0.5).sum(-1)


class CornLoss(nn.Module):
    """Loss of the conditional questions "is the class above k, if it is k or above?", for each k but the last.

    Logit k answers question k; the last logit has no use. Each question is asked of the images that it concerns.

    Source:
        Shi, Cao & Raschka, "Deep Neural Networks for Rank-Consistent Ordinal Regression Based On Conditional
        Probabilities", Pattern Analysis and Applications 2023: https://arxiv.org/abs/2111.08851
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits ``(B, num_classes)`` and labels ``(B,)``, integers from 0."""
        questions = torch.arange(input.shape[1] - 1, device=input.device)
        truth, concerned = target[:, None] > questions, target[:, None] >= questions
        of_answers = binary_cross_entropy_with_logits(input[:, :-1], truth.to(input.dtype), reduction="none")
        return of_answers[concerned].mean()


def corn_probabilities(logits: Tensor) -> Tensor:
    """Probabilities of the classes from the logits of :class:`CornLoss`, both ``(B, num_classes)``."""
    above = logits[:, :-1].sigmoid().cumprod(1)
    first, last = torch.ones_like(above[:, :1]), torch.zeros_like(above[:, :1])
    return torch.cat((first, above), 1) - torch.cat((above, last), 1)


WAYS: dict[str, tuple[Callable[[], nn.Module], Callable[[Tensor], Tensor]]] = {
    "ordinal": (lambda: make_loss(TASKS["ordinal"]), lambda logits: logits.softmax(1)),
    "CORN": (CornLoss, corn_probabilities),
    "multiclass": (lambda: make_loss(TASKS["multiclass"]), lambda logits: logits.softmax(1)),
}
"""Loss of each way, and the probabilities from its logits. ``ordinal`` and ``multiclass`` are those of the tasks."""


def fine_tuned(
    start: HierarchicalNet, way: str, data: PreparedData, labels: int, draw: int, epochs: int, rate: float
) -> NDArray[np.float32]:
    """Probabilities of the test images, after a fine-tuning with the labels of a draw."""
    columns = zip(data.train.names, data.train.labels.tolist(), data.train.groups, strict=True)
    items = [{"name": name, "label": label, "group": group} for name, label, group in columns]
    labeled = data.train.listed(limit_labels(items, labels, draw)).labeled()
    network = copy.deepcopy(start)
    make, probabilities = WAYS[way]
    train(
        ProgressiveTrainer,
        network,
        labeled,
        batch_size=BATCH_SIZE,
        rate=rate,
        max_epochs=epochs,
        grids=[1, 1, 1],
        schedule="joint",
        loss_function=make(),
        view=RandRegularizedView(crop_scale=[0.6, 1.0]).batch,
        seed=draw,
    )
    measure_statistics(network, data.train.sample(1024))
    with torch.no_grad():
        return torch.cat([probabilities(network(images)) for images in pixels(data.test)]).numpy()


def report(
    probabilities: dict[str, NDArray[np.float32]], data: PreparedData, command: str, arguments: argparse.Namespace
) -> str:
    """Return the results as a Markdown page."""
    decisions = {"likeliest": lambda values: values.argmax(-1), "median": median_grade}
    columns = [readable(name) for name in SHOWN]
    count = next(iter(probabilities.values())).shape[0]
    lines = [
        "# Grades: ordered and unordered classes on APTOS 2019\n",
        "`ordinal` and `multiclass` are the tasks of this package. `ordinal` asks whether the grade is above k of the "
        "softmax of the logits (cumulative cross entropy); CORN asks it under the condition that it is at least k "
        "(Shi, Cao & Raschka 2023).\n",
        f"`{command}`, {time.strftime('%Y-%m-%d')}; {machine()}.\n",
        f"{IMAGE_SIZE} px, tiny-cnn pre-trained for {arguments.pretrain_epochs} epochs on {len(data.train):,} images "
        f"without labels; {arguments.labels} labels per grade, {arguments.epochs} epochs of fine-tuning from the same "
        f"weights, {count} draws of the labels; {len(data.test)} test images. Means over the draws; in brackets 95 % "
        "intervals over images and draws. Kappa has quadratic weights; the mean absolute error is in grades, and the "
        "lower, the better.\n",
        f"| loss, decision | {' | '.join(columns)} |",
        "| --- " * (len(columns) + 1) + "|",
    ]
    labels, groups, task_of_grades = data.test.labels, data.test.groups, TASKS["ordinal"]
    decided = {(task, name): rule(values) for task, values in probabilities.items() for name, rule in decisions.items()}
    for (task, name), classes in decided.items():
        row = task_of_grades.intervals(probabilities[task], labels, groups, classes)
        lines.append(f"| {task}, {name} | {' | '.join(interval_text(row[metric]) for metric in SHOWN)} |")
    ordered = [way for way in probabilities if way != "multiclass"]
    pairs = [((way, name), ("multiclass", name)) for way in ordered for name in decisions]
    pairs += [(("ordinal", name), ("CORN", name)) for name in decisions]
    pairs += [((task, "median"), (task, "likeliest")) for task in probabilities]
    for first, second in pairs:
        scores = probabilities[first[0]], probabilities[second[0]]
        row = task_of_grades.difference(*scores, labels, groups, decided[first], decided[second])
        cells = " | ".join(interval_text(row[metric], "+") for metric in SHOWN)
        lines.append(f"| {', '.join(first)} - {', '.join(second)} | {cells} |")
    return "\n".join(lines) + "\n"


def main(words: Sequence[str] | None = None) -> None:
    """Train all networks and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--labels", type=int, default=40, help="labels per grade")
    parser.add_argument("--draws", type=int, default=5, help="draws of the labels")
    parser.add_argument("--pretrain_epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.002)
    parser.add_argument("--output", type=Path, default=RESULTS / "ordinal.md")
    arguments = parser.parse_args(words)
    given = [f"--{name} {value}" for name, value in vars(arguments).items() if value != parser.get_default(name)]
    table = read_table(arguments.data_dir / "aptos2019")
    if arguments.labels * len(table.class_names) < BATCH_SIZE:
        parser.error(
            f"--labels {arguments.labels} for each of {len(table.class_names)} grades fill no batch of {BATCH_SIZE}"
        )
    plan = SplitPlan({"train": 0.7, "validation": 0.1, "test": 0.2})
    with tempfile.TemporaryDirectory() as folder:
        data = prepare_data(arguments.data_dir, IMAGE_SIZE, plan, Path(folder) / "split.json", table=table)
    start = pretrained_network(data, arguments.pretrain_epochs, 0, len(table.class_names))
    probabilities: dict[str, list[NDArray[np.float32]]] = {way: [] for way in WAYS}
    for draw in range(arguments.draws):
        for way, found in probabilities.items():
            options = arguments.labels, draw, arguments.epochs, arguments.rate
            found.append(fine_tuned(start, way, data, *options))
            print(f"{time.strftime('%H:%M:%S')} draw {draw}: {way} done", file=sys.stderr, flush=True)
    shown = [one if not one.startswith("--data_dir") else "--data_dir DIR" for one in given]
    command = " ".join(["python -m benchmarks.ordinal", *(one for one in shown if not one.startswith("--output"))])
    page = report({way: np.stack(found) for way, found in probabilities.items()}, data, command, arguments)
    with atomic_write(arguments.output) as temporary:
        temporary.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
