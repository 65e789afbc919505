# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Linear classifier on frozen features: it shows how good a network is without fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from monai_fgssl.data import CachedImages
from monai_fgssl.engines.calibration import fit_decision
from monai_fgssl.engines.embedding import embed_images
from monai_fgssl.engines.handlers import BatchNormUpdater, PredictionCollector
from monai_fgssl.metrics import solve_linear_probe
from monai_fgssl.tasks import MULTICLASS, TASKS, Task

__all__ = ["probe_frozen"]


def probe_frozen(
    network: nn.Module,
    train: CachedImages,
    test: CachedImages,
    device: str | torch.device,
    num_classes: int,
    statistics_loader: Iterable[dict[str, Any]] | None = None,
    validation: CachedImages | None = None,
    decision: str = "likeliest",
    task: Task = TASKS[MULTICLASS],
) -> PredictionCollector:
    """Solve a linear probe on the means of all stages, and predict images with it. The weights do not change.

    Args:
        network: a :class:`~monai_fgssl.networks.StagedNet` on the device.
        train: labeled images to solve the probe on.
        test: images to predict.
        device: where to compute.
        num_classes: number of classes of the probe.
        statistics_loader: batches of images on which the running statistics of batch norms are measured first; a
            network with random weights needs that. None: the statistics do not change.
        validation: labeled images to which a balanced decision is fitted; needed only for it.
        decision: see :func:`~monai_fgssl.engines.calibration.fit_decision`.
        task: task of the labels.

    Returns:
        Predictions for ``test``, not calibrated, with one step.

    Raises:
        ValueError: when fewer than two classes have a labeled image.
    """
    if statistics_loader is not None:
        BatchNormUpdater(network, statistics_loader, device).update()
    probe = solve_linear_probe(embed_images(network, train, device), train.labels, train.groups, num_classes)

    def predict(images: CachedImages) -> PredictionCollector:
        logits = embed_images(network, images, device) @ probe.weight.T + probe.bias
        return PredictionCollector(
            list(images.names), list(images.groups), [images.labels], [logits[:, None]], task=task
        )

    predictions = predict(test)
    if validation is not None and len(validation) and task.needs_fit(decision):
        predictions.adjustment = fit_decision(predict(validation), 1.0, decision, train)
    return predictions
