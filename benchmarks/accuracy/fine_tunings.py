# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Other ways to fine-tune, for the package's trainer."""

from __future__ import annotations

import torch
from monai.optimizers import WarmupCosineSchedule
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from monai_fgssl.data import CachedImages

__all__ = ["HeadsFirst", "LogitAdjustedLoss"]


class HeadsFirst(LambdaLR):
    """Warm-up and cosine, with the backbone at rest for the first half (Kumar et al., ICLR 2022, sec. 4).

    Args:
        optimizer: of :meth:`monai_fgssl.networks.HierarchicalNet.parameter_groups`, the backbone's two groups first.
        warmup_steps: of the rest; the backbone needs none when the heads are trained.
        t_total: steps in all.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, warmup_steps: int, t_total: int) -> None:
        cosine = WarmupCosineSchedule(optimizer, warmup_steps, t_total).lr_lambda

        def backbone(step: int) -> float:
            return cosine(step) if 2 * step >= t_total else 0.0

        super().__init__(optimizer, [backbone, backbone, cosine, cosine])


class LogitAdjustedLoss(nn.Module):
    """Cross-entropy of logits plus the logarithm of the classes' shares (Menon et al., ICLR 2021, eq. 10).

    Args:
        dataset: the labeled images.
        num_classes: classes of the network; each counts one image more than it has.
        device: of the shares.
    """

    def __init__(self, dataset: CachedImages, num_classes: int, device: str | torch.device) -> None:
        super().__init__()
        counts = torch.bincount(dataset.labels, minlength=num_classes).float() + 1
        self.log_shares = (counts / counts.sum()).log().to(device)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of logits ``(B, num_classes)`` and labels ``(B,)``."""
        return nn.functional.cross_entropy(logits + self.log_shares, labels)
