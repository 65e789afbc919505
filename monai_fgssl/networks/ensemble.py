# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A fine-tuned network together with a linear probe on the frozen network that it started from."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .hierarchical import HierarchicalNet
from .pooled import PooledNet
from .weights.match import COUNTER

__all__ = ["EnsembleNet"]


class EnsembleNet(HierarchicalNet):
    """Fine-tuned network and linear probe of the same pre-training, which predict with a weighted sum of their logits.

    Fine-tuning with few labels forgets part of what pre-training has learned. The probe keeps it: it reads the means of
    all stages of a frozen copy of the backbone. The two make different mistakes, so together they are often better than
    either. A prediction takes the time of two networks.

    The interface is that of :class:`HierarchicalNet`. The probe belongs to the last step, since it reads all stages.
    So ``stage_logits`` still has K + 1 steps, and their sum is still the prediction. Heat maps, ``stage_means`` and
    vectors are those of the fine-tuned member.

    Args:
        args: as for :class:`HierarchicalNet`.
        kwargs: as for :class:`HierarchicalNet`.

    Attributes:
        probe: the frozen member, a :class:`PooledNet` on all stages up to the deepest one in use. It stays in
            evaluation mode, and optimizers do not get its parameters.
        member_weights: weight of the fine-tuned member and of the probe, ``(2,)``; 1 and 0 until they are set, see
            :func:`~monai_fgssl.engines.calibration.weigh_members`. So a probe that was never solved changes nothing.

    Example:
        >>> net = EnsembleNet("resnet18", num_classes=7).eval()
        >>> x = torch.rand(2, 3, 64, 64)
        >>> net(x).shape, net.stage_logits(x).shape
        (torch.Size([2, 7]), torch.Size([2, 4, 7]))
    """

    # For the type checker only: TorchScript can't resolve annotations of attributes that are strings.
    if TYPE_CHECKING:
        member_weights: torch.Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._add_probe()

    @classmethod
    def of(cls, network: HierarchicalNet) -> EnsembleNet:
        """Add a probe to a network. The two then share everything but the probe and its copy of the backbone.

        Args:
            network: network that will be fine-tuned, or that is.
        """
        ensemble = cls.__new__(cls)
        nn.Module.__init__(ensemble)
        # Both hold the same modules, so training one of them shows in the other.
        for name, value in vars(network).items():
            setattr(ensemble, name, dict(value) if name in ("_modules", "_parameters", "_buffers") else value)
        ensemble._add_probe()
        return ensemble.to(network.mean).train(network.training)

    def copy_backbone(self) -> None:
        """Give the probe's backbone the weights that the fine-tuned member has now."""
        # The number of batches that a norm has seen means nothing here: the copy is never trained.
        state = {name: value for name, value in self.backbone.state_dict().items() if not name.endswith(COUNTER)}
        self.probe.backbone.load_state_dict(state, strict=False)

    def member_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (B, 2, num_classes) of the fine-tuned member and of the probe, not weighted."""
        return torch.stack([self._all_steps(x, False).sum(dim=1), self.probe(x)], dim=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Predict with the weighted sum of both members' logits.

        Args:
            x: images (B, in_channels, *spatial) in [0, 1], of any size.

        Returns:
            Logits (B, num_classes).
        """
        return self.stage_logits(x).sum(dim=1)

    @torch.jit.export
    def logits_at_step(self, x: torch.Tensor, step: int) -> torch.Tensor:
        """Logits (B, num_classes) of one step in 1..K + 1. The last step includes the probe."""
        logits = self._one_step(x, step, False) * self.member_weights[0]
        if step == self.num_steps:
            logits = logits + self._probe_logits(x)
        return logits

    @torch.jit.export
    def stage_logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of every step, (B, K + 1, num_classes); their sum over axis 1 is the prediction."""
        logits = self._all_steps(x, False) * self.member_weights[0]
        return torch.cat([logits[:, :-1], logits[:, -1:] + self._probe_logits(x).unsqueeze(1)], dim=1)

    def train(self, mode: bool = True) -> EnsembleNet:
        """Set the mode of the fine-tuned member. The probe stays in evaluation mode."""
        super().train(mode)
        self.probe.eval()
        return self

    def parameter_groups(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        """See :meth:`StagedNet.parameter_groups`; the probe's parameters are left out."""
        frozen = {id(parameter) for parameter in self.probe.parameters()}
        groups = super().parameter_groups(*args, **kwargs)
        return [group | {"params": [p for p in group["params"] if id(p) not in frozen]} for group in groups]

    def _add_probe(self) -> None:
        probe = PooledNet.of(self, self.concat_head.classifier.out_features)
        probe.backbone = deepcopy(self.backbone)
        self.probe = probe.requires_grad_(False)
        self.register_buffer("member_weights", torch.tensor([1.0, 0.0]))

    def _probe_logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.probe(x) * self.member_weights[1]
