# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Match state dicts of other projects with a network by names and shapes, and print the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from ignite import distributed as idist
from torch import Tensor, nn

from monai_fgssl.utils.errors import SettingsError, first_names

__all__ = ["MIN_SHARE", "adapt_channels", "inflate", "load_matching"]

MIN_SHARE = 0.9
"""Smallest share of the network's tensors that a file must have, by name and shape."""
MAX_PREFIX = 4
"""Parts of a name that may be a prefix, such as ``module.backbone.``."""
COUNTER = "num_batches_tracked"
"""Counter of batch norms; nothing reads it, and older files lack it."""

Translate = Callable[[dict[str, Tensor], nn.Module], Mapping[str, Tensor]]


@dataclass
class _Match:
    """State dict of a file, with the names of the network."""

    where: str
    tensors: dict[str, Tensor]
    num_source: int
    by_order: bool = False


def load_matching(
    network: nn.Module,
    states: Mapping[str, Mapping[str, Tensor]],
    label: str,
    wanted: Collection[str] | None = None,
    translations: Sequence[Translate] = (),
    inflate_2d: bool = False,
) -> None:
    """Load the state dict that fits a network best, in whatever dictionary it is and whatever prefix its names have.

    It prints how many of the network's tensors the file has, and which are missing. For another number of input
    channels the first convolution is adapted, see :func:`adapt_channels`.

    Args:
        network: network whose parameters have the names that its authors gave them.
        states: state dicts of a file, see :func:`~monai_fgssl.networks.weights.read_checkpoint`.
        label: name of the file in messages.
        wanted: names of the tensors that count and are loaded; None: all.
        translations: functions that turn a state dict with other names, such as those of the network's authors, into
            a state dict with the network's names and shapes.
        inflate_2d: True: 2D kernels may be loaded into 3D convolutions, see :func:`inflate`.

    Raises:
        SettingsError: when fewer than :data:`MIN_SHARE` of the network's tensors match; the network does not change.
    """
    own = {name: value for name, value in network.state_dict().items() if not name.endswith(COUNTER)}
    names = [name for name in own if wanted is None or name in wanted]
    first = _first_convolution(network)
    best: _Match | None = None
    fitting: dict[str, Tensor] = {}
    flat = False
    for candidate in _candidates(network, states, own, translations):
        fits = {}
        for name in names:
            value = candidate.tensors.get(name)
            if value is None:
                continue
            flat = flat or (value.ndim == 4 and own[name].ndim == 5)
            adapted = _adapted(value, own[name], name == first, inflate_2d)
            if adapted is not None:
                fits[name] = adapted
        if best is None or len(fits) > len(fitting):
            best, fitting = candidate, fits
    share = len(fitting) / max(1, len(names))
    if best is None or share < MIN_SHARE:
        hint = (
            " It has weights of a 2D network: --inflate_weights true turns them into 3D ones."
            if flat and not inflate_2d
            else " Is it the same backbone?"
        )
        missing = [name for name in names if name not in fitting]
        raise SettingsError(
            f"weights: {label} does not fit the network: {len(fitting)} of its {len(names)} tensors match by name and "
            f"shape ({share:.0%}, at least {MIN_SHARE:.0%} are needed). Not found, or of another shape: "
            f"{first_names(_with_shapes(missing, own, best))}.{hint}"
        )
    state = network.state_dict()
    with torch.no_grad():
        for name, value in fitting.items():
            state[name].copy_(value)
    if idist.get_rank() == 0:
        print(_report(label, best, fitting, names, own), flush=True)


def _report(
    label: str, best: _Match, fitting: Mapping[str, Tensor], names: list[str], own: Mapping[str, Tensor]
) -> str:
    missing = [name for name in names if name not in fitting]
    order = ", matched by their order and shapes, since no names agree" if best.by_order else ""
    text = f"weights: {label}{best.where}: {len(fitting)} of {len(names)} tensors of the backbone are loaded{order}"
    if missing:
        text += f"; these stay random: {first_names(_with_shapes(missing, own, best))}"
    unused = best.num_source - len(fitting)
    return text + (f"; {unused} of the file are not used" if unused > 0 else "")


def _with_shapes(names: list[str], own: Mapping[str, Tensor], best: _Match | None) -> list[str]:
    def told(name: str) -> str:
        value = None if best is None else best.tensors.get(name)
        return name if value is None else f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}"

    return [told(name) for name in names]


def _candidates(
    network: nn.Module,
    states: Mapping[str, Mapping[str, Tensor]],
    own: Mapping[str, Tensor],
    translations: Sequence[Translate],
) -> Iterator[_Match]:
    """Ways to read the file, the simplest first: a later way is taken only if it matches more tensors."""
    for place, state in states.items():
        tensors = {name: value for name, value in state.items() if not name.endswith(COUNTER)}
        for prefix in _prefixes(tensors):
            inside = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
            if len(inside) < len(own) * MIN_SHARE / 2:
                continue
            where = (f", {place!r} in it" if place else "") + (f", prefix {prefix!r}" if prefix else "")
            yield _Match(where, inside, len(inside))
            for translate in translations:
                try:
                    translated = dict(translate(dict(inside), network))
                except Exception:
                    # The translation is for files of the network's authors, and this file is not one of them.
                    continue
                yield _Match(where, translated, len(inside))
    for place, state in states.items():
        tensors = {name: value for name, value in state.items() if not name.endswith(COUNTER)}
        if same := _by_order(tensors, own, _first_convolution(network)):
            yield _Match(f", {place!r} in it" if place else "", same, len(tensors), by_order=True)


def _prefixes(tensors: Mapping[str, Tensor]) -> list[str]:
    found = {""}
    for name in tensors:
        parts = name.split(".")[:-1]
        found.update(".".join(parts[:count]) + "." for count in range(1, min(len(parts), MAX_PREFIX) + 1))
    return sorted(found, key=len)


def _by_order(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], first: str) -> dict[str, Tensor]:
    """Match by order only. All shapes and last parts of names must agree; the file may have more at its end."""
    if len(tensors) < len(own):
        return {}
    pairs = list(zip(own.items(), tensors.items(), strict=False))
    same = all(
        name.split(".")[-1] == other.split(".")[-1] and _adapted(given, value, name == first, False) is not None
        for (name, value), (other, given) in pairs
    )
    return {name: given for (name, _), (_, given) in pairs} if same else {}


def _first_convolution(network: nn.Module) -> str:
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            return f"{name}.weight"
    return ""


def _adapted(value: Tensor, own: Tensor, is_first: bool, inflate_2d: bool) -> Tensor | None:
    """Give a tensor of a file the shape of the network's tensor; None if it does not fit."""
    if inflate_2d and value.ndim == 4 and own.ndim == 5:
        value = inflate(value, own.shape[-1])
    if is_first and value.ndim == own.ndim > 2 and value.shape[1] != own.shape[1]:
        value = adapt_channels(value, own.shape[1])
    return value if value.shape == own.shape else None


def adapt_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Adapt the first convolution to another number of channels, by timm's rule.

    One channel gets the sum of the kernels, so a gray image has the same response as its copy in three channels. Other
    numbers of channels get the kernels in turn, scaled so that the response to a constant image stays about the same.

    Args:
        weight: ``(out, channels, *kernel)``.
        in_channels: channels of the images.

    Returns:
        ``(out, in_channels, *kernel)``.
    """
    channels = weight.shape[1]
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    repeats = math.ceil(in_channels / channels)
    turns = torch.cat([weight] * repeats, dim=1)[:, :in_channels]
    return turns * (channels / in_channels)


def inflate(kernel: Tensor, depth: int) -> Tensor:
    """Make a 3D kernel from a 2D kernel. It treats an axial slice like a picture, and averages along the third axis.

    If all slices of a volume are the same, the response equals that of the slice in 2D. Pictures of axial slices show
    the patient's right on the left side and the front at the top. The axes of volumes run to the patient's right (see
    :mod:`monai_fgssl.data`), to the front and to the head.

    Args:
        kernel: ``(out, in, rows, columns)``.
        depth: size along the third axis.

    Returns:
        ``(out, in, x, y, depth)``.

    Source:
        Carreira & Zisserman, Quo Vadis, Action Recognition?, CVPR 2017, sec. 2.4: https://arxiv.org/abs/1705.07750
    """
    plane = kernel.flip(2, 3).transpose(2, 3)
    return plane[..., None].expand(*plane.shape, depth) / depth
