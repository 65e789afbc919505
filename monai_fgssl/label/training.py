# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Training on the images of a data store. The bundle's own run does it, in a separate process."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from monai_fgssl import __version__
from monai_fgssl.bundle import SettingsError, own_model
from monai_fgssl.bundle.model_file import GEOMETRY
from monai_fgssl.data.io.dicom_file import is_dicom, read_dicom_header
from monai_fgssl.networks import EnsembleNet, MeanEnsembleNet, PooledNet
from monai_fgssl.tasks import MULTICLASS, MULTILABEL, task_named
from monai_fgssl.utils.errors import first_names
from monai_fgssl.utils.files import atomic_write
from monai_fgssl.utils.processors import WAIT_POLICY
from monai_fgssl.utils.tensors import read_state_dict

from .answers import Answers
from .model import read_model, without_folder
from .options import train_settings

__all__ = ["fine_tune", "pretrain", "train_stats", "training_refusal", "write_data_list"]

NETWORK_SETTINGS = ("backbone", "stages", "width", "embedding_dim", "linear_projection", "stem", *GEOMETRY)
"""Settings that must be the same in a training and in the weights that it starts from."""

LABEL_SETTINGS = ("task", "class_order")
"""Settings that belong to the labels."""

KEPT_SETTINGS = (*NETWORK_SETTINGS, "fine_tuning", *LABEL_SETTINGS)
"""Settings that a training takes over from its weights unless the request sets them. So a linear probe stays one, and
grades stay grades."""

FRACTIONS = {"train": 0.6, "validation": 0.2, "test": 0.2}
MAX_BATCH_SIZE = 32
MIN_IMAGES = 3
"""Smallest number of images of each class: one to train, one to choose the best epoch, one to test."""

SECONDS_TO_END = 120.0
"""Seconds to wait for the end of a training that an earlier server began."""


Labeled = Sequence[tuple[str | Path, str | Answers]]
"""Pairs of an image (a file, or the folder of a DICOM series) and its class (empty: not known) or its findings."""


def write_data_list(path: Path, images: Labeled) -> Path:
    """Write a list for the bundle. Images of one patient share a group; its name does not identify the patient.

    Args:
        path: file to write, without a suffix.
        images: images with their classes, or with their findings.

    Returns:
        The file: a CSV file of classes; or a MONAI data list of findings, in which a name may have any sign.
    """
    numbers: dict[str, str] = {}

    def group_of(image: str | Path) -> str:
        patient = _patient_of(Path(image))
        return numbers.setdefault(patient, f"patient_{len(numbers) + 1}") if patient else ""

    rows = [(os.path.abspath(image), label, group_of(image)) for image, label in images]
    names = list(dict.fromkeys(name for _, label, _ in rows if not isinstance(label, str) for name in label))
    file = path.with_suffix(".json" if names else ".csv")
    with atomic_write(file) as temporary, open(temporary, "w", newline="", encoding="utf-8") as out:
        if names:
            json.dump(_findings_list(rows, names), out)
        else:
            csv.writer(out).writerows([("image", "label", "patient"), *rows])
    return file


def _findings_list(rows: Sequence[tuple[str, str | Answers, str]], names: Sequence[str]) -> dict[str, Any]:
    """Content of a data list with 1, 0 or -1 (not known) for each finding."""
    items = [
        {"image": image, "label": [int(label.get(name, -1)) for name in names], "patient": group}
        for image, label, group in rows
        if not isinstance(label, str)
    ]
    return {"labels": {str(number): name for number, name in enumerate(names)}, "training": items}


def _patient_of(image: Path) -> str:
    files = sorted(image.iterdir()) if image.is_dir() else [image]
    for file in files:
        if is_dicom(file):
            return str(read_dicom_header(file, ["PatientID"]).get("PatientID", ""))
    return ""


def training_refusal(labels: Collection[str | Answers]) -> str | None:
    """Return why no training is possible with the labels of these images, one each; None if one is."""
    if any(not isinstance(label, str) for label in labels):
        return _refusal_of_findings([label for label in labels if not isinstance(label, str)])
    counts = Counter(str(label) for label in labels)
    if len(counts) >= 2 and min(counts.values()) >= MIN_IMAGES:
        return None
    return (
        f"training needs two classes or more with at least {MIN_IMAGES} labeled images each; there are: "
        f"{', '.join(f'{name} ({count})' for name, count in sorted(counts.items())) or 'none'}."
    )


def _refusal_of_findings(answers: Sequence[Answers]) -> str | None:
    """Return why the findings can't be learned. A finding that no image has is left out of a training."""
    there = Counter(name for one in answers for name, is_there in one.items() if is_there)
    absent = Counter(name for one in answers for name, is_there in one.items() if not is_there)
    if len(there) >= 2 and all(min(there[name], absent[name]) >= MIN_IMAGES for name in there):
        return None
    told = ", ".join(f"{name} ({there[name]} with, {absent[name]} without)" for name in sorted(there)) or "none"
    return (
        f"training needs two findings or more, each with at least {MIN_IMAGES} labeled images that have it and as many "
        f"that do not; there are: {told}."
    )


def fine_tune(bundle_root: Path, images: Labeled, settings: Mapping[str, Any]) -> None:
    """Train on labeled images, starting from the newest weights. At the end the new model replaces the former one.

    Args:
        bundle_root: the bundle's folder.
        images: images as in :func:`write_data_list`; each has a class, or findings.
        settings: settings of the bundle.

    Raises:
        SettingsError: when there are too few images of a class, or the bundle's run fails.
    """
    if refusal := training_refusal([label for _, label in images]):
        raise SettingsError(refusal)
    weights, base = newest_weights(bundle_root)
    several = settings.get("task") == MULTILABEL
    if task_named(base.get("task", MULTICLASS)).independent != several:
        # The weights are those of the other kind of labels.
        base = {name: value for name, value in base.items() if name not in LABEL_SETTINGS}
    fractions = settings.get("fractions", FRACTIONS)
    batch_size = max(2, min(MAX_BATCH_SIZE, int(len(images) * fractions["train"]) // 2))
    changes = {
        **base,
        "fractions": fractions,
        "batch_size": batch_size,
        # The bundle makes the loaders of pre-training too, though it does not use them here.
        "pretrain_batch_size": batch_size,
        **settings,
        "pretrained": weights,
        "pretrain_epochs": 0,
        "compare": False,
    }
    _run(bundle_root, "train", ("train.json",), images, changes)


def pretrain(bundle_root: Path, images: Labeled, settings: Mapping[str, Any]) -> None:
    """Pre-train on all images, labeled or not. The next :func:`fine_tune` starts from these weights.

    Args:
        bundle_root: the bundle's folder.
        images: images as in :func:`write_data_list`.
        settings: settings of the bundle. ``max_epochs`` is used if ``pretrain_epochs`` is missing.

    Raises:
        SettingsError: when the bundle's run fails.
    """
    weights, base = newest_weights(bundle_root)
    changes = {**base, "pretrain_batch_size": max(2, min(MAX_BATCH_SIZE, len(images) // 2)), **settings}
    if "max_epochs" in changes:
        changes.setdefault("pretrain_epochs", changes.pop("max_epochs"))
    # Without labels all images are in the training part.
    unlabeled = [(image, "") for image, _ in images]
    changes["pretrained"] = weights
    _run(bundle_root, "pretrain", ("train.json", "pretrain.json"), unlabeled, changes)


def newest_weights(bundle_root: Path) -> tuple[str | None, dict[str, Any]]:
    """Find the weights that training starts from, and the settings that they need.

    These are the weights of the model or of the pre-training, whichever is newer. If they can't be used, the function
    prints why and tries the older ones.
    """
    model = Path(own_model(bundle_root))
    pretrained = bundle_root / "output" / "pretrain" / "pretrained.pt"
    found = [path for path in (model, pretrained) if path.is_file()]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            settings = _settings_of_model(bundle_root) if path == model else _settings_of_pretraining(path)
        except SettingsError as error:
            print(f"training does not start from {path.name}: {without_folder(error, path)}")
            continue
        return str(path), {name: settings[name] for name in KEPT_SETTINGS if settings.get(name) is not None}
    return None, {}


def _settings_of_model(bundle_root: Path) -> dict[str, Any]:
    network, record = read_model(bundle_root, Path(own_model(bundle_root)))
    definition = record["network_def"]
    if isinstance(network, MeanEnsembleNet):
        raise SettingsError("it is one model of several folds or seeds, and a training starts from a single network")
    if isinstance(network, PooledNet):
        # Its stages are those of the classifier, not those of the blocks of a pre-training.
        definition = {name: value for name, value in definition.items() if name != "stages"} | {"fine_tuning": "probe"}
    elif isinstance(network, EnsembleNet):
        definition = definition | {"fine_tuning": "ensemble"}
    # Older copies of the bundle do not know these settings.
    labels = {} if record["task"] == MULTICLASS else {"task": record["task"]}
    if record["task"] == "ordinal":
        labels |= {"class_order": record["class_names"]}
    if unsafe := [name for name in labels.get("class_order", ()) if name.startswith(("$", "@", "%"))]:
        # A model may come from anybody, and MONAI would take such a name for an expression or a reference.
        raise SettingsError(f"its grades have names that can't be passed on ({first_names(unsafe)})")
    return {**definition, **record, "task": None} | labels


def _settings_of_pretraining(weights: Path) -> dict[str, Any]:
    read_state_dict(weights)
    file = weights.parent / "settings.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds {type(content).__name__}")
        # Checked, since they are passed on to the command line of a training.
        return train_settings(content)
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{file} is missing or damaged ({error})") from error


@contextmanager
def _no_other_training(outputs: Path) -> Iterator[None]:
    try:
        # The system releases the lock when this process ends, even in a crash.
        with FileLock(outputs / "running.lock", SECONDS_TO_END):
            yield
    except Timeout as error:
        raise SettingsError("another training of this model is running: wait for its end, or stop it.") from error


def _run(
    bundle_root: Path,
    task: str,
    configs: Sequence[str],
    images: Labeled,
    settings: Mapping[str, Any],
) -> None:
    # A relative name could begin with a sign that MONAI takes for an expression or a reference.
    output = Path(os.path.abspath(bundle_root)) / "output" / task
    output.mkdir(parents=True, exist_ok=True)
    with _no_other_training(output.parent):
        data_list = write_data_list(output / "images", images)
        (output / "metrics.json").unlink(missing_ok=True)
        given = {name: value for name, value in settings.items() if value is not None}
        weights = given.get("pretrained")
        if weights is not None:
            given["pretrained"] = os.path.abspath(weights)
        with atomic_write(output / "settings.json") as temporary:
            temporary.write_text(json.dumps(given, indent=2), encoding="utf-8")
        if _has_setting(bundle_root, "task"):
            # A bar in the name of a class does not make it several classes.
            given.setdefault("task", MULTICLASS)
        arguments = {**given, "dataset_dir": str(data_list), "output_dir": str(output)}
        command = [sys.executable, "-m", "monai.bundle", "run", "--config_file"]
        command.append(str([os.path.abspath(bundle_root / "configs" / name) for name in configs]))
        for name, value in arguments.items():
            command += [f"--{name}", value if isinstance(value, str) else repr(value)]
        # This file marks a run that has not ended. Only a run with the same settings may continue it.
        unfinished = output / "unfinished.txt"
        parts = __version__, command, data_list.read_bytes(), weights and Path(weights).stat().st_mtime_ns
        digest = hashlib.sha256(repr(parts).encode()).hexdigest()
        if _has_setting(bundle_root, "resume") and unfinished.is_file() and unfinished.read_text("utf-8") == digest:
            command += ["--resume", "true"]
        if _has_setting(bundle_root, "progress_seconds"):
            # The page counts epochs, so each must print its line.
            command += ["--progress_seconds", "0"]
        with atomic_write(unfinished) as temporary:
            temporary.write_text(digest, encoding="utf-8")
        reason: list[str] = []
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # The server goes on beside the training, so waiting threads must leave it the cores.
            env={WAIT_POLICY: "passive", **os.environ, "PYTHONUNBUFFERED": "1"},
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                # Keep the message from "error: " on, or else the last line.
                reason = [*reason, line] if reason and reason[0].startswith("error: ") else [line]
        except BrokenPipeError:
            # The server has ended. The run saves a checkpoint, from which the next server can go on.
            process.terminate()
            process.communicate()
            raise
        if status := process.wait():
            text = "".join(reason).strip().removeprefix("error: ")
            raise SettingsError(text or f"the run ended with exit status {status} and no message")
        unfinished.unlink()


def _has_setting(bundle_root: Path, name: str) -> bool:
    """Tell whether a bundle, which may be an older copy, has a setting."""
    return name in json.loads((bundle_root / "configs" / "train.json").read_text(encoding="utf-8"))


def train_stats(bundle_root: Path) -> dict[str, Any]:
    """Read the test metrics of the last training; empty before the first training."""
    path = bundle_root / "output" / "train" / "metrics.json"
    if not path.is_file():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    metrics = next(iter(content["methods"].values()))
    return {
        "num_test_images": content["num_test_images"],
        "class_names": content["class_names"],
        "metrics": metrics,
        "epochs": content["settings"]["max_epochs"],
    }
