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

from monai_fgssl.metrics import LogitAdjustment, PredictionSets, decide

__all__ = ["PredictionCollector"]


@dataclass
class PredictionCollector:
    """Collects the predictions of a :class:`~monai_fgssl.engines.HierarchicalEvaluator` for each image.

    Attributes:
        names: name of each image, as in the batches.
        groups: lesion or patient of each image, if the batches have labels.
        temperature: temperature of the calibration, see :func:`~monai_fgssl.metrics.fit_temperature`.
        prediction_sets: rule that makes sets of possible classes from the probabilities; None: no sets.
        adjustment: rule that decides for a class, see :func:`~monai_fgssl.metrics.decide`; None: the likeliest class.
    """

    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    _labels: list[Tensor] = field(default_factory=list)
    _stage_logits: list[Tensor] = field(default_factory=list)
    temperature: float = field(default=1.0, kw_only=True)
    prediction_sets: PredictionSets | None = field(default=None, kw_only=True)
    adjustment: LogitAdjustment | None = field(default=None, kw_only=True)

    def attach(self, engine: Workflow) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._clear)
        # This must come before a decollation, which splits the batch.
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._add)

    def _clear(self) -> None:
        for values in (self.names, self.groups, self._labels, self._stage_logits):
            values.clear()

    def _add(self, engine: Workflow) -> None:
        batch: dict[str, Any] = engine.state.batch
        self.names.extend(batch["name"])
        if Keys.LABEL in engine.state.output:
            self.groups.extend(batch["group"])
            self._labels.append(engine.state.output[Keys.LABEL].cpu())
        self._stage_logits.append(engine.state.output["stage_logits"].cpu())

    @property
    def labels(self) -> Tensor:
        """Labels ``(N,)`` int64, if the batches have labels."""
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
        """Softmax of the summed logits divided by the temperature, ``(N, num_classes)``."""
        return (self.logits / self.temperature).softmax(1)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """Class that is decided for, ``(N,)``."""
        return decide(self.probabilities, self.adjustment)
