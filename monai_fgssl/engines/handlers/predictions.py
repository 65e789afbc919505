# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Collect the predictions of an evaluation for each image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Workflow
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from numpy.typing import NDArray
from torch import Tensor

from monai_fgssl.metrics import DecisionRule, FeatureDistances, FindingSets, PredictionSets, decide, reasons_to_refer
from monai_fgssl.tasks import MULTICLASS, TASKS, Task

__all__ = ["PredictionCollector"]


@dataclass
class PredictionCollector:
    """Collects the predictions of a :class:`~monai_fgssl.engines.HierarchicalEvaluator` for each image.

    Attributes:
        names: name of each image, as in the batches.
        groups: lesion or patient of each image, if the batches have labels.
        temperature: temperature of the calibration, see :func:`~monai_fgssl.metrics.fit_temperature`.
        prediction_sets: rule that makes sets of possible classes from the probabilities; None: no sets.
        task: task of the network, which turns logits into probabilities.
        adjustment: rule that decides for a class, see :func:`~monai_fgssl.metrics.decide`; None: the likeliest class.
        feature_distances: rule that tells images that are unlike the training images; None: there is none. The
            evaluator must then give ``stage_means``.
    """

    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    _labels: list[Tensor] = field(default_factory=list)
    _stage_logits: list[Tensor] = field(default_factory=list)
    temperature: float = field(default=1.0, kw_only=True)
    prediction_sets: PredictionSets | FindingSets | None = field(default=None, kw_only=True)
    adjustment: DecisionRule | None = field(default=None, kw_only=True)
    feature_distances: FeatureDistances | None = field(default=None, kw_only=True)
    _scores: list[NDArray[np.float64]] = field(default_factory=list, kw_only=True)
    task: Task = field(default=TASKS[MULTICLASS], kw_only=True)

    def attach(self, engine: Workflow) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._clear)
        # This must come before a decollation, which splits the batch.
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._add)

    def _clear(self) -> None:
        for values in (self.names, self.groups, self._labels, self._stage_logits, self._scores):
            values.clear()

    def _add(self, engine: Workflow) -> None:
        batch: dict[str, Any] = engine.state.batch
        self.names.extend(batch["name"])
        if Keys.LABEL in engine.state.output:
            self.groups.extend(batch["group"])
            self._labels.append(engine.state.output[Keys.LABEL].cpu())
        self._stage_logits.append(engine.state.output["stage_logits"].cpu())
        if self.feature_distances is not None:
            self._scores.append(self.feature_distances.scores(engine.state.output["stage_means"].cpu()))

    @property
    def labels(self) -> Tensor:
        """Labels int64, if the batches have labels: ``(N,)``, or ``(N, num_classes)`` for findings."""
        return torch.cat(self._labels)

    @property
    def stage_logits(self) -> Tensor:
        """Logits of each step, ``(N, K + 1, num_classes)`` float32."""
        return torch.cat(self._stage_logits)

    @property
    def logits(self) -> Tensor:
        """Sum of the logits of all steps, ``(N, num_classes)`` float32."""
        return self.stage_logits.sum(1)

    @property
    def probabilities(self) -> Tensor:
        """Probabilities of the summed logits divided by the temperature, ``(N, num_classes)``."""
        return self.task.probabilities(self.logits / self.temperature)

    @property
    def distance_scores(self) -> NDArray[np.float64] | None:
        """Scores of :meth:`~monai_fgssl.metrics.FeatureDistances.scores`, ``(N,)``; None without the rule."""
        return np.concatenate(self._scores) if self._scores else None

    @property
    def possible(self) -> NDArray[np.bool_] | None:
        """True for each possible class, or finding that may be there, ``(N, num_classes)``; None without a rule."""
        if self.prediction_sets is None:
            return None
        return self.prediction_sets.contains(self.probabilities.double().numpy(), self.predicted)

    @property
    def reasons(self) -> list[tuple[str, ...]] | None:
        """Reasons to refer each image to a person, see :func:`~monai_fgssl.metrics.reasons_to_refer`."""
        if self.prediction_sets is None:
            return reasons_to_refer(None, self.distance_scores)
        return self.prediction_sets.reasons(self.probabilities.double().numpy(), self.predicted, self.distance_scores)

    @property
    def predicted(self) -> NDArray[Any]:
        """Class that is decided for, ``(N,)``; for findings True for those that are, ``(N, num_classes)``."""
        probabilities = self.probabilities
        return decide(probabilities, self.adjustment or self.task.default_rule(probabilities.shape[1]))
