# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Kinds of labels, each with its encoding, loss and metrics. Networks, engines and transforms do not know them.

A task is chosen by its name in :data:`TASKS`; whatever depends on the kind of labels asks the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ignite.metrics import EpochMetric
from numpy.typing import ArrayLike
from torch import Tensor, nn

from monai_fgssl.data import DataError, ImageTable, order_classes, read_table
from monai_fgssl.data.layouts.findings import MULTILABEL
from monai_fgssl.losses import CumulativeCrossEntropyLoss, GlobalCrossEntropyLoss, MaskedBinaryCrossEntropyLoss
from monai_fgssl.metrics import (
    METRICS,
    MULTILABEL_METRICS,
    ORDINAL_METRICS,
    DecisionRule,
    FindingSets,
    PredictionSets,
    Thresholds,
    bootstrap_difference,
    bootstrap_gap,
    bootstrap_intervals,
    class_shares,
    classification_metrics,
    epoch_metric,
    expected_calibration_error,
    finding_calibration_error,
    fit_finding_sets,
    fit_logit_adjustment,
    fit_prediction_sets,
    fit_thresholds,
    multilabel_difference,
    multilabel_gap,
    multilabel_intervals,
    multilabel_metrics,
)
from monai_fgssl.utils.distributed import num_processes
from monai_fgssl.utils.errors import SettingsError

__all__ = ["MULTICLASS", "MULTILABEL", "TASKS", "Task", "make_loss", "read_labels", "task_named", "task_of"]

MULTICLASS = "multiclass"
"""Name of the task of data sets and models that name none."""


@dataclass(frozen=True)
class Task:
    """Classes of which an image has one. They have no order, unless a subclass says otherwise.

    Attributes:
        name: name of the task, the value of the setting ``task``.
        metrics: names of the metrics, in the order of tables.
        tiles: the four metrics that a report shows first. The first two are printed too.
        key_metric: metric that chooses the best epoch and decides a comparison; the higher, the better.
        default_decision: words for the decisions of :meth:`default_rule`.
        independent: True if an image may have several of the classes, or none.
    """

    name: str = MULTICLASS
    metrics: tuple[str, ...] = METRICS
    tiles: tuple[str, ...] = ("macro_f1", "macro_auc", "balanced_accuracy", "accuracy")
    key_metric: str = "macro_f1"
    default_decision: str = "the likeliest classes"
    independent: bool = False

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse settings that the task does not have.

        Raises:
            SettingsError: when there is one; the message names it.
        """

    def encode(self, table: ImageTable, class_order: Sequence[object] | None) -> ImageTable:
        """Bring the labels of a data set into the form that the loss takes.

        Raises:
            SettingsError: when a setting does not fit the task.
            DataError: when the data set does not fit the task.
        """
        if class_order is not None:
            raise SettingsError("--class_order is for --task ordinal: without an order of the classes it does nothing.")
        return table

    def loss(self, weight: Tensor | None, **arguments: Any) -> nn.Module:
        """Loss of logits ``(B, num_classes)`` and labels ``(B,)``, with a weight for each class."""
        if num_processes() > 1:
            return GlobalCrossEntropyLoss(weight, **arguments)
        return nn.CrossEntropyLoss(weight, **arguments)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probabilities of the classes, which are on the last axis."""
        return logits.softmax(-1)

    def default_rule(self, num_classes: int) -> DecisionRule | None:
        """Return the rule that decides as long as none is fitted; None: the likeliest class."""
        return None

    def needs_fit(self, decision: str) -> bool:
        """True if the rule that decides is fitted to validation images.

        Args:
            decision: one of :data:`~monai_fgssl.metrics.DECISIONS`.
        """
        return decision == "balanced"

    def fit_rule(self, probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike) -> DecisionRule:
        """Fit the rule that decides, see :func:`~monai_fgssl.metrics.fit_logit_adjustment`.

        Args:
            probabilities: of validation images, ``(N, num_classes)``.
            labels: labels of these images.
            known: labels of the training images; their shares are the prior.
        """
        shares = class_shares(known, np.asarray(probabilities).shape[1])
        return fit_logit_adjustment(probabilities, labels, shares)

    def fit_sets(
        self, probabilities: ArrayLike, labels: ArrayLike, coverage: float, by_class: bool, score: str
    ) -> PredictionSets | FindingSets:
        """Fit sets of possible classes, see :func:`~monai_fgssl.metrics.fit_prediction_sets`."""
        return fit_prediction_sets(probabilities, labels, coverage, by_class, score)

    def calibration_error(self, probabilities: ArrayLike, labels: ArrayLike) -> float:
        """Compute :func:`~monai_fgssl.metrics.expected_calibration_error`."""
        return expected_calibration_error(probabilities, labels)

    def key_epoch_metric(self) -> dict[str, EpochMetric]:
        """Metric of an epoch by its name, which chooses the best epoch."""
        return {self.key_metric: epoch_metric(self.key_metric, undefined=0.0, measure=self.measure_logits)}

    def other_epoch_metrics(self) -> dict[str, EpochMetric]:
        """All other metrics of an epoch by their names."""
        others = (name for name in self.metrics if name != self.key_metric)
        return {name: epoch_metric(name, measure=self.measure_logits) for name in others}

    def measure_logits(self, logits: Tensor, labels: Tensor) -> Mapping[str, Any]:
        """Metrics of an epoch."""
        return classification_metrics(logits.softmax(1), labels, metrics=self.metrics)

    def measure(self, probabilities: ArrayLike, labels: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
        """Compute each metric, see :func:`~monai_fgssl.metrics.classification_metrics`."""
        return classification_metrics(probabilities, labels, predicted, self.metrics)

    def intervals(
        self, probabilities: ArrayLike, labels: ArrayLike, groups: Sequence[str], predicted: ArrayLike
    ) -> dict[str, dict[str, float]]:
        """Compute each metric with its interval, see :func:`~monai_fgssl.metrics.bootstrap_intervals`."""
        return bootstrap_intervals(probabilities, labels, groups, predicted=predicted, metrics=self.metrics)

    def gap(
        self,
        probabilities: ArrayLike,
        labels: ArrayLike,
        first: ArrayLike,
        second: ArrayLike,
        groups: Sequence[str],
        predicted: ArrayLike,
    ) -> dict[str, dict[str, float]]:
        """Compute differences between two subsets, see :func:`~monai_fgssl.metrics.bootstrap_gap`."""
        return bootstrap_gap(probabilities, labels, first, second, groups, predicted=predicted, metrics=self.metrics)

    def missing(self, labels: ArrayLike, inside: ArrayLike) -> list[int]:
        """Return the classes of labeled images without an image in a subset, so that means over classes differ.

        Args:
            labels: labels of all images.
            inside: True for the images of the subset, ``(N,)``.
        """
        truth = np.asarray(labels)
        return sorted(set(truth.tolist()) - set(truth[np.asarray(inside)].tolist()))

    def difference(
        self,
        probabilities_a: ArrayLike,
        probabilities_b: ArrayLike,
        labels: ArrayLike,
        groups: Sequence[str],
        predicted_a: ArrayLike,
        predicted_b: ArrayLike,
    ) -> dict[str, dict[str, float]]:
        """Compute differences with intervals, see :func:`~monai_fgssl.metrics.bootstrap_difference`."""
        return bootstrap_difference(
            probabilities_a,
            probabilities_b,
            labels,
            groups,
            predicted_a=predicted_a,
            predicted_b=predicted_b,
            metrics=self.metrics,
        )


@dataclass(frozen=True)
class Ordinal(Task):
    """Grades: classes from the lowest to the highest, of which an image has one."""

    name: str = "ordinal"
    metrics: tuple[str, ...] = ORDINAL_METRICS
    tiles: tuple[str, ...] = ("kappa", "mean_absolute_error", "macro_auc", "accuracy")
    key_metric: str = "kappa"

    def encode(self, table: ImageTable, class_order: Sequence[object] | None) -> ImageTable:
        """Number the classes from the lowest to the highest, see :func:`~monai_fgssl.data.order_classes`."""
        return order_classes(table, class_order)

    def loss(self, weight: Tensor | None, **arguments: Any) -> nn.Module:
        """Loss of logits ``(B, num_classes)`` and grades ``(B,)``, with a weight for each grade."""
        return CumulativeCrossEntropyLoss(weight, **arguments)


@dataclass(frozen=True)
class Multilabel(Task):
    """Findings: an image may have several of the classes, or none, and some may not be known."""

    name: str = MULTILABEL
    metrics: tuple[str, ...] = MULTILABEL_METRICS
    tiles: tuple[str, ...] = ("macro_auc", "macro_f1", "macro_average_precision", "micro_f1")
    key_metric: str = "macro_auc"
    default_decision: str = "thresholds of 0.5"
    independent: bool = True

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse settings that are for one class per image."""
        for name, value in {"balance": "sampling", "decision": "balanced"}.items():
            if settings.get(name) == value:
                raise SettingsError(
                    f"--{name} {value} needs images with one class each, and these may have several: leave it out."
                )
        of_sets = {"coverage_by_class": False, "set_score": "raps"}
        for name in of_sets:
            wished = settings.get(name)
            if wished is not None and wished != of_sets[name]:
                raise SettingsError(
                    f"--{name} {wished} is for sets of possible classes. Of several findings, the answers to each have "
                    "a coverage of their own in any case (--coverage): leave it out."
                )

    def encode(self, table: ImageTable, class_order: Sequence[object] | None) -> ImageTable:
        """Check that the data set has findings."""
        if not table.multilabel:
            raise DataError(
                "--task multilabel needs a list of the images (CSV or JSON) that names their findings: folders and the "
                "official data sets have one class for each image."
            )
        return super().encode(table, class_order)

    def loss(self, weight: Tensor | None, **arguments: Any) -> nn.Module:
        """Loss of logits and labels ``(B, num_classes)``, with a weight for images that have a finding."""
        return MaskedBinaryCrossEntropyLoss(weight, **arguments)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Probability of each finding by itself."""
        return logits.sigmoid()

    def default_rule(self, num_classes: int) -> DecisionRule:
        """Return a threshold of 0.5 for each finding."""
        return Thresholds((0.5,) * num_classes)

    def needs_fit(self, decision: str) -> bool:
        """True: each finding has a threshold."""
        return True

    def fit_rule(self, probabilities: ArrayLike, labels: ArrayLike, known: ArrayLike) -> DecisionRule:
        """Fit thresholds with the highest F1, see :func:`~monai_fgssl.metrics.fit_thresholds`."""
        return Thresholds(fit_thresholds(probabilities, labels))

    def fit_sets(
        self, probabilities: ArrayLike, labels: ArrayLike, coverage: float, by_class: bool, score: str
    ) -> FindingSets:
        """Fit possible answers about each finding, see :func:`~monai_fgssl.metrics.fit_finding_sets`."""
        return fit_finding_sets(probabilities, labels, coverage)

    def calibration_error(self, probabilities: ArrayLike, labels: ArrayLike) -> float:
        """Mean of :func:`~monai_fgssl.metrics.finding_calibration_error` over the findings that are known anywhere."""
        columns = zip(np.asarray(probabilities).T, np.asarray(labels).T, strict=True)
        errors = [finding_calibration_error(*column) for column in columns]
        return float(np.nanmean(errors))

    def measure(self, probabilities: ArrayLike, labels: ArrayLike, predicted: ArrayLike) -> dict[str, float]:
        """Compute each metric, see :func:`~monai_fgssl.metrics.multilabel_metrics`."""
        found = multilabel_metrics(probabilities, labels, predicted)
        return {name: found[name] for name in self.metrics}

    def measure_logits(self, logits: Tensor, labels: Tensor) -> Mapping[str, Any]:
        """Metrics of an epoch; all thresholds are 0.5."""
        return multilabel_metrics(logits.sigmoid(), labels, logits > 0)

    def intervals(
        self, probabilities: ArrayLike, labels: ArrayLike, groups: Sequence[str], predicted: ArrayLike
    ) -> dict[str, dict[str, float]]:
        """Compute each metric with its interval, see :func:`~monai_fgssl.metrics.multilabel_intervals`."""
        return multilabel_intervals(probabilities, labels, predicted, groups)

    def gap(
        self,
        probabilities: ArrayLike,
        labels: ArrayLike,
        first: ArrayLike,
        second: ArrayLike,
        groups: Sequence[str],
        predicted: ArrayLike,
    ) -> dict[str, dict[str, float]]:
        """Compute differences between two subsets, see :func:`~monai_fgssl.metrics.multilabel_gap`."""
        return multilabel_gap(probabilities, labels, predicted, first, second, groups)

    def missing(self, labels: ArrayLike, inside: ArrayLike) -> list[int]:
        """Return the findings that are not both there and absent in a subset, though they are in all images."""
        truth, of_subset = np.asarray(labels), np.asarray(labels)[np.asarray(inside)]
        kinds = [[(part == value).any(0) for value in (0, 1)] for part in (truth, of_subset)]
        of_all, here = (no & yes for no, yes in kinds)
        return np.flatnonzero(of_all & ~here).tolist()

    def difference(
        self,
        probabilities_a: ArrayLike,
        probabilities_b: ArrayLike,
        labels: ArrayLike,
        groups: Sequence[str],
        predicted_a: ArrayLike,
        predicted_b: ArrayLike,
    ) -> dict[str, dict[str, float]]:
        """Compute differences with intervals, see :func:`~monai_fgssl.metrics.multilabel_difference`."""
        return multilabel_difference(probabilities_a, probabilities_b, labels, predicted_a, predicted_b, groups)


TASKS = {task.name: task for task in (Task(), Multilabel(), Ordinal())}
"""Tasks by their names."""


def task_named(name: str) -> Task:
    """Return a task of :data:`TASKS`.

    Raises:
        SettingsError: when there is no task of this name.
    """
    if name not in TASKS:
        raise SettingsError(f"--task must be one of {', '.join(TASKS)}, got {name!r}.")
    return TASKS[name]


def task_of(name: str | None, table: ImageTable | None = None) -> Task:
    """Return the task of a run.

    Args:
        name: setting ``task``; None: multilabel if an image of the table has several classes, else multiclass.
        table: the data set; None: synthetic images.
    """
    if name is None:
        return TASKS[MULTILABEL if table is not None and table.multilabel else MULTICLASS]
    return task_named(name)


def make_loss(task: Task, weight: Tensor | None = None, **arguments: Any) -> nn.Module:
    """Make the loss of fine-tuning.

    Args:
        task: the task.
        weight: weight of each class, ``(num_classes,)``; None: all are 1.
        arguments: further arguments of the task's loss, such as ``label_smoothing``.
    """
    return task.loss(weight, **arguments)


def read_labels(
    dataset_dir: str | Path, *, task: str | None, class_order: Sequence[object] | None = None, **reading: Any
) -> ImageTable:
    """Read a data set, see :func:`~monai_fgssl.data.read_table`, with its labels in the form of a task.

    Args:
        dataset_dir: see :func:`~monai_fgssl.data.read_table`.
        task: name of the task; None: multilabel if an image has several classes, else multiclass.
        class_order: for ordinal: names of the classes, from the lowest to the highest; see
            :func:`~monai_fgssl.data.order_classes`.
        reading: further arguments of :func:`~monai_fgssl.data.read_table`.

    Raises:
        DataError: when the data set can't be read, or does not fit the task.
        SettingsError: when a setting does not fit the task.
    """
    table = read_table(dataset_dir, **reading, task=task)
    return task_of(task, table).encode(table, class_order)
