# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Backbones cut into a stem and stages, so that a forward pass can stop at any stage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["Backbone", "StagedBackbone", "as_backbone"]


class Backbone(nn.Module):
    """Base of the backbones: a forward pass returns the maps of all stages, or only of the first few.

    Attributes:
        channels: channels of each stage's map.
        strides: total reduction of each stage's map relative to the image.
        patch_size: size in pixels, along an axis, of the patches of a transformer; 0: no patches.
        normalization: mean and standard deviation for each channel that the weights were trained with, for images in
            [0, 1]; None: no weights were loaded, or the weights do not name them.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], patch_size: int = 0) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.strides = tuple(strides)
        self.patch_size = patch_size
        self.normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def num_stages(self) -> int:
        """Number of stages."""
        return len(self.channels)

    @abstractmethod
    def truncated(self, num_stages: int) -> Backbone:
        """Return a backbone of the first stages. Do not use the original backbone afterwards."""

    @abstractmethod
    def parts(self) -> list[list[nn.Parameter]]:
        """Parameters of the stem and of each stage, without parameters that no map depends on."""

    def _like(self, other: Backbone) -> Backbone:
        self.normalization = other.normalization
        return self


class StagedBackbone(Backbone):
    """A stem followed by stages. Each stage gets the output of the stage before it.

    The networks of this package accept any ``nn.Module`` that has ``stem``, ``stages``, ``channels`` and ``strides``.
    They do not call its own ``forward``.

    Args:
        stem: module that maps an image (B, in_channels, *spatial) to the input of the first stage.
        stages: modules from shallow to deep; stage ``i`` gives a map (B, channels[i], *spatial / strides[i]).
        channels: channels of each stage's map.
        strides: total reduction of each stage's map relative to the image.
        to_maps: modules that make the map of each stage from its output, which the next stage reads unchanged; None:
            the output is the map.
        patch_size: see :class:`Backbone`.

    Raises:
        ValueError: when ``stages``, ``channels``, ``strides`` and ``to_maps`` differ in length.

    Example:
        >>> from monai_fgssl.networks import make_backbone
        >>> backbone = make_backbone("resnet18", spatial_dims=2, in_channels=3)
        >>> backbone.channels, backbone.strides
        ((64, 128, 256, 512), (4, 8, 16, 32))
        >>> [tuple(m.shape) for m in backbone(torch.rand(1, 3, 64, 64), num_stages=2)]
        [(1, 64, 16, 16), (1, 128, 8, 8)]
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        strides: Sequence[int],
        to_maps: Sequence[nn.Module] | None = None,
        patch_size: int = 0,
    ) -> None:
        super().__init__(channels, strides, patch_size)
        if not len(stages) == len(channels) == len(strides) or (to_maps is not None and len(to_maps) != len(stages)):
            raise ValueError(
                f"A backbone needs one entry of channels and strides per stage: got {len(stages)} stages, "
                f"channels={tuple(channels)}, strides={tuple(strides)}."
            )
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.to_maps = nn.ModuleList([nn.Identity() for _ in stages] if to_maps is None else to_maps)

    def forward(self, x: torch.Tensor, num_stages: int | None = None) -> list[torch.Tensor]:
        """Return the maps of the first ``num_stages`` stages (default all), computing nothing deeper."""
        maps: list[torch.Tensor] = []
        x = self.stem(x)
        for index, (stage, to_map) in enumerate(zip(self.stages, self.to_maps)):  # noqa: B905  TorchScript has no strict
            if num_stages is None or index < num_stages:
                x = stage(x)
                maps.append(to_map(x))
        return maps

    def truncated(self, num_stages: int) -> StagedBackbone:
        """See :meth:`Backbone.truncated`."""
        short = StagedBackbone(
            self.stem,
            list(self.stages)[:num_stages],
            self.channels[:num_stages],
            self.strides[:num_stages],
            list(self.to_maps)[:num_stages],
            self.patch_size,
        )
        short._like(self)
        return short

    def parts(self) -> list[list[nn.Parameter]]:
        """See :meth:`Backbone.parts`."""
        modules = [[self.stem], *([stage, one] for stage, one in zip(self.stages, self.to_maps, strict=True))]
        parts: list[list[nn.Parameter]] = []
        seen: set[int] = set()
        # Begin with the deepest stage: a module that stages share, such as a last norm, belongs to the last of them.
        for group in reversed(modules):
            parts.insert(0, [p for module in group for p in module.parameters() if id(p) not in seen])
            seen.update(id(p) for p in parts[0])
        return parts


def as_backbone(module: Any) -> Backbone:
    """Return a backbone unchanged, and wrap any other module that has the attributes of :class:`StagedBackbone`.

    Raises:
        TypeError: when attributes are missing; the message names them.
    """
    if isinstance(module, Backbone):
        return module
    missing = [name for name in ("stem", "stages", "channels", "strides") if not hasattr(module, name)]
    if missing:
        raise TypeError(
            f"The backbone {type(module).__name__} lacks {', '.join(missing)}: see StagedBackbone for what a backbone "
            "needs."
        )
    return StagedBackbone(module.stem, list(module.stages), module.channels, module.strides)
