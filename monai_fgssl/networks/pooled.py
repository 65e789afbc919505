# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A linear classifier on the means of all stages of a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .base import StagedNet
from .one_step import OneStepNet

__all__ = ["PooledNet"]

MIN_STD = 1e-6
"""Standard deviation below which a feature counts as constant. Such a feature is centered, but not scaled."""


class StageMap(nn.Module):
    """Map of a stage as the classifier gets it, for heat maps.

    It is a view of the stage's map. A gradient with respect to it comes from the classifier only, not from deeper
    stages that use the same map.
    """

    def forward(self, feature_map: torch.Tensor) -> torch.Tensor:
        """Map (B, C, *spatial) to the same values."""
        return feature_map.view_as(feature_map)


class PooledNet(OneStepNet):
    """Backbone, global average of each stage's map, fixed standardization, and one linear classifier on all averages.

    This is the network of a linear probe. The classifier is solved on frozen features in seconds, see
    :func:`~monai_fgssl.engines.solve_heads`, and the result is a model like any other. It can be trained further; the
    standardization does not change then. The interface is that of :class:`~monai_fgssl.networks.HierarchicalNet`, with
    one step.

    Args:
        backbone: a name that :func:`~monai_fgssl.networks.make_backbone` knows, or a module with the attributes of
            :class:`~monai_fgssl.networks.StagedBackbone`.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of classes.
        stages: stages of the backbone that the classifier reads: the last so many, or their indices (from 0,
            increasing). None: all.
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
        feature_mean: vector ``(D,)`` that is subtracted from the means of the stages; 0 until it is set.
        feature_std: vector ``(D,)`` by which they are divided afterwards; 1 until it is set.

    Raises:
        ValueError: on an unknown backbone, stages that it does not have, or images of another shape or integer type.

    Example:
        >>> net = PooledNet("resnet18", num_classes=7).eval()
        >>> x = torch.rand(2, 3, 64, 64)
        >>> net(x).shape, [tuple(means.shape) for means in net.stage_means(x)]
        (torch.Size([2, 7]), [(2, 64), (2, 128), (2, 256), (2, 512)])
    """

    # For the type checker only: TorchScript can't resolve annotations of attributes that are strings.
    if TYPE_CHECKING:
        feature_mean: torch.Tensor
        feature_std: torch.Tensor

    def __init__(
        self,
        backbone: str | nn.Module = "resnet18",
        spatial_dims: int = 2,
        in_channels: int = 3,
        num_classes: int = 7,
        stages: int | Sequence[int] | None = None,
        stem: str = "imagenet",
        weights: str | Path | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        image_size: int | Sequence[int] | None = None,
        drop_path: float = 0.0,
        inflate_weights: bool = False,
    ) -> None:
        super().__init__(
            backbone,
            spatial_dims,
            in_channels,
            stages,
            stem,
            weights,
            mean,
            std,
            image_size,
            drop_path,
            inflate_weights,
        )
        self.stage_maps = nn.ModuleList(StageMap() for _ in self.stage_indices)
        num_features = sum(self.backbone.channels[index] for index in self.stage_indices)
        self.register_buffer("feature_mean", torch.zeros(num_features))
        self.register_buffer("feature_std", torch.ones(num_features))
        self._add_classifier(num_features, num_classes)

    @classmethod
    def of(cls, network: StagedNet, num_classes: int) -> PooledNet:
        """Put a classifier on all stages of a network's backbone. The two networks then share the backbone.

        Args:
            network: network from which backbone, normalization of the image, mode, precision and device are taken. Its
                blocks and classifiers are left out.
            num_classes: number of classes.
        """
        pooled = cls(
            network.backbone,
            network.spatial_dims,
            network.in_channels,
            num_classes,
        )
        # Both networks hold the same backbone object, so a change of one shows in the other.
        pooled.backbone = network.backbone
        pooled.mean, pooled.std = network.mean.clone(), network.std.clone()
        pooled._backbone_name, pooled._stem_name = network._backbone_name, network._stem_name
        pooled._image_size = network._image_size
        return pooled.to(network.mean).train(network.training)

    def classify(self, means: torch.Tensor) -> torch.Tensor:
        """Class scores (B, num_classes) from known means (B, D), concatenated over the stages."""
        return self.classifier(self._standardize(means))

    def select(self, means: torch.Tensor) -> torch.Tensor:
        """Select the means (B, D) that the classifier reads from the concatenated means (B, all channels)."""
        stages = means.split(list(self.backbone.channels), dim=1)
        return torch.cat([stages[index] for index in self.stage_indices], dim=1)

    @torch.no_grad()
    def fit_standardization(self, means: torch.Tensor) -> None:
        """Set ``feature_mean`` and ``feature_std`` to those of some images.

        Args:
            means: means (N, D), concatenated over the stages.
        """
        values = means.double()
        std = values.std(dim=0, correction=0)
        self.feature_mean.copy_(values.mean(dim=0))
        self.feature_std.copy_(torch.where(std < MIN_STD, 1.0, std))

    def heat_map_layers(self) -> list[nn.Module]:
        """See :meth:`StagedNet.heat_map_layers`."""
        return list(self.stage_maps)

    def definition(self) -> dict[str, Any]:
        """See :meth:`StagedNet.definition`."""
        return super().definition() | {"stages": list(self.stage_indices)}

    def _standardize(self, means: torch.Tensor) -> torch.Tensor:
        return (means - self.feature_mean) / self.feature_std

    def _features(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.backbone(self.normalize(x))
        means = [
            stage_map(maps[self.stage_indices[k]]).flatten(2).mean(dim=2) for k, stage_map in enumerate(self.stage_maps)
        ]
        return self._standardize(torch.cat(means, dim=1))

    def _vectors(self, features: torch.Tensor) -> torch.Tensor:
        return features
