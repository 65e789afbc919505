# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A linear classifier of frozen features: how far a network comes without any fine-tuning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from monai_fgssl.data import CachedImages
from monai_fgssl.engines.embedding import embed_images
from monai_fgssl.engines.handlers import BatchNormUpdater, PredictionCollector
from monai_fgssl.metrics import solve_linear_probe

__all__ = ["probe_frozen"]


def probe_frozen(
    network: nn.Module,
    train: CachedImages,
    test: CachedImages,
    device: str | torch.device,
    num_classes: int,
    statistics_loader: Iterable[dict[str, Any]] | None = None,
) -> PredictionCollector:
    """Solve a linear probe of the means of all stages, and predict images with it; the weights stay as they are.

    Args:
        network: a :class:`~monai_fgssl.networks.StagedNet` on the device.
        train: labeled images to solve it on.
        test: images to predict.
        device: where to compute.
        num_classes: classes of the probe.
        statistics_loader: batches of images that the running statistics of batch norms are measured on first, as random
            weights need it; None leaves them as they are.

    Returns:
        The predictions for ``test``, not calibrated, with one step.

    Raises:
        ValueError: when fewer than two classes have a labeled image.
    """
    if statistics_loader is not None:
        BatchNormUpdater(network, statistics_loader, device).update()
    probe = solve_linear_probe(embed_images(network, train, device), train.labels, train.groups, num_classes)
    logits = embed_images(network, test, device) @ probe.weight.T + probe.bias
    return PredictionCollector(list(test.names), list(test.groups), [test.labels], [logits[:, None]])
