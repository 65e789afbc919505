# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks of several folds or seeds as one network, which predicts with the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from .base import StagedNet
from .ensemble import EnsembleNet
from .hierarchical import HierarchicalNet
from .plain import PlainNet
from .pooled import PooledNet

__all__ = ["MeanEnsembleNet"]

KINDS: dict[str, type[StagedNet]] = {
    kind.__name__: kind for kind in (EnsembleNet, HierarchicalNet, PlainNet, PooledNet)
}
"""Networks that may be members. A record names one of them, so it can't choose other code to run."""


class MeanEnsembleNet(StagedNet):
    """Members of the same architecture, of several folds or seeds: the mean of their calibrated probabilities.

    This is a deep ensemble (Lakshminarayanan et al., NeurIPS 2017). Each member has its own temperature. The mean of
    probabilities is taken, not that of logits: it does not depend on the scale of a member's logits, and anybody can
    compute it from the members' tables of predictions.

    ``forward`` gives logits whose softmax (``independent``: sigmoid) is that mean, so the network is used like any
    other. It has one step, and can't be trained: members are trained by themselves. ``stage_means``,
    ``stage_vectors`` and ``backbone`` are those of the first member.

    Args:
        member: name of the members' class, such as ``EnsembleNet``.
        num_members: number of members.
        independent: True if an image may have several of the classes, so that each class has a probability of its own.
        arguments: arguments of each member.

    Attributes:
        members: the members.
        num_members: number of members.
        temperatures: temperature of each member, ``(num_members,)``; 1 until they are set.
        num_steps: 1.

    Raises:
        ValueError: when no network has the name, or there is no member.

    Source:
        Lakshminarayanan et al., Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles, NeurIPS
        2017: https://arxiv.org/abs/1612.01474

    Example:
        >>> net = MeanEnsembleNet("PlainNet", 2, backbone="resnet18", num_classes=7).eval()
        >>> x = torch.rand(2, 3, 64, 64)
        >>> net(x).shape, net.stage_logits(x).shape
        (torch.Size([2, 7]), torch.Size([2, 1, 7]))
        >>> mean = (net.members[0](x).softmax(1) + net.members[1](x).softmax(1)) / 2
        >>> torch.allclose(net(x).softmax(1), mean, atol=1e-6)
        True
    """

    # TorchScript would compile these properties, whose values are no tensors.
    __jit_unused_properties__ = ["first", "backbone", "mean", "std"]  # noqa: RUF012

    # For the type checker only: TorchScript can't resolve annotations of attributes that are strings.
    if TYPE_CHECKING:
        members: Sequence[StagedNet]
        temperatures: torch.Tensor

    def __init__(self, member: str, num_members: int, independent: bool = False, **arguments: Any) -> None:
        nn.Module.__init__(self)
        if member not in KINDS:
            raise ValueError(f"member must be one of {', '.join(KINDS)}, got {member!r}.")
        if num_members < 1:
            raise ValueError(f"num_members must be 1 or more, got {num_members}.")
        self.add_module("members", nn.ModuleList(KINDS[member](**arguments) for _ in range(num_members)))
        self.register_buffer("temperatures", torch.ones(num_members))
        first = self.first
        self.spatial_dims = first.spatial_dims
        self.in_channels = first.in_channels
        self.stage_indices = first.stage_indices
        self.independent = independent
        self.num_members = num_members
        self.num_steps = 1

    @property
    def first(self) -> StagedNet:
        """The first member."""
        return self.members[0]

    @property
    def backbone(self) -> Any:  # type: ignore[override]
        """Backbone of the first member."""
        return self.first.backbone

    @property
    def mean(self) -> torch.Tensor:  # type: ignore[override]
        """Value that the first member subtracts from images."""
        return self.first.mean

    @property
    def std(self) -> torch.Tensor:  # type: ignore[override]
        """Value by which the first member divides images."""
        return self.first.std

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, num_classes) of the mean probabilities of images (B, in_channels, *spatial) in [0, 1]."""
        logits: list[torch.Tensor] = []
        for member in self.members:
            logits.append(member(x))
        # In float32: a mean of probabilities near 0 or 1 has few digits in half precision.
        scaled = torch.stack(logits, dim=0).float() / self.temperatures.float().view(-1, 1, 1)
        if self.independent:
            # log(mean p) - log(mean (1 - p)), without rounding 1 - p to 0.
            return torch.logsumexp(F.logsigmoid(scaled), dim=0) - torch.logsumexp(F.logsigmoid(-scaled), dim=0)
        # Up to a constant this is the log of the mean.
        return torch.logsumexp(F.log_softmax(scaled, dim=-1), dim=0)

    @torch.jit.export
    def logits_at_step(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """Logits (B, num_classes); ``step`` must be 1."""
        if step != 1:
            raise ValueError(f"step must be 1, got {step}.")
        return self.forward(x)

    @torch.jit.export
    def stage_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits as (B, 1, num_classes)."""
        return self.forward(x).unsqueeze(1)

    @torch.jit.export
    def stage_vectors(self, x: torch.Tensor) -> torch.Tensor:
        """Vectors (B, 1, embedding_dim) of the first member's last step, to compare images."""
        return self.members[0].stage_vectors(x)[:, -1:]

    def explained_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Mean of the members' logits divided by their temperatures, (B, num_classes).

        The logits of the mean probability would hardly change with a map where all members are certain.
        """
        logits = [member(x) / t for member, t in zip(self.members, self.temperatures, strict=True)]
        return torch.stack(logits, dim=0).mean(dim=0)

    def heat_map_layers(self) -> list[nn.Module]:
        """See :meth:`StagedNet.heat_map_layers`: those of each member, one member after the other."""
        return [layer for member in self.members for layer in member.heat_map_layers()]

    def has_name(self) -> bool:
        """See :meth:`StagedNet.has_name`."""
        return self.first.has_name()

    def definition(self) -> dict[str, Any]:
        """See :meth:`StagedNet.definition`."""
        arguments = self.first.definition()
        del arguments["_target_"]
        return {
            "_target_": f"monai_fgssl.networks.{type(self).__name__}",
            "member": type(self.first).__name__,
            "num_members": self.num_members,
            "independent": self.independent,
            **arguments,
        }
