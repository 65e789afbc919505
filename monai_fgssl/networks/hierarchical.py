# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The network of FG-SSL: a hierarchical block on each of several stages, and a head on all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from monai_fgssl.utils.deprecation import renamed_argument

from .base import StagedNet
from .block import HierarchicalBlock, ProjectionHead

__all__ = ["HierarchicalNet"]


class HierarchicalNet(StagedNet):
    """Backbone with a :class:`HierarchicalBlock` on K of its stages, and a concat head on their pooled vectors.

    This is the network of PMG (Du et al., ECCV 2020) and FG-SSL. Training goes through the steps ``1..num_steps``. Step
    ``k <= K`` is stage k, and computes nothing deeper than that stage. Step ``K + 1`` is the concat head. The
    prediction is the sum of the logits of all K + 1 classifiers (PMG eq. 7).

    Args:
        backbone: a name that :func:`~monai_fgssl.networks.make_backbone` knows, or a module with the attributes of
            :class:`~monai_fgssl.networks.StagedBackbone`.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        num_classes: number of classes.
        stages: stages of the backbone that get a block: the last so many, or their indices (from 0, increasing).
        width: size of a stage's pooled vector, see :class:`HierarchicalBlock`. The time grows with its square.
        embedding_dim: size of the vectors ``z``.
        stem: ``imagenet``, or ``small`` for ResNets on images up to about 64 px.
        weights: ``pretrained``, ``imagenet``, ``hf-hub:OWNER/NAME`` or a file, see
            :func:`~monai_fgssl.networks.make_backbone`.
        mean: value that is subtracted from the image, one number or one per channel. Default: that of the weights, or
            0.5.
        std: value for each channel by which the image is divided afterwards.
        linear_projection: vectors of the heads that the self-supervised loss gets, see :class:`ProjectionHead`.
        image_size: see :class:`StagedNet`.
        drop_path: see :class:`StagedNet`.
        inflate_weights: see :class:`StagedNet`.

    Attributes:
        num_steps: K + 1.

    Raises:
        ValueError: on an unknown backbone, stages that it does not have, or images of another shape or integer type.

    Example:
        >>> net = HierarchicalNet("resnet18", num_classes=7).eval()
        >>> x = torch.rand(2, 3, 64, 64)
        >>> net(x).shape, net.stage_logits(x).shape, net.vectors_at_step(x, 1).shape
        (torch.Size([2, 7]), torch.Size([2, 4, 7]), torch.Size([2, 256]))
    """

    # For the type checker only: TorchScript can't resolve annotations of attributes that are strings.
    if TYPE_CHECKING:
        blocks: Sequence[HierarchicalBlock]

    @renamed_argument("features", "embedding_dim")
    def __init__(
        self,
        backbone: str | nn.Module = "resnet18",
        spatial_dims: int = 2,
        in_channels: int = 3,
        num_classes: int = 7,
        stages: int | Sequence[int] = 3,
        width: int = 256,
        embedding_dim: int = 256,
        stem: str = "imagenet",
        weights: str | Path | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        linear_projection: bool = False,
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
        blocks = [
            HierarchicalBlock(
                spatial_dims, self.backbone.channels[index], width, embedding_dim, num_classes, linear_projection
            )
            for index in self.stage_indices
        ]
        self.add_module("blocks", nn.ModuleList(blocks))
        self.concat_head = ProjectionHead(width * len(blocks), embedding_dim, num_classes, linear_projection)
        self.num_steps = len(blocks) + 1
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict with the sum of the logits of all steps (PMG eq. 7).

        Args:
            x: images (B, in_channels, *spatial) in [0, 1], of any size.

        Returns:
            Logits (B, num_classes).
        """
        return self._all_steps(x, False).sum(dim=1)

    @torch.jit.export
    def logits_at_step(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """Logits (B, num_classes) of one step in 1..K + 1. Nothing deeper than the step needs is computed."""
        return self._one_step(x, step, False)

    @torch.jit.export
    def vectors_at_step(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """Vectors ``z`` (B, embedding_dim) of one step in 1..K + 1, which the self-supervised loss compares."""
        return self._one_step(x, step, True)

    @torch.jit.export
    def stage_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of every step, (B, K + 1, num_classes); their sum over axis 1 is the prediction."""
        return self._all_steps(x, False)

    @torch.jit.export
    def stage_vectors(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors ``z`` of every step, (B, K + 1, embedding_dim)."""
        return self._all_steps(x, True)

    def classifiers(self) -> dict[str, nn.Linear]:
        """The linear classifier of each step, by the name of its module."""
        heads = {f"blocks.{k}.head": block.head for k, block in enumerate(self.blocks)} | {
            "concat_head": self.concat_head
        }
        return {f"{name}.classifier": head.classifier for name, head in heads.items()}

    def heat_map_layers(self) -> list[nn.Module]:
        """See :meth:`StagedNet.heat_map_layers`: the 3x3 convolution of each block."""
        return [block.convolutions for block in self.blocks]

    def definition(self) -> dict[str, Any]:
        """See :meth:`StagedNet.definition`."""
        return super().definition() | {
            "num_classes": self.concat_head.classifier.out_features,
            "stages": list(self.stage_indices),
            "width": self.width,
            "embedding_dim": self.concat_head.classifier.in_features,
            "linear_projection": self.concat_head.linear_projection,
        }

    def _one_step(self, x: torch.Tensor, step: int, project: bool) -> torch.Tensor:
        if step < 1 or step > self.num_steps:
            raise ValueError(f"step must be from 1 to {self.num_steps}, got {step}.")
        x = self.normalize(x)
        for k, block in enumerate(self.blocks):
            if step == k + 1:
                return block(self.backbone(x, self.stage_indices[k] + 1)[-1], project)
        return self.concat_head(torch.cat(self._pooled(x), dim=1), project)

    def _all_steps(self, x: torch.Tensor, project: bool) -> torch.Tensor:
        pooled = self._pooled(self.normalize(x))
        outputs = [block.head(pooled[k], project) for k, block in enumerate(self.blocks)]
        outputs.append(self.concat_head(torch.cat(pooled, dim=1), project))
        return torch.stack(outputs, dim=1)

    def _pooled(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = self.backbone(x)
        return [block.pool(maps[self.stage_indices[k]]) for k, block in enumerate(self.blocks)]
