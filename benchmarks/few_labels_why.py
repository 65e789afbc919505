# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure why pre-training does not win with few labels on synthetic lesions: vectors hold more than the texture.

    python -m benchmarks.few_labels_why

All measurements use two kinds of lesions. The lesions of the default run differ in size, skin, pigment and contrast.
The other lesions all have the same size, skin, pigment and contrast (`variation` 0). Fine-tunings from random
weights and from pre-training have the same labels, steps, augmentation and learning rate. The score is measured after
the last step. There is no early stopping, so a faster start gives no advantage.
"""

from __future__ import annotations

import argparse
import copy
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.engines.utils import IterationEvents
from monai.optimizers import WarmupCosineSchedule
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from monai_fgssl.data import CachedImages, SplitPlan, make_loader, make_synthetic_lesions, prepare_data
from monai_fgssl.data.prepare import PreparedData
from monai_fgssl.engines import PreTrainer, ProgressiveTrainer
from monai_fgssl.engines.handlers import BatchNormUpdater
from monai_fgssl.engines.hierarchical import HierarchicalTrainer, prepare_images
from monai_fgssl.losses import CrossCorrelationLoss
from monai_fgssl.networks import HierarchicalNet
from monai_fgssl.transforms import RandDistortedView, RandRegularizedView
from monai_fgssl.utils.files import atomic_write

from .synthetic import RESULTS, machine

PENALTY = 0.01
"""``C`` of the logistic regression on standardized vectors."""


def prepare(folder: Path, seed: int, labels: int | None = None, draw: int = 0) -> PreparedData:
    """Parts of a data set; the training part has ``labels`` labels per class (None: all)."""
    plan = SplitPlan({"train": 0.7, "validation": 0.1, "test": 0.2}, seed)
    return prepare_data(folder, 64, plan, folder / "split.json", labels_per_class=labels, label_seed=draw)


def new_network(seed: int, num_classes: int = 7) -> HierarchicalNet:
    """Small network that a CPU can train in minutes."""
    torch.manual_seed(seed)
    return HierarchicalNet("tiny-cnn", num_classes=num_classes, width=64, embedding_dim=64)


def train(engine: type[HierarchicalTrainer], network: nn.Module, data: CachedImages, **options: Any) -> None:
    """Train to the end of a cosine schedule, and measure the running statistics of batch norms."""
    batch_size, rate, epochs = options.pop("batch_size"), options.pop("rate"), options["max_epochs"]
    loader = make_loader(data, batch_size, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.05, fused=True)
    steps = epochs * len(loader)
    schedule = WarmupCosineSchedule(optimizer, warmup_steps=steps // 40, t_total=steps)
    trainer = engine(device="cpu", train_data_loader=loader, network=network, optimizer=optimizer, **options)
    trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, lambda _: schedule.step())
    trainer.run()


def pretrained_network(data: PreparedData, epochs: int, seed: int, num_classes: int = 7) -> HierarchicalNet:
    """Network after pre-training on the training part without labels."""
    network = new_network(seed, num_classes)
    train(
        PreTrainer,
        network,
        data.train,
        batch_size=32,
        rate=0.002,
        max_epochs=epochs,
        grids=[4, 2, 1],
        schedule="alternating",
        loss_function=CrossCorrelationLoss(0.05),
        regularized_view=RandRegularizedView().batch,
        distorted_view=RandDistortedView().batch,
        seed=seed,
    )
    return network


def fine_tuned_score(network: HierarchicalNet, data: PreparedData, steps: int, rate: float) -> float:
    """Macro F1 on the test part after training all weights with the available labels."""
    labeled = data.train.labeled()
    train(
        ProgressiveTrainer,
        network,
        labeled,
        batch_size=len(labeled),
        rate=rate,
        max_epochs=steps,
        grids=[1, 1, 1],
        schedule="joint",
        loss_function=nn.CrossEntropyLoss(),
        view=RandRegularizedView(crop_scale=[0.6, 1.0]).batch,
        seed=1,
    )
    measure_statistics(network, data.train)
    with torch.no_grad():
        predicted = torch.cat([network(images).argmax(1) for images in pixels(data.test)])
    return float(f1_score(data.test.labels, predicted, average="macro"))


def measure_statistics(network: HierarchicalNet, images: CachedImages) -> None:
    """Measure the running statistics of batch norms, and leave the network in evaluation mode."""
    BatchNormUpdater(network, make_loader(images, 128), "cpu").update()
    network.eval()


def pixels(images: CachedImages) -> Iterator[Tensor]:
    """Batches of pixels ``(B, 3, 64, 64)`` in [0, 1]."""
    for batch in make_loader(images, 256):
        yield prepare_images(batch, torch.device("cpu"))[0]


def frozen(network: HierarchicalNet, everything: PreparedData, few: Sequence[PreparedData]) -> dict[str, float]:
    """Measure how well the vectors of all steps of a network predict the class and the brightness.

    Returns:
        Macro F1 of a logistic regression with few labels and with all labels, and R2 of a ridge regression. The target
        of the ridge regression is the mean brightness in the middle of the image, where the lesion is.
    """
    measure_statistics(network, everything.train)
    parts = [everything.train, everything.test]
    with torch.no_grad():
        vectors = [torch.cat([network.stage_vectors(x).flatten(1) for x in pixels(part)]).numpy() for part in parts]
    brightness = [torch.cat([x[..., 16:48, 16:48].mean((1, 2, 3)) for x in pixels(part)]).numpy() for part in parts]
    scaler = StandardScaler().fit(vectors[0])
    known, new = (scaler.transform(v) for v in vectors)

    def probe(data: PreparedData) -> float:
        has_label = data.train.labels.numpy() >= 0
        classifier = LogisticRegression(C=PENALTY, max_iter=1000)
        classifier.fit(known[has_label], data.train.labels.numpy()[has_label])
        return float(f1_score(everything.test.labels, classifier.predict(new), average="macro"))

    return {
        "probe_few": float(np.mean([probe(data) for data in few])),
        "probe_all": probe(everything),
        "brightness": float(Ridge(30).fit(known, brightness[0]).score(new, brightness[1])),
    }


def measure(variation: float, arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Measure random and pre-trained initial weights on lesions with one ``variation``."""
    make_synthetic_lesions(folder, 1600, 64, seed=arguments.seed, variation=variation)
    everything = prepare(folder, arguments.seed)
    few = [prepare(folder, arguments.seed, arguments.labels, draw) for draw in range(arguments.draws)]
    found = []
    for start, epochs in (("random weights", 0), *((f"{e} epochs", e) for e in arguments.pretrain_epochs)):
        network = pretrained_network(everything, epochs, arguments.seed) if epochs else new_network(arguments.seed)
        weights = copy.deepcopy(network.state_dict())
        row: dict[str, Any] = {"variation": variation, "start": start} | frozen(network, everything, few)
        scores = []
        for draw, data in enumerate(few):
            network = new_network(arguments.seed + draw)
            if epochs:
                network.load_state_dict(weights)
            scores.append(fine_tuned_score(network, data, arguments.steps, arguments.learning_rate))
        row["fine_tuned"] = scores
        print(row, flush=True)
        found.append(row)
    return found


def report(rows: Sequence[Mapping[str, Any]], arguments: argparse.Namespace, command: str) -> str:
    """Return the results as a Markdown page."""
    lines = [
        "# Few labels: why pre-training does not win on synthetic lesions\n",
        f"`{command}`, {time.strftime('%Y-%m-%d')}; {machine()}.\n",
        f"Generator seed {arguments.seed}, {arguments.labels} labels per class ({arguments.draws} draws of them), "
        f"network `tiny-cnn`. Fine-tuning: {arguments.steps} steps over all labels at once, learning rate "
        f"{arguments.learning_rate:g}, to the end of the schedule, the same from every start. "
        "Macro F1 on the test part. A lesion's pigment, size, skin and contrast vary as in the default run "
        "(variation 1), or not at all (variation 0).\n",
        "| variation | start | fine-tuned, each draw | mean | frozen, few labels | frozen, all labels "
        "| R2 of brightness |",
        "| --- " * 7 + "|",
    ]
    for row in rows:
        each = ", ".join(f"{score:.3f}" for score in row["fine_tuned"])
        lines.append(
            f"| {row['variation']:g} | {row['start']} | {each} | {np.mean(row['fine_tuned']):.3f} "
            f"| {row['probe_few']:.3f} | {row['probe_all']:.3f} | {row['brightness']:.2f} |"
        )
    lines.append(
        "\n*Frozen* is a logistic regression on the vectors of all blocks. *R2 of brightness* tells how well the same "
        "vectors give the mean brightness of the middle of the image, which has nothing to do with the class."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seed", type=int, default=100, help="seed of the generator; seeds below 100 are for reported figures"
    )
    parser.add_argument("--labels", type=int, default=6, help="number of labels per class")
    parser.add_argument("--draws", type=int, default=2, help="number of draws of the labels")
    parser.add_argument("--variations", type=float, nargs="+", default=[1.0, 0.0])
    parser.add_argument("--pretrain_epochs", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--learning_rate", type=float, default=0.006)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for v in arguments.variations for row in measure(v, arguments, Path(folder) / f"variation_{v:g}")]
    page = report(rows, arguments, shlex.join(["python", "-m", "benchmarks.few_labels_why", *sys.argv[1:]]))
    print(page)
    with atomic_write(RESULTS / "few_labels_why.md") as temporary:
        temporary.write_text(page)


if __name__ == "__main__":
    main()
