# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Models of timm in stages: chains of modules are used directly, all others through their intermediate maps."""

from __future__ import annotations

import difflib
import inspect
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from .intermediates import IntermediatesBackbone
from .staged import Backbone, StagedBackbone
from .timm_package import import_timm

__all__ = ["TIMM_PREFIX", "build_timm", "published_weights", "translation"]

TIMM_PREFIX = "timm:"
NUM_STAGES = 4
"""Number of groups of blocks that a plain transformer is cut into. It is the usual number of stages."""
MIN_STRIDE = 4
"""As in MONAI's backbones, whatever comes before it is the stem."""
TRIED_SIZES = 48

Create = Callable[..., Any]
"""Function that makes the model for a size (None: its own size), with further options of timm."""


@dataclass
class Cuts:
    """Places at which a model is cut into stages.

    Attributes:
        channels: channels of each stage's map.
        strides: total reduction of each stage's map.
        chain: names of the modules from each map to the next; None: the model is not a chain of modules.
        indices: indices of the intermediate outputs that are the maps of the stages; see
            :class:`IntermediatesBackbone`.
        norm: True if the model's last norm is applied to each map.
        part_names: names of the parameters of the stem and of each stage.
    """

    channels: list[int]
    strides: list[int]
    chain: list[list[str]] | None = None
    indices: list[int] | None = None
    norm: bool = False
    part_names: list[list[str]] | None = None


def build_timm(
    name: str, in_channels: int, image_size: int | Sequence[int] | None = None, drop_path: float = 0.0
) -> tuple[nn.Module, Callable[[], Backbone]]:
    """Build a model of timm without its classifier.

    Args:
        name: name of the model in timm, with or without the tag of its weights, which this function does not load.
        in_channels: channels of the image.
        image_size: height and width in pixels, one number or two, for models that accept one size only. None: any size
            if the model accepts that, or else the size of its weights.
        drop_path: rate of stochastic depth; 0: none.

    Returns:
        The model, whose parameters have timm's names, and a function that makes a backbone of it. Both share their
        parameters. Load weights into the model before you call the function.

    Raises:
        ValueError: when timm has no such model, the model no such option, or it does not take images of this size; the
            message names the nearest sizes.
        ImportError: when timm can't be imported.
    """
    timm = import_timm(f"the backbone '{TIMM_PREFIX}{name}'")
    if not timm.is_model(name):
        nearest = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f" Did you mean {' or '.join(nearest)}?" if nearest else ""
        raise ValueError(f"timm has no model {name!r}: timm.list_models() names its models.{hint}")
    with torch.device("meta"):
        takes = _arguments(type(timm.create_model(name)))
    if drop_path and "drop_path_rate" not in takes:
        raise ValueError(f"'{TIMM_PREFIX}{name}' has no drop path: leave drop_path at 0.")

    def create(size: tuple[int, ...] | None, **options: Any) -> Any:
        if size is not None and "img_size" in takes:
            options["img_size"] = size
        elif size is None and "dynamic_img_size" in takes:
            options["dynamic_img_size"] = True
        if "drop_path_rate" in takes:
            # Some models drop paths by default.
            options["drop_path_rate"] = float(drop_path)
        return timm.create_model(name, pretrained=False, in_chans=in_channels, **options)

    size = None if image_size is None else tuple(ensure_tuple_rep(image_size, 2))
    example = size or tuple(timm.get_pretrained_cfg(name).input_size[1:])
    try:
        cuts = _cut(create, size, example, in_channels)
    except _UnfitSize as error:
        nearest = _nearest_sizes(create, example, in_channels)
        raise ValueError(
            f"'{TIMM_PREFIX}{name}' can't take images of {_text(example)} px ({error}). Nearest sizes that it takes: "
            f"{' and '.join(map(_text, nearest)) or 'none found'} (image_size)."
        ) from error
    net = create(size, num_classes=0)
    patch_size = _patch_size(net)

    def make() -> Backbone:
        if cuts.chain is None:
            assert cuts.indices is not None
            assert cuts.part_names is not None
            return IntermediatesBackbone(
                net, cuts.indices, cuts.norm, cuts.channels, cuts.strides, cuts.part_names, patch_size
            )
        groups = [nn.Sequential(*map(net.get_submodule, names)) for names in cuts.chain]
        first = len(groups) - len(cuts.channels)
        return StagedBackbone(
            nn.Sequential(*groups[:first]), groups[first:], cuts.channels, cuts.strides, patch_size=patch_size
        )

    return net, make


def published_weights(name: str) -> list[Any]:
    """Configurations of a model's weights in timm, the default (or the one that the tag names) first."""
    timm = import_timm(f"the backbone '{TIMM_PREFIX}{name}'")
    architecture, _, tag = name.partition(".")
    if tag:
        return [timm.get_pretrained_cfg(name)]
    others = [other for other in timm.list_pretrained(f"{architecture}.*") if other != name]
    return [timm.get_pretrained_cfg(name), *map(timm.get_pretrained_cfg, others)]


def translation(net: nn.Module) -> Any:
    """Function by which timm reads the files of a model's authors, such as DINOv2's; None if timm has none."""
    module = sys.modules[type(net).__module__]
    return getattr(module, "checkpoint_filter_fn", None) or getattr(module, "_filter_fn", None)


def _arguments(kind: type) -> set[str]:
    """Names of the arguments of a class, and of those that it passes on to its bases."""
    names: set[str] = set()
    for one in kind.__mro__:
        parameters = inspect.signature(one.__init__).parameters  # type: ignore[misc]
        names.update(parameters)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break
    return names


class _UnfitSize(ValueError):
    """A model does not take images of a size."""


def _cut(create: Create, size: tuple[int, ...] | None, example: tuple[int, ...], in_channels: int) -> Cuts:
    """Find the stages of a model by running it on the meta device, which computes shapes and dependences only."""
    with torch.device("meta"), warnings.catch_warnings():
        # timm logs tensors that it would have copied.
        warnings.simplefilter("ignore")
        image = torch.empty(2, in_channels, *example)
        try:
            net = create(size, num_classes=0).eval()
            patch = _patch_size(net)
            if patch and any(side % patch for side in example):
                raise ValueError(f"its patches of {patch} px do not divide that")
            return _cut_chain(create(size, features_only=True), net, image) or _cut_intermediates(net, image)
        except (AssertionError, RuntimeError, ValueError, TypeError, IndexError, ZeroDivisionError) as error:
            raise _UnfitSize((str(error).splitlines() or [type(error).__name__])[0][:150]) from error


def _cut_chain(listed: Any, net: nn.Module, image: Tensor) -> Cuts | None:
    """Cut a model for which timm itself gives a chain of modules with maps (B, C, H, W); None for any other model."""
    if getattr(listed, "return_layers", None) is None or getattr(listed, "output_fmt", "") != "NCHW":
        return None
    # timm's list has underscores where names have dots.
    names = {name.replace(".", "_"): name for name, _ in net.named_modules()}
    groups: list[list[str]] = [[]]
    for key in listed:
        if key not in names:
            return None
        groups[-1].append(names[key])
        if key in listed.return_layers:
            groups.append([])
    maps = listed.eval()(image)
    channels, strides = [one.shape[1] for one in maps], [_stride(image, one) for one in maps]
    first = sum(stride < MIN_STRIDE for stride in strides)
    return Cuts(channels[first:], strides[first:], groups[: len(maps)])


def _cut_intermediates(net: Any, image: Tensor) -> Cuts:
    if not hasattr(net, "forward_intermediates"):
        raise ValueError("it has no intermediate features")

    def maps_of(norm: bool) -> list[Tensor]:
        return list(net.forward_intermediates(image, norm=norm, output_fmt="NCHW", intermediates_only=True))

    maps = maps_of(norm=False)
    # Intermediates of one shape are blocks of one stage, whose map is the last of them.
    ends = [i for i, one in enumerate(maps) if i + 1 == len(maps) or maps[i + 1].shape[1:] != one.shape[1:]]
    normalized: list[Tensor] = []
    if len(ends) == 1:
        count = min(NUM_STAGES, len(maps))
        ends = [(k + 1) * len(maps) // count - 1 for k in range(count)]
        # Some plain networks can't normalize, and a neck that changes the number of channels is not a norm.
        with suppress(AssertionError):
            normalized = [one for one in maps_of(norm=True) if one.shape == maps[0].shape]
    indices = [i for i in ends if _stride(image, maps[i]) >= MIN_STRIDE]
    return Cuts(
        [maps[i].shape[1] for i in indices],
        [_stride(image, maps[i]) for i in indices],
        indices=indices,
        norm=bool(normalized),
        part_names=_part_names(net, [maps[i] for i in indices], normalized[-1:]),
    )


def _part_names(net: Any, maps: list[Tensor], normalized: list[Tensor]) -> list[list[str]]:
    """Names of the parameters of the stem and of each stage.

    A parameter belongs to the first stage whose map depends on it. The stem has the parameters that timm counts as its
    stem. The last norm, which every map goes through, belongs to the last stage.
    """
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    seen: set[Any] = set()
    parts = [[names[id(p)] for p in _new_leaves(one, seen) if id(p) in names] for one in maps]
    for one in normalized:
        parts[-1] += [names[id(p)] for p in _new_leaves(one, seen) if id(p) in names]
    stem = _stem_names(net)
    return [[n for n in parts[0] if n in stem], [n for n in parts[0] if n not in stem], *parts[1:]]


def _new_leaves(one: Tensor, seen: set[Any]) -> list[Tensor]:
    """Leaf tensors that a tensor was computed from, by its autograd graph, without the tensors seen before."""
    leaves, nodes = [], [one.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is not None and node not in seen:
            seen.add(node)
            nodes += [source for source, _ in node.next_functions]
            if hasattr(node, "variable"):
                leaves.append(node.variable)
    return leaves


def _stem_names(net: Any) -> set[str]:
    from timm.models import group_parameters

    if not hasattr(net, "group_matcher"):
        return set()
    return {
        name
        for name, group in group_parameters(net, net.group_matcher(coarse=True), reverse=True).items()
        if group == 0
    }


def _stride(image: Tensor, one: Tensor) -> int:
    return max(1, round(image.shape[2] / one.shape[2]))


def _patch_size(net: nn.Module) -> int:
    """Size in pixels, along an axis, of the patches of a transformer; 0 if there are none or they overlap."""
    projection = getattr(getattr(net, "patch_embed", None), "proj", None)
    if not isinstance(projection, nn.Conv2d) or projection.kernel_size != projection.stride:
        return 0
    return int(projection.kernel_size[0])


def _nearest_sizes(create: Create, example: tuple[int, ...], in_channels: int) -> list[tuple[int, ...]]:
    """Find the nearest smaller and the nearest larger size that a model accepts, with one step for both axes."""

    def fits(size: tuple[int, ...]) -> bool:
        try:
            _cut(create, size, example=size, in_channels=in_channels)
        except _UnfitSize:
            return False
        return True

    def first(sizes: Iterator[tuple[int, ...]]) -> list[tuple[int, ...]]:
        return [*itertools.islice((one for one in itertools.islice(sizes, TRIED_SIZES) if fits(one)), 1)]

    # A model accepts multiples of a number that is not known here, so every even size is tried, as a square.
    up = (tuple(side - side % 2 + 2 * step for side in example) for step in itertools.count(1))
    down = (tuple(side + side % 2 - 2 * step for side in example) for step in range(1, (min(example) + 1) // 2))
    return first(down) + first(up)


def _text(size: tuple[int, ...]) -> str:
    return str(size[0]) if len(set(size)) == 1 else " x ".join(map(str, size))
