# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Make one run: pre-train or load the weights of an earlier run, fine-tune or probe, and score."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.networks.utils import eval_mode
from monai.utils import set_determinism
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from monai_fgssl.bundle import load_weights
from monai_fgssl.data import CachedImages, PreparedData, make_loader
from monai_fgssl.engines.handlers import BatchNormUpdater, Resumer
from monai_fgssl.engines.heads import solve_heads
from monai_fgssl.metrics import METRICS, classification_metrics, fit_temperature, knn_votes
from monai_fgssl.utils.files import atomic_write

from .methods import FINE_TUNINGS, PRETRAININGS, Run, configure
from .protocol import DATA_SETS, SPLITS, label_budget, load_data, repeated

__all__ = ["Place", "Result", "finish", "pretrain"]

PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Penalties of the linear probe. The validation part chooses among them."""
PROBE_INTERVAL = 5
"""Epochs between two measurements of features in pre-training. Measurements do not change the result."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Folders and device of a run.

    Attributes:
        data_dir: folder that has a folder for each data set.
        work_dir: folder of decoded images and pre-trained weights.
        device: where to compute.
        splits: folder of the split files.
    """

    data_dir: Path
    work_dir: Path
    device: str = "cpu"
    splits: Path = SPLITS


@dataclass
class Result:
    """Result of a run.

    Attributes:
        logits: logits by part, ``(N, num_classes)`` in the order of the split file.
        labels: labels by part, ``(N,)``.
        temperature: temperature fitted to the validation part.
        phases: ``history`` ((epoch, value) of each series), ``seconds`` and number of ``images`` seen, by phase. All
            runs that share a pre-training have its entry.
        details: other values that are worth keeping.
    """

    logits: dict[str, Array]
    labels: dict[str, NDArray[np.int64]]
    temperature: float
    phases: dict[str, dict[str, Any]]
    details: dict[str, Any]


class Stopwatch:
    """Seconds of a training, including the seconds before it was stopped."""

    def __init__(self) -> None:
        self.start = time.time()

    def state_dict(self) -> dict[str, float]:
        """Seconds until now."""
        return {"seconds": time.time() - self.start}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Continue from saved seconds."""
        self.start = time.time() - state["seconds"]


def _data(run: Run, name: str, parser: ConfigParser, place: Place) -> PreparedData:
    size = parser.get_parsed_content("image_size")
    return load_data(str(place.data_dir), name, run.split, size, str(place.work_dir / "images"), place.splits)


def _prepare(parser: ConfigParser, data: PreparedData, seed: int, place: Place, output_dir: Path) -> None:
    """Set data and folders in a configuration."""
    set_determinism(seed)
    for name, value in {
        "data": data,
        "class_names": data.class_names,
        "device": place.device,
        "seed": seed,
        "output_dir": str(output_dir),
        "resume": True,
        "probe_interval": PROBE_INTERVAL,
    }.items():
        parser[name] = value


def _train(parser: ConfigParser, phase: str) -> tuple[Any, float]:
    """Run a phase to its end; return its trainer, and its seconds including those before it was stopped."""
    trainer, watch = parser.get_parsed_content(f"{phase}#trainer"), Stopwatch()
    (resumer,) = (h for h in parser.get_parsed_content(f"{phase}#handlers") if isinstance(h, Resumer))
    # SimSiam's loss has weights, so checkpoints need the loss too.
    resumer.save_dict |= {"stopwatch": watch, "loss": parser.get_parsed_content(f"{phase}#loss")}
    trainer.run()
    return trainer, watch.state_dict()["seconds"]


def pretrain(run: Run, place: Place) -> dict[str, Any] | None:
    """Pre-train, or load the weights of this pre-training from the work folder; None for a run without pre-training.

    A training that was stopped continues from its newest checkpoint, with the same result.

    Returns:
        ``network`` (state dict), ``history``, ``seconds``, ``images``.
    """
    if run.pretraining == "none":
        return None
    folder = place.work_dir / "pretrained" / run.pretrained_name()
    file = folder.with_suffix(".pt")
    if file.is_file():
        return torch.load(file, weights_only=True)
    parser = configure(PRETRAININGS[run.pretraining], run.changes())
    _prepare(parser, _data(run, run.source, parser, place), run.seed_before, place, folder)
    trainer, seconds = _train(parser, "pretrain")
    result = {
        "network": parser.get_parsed_content("network").state_dict(),
        "history": trainer.state.history,
        "seconds": seconds,
        "images": trainer.state.iteration * parser.get_parsed_content("pretrain_batch_size"),
    }
    with atomic_write(file) as temporary:
        torch.save(result, temporary)
    shutil.rmtree(folder)
    return result


def transfer_weights(network: nn.Module, state: dict[str, Tensor], what: str) -> int:
    """Copy all weights whose names and shapes agree, or only such weights of the backbone.

    Weights of classifiers are never copied, because pre-training does not train them.

    Returns:
        Number of copied tensors.
    """
    own = network.state_dict()
    fitting = {
        name: value
        for name, value in state.items()
        if name in own
        and own[name].shape == value.shape
        and "classifier" not in name.split(".")
        and (what == "all" or name.startswith("backbone."))
    }
    network.load_state_dict(fitting, strict=False)
    return len(fitting)


def finish(run: Run, pretrained: dict[str, Any] | None, place: Place) -> Result:
    """Fine-tune or probe, and predict validation and own-test part.

    Args:
        run: run to make.
        pretrained: result of :func:`pretrain`.
        place: folders and device.
    """
    parser = configure(FINE_TUNINGS[run.fine_tuning], run.changes())
    data = _data(run, run.data_set, parser, place)
    labeled = label_budget(data.train, run.budget, run.seed)
    folder = place.work_dir / "fine_tuned" / run.name()
    _prepare(parser, data, run.seed, place, folder)
    selection = DATA_SETS[run.data_set].selection
    # An epoch shows sqrt(budget) times as many images as with all labels. Each of few labels is seen more often.
    parser["train#dataset"] = repeated(labeled, max(1, round(len(data.train) * run.budget**0.5)), run.seed)
    parser["validate#dataset"] = getattr(data, run.select_on)
    metrics = {name: {"_target_": "monai_fgssl.metrics.epoch_metric", "name": name} for name in METRICS}
    parser["validate#key_metric"] = {selection: metrics.pop(selection)}
    parser["validate#additional_metrics"] = metrics
    network = parser.get_parsed_content("network")
    copied = 0 if pretrained is None else transfer_weights(network, pretrained["network"], run.transfer)
    details: dict[str, Any] = {"labels": len(labeled), "transferred_tensors": copied}
    history: dict[str, Any] = {}
    images = 0
    if run.fine_tuning in ("linear", "knn"):
        start = time.time()
        logits, chosen = _probe(run, parser, network, data, labeled, selection)
        details |= chosen
        seconds = time.time() - start
    else:
        fine_tuning = parser.get_parsed_content("fine_tuning")
        if fine_tuning == "probe":
            raise ValueError("--set fine_tuning=probe: the benchmark's own probes are --fine_tunings linear and knn.")
        if fine_tuning == "lp_ft":
            solve_heads(network, labeled, place.device)
        trainer, seconds = _train(parser, "train")
        load_weights(network, folder / "best.pt")
        logits = {part: _predict(network, getattr(data, part), place.device) for part in ("validation", "test")}
        history = trainer.state.history
        images = trainer.state.iteration * parser.get_parsed_content("batch_size")
        shutil.rmtree(folder)
    labels = {part: getattr(data, part).labels.numpy() for part in ("validation", "test")}
    phases = {"fine-tune": {"history": history, "seconds": seconds, "images": images}}
    if pretrained is not None:
        phases["pretrain"] = {name: pretrained[name] for name in phases["fine-tune"]}
    temperature = fit_temperature(logits["validation"], labels["validation"])
    return Result(logits, labels, temperature, phases, details)


@torch.no_grad()
def _predict(network: Any, images: CachedImages, device: str) -> Array:
    """Sum of the logits of all classifiers, in float32."""
    with eval_mode(network):
        batches = [
            network.stage_logits(batch["image"].to(device).float() / 255).sum(1)
            for batch in make_loader(images, batch_size=256)
        ]
    return torch.cat(batches).double().cpu().numpy()


@torch.no_grad()
def _encode(network: Any, images: CachedImages, device: str) -> Array:
    """Means of the feature maps of all stages, concatenated: ``(N, sum of channels)``."""
    batches = []
    with eval_mode(network):
        for batch in make_loader(images, batch_size=256):
            maps = network.backbone(network.normalize(batch["image"].to(device).float() / 255))
            batches.append(torch.cat([stage.flatten(2).mean(2) for stage in maps], dim=1))
    return torch.cat(batches).double().cpu().numpy()


def _probe(
    run: Run, parser: ConfigParser, network: nn.Module, data: PreparedData, labeled: CachedImages, selection: str
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Logits of a classifier on the frozen backbone's features."""
    device = parser.get_parsed_content("device")
    BatchNormUpdater(network, parser.get_parsed_content("batch_norm_dataloader"), device).update()
    features = {part: _encode(network, getattr(data, part), device) for part in ("validation", "test")}
    known, labels = _encode(network, labeled, device), labeled.labels
    if run.fine_tuning == "knn":
        return {part: _knn_logits(known, labels, values, run.data_set) for part, values in features.items()}, {}
    center, scale = known.mean(0), known.std(0).clip(1e-6)
    known = (known - center) / scale
    features = {part: (values - center) / scale for part, values in features.items()}
    truth = getattr(data, run.select_on).labels
    best, chosen, classifier = -1.0, 0.0, None
    for penalty in PENALTIES:
        candidate = LogisticRegression(C=penalty, tol=1e-3, max_iter=300).fit(known, labels.numpy())
        score = classification_metrics(candidate.predict_proba(features[run.select_on]), truth)[selection]
        if score > best:
            best, chosen, classifier = score, penalty, candidate
    assert classifier is not None
    return {part: classifier.predict_log_proba(values) for part, values in features.items()}, {"C": chosen}


def _knn_logits(known: Array, labels: Tensor, features: Array, data_set: str) -> Array:
    num_classes = len(DATA_SETS[data_set].class_names)
    votes = knn_votes(torch.from_numpy(known), labels, torch.from_numpy(features), num_classes)
    # A class without a vote gets a small value, so that logarithms and calibration stay finite.
    return (votes / votes.sum(1, keepdim=True) + 1e-3).log().numpy()
