# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Models of timm that return their intermediate maps: transformers, and others that are not a chain of modules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import nn

from .staged import Backbone

__all__ = ["IntermediatesBackbone"]


class IntermediatesBackbone(Backbone):
    """Backbone that uses timm's ``forward_intermediates``, which computes nothing deeper than the requested maps.

    Args:
        net: model of timm; the names of its parameters do not change.
        indices: index of the intermediate output that is the map of each stage, as ``forward_intermediates`` counts
            them.
        norm: apply the model's last norm to each map, as DINOv2 and DINOv3 do when they are used for dense features.
        channels: channels of each stage's map.
        strides: total reduction of each stage's map relative to the image.
        part_names: names of the parameters of the stem and of each stage.
        patch_size: see :class:`Backbone`.
    """

    def __init__(
        self,
        net: nn.Module,
        indices: Sequence[int],
        norm: bool,
        channels: Sequence[int],
        strides: Sequence[int],
        part_names: Sequence[Sequence[str]],
        patch_size: int = 0,
    ) -> None:
        super().__init__(channels, strides, patch_size)
        self.net: Any = net
        self.indices = list(indices)
        self.norm = norm
        self.part_names = [list(names) for names in part_names]
        # Parameters that no map uses, such as those of the classifier's pooling, are not trained.
        used = {name for names in self.part_names for name in names}
        for name, parameter in net.named_parameters():
            if name not in used:
                parameter.requires_grad_(False)

    def forward(self, x: torch.Tensor, num_stages: int | None = None) -> list[torch.Tensor]:
        """Return the maps of the first ``num_stages`` stages (default all), computing nothing deeper."""
        return list(
            self.net.forward_intermediates(
                x,
                indices=self.indices[:num_stages],
                norm=self.norm,
                stop_early=True,
                output_fmt="NCHW",
                intermediates_only=True,
            )
        )

    def truncated(self, num_stages: int) -> IntermediatesBackbone:
        """See :meth:`Backbone.truncated`."""
        # timm's own method drops the deeper layers and the classifier.
        self.net.prune_intermediate_layers(self.indices[:num_stages], prune_norm=not self.norm, prune_head=True)
        short = IntermediatesBackbone(
            self.net,
            self.indices[:num_stages],
            self.norm,
            self.channels[:num_stages],
            self.strides[:num_stages],
            self.part_names[: num_stages + 1],
            self.patch_size,
        )
        short._like(self)
        return short

    def parts(self) -> list[list[nn.Parameter]]:
        """See :meth:`Backbone.parts`."""
        by_name = dict(self.net.named_parameters())
        return [[by_name[name] for name in names] for names in self.part_names]

    def __prepare_scriptable__(self) -> NoReturn:
        """Refuse ``torch.jit.script`` with a message that names other ways."""
        raise NotImplementedError(
            f"{type(self.net).__name__} of timm can't be scripted: export it to ONNX, or trace it (torch.jit.trace)."
        )
