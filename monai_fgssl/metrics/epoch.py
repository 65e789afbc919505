# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Classification metrics of an epoch as Ignite metrics, for MONAI's evaluators."""

from __future__ import annotations

from ignite.metrics import EpochMetric
from monai.handlers import from_engine
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_fgssl.metrics.classification import classification_metrics

__all__ = ["epoch_metric"]


def epoch_metric(name: str) -> EpochMetric:
    """Metric over all images of an epoch, gathered from all processes.

    Args:
        name: a key of what :func:`classification_metrics` returns.

    Returns:
        An Ignite metric of ``pred`` (logits, ``(B, num_classes)``) and ``label`` (``(B,)``).
    """

    def compute(logits: Tensor, labels: Tensor) -> float:
        return classification_metrics(logits.softmax(1), labels)[name]

    return EpochMetric(compute, output_transform=from_engine([Keys.PRED, Keys.LABEL]), check_compute_fn=False)
