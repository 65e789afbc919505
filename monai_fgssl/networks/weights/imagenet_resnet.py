# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""ImageNet weights in torchvision's format for the 2D ResNets."""

from __future__ import annotations

import re
from pathlib import Path

from torch import nn

from monai_fgssl.utils.tensors import read_state_dict

__all__ = ["load_imagenet_resnet"]


def load_imagenet_resnet(backbone: nn.Module, path: str | Path) -> None:
    """Load a torchvision ResNet state dict into a staged 2D ResNet, strictly key by key and in place.

    Only the classifier ``fc.*`` is left out. Files older than ``num_batches_tracked`` (a counter that plain batch
    norms never read) load too. For a network with one input channel, the first convolution is summed over R, G and
    B, which gives a gray image the response that its three-channel copy would have.

    Args:
        backbone: a backbone of :func:`~monai_fgssl.networks.make_backbone` made with ``stem="imagenet"``.
        path: of a torchvision state dict, as ``torch.save`` wrote it or as safetensors.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged or holds no state dict, or names or shapes differ; all of them are listed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"weights: there is no file {str(path)!r}.")
    state = read_state_dict(path)
    expected = backbone.state_dict()
    loaded = {_staged_name(name): value for name, value in state.items() if not name.startswith("fc.")}
    first = "stem.conv1.weight"
    if first in loaded and first in expected and expected[first].shape[1] == 1:
        loaded[first] = loaded[first].sum(dim=1, keepdim=True)
    for name, value in expected.items():
        if name.endswith(".num_batches_tracked"):
            loaded.setdefault(name, value)

    problems = [f"{_torchvision_name(name)} is missing in the file" for name in expected if name not in loaded]
    problems += [f"{_torchvision_name(name)} is not in the network" for name in loaded if name not in expected]
    problems += [
        f"{_torchvision_name(name)} has shape {tuple(loaded[name].shape)} in the file and {tuple(value.shape)} "
        "in the network"
        for name, value in expected.items()
        if name in loaded and loaded[name].shape != value.shape
    ]
    if problems:
        raise ValueError(
            f"weights: {str(path)!r} does not fit the network (is it the same ResNet, with stem='imagenet'?):\n  "
            + "\n  ".join(problems)
        )
    backbone.load_state_dict(loaded)


def _staged_name(name: str) -> str:
    """``layer1.0.conv1.weight`` to ``stages.0.0.conv1.weight``, ``conv1.weight`` to ``stem.conv1.weight``."""
    if layer := re.match(r"layer(\d+)\.(.+)", name):
        return f"stages.{int(layer[1]) - 1}.{layer[2]}"
    return f"stem.{name}"


def _torchvision_name(name: str) -> str:
    """The inverse of :func:`_staged_name`."""
    if stage := re.match(r"stages\.(\d+)\.(.+)", name):
        return f"layer{int(stage[1]) + 1}.{stage[2]}"
    return name.removeprefix("stem.")
