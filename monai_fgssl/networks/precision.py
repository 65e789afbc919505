# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Precision and memory format that a network computes with, as the setting ``amp`` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from monai_fgssl.utils.errors import SettingsError

__all__ = ["Precision", "PrecisionChoice", "autocast_of", "has_bfloat16", "sensible_precisions"]

CHANNELS_LAST = "_channels_last"
NUMBERS = ("float32", "tf32", "bfloat16")
AUTO = "auto"


def has_bfloat16(device: str | torch.device, spatial_dims: int = 2) -> bool:
    """Return True if a device computes correctly in bfloat16, and has instructions for it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if spatial_dims == 3:
        # In torch 2.13 gradients of 3D convolutions in bfloat16 are sometimes NaN on a CPU (oneDNN).
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@dataclass(frozen=True)
class Precision:
    """Number format of the convolutions and linear layers, and memory format of the images.

    Attributes:
        numbers: ``"float32"``; ``"tf32"``: float32 with convolutions that a GPU rounds to TF32, torch's default;
            ``"bfloat16"``: mixed precision.
        channels_last: True if the channels of a pixel are side by side in memory, False if the pixels of a channel are.

    Example:
        >>> Precision("bfloat16", channels_last=True).name
        'bfloat16_channels_last'
    """

    numbers: str
    channels_last: bool

    @property
    def name(self) -> str:
        """Value of the setting ``amp`` for this precision."""
        return self.numbers + (CHANNELS_LAST if self.channels_last else "")

    @classmethod
    def from_name(cls, name: str) -> Precision:
        """Return the precision with a name.

        Raises:
            SettingsError: when no precision has this name.
        """
        numbers = name.removesuffix(CHANNELS_LAST)
        if numbers not in NUMBERS:
            names = [number + order for number in NUMBERS for order in ("", CHANNELS_LAST)]
            raise SettingsError(f"--amp must be auto, true, false or one of {', '.join(names)}, got {name!r}.")
        return cls(numbers, name != numbers)

    def place(self, network: nn.Module, device: str | torch.device) -> nn.Module:
        """Move a network to a device, with its weights in the memory format of the precision."""
        if self.numbers == "float32" and torch.device(device).type == "cuda":
            torch.backends.cudnn.allow_tf32 = False
        for parameter in network.parameters():
            # If an axis has one entry only, torch takes both formats for the same and does not change the strides. But
            # convolutions choose their format by the strides.
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        if not self.channels_last:
            return network.to(device)
        is_3d = any(parameter.ndim == 5 for parameter in network.parameters())
        order = torch.channels_last_3d if is_3d else torch.channels_last
        return move(network, device, order)

    def autocast(self, device: str | torch.device) -> torch.autocast:
        """Context manager to compute in."""
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=self.numbers == "bfloat16")


def move(network: nn.Module, device: str | torch.device, order: torch.memory_format) -> nn.Module:
    """Move a network to a device, with its weights in a memory format."""
    # torch's annotations of `to` lack the order.
    return network.to(device, memory_format=order)  # type: ignore[call-overload]


def sensible_precisions(device: str | torch.device, spatial_dims: int = 2, exact: bool = False) -> list[Precision]:
    """Precisions that may be the fastest on a device, the most exact first.

    Args:
        device: where to compute.
        spatial_dims: 2 or 3.
        exact: True: only precisions whose results equal those of float32 to about six digits (on a GPU: three). False:
            also mixed precision, which trains as well as float32.
    """
    if torch.device(device).type == "cuda":
        found = [Precision("tf32", False), Precision("tf32", True)]
    else:
        found = [Precision("float32", False), Precision("float32", True)]
    if not exact and has_bfloat16(device, spatial_dims):
        # bfloat16 is slow without channels last.
        found.append(Precision("bfloat16", True))
    return found


class PrecisionChoice:
    """Precision of a run: ``--amp`` gives it, or the first phase finds the fastest.

    The phases of a run share one choice. Its text is the name of the precision, so it appears in the record of the
    settings. A run that is repeated with this name computes the same.

    Args:
        amp: ``auto``; the name of a :class:`Precision`; true: mixed precision with bfloat16; false: float32.
        device: device of the run.
        spatial_dims: 2 or 3.
        exact: see :func:`sensible_precisions`. True: predictions do not depend on the choice.

    Attributes:
        candidates: precisions to choose from.
        current: precision of the run. Until a precision is chosen, it is the one that is usually fastest on the device.
        open: True until a precision is chosen.

    Raises:
        SettingsError: when ``amp`` is none of these, or torch does not know the device.
    """

    def __init__(
        self,
        amp: str | bool = AUTO,
        device: str | torch.device = "cpu",
        spatial_dims: int = 2,
        exact: bool = False,
    ) -> None:
        try:
            self.device = torch.device(device if isinstance(device, torch.device) else str(device))
        except RuntimeError as error:
            raise SettingsError(f"--device must be one of torch's, such as cpu or cuda:0, got {device!r}.") from error
        self.candidates = sensible_precisions(device, spatial_dims, exact)
        text = str(amp).lower()
        self.open = text == AUTO
        mixed = self.candidates[-1].numbers == "bfloat16" if self.open else text == "true"
        if self.open or text in ("true", "false"):
            # Channels last is for pictures, not for volumes.
            self.current = Precision("bfloat16" if mixed else self.candidates[0].numbers, spatial_dims == 2)
        else:
            self.current = Precision.from_name(text)

    def __str__(self) -> str:
        return AUTO if self.open else self.current.name

    def choose(self, precision: Precision | str, network: nn.Module | None = None) -> None:
        """Choose a precision.

        Args:
            precision: precision, or its name.
            network: network of the run; it is moved to the new memory format.
        """
        self.current = Precision.from_name(precision) if isinstance(precision, str) else precision
        self.open = False
        if network is not None:
            self.place(network)

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network to the device, with its weights in the memory format of the precision."""
        return self.current.place(network, self.device)

    def autocast(self) -> torch.autocast:
        """Context manager to compute in."""
        return self.current.autocast(self.device)


def autocast_of(
    device: str | torch.device,
    precision: PrecisionChoice | None,
    amp: bool = False,
    amp_kwargs: Mapping[str, Any] | None = None,
) -> torch.autocast:
    """Context manager to compute in: for a precision, or else for MONAI's arguments ``amp`` and ``amp_kwargs``."""
    if precision is not None:
        return precision.autocast()
    return torch.autocast(torch.device(device).type, enabled=amp, **(amp_kwargs or {}))
