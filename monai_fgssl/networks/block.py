# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The hierarchical block that turns a stage's feature map into one vector and its class scores."""

from __future__ import annotations

from functools import partial

import torch
from monai.networks.blocks import Convolution
from torch import nn

__all__ = ["HierarchicalBlock", "ProjectionHead"]


class ProjectionHead(nn.Module):
    """Norm, linear layer, norm and ELU, which give a vector ``z``, and a linear classifier on ``z``.

    From PMG (Du et al., "Fine-Grained Visual Classification via Progressive Multi-Granularity Training of Jigsaw
    Patches", ECCV 2020, section 3.1); FG-SSL correlates ``z``.

    Args:
        in_features: size of the pooled vector.
        embedding_dim: size of ``z``.
        num_classes: number of classes.
        linear_projection: True: the self-supervised loss gets the output of the linear layer instead of ``z``. Our loss
            standardizes each feature over the batch, so the norm makes no difference to it, but the ELU does.
    """

    def __init__(self, in_features: int, embedding_dim: int, num_classes: int, linear_projection: bool = False) -> None:
        super().__init__()
        self.linear_projection = linear_projection
        self.projector = nn.Sequential(
            nn.BatchNorm1d(in_features), nn.Linear(in_features, embedding_dim), nn.BatchNorm1d(embedding_dim), nn.ELU()
        )
        self.classifier = nn.Linear(embedding_dim, num_classes)

    def forward(self, pooled: torch.Tensor, project: bool = False) -> torch.Tensor:
        """Map (B, in_features) to class scores (B, num_classes), or to (B, embedding_dim) with ``project``."""
        linear = self.projector[1](self.projector[0](pooled))
        z = self.projector[3](self.projector[2](linear))
        if project:
            return linear if self.linear_projection else z
        return self.classifier(z)


class HierarchicalBlock(nn.Module):
    """1x1 and 3x3 convolution (each with batch norm and ReLU), global max pooling and a :class:`ProjectionHead`.

    Args:
        spatial_dims: number of spatial axes.
        in_channels: channels of the feature map.
        width: channels after the 3x3 convolution, and size of the pooled vector; the 1x1 convolution has half as
            many. The 3x3 convolution dominates the cost, which grows with the square of the width.
        embedding_dim: size of ``z``.
        num_classes: number of classes.
        linear_projection: see :class:`ProjectionHead`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        width: int,
        embedding_dim: int,
        num_classes: int,
        linear_projection: bool = False,
    ) -> None:
        super().__init__()
        if width < 2:
            raise ValueError(f"width must be at least 2 (the block halves it first), got {width}.")

        convolution = partial(Convolution, spatial_dims, adn_ordering="NA", act="RELU", norm="BATCH", bias=False)
        self.convolutions = nn.Sequential(
            convolution(in_channels, width // 2, kernel_size=1), convolution(width // 2, width, kernel_size=3)
        )
        self.head = ProjectionHead(width, embedding_dim, num_classes, linear_projection)

    def pool(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Map (B, in_channels, *spatial) to its pooled vector (B, width)."""
        # The backward pass of adaptive pooling is not deterministic on CUDA, so it is not used.
        return self.convolutions(feature_map).flatten(2).amax(dim=2)

    def forward(self, feature_map: torch.Tensor, project: bool = False) -> torch.Tensor:
        """Map (B, in_channels, *spatial) to class scores (B, num_classes), or to ``z`` (B, embedding_dim)."""
        return self.head(self.pool(feature_map), project)
