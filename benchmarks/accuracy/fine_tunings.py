# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Other ways to fine-tune, for the package's trainer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_fgssl.data import CachedImages

__all__ = ["LogitAdjustedLoss"]


class LogitAdjustedLoss(nn.Module):
    """Cross-entropy of logits plus the logarithm of the classes' shares (Menon et al., ICLR 2021, eq. 10).

    Args:
        dataset: labeled images.
        num_classes: number of classes of the network. One is added to the number of images of each class.
        device: device of the shares.
    """

    def __init__(self, dataset: CachedImages, num_classes: int, device: str | torch.device) -> None:
        super().__init__()
        counts = torch.bincount(dataset.labels, minlength=num_classes).float() + 1
        self.log_shares = (counts / counts.sum()).log().to(device)

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of logits ``(B, num_classes)`` and labels ``(B,)``."""
        return nn.functional.cross_entropy(logits + self.log_shares, labels)
