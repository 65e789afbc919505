# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Predictions of an evaluation, image by image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Workflow
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_fgssl.metrics import PredictionSets

__all__ = ["PredictionCollector"]


@dataclass
class PredictionCollector:
    """Collects what a :class:`~monai_fgssl.engines.HierarchicalEvaluator` says of each image.

    Attributes:
        names: of each image, as in the batches.
        groups: lesion or patient of each image, where the batches have labels.
        temperature: of the calibration, see :func:`~monai_fgssl.metrics.fit_temperature`.
        prediction_sets: rule that makes sets of possible classes from the probabilities; None: there are none.
    """

    names: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    _labels: list[Tensor] = field(default_factory=list)
    _stage_logits: list[Tensor] = field(default_factory=list)
    temperature: float = field(default=1.0, kw_only=True)
    prediction_sets: PredictionSets | None = field(default=None, kw_only=True)

    def attach(self, engine: Workflow) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._clear)
        # Before a decollation, which would take the batch apart.
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
        """``(N,)`` int64, where the batches have labels."""
        return torch.cat(self._labels)

    @property
    def stage_logits(self) -> Tensor:
        """``(N, K + 1, num_classes)`` float32."""
        return torch.cat(self._stage_logits)

    @property
    def logits(self) -> Tensor:
        """Sum of the logits of all steps, ``(N, num_classes)`` float32."""
        return self.stage_logits.sum(1)

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the summed logits divided by the temperature, ``(N, num_classes)``."""
        return (self.logits / self.temperature).softmax(1)
