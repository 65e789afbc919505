# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The baseline: a backbone with global average pooling, a linear classifier and Barlow Twins' projector."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_fgssl.utils.deprecation import renamed_argument

from .one_step import OneStepNet

__all__ = ["PlainNet"]


class PlainNet(OneStepNet):
    """The usual image classifier, for plain supervised training and plain Barlow Twins (Zbontar et al., ICML 2021).

    As in Barlow Twins, only the self-supervised loss uses the projector. The classifier reads the pooled features.
    The interface is that of :class:`~monai_fgssl.networks.HierarchicalNet`, with one step.

    Args:
        backbone: a name that :func:`~monai_fgssl.networks.make_backbone` knows, or a module with the attributes of
            :class:`~monai_fgssl.networks.StagedBackbone`.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of classes.
        embedding_dim: width of the projector's three layers and size of the vectors ``z``.
        stem: ``imagenet``, or ``small`` for ResNets on images up to about 64 px.
        weights: ``pretrained``, ``imagenet``, ``hf-hub:OWNER/NAME`` or a file, see
            :func:`~monai_fgssl.networks.make_backbone`.
        mean: value that is subtracted from the image, one number or one per channel. Default: that of the weights, or
            0.5.
        std: value for each channel by which the image is divided afterwards.
        image_size: see :class:`StagedNet`.
        drop_path: see :class:`StagedNet`.
        inflate_weights: see :class:`StagedNet`.

    Attributes:
        num_steps: 1.

    Raises:
        ValueError: on an unknown backbone, or images of another shape or integer type.
    """

    @renamed_argument("features", "embedding_dim")
    def __init__(
        self,
        backbone: str | nn.Module = "resnet18",
        spatial_dims: int = 2,
        in_channels: int = 3,
        num_classes: int = 7,
        embedding_dim: int = 256,
        stem: str = "imagenet",
        weights: str | Path | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        image_size: int | Sequence[int] | None = None,
        drop_path: float = 0.0,
        inflate_weights: bool = False,
    ) -> None:
        super().__init__(
            backbone, spatial_dims, in_channels, 1, stem, weights, mean, std, image_size, drop_path, inflate_weights
        )
        channels = self.backbone.channels[-1]
        self.projector = nn.Sequential(
            nn.Linear(channels, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim),
            nn.ReLU(),
            nn.Linear(embedding_dim, embedding_dim, bias=False),
            nn.BatchNorm1d(embedding_dim),
            nn.ReLU(),
            nn.Linear(embedding_dim, embedding_dim, bias=False),
        )
        self._add_classifier(channels, num_classes)

    def definition(self) -> dict[str, Any]:
        """See :meth:`StagedNet.definition`."""
        return super().definition() | {"embedding_dim": self.projector[0].out_features}

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(self.normalize(x))[-1].flatten(2).mean(dim=2)

    def _vectors(self, features: torch.Tensor) -> torch.Tensor:
        return self.projector(features)
