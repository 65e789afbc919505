# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Base of the networks: the backbone, the input's normalization and the optimizer's groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .backbones import as_backbone, make_backbone

__all__ = ["StagedNet"]


class StagedNet(nn.Module):
    """Base of the networks: normalizes images in [0, 1] and holds the backbone up to the deepest stage in use.

    Args:
        backbone: a name that :func:`~monai_fgssl.networks.make_backbone` knows, or a module with the attributes of
            :class:`~monai_fgssl.networks.StagedBackbone`.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        stages: stages of the backbone that are used: the last so many, or their indices (from 0, increasing).
            Deeper ones are dropped. None: all.
        stem: the backbone's stem, ``imagenet`` or ``small``; for named backbones.
        weights: see :func:`~monai_fgssl.networks.make_backbone`; for named backbones.
        mean: value that is subtracted from the image, one number or one per channel. Default: the mean of the
            ``weights`` (for another number of channels its average over the channels), or 0.5 if they do not name it.
        std: value for each channel by which the image is divided afterwards.
        image_size: pixels along each axis, one number or one per axis, for backbones that are made for one size; for
            named backbones. None: the size that they were published with.
        drop_path: rate of stochastic depth in training, for named backbones that have it; 0: none.
        inflate_weights: True: weights of a 2D network may be loaded into a 3D network; for named backbones.

    Attributes:
        stage_indices: the backbone's stages in use, from shallow to deep.
    """

    # For the type checker only: TorchScript can't resolve annotations of attributes that are strings.
    if TYPE_CHECKING:
        mean: torch.Tensor
        std: torch.Tensor

    num_members = 1
    """Number of networks whose ``heat_map_layers`` there are."""

    def __init__(
        self,
        backbone: str | nn.Module,
        spatial_dims: int,
        in_channels: int,
        stages: int | Sequence[int] | None,
        stem: str = "imagenet",
        weights: str | Path | None = None,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        image_size: int | Sequence[int] | None = None,
        drop_path: float = 0.0,
        inflate_weights: bool = False,
    ) -> None:
        super().__init__()
        self._backbone_name = backbone if isinstance(backbone, str) else ""
        self._stem_name = stem
        self._image_size = image_size
        if isinstance(backbone, str):
            staged = make_backbone(
                backbone, spatial_dims, in_channels, stem, weights, image_size, drop_path, inflate_weights
            )
        elif weights is not None or stem != "imagenet":
            raise ValueError("stem and weights are for backbones given by name: build the module with them instead.")
        else:
            staged = as_backbone(backbone)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.stage_indices = _stage_indices(stages, staged.num_stages)
        # Unused stages are dropped, since their parameters would never get a gradient.
        self.backbone = staged.truncated(self.stage_indices[-1] + 1)

        # Persistent, so that a checkpoint carries the normalization that it was trained with.
        shape = (1, in_channels, *[1] * spatial_dims)
        known = self.backbone.normalization or ((0.5,), (0.5,))
        for name, value, of_weights in (("mean", mean, known[0]), ("std", std, known[1])):
            if value is None:
                value = _per_channel(of_weights, in_channels)
            values = (value,) * in_channels if isinstance(value, int | float) else tuple(value)
            if len(values) != in_channels:
                raise ValueError(f"{name} needs one number or {in_channels}, one per channel, got {value}.")
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(shape))

    def normalize(self, x: torch.Tensor) -> torch.Tensor:
        """Check an image batch (B, in_channels, *spatial) in [0, 1] and normalize it with ``mean`` and ``std``.

        Raises:
            ValueError: on another number of axes or channels, or an integer type.
        """
        # While tracing, sizes are tensors, and comparing them would warn.
        if not torch.jit.is_tracing() and (x.dim() != self.spatial_dims + 2 or x.shape[1] != self.in_channels):
            raise ValueError(
                f"Expected images of shape (batch, {self.in_channels}, ...) with {self.spatial_dims} spatial axes, "
                f"got {list(x.shape)}."
            )
        if not x.is_floating_point():
            raise ValueError(f"Expected floating-point images in [0, 1], got {x.dtype}: divide 8-bit images by 255.")
        return (x - self.mean) / self.std

    def stage_means(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Global average of the map of each of the backbone's stages, from shallow to deep.

        Args:
            x: images (B, in_channels, *spatial) in [0, 1].

        Returns:
            Means (B, channels) of each stage up to the deepest stage in use.
        """
        return [feature_map.flatten(2).mean(dim=2) for feature_map in self.backbone(self.normalize(x))]

    def stage_logits_and_means(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of every step and the means of all stages, from one pass through the backbone.

        Args:
            x: images (B, in_channels, *spatial) in [0, 1].

        Returns:
            Logits (B, num_steps, num_classes) as of ``stage_logits``, and means (B, D) as of :meth:`stage_means`,
            concatenated from shallow to deep.
        """
        means: list[torch.Tensor] = []

        def keep(module: nn.Module, inputs: Any, maps: list[torch.Tensor]) -> None:
            means.append(torch.cat([feature_map.flatten(2).mean(dim=2) for feature_map in maps], dim=1))

        handle = self.backbone.register_forward_hook(keep)
        try:
            logits = self.stage_logits(x)
        finally:
            handle.remove()
        return logits, means[0]

    def stage_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_steps, num_classes) of every step; the networks define it."""
        raise NotImplementedError

    def stage_vectors(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors ``z`` (B, num_steps, D) of every step; the networks define it."""
        raise NotImplementedError

    def __prepare_scriptable__(self) -> StagedNet:
        """Refuse ``torch.jit.script`` with a message that names other ways, if the backbone can't be scripted."""
        try:
            torch.jit.script(self.backbone)
        except NotImplementedError:
            raise
        except Exception as error:
            name = self._backbone_name or type(self.backbone).__name__
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:150]
            raise NotImplementedError(
                f"the backbone {name!r} can't be scripted ({reason}): export it to ONNX, or trace it (torch.jit.trace)."
            ) from error
        return self

    def explained_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) whose gradients heat maps show: those of the prediction."""
        return self(x)

    def heat_map_layers(self) -> list[nn.Module]:
        """Modules whose outputs are the maps that heat maps show, from shallow to deep; empty if there are none."""
        return []

    def has_name(self) -> bool:
        """True if the backbone was given by name, so that :meth:`definition` can describe it."""
        return bool(self._backbone_name)

    def definition(self) -> dict[str, Any]:
        """Describe the network by ``_target_`` and arguments, as in a MONAI config, so that it can be built again.

        Raises:
            ValueError: when the backbone was given as a module, which has no name.
        """
        if not self.has_name():
            raise ValueError("only networks whose backbone has a name can be written down as a definition.")
        return {
            "_target_": f"monai_fgssl.networks.{type(self).__name__}",
            "backbone": self._backbone_name,
            "spatial_dims": self.spatial_dims,
            "in_channels": self.in_channels,
            "stem": self._stem_name,
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
        } | ({} if self._image_size is None else {"image_size": self._image_size})

    def parameter_groups(
        self, backbone_lr: float, head_lr: float, weight_decay: float, stage_lr_decay: float = 1.0
    ) -> list[dict[str, Any]]:
        """Group the parameters for an optimizer: backbone and all others, each with and without weight decay.

        Norms and biases (all parameters of one dimension) are not decayed, as in Barlow Twins.

        Args:
            backbone_lr: learning rate of the backbone.
            head_lr: learning rate of everything else.
            weight_decay: weight decay of the weights of convolutions and linear layers.
            stage_lr_decay: factor in (0, 1]. The learning rate of the backbone's deepest stage is multiplied by it
                once, that of the stage before it twice, and so on down to the stem. So early layers keep most of what
                they learned.

        Returns:
            Groups with ``params``, ``lr`` and ``weight_decay``, in pairs with and without weight decay. The first pairs
            are of the backbone: one pair, or with ``stage_lr_decay`` below 1 one pair for the stem and for each stage.
            The last pair has all other parameters.

        Raises:
            ValueError: when ``stage_lr_decay`` is out of range.

        Source of the decay by stages:
            Clark et al., ELECTRA, ICLR 2020, appendix B (there by layers): https://arxiv.org/abs/2003.10555

        Example:
            >>> from monai_fgssl.networks import HierarchicalNet
            >>> groups = HierarchicalNet("resnet18").parameter_groups(2e-4, 2e-3, weight_decay=5e-4)
            >>> optimizer = torch.optim.SGD(groups, momentum=0.9)
        """
        if not 0 < stage_lr_decay <= 1:
            raise ValueError(f"stage_lr_decay must be more than 0 and at most 1, got {stage_lr_decay!r}.")
        in_backbone = {id(parameter) for parameter in self.backbone.parameters()}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in in_backbone]
        parts = self.backbone.parts()
        if stage_lr_decay == 1:
            levels = [([parameter for part in parts for parameter in part], backbone_lr)]
        else:
            levels = [(part, backbone_lr * stage_lr_decay ** (len(parts) - depth)) for depth, part in enumerate(parts)]
        groups = []
        for parameters, lr in (*levels, (rest, head_lr)):
            groups += [
                {"params": [p for p in parameters if p.ndim > 1], "lr": lr, "weight_decay": weight_decay},
                {"params": [p for p in parameters if p.ndim <= 1], "lr": lr, "weight_decay": 0.0},
            ]
        return groups


def _stage_indices(stages: int | Sequence[int] | None, num_stages: int) -> list[int]:
    stages = num_stages if stages is None else stages
    indices = list(range(num_stages - stages, num_stages)) if isinstance(stages, int) else list(stages)
    if not indices or min(indices) < 0 or max(indices) >= num_stages or indices != sorted(set(indices)):
        raise ValueError(
            f"stages must be a number from 1 to {num_stages} or increasing indices from 0 to {num_stages - 1} "
            f"(the backbone has {num_stages} stages), got {stages}."
        )
    return indices


def _per_channel(values: Sequence[float], in_channels: int) -> Sequence[float] | float:
    return values if in_channels == len(values) else sum(values) / len(values)
