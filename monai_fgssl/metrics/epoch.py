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


class _LocalEpochMetric(EpochMetric):
    """Without Ignite's gathering: with it each image would count once for every process."""

    def compute(self) -> float:
        return self.compute_fn(torch.cat(self._predictions), torch.cat(self._targets))


def epoch_metric(name: str) -> EpochMetric:
    """Metric over all images of an epoch.

    With several processes it is that of what each has in its own outputs; a
    :class:`~monai_fgssl.engines.HierarchicalEvaluator` puts the whole epoch there.

    Args:
        name: a key of what :func:`classification_metrics` returns.

    Returns:
        An Ignite metric of ``pred`` (logits, ``(B, num_classes)``) and ``label`` (``(B,)``).
    """

    def compute(logits: Tensor, labels: Tensor) -> float:
        return classification_metrics(logits.softmax(1), labels)[name]

    return _LocalEpochMetric(compute, output_transform=_logits_and_labels, check_compute_fn=False)
