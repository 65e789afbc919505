# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Classification metrics of an epoch as Ignite metrics, for MONAI's evaluators."""

from __future__ import annotations

import torch
from ignite.metrics import EpochMetric
from monai.utils.enums import CommonKeys as Keys
from torch import Tensor

from monai_fgssl.metrics.classification import classification_metrics

__all__ = ["epoch_metric"]


def _logits_and_labels(output: dict[str, Tensor] | list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Of a batch, or of the images that MONAI has taken a batch apart into."""
    if isinstance(output, dict):
        return output[Keys.PRED], output[Keys.LABEL]
    pred, label = (torch.stack([torch.as_tensor(item[key]) for item in output]) for key in (Keys.PRED, Keys.LABEL))
    return pred, label


def epoch_metric(name: str) -> EpochMetric:
    """Metric over all images of an epoch, gathered from all processes.

    Args:
        name: a key of what :func:`classification_metrics` returns.

    Returns:
        An Ignite metric of ``pred`` (logits, ``(B, num_classes)``) and ``label`` (``(B,)``).
    """

    def compute(logits: Tensor, labels: Tensor) -> float:
        return classification_metrics(logits.softmax(1), labels)[name]

    return EpochMetric(compute, output_transform=_logits_and_labels, check_compute_fn=False)
