# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Classification metrics of an epoch as Ignite metrics, for MONAI's evaluators."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.metrics import EpochMetric
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_fgssl.metrics.classification import ORDINAL_METRICS, classification_metrics

__all__ = ["epoch_metric"]


def _logits_and_labels(output: dict[str, Tensor] | list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return logits and labels of a batch, or of the list of images into which MONAI has decollated it."""
    if isinstance(output, dict):
        return output[Keys.PRED], output[Keys.LABEL]
    pred, label = (torch.stack([torch.as_tensor(item[key]) for item in output]) for key in (Keys.PRED, Keys.LABEL))
    return pred, label


class _LocalEpochMetric(EpochMetric):
    """Epoch metric without Ignite's gathering, which would count each image once for every process."""

    def compute(self) -> float:
        return self.compute_fn(torch.cat(self._predictions), torch.cat(self._targets))


Measure = Callable[[Tensor, Tensor], Mapping[str, Any]]
"""Function of logits ``(B, num_classes)`` and labels that returns metrics by name."""


def measure_classes(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Metrics of :func:`classification_metrics`, also those of ordered classes."""
    return classification_metrics(logits.softmax(1), labels, metrics=ORDINAL_METRICS)


def epoch_metric(name: str, undefined: float = math.nan, measure: Measure = measure_classes) -> EpochMetric:
    """Make a metric over all images of an epoch.

    With several processes, each process computes the metric from its own outputs. A
    :class:`~monai_fgssl.engines.HierarchicalEvaluator` gives every process the outputs of the whole epoch.

    Args:
        name: metric of :func:`classification_metrics`, also one of ordered classes.
        undefined: value where the metric is not defined, such as kappa if all images are of one class and predicted
            as it. NaN can't choose the best epoch.
        measure: function of logits and labels that returns the metrics.

    Returns:
        An Ignite metric of ``pred`` (logits, ``(B, num_classes)``) and ``label`` (``(B,)``).
    """

    def compute(logits: Tensor, labels: Tensor) -> float:
        value = float(measure(logits, labels)[name])
        return undefined if math.isnan(value) else value

    return _LocalEpochMetric(compute, output_transform=_logits_and_labels, check_compute_fn=False)
