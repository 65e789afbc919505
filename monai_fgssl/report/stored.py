# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Test predictions of a run on disk, with labels and lesions, so that runs of several folds can be joined."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.tasks import MULTICLASS, TASKS, Task
from monai_fgssl.utils.errors import DataError
from monai_fgssl.utils.files import atomic_write

__all__ = ["StoredPredictions", "join_stored", "logits_of", "read_stored", "write_stored"]


@dataclass
class StoredPredictions(PredictionCollector):
    """Predictions that were read from a file. They are calibrated, and their classes are decided."""

    _predicted: NDArray[Any] = field(default_factory=lambda: np.empty(0, np.int64), kw_only=True)

    @property
    def predicted(self) -> NDArray[Any]:
        """Class that was decided for, ``(N,)``; for findings True for those that were, ``(N, num_classes)``."""
        return self._predicted


def write_stored(
    path: str | Path, method: str, class_names: Sequence[str], of_seeds: Sequence[PredictionCollector]
) -> None:
    """Write the test predictions of a method. The file is never there half-written.

    Args:
        path: file to write, ``.npz``.
        method: name of the method.
        class_names: names of the classes.
        of_seeds: predictions of each seed, all for the same images.
    """
    first = of_seeds[0]
    # A patient may be written by name: an image of each stands for it. No two patients share an image.
    image_of = dict(zip(reversed(first.groups), reversed(first.names), strict=True))
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(
            file,
            method=np.array(method),
            class_names=np.array(class_names),
            names=np.array(first.names),
            groups=np.array([image_of[group] for group in first.groups]),
            labels=first.labels.numpy(),
            probabilities=np.stack([one.probabilities.numpy() for one in of_seeds]),
            predicted=np.stack([one.predicted for one in of_seeds]),
        )


@dataclass(frozen=True)
class Stored:
    """Content of a file of :func:`write_stored`.

    Attributes:
        method: name of the method.
        class_names: names of the classes.
        names: names of the ``N`` images.
        groups: first image of their lesion or patient.
        labels: their classes, ``(N,)``, or their findings, ``(N, num_classes)``.
        probabilities: ``(S, N, num_classes)`` for S seeds.
        predicted: classes that were decided for, ``(S, N)``, or findings, ``(S, N, num_classes)``.
    """

    method: str
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    groups: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    predicted: NDArray[Any]


def read_stored(path: str | Path) -> Stored:
    """Read a file of :func:`write_stored`.

    Raises:
        DataError: when the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            class_names, names, groups = (
                tuple(map(str, file[name].tolist())) for name in ("class_names", "names", "groups")
            )
            labels, probabilities, predicted = (file[name] for name in ("labels", "probabilities", "predicted"))
            return Stored(str(file["method"]), class_names, names, groups, labels, probabilities, predicted)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} can't be read as predictions of a run ({error}): train that fold again.") from error


def logits_of(probabilities: Tensor, task: Task) -> Tensor:
    """Logits from which the task makes these probabilities again: by a softmax, or by a sigmoid for findings."""
    tiny = torch.finfo(torch.float64).tiny
    logits = probabilities.double().clamp_min(tiny).log()
    return logits - (1 - probabilities.double()).clamp_min(tiny).log() if task.independent else logits


def join_stored(parts: Sequence[Stored], task: Task = TASKS[MULTICLASS]) -> list[StoredPredictions]:
    """Join the predictions of several folds to those of all images, one for each seed.

    Args:
        parts: predictions of each fold.
        task: task of the run.

    Raises:
        DataError: when folds have different classes or numbers of seeds, or an image is in two of them.
    """
    if len({part.class_names for part in parts}) > 1 or len({len(part.probabilities) for part in parts}) > 1:
        raise DataError("folds have different classes or numbers of seeds: train them with the same settings.")
    names = [name for part in parts for name in part.names]
    if len(set(names)) < len(names):
        raise DataError(
            "an image is in the test part of two folds: they come from different splits. Train all folds with the same "
            "--seed, --num_folds and images."
        )
    groups = [group for part in parts for group in part.groups]
    labels = torch.from_numpy(np.concatenate([part.labels for part in parts]))
    probabilities = torch.from_numpy(np.concatenate([part.probabilities for part in parts], axis=1)).double()
    predicted = np.concatenate([part.predicted for part in parts], axis=1)
    logits = logits_of(probabilities, task)
    return [
        StoredPredictions(names, groups, [labels], [of_seed[:, None]], _predicted=classes, task=task)
        for of_seed, classes in zip(logits, predicted, strict=True)
    ]
