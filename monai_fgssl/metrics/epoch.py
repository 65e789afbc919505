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
    """Return logits and labels of a batch, or of the list of images into which MONAI has decollated it."""
    if isinstance(output, dict):
        return output[Keys.PRED], output[Keys.LABEL]
    pred, label = (torch.stack([torch.as_tensor(item[key]) for item in output]) for key in (Keys.PRED, Keys.LABEL))
    return pred, label


class _LocalEpochMetric(EpochMetric):
    """Epoch metric without Ignite's gathering, which would count each image once for every process."""

    def compute(self) -> float:
        return self.compute_fn(torch.cat(self._predictions), torch.cat(self._targets))


def epoch_metric(name: str) -> EpochMetric:
    """Make a metric over all images of an epoch.

    With several processes, each process computes the metric from its own outputs. A
    :class:`~monai_fgssl.engines.HierarchicalEvaluator` gives every process the outputs of the whole epoch.

    Args:
        name: key of the result of :func:`classification_metrics`.

    Returns:
        An Ignite metric of ``pred`` (logits, ``(B, num_classes)``) and ``label`` (``(B,)``).
    """

    def compute(logits: Tensor, labels: Tensor) -> float:
        return classification_metrics(logits.softmax(1), labels)[name]

    return _LocalEpochMetric(compute, output_transform=_logits_and_labels, check_compute_fn=False)
