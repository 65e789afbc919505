# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find weights: in a file, in a repository of the Hugging Face hub, or where a network's authors published them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_fgssl.utils.errors import SettingsError

from .read import WEIGHT_SUFFIXES

__all__ = [
    "HUB_PREFIX",
    "IMAGENET",
    "PUBLISHED",
    "FoundWeights",
    "find_weights",
    "is_published",
    "stored_normalization",
]

HUB_PREFIX = "hf-hub:"
PUBLISHED = ("pretrained", "imagenet")
"""Names instead of a file: weights that a network's authors published, and those that were trained on ImageNet."""
HUB_FILES = ("model.safetensors", "pytorch_model.bin", "model.pt", "model.pth")
IMAGENET_TAG = re.compile(r"in(1k|12k|21k|22k)|imagenet")
REPOSITORY = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>.+))?")

Normalization = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of RGB in [0, 1] that most ImageNet weights were trained with."""

TORCHVISION = "https://download.pytorch.org/models/"
TORCHVISION_FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet152": "resnet152-394f9c45.pth",
}
MEDICALNET_DEPTHS = (10, 18, 34, 50, 101, 152, 200)


@dataclass
class FoundWeights:
    """Weights of a network.

    Attributes:
        path: file with the weights.
        label: name of the weights in messages.
        normalization: mean and standard deviation of each channel of images in [0, 1]; None: not known.
    """

    path: Path
    label: str
    normalization: Normalization | None = None


def is_published(weights: str | Path) -> bool:
    """True for ``pretrained`` and ``imagenet``. A file of such a name must be given as ``./pretrained``."""
    return str(weights) in PUBLISHED


def find_weights(weights: str | Path, backbone: str, spatial_dims: int, published: Any = None) -> FoundWeights:
    """Find weights, and download them if they are not in the cache of the hub or of torch.

    Args:
        weights: ``pretrained``, ``imagenet``, ``hf-hub:OWNER/NAME`` (with ``@REVISION`` and ``/FILE`` where needed), or
            a file.
        backbone: name of the network.
        spatial_dims: 2 or 3.
        published: configurations of the weights, for models of timm (``PretrainedCfg``), the default first.

    Raises:
        SettingsError: when no weights are found, or they can't be downloaded; the message has the command to do so.
    """
    text = str(weights)
    if text.startswith(HUB_PREFIX):
        return _of_hub(text.removeprefix(HUB_PREFIX))
    if not is_published(text):
        path = Path(weights).expanduser()
        if not path.is_file():
            raise SettingsError(
                f"weights: there is no file {text!r}. Other choices: {', '.join(PUBLISHED)}, {HUB_PREFIX}OWNER/NAME."
            )
        return FoundWeights(path, str(path))
    if published is not None:
        return _of_timm(text, backbone, published)
    depth = _depth(backbone)
    if spatial_dims == 3 and depth in MEDICALNET_DEPTHS:
        return _of_medicalnet(text, backbone, depth)
    if spatial_dims == 2 and backbone in TORCHVISION_FILES:
        return _of_torchvision(backbone)
    raise SettingsError(
        f"weights: this package knows no {text} weights of {backbone!r} with spatial_dims={spatial_dims}: give a file "
        f"or {HUB_PREFIX}OWNER/NAME, or take another backbone."
    )


def stored_normalization(states: Mapping[str, Mapping[str, Tensor]]) -> Normalization | None:
    """Normalization that the networks of this package save with their weights."""
    for state in states.values():
        values = [state.get(name) for name in ("mean", "std")]
        if all(value is not None and value.ndim >= 4 and value.numel() == value.shape[1] for value in values):
            mean, std = (tuple(value.flatten().tolist()) for value in values if value is not None)
            return mean, std
    return None


def _depth(backbone: str) -> int:
    match = re.fullmatch(r"(medicalnet-)?resnet(\d+)", backbone)
    return int(match[2]) if match else 0


def _of_torchvision(backbone: str) -> FoundWeights:
    file = TORCHVISION_FILES[backbone]
    return FoundWeights(_download(TORCHVISION + file), f"torchvision's {file}", IMAGENET)


def _download(url: str) -> Path:
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        checksum = re.search(r"-([0-9a-f]{8,})\.", path.name)
        try:
            torch.hub.download_url_to_file(url, str(path), checksum[1] if checksum else None)
        except Exception as error:
            raise SettingsError(
                f"weights: {url} can't be fetched ({_reason(error)}). On a machine with a connection: curl -LO {url} "
                f"; then --weights {path.name}"
            ) from error
    return path


def _of_hub(text: str) -> FoundWeights:
    match = REPOSITORY.fullmatch(text)
    if match is None:
        raise SettingsError(f"weights: {HUB_PREFIX}{text} must be {HUB_PREFIX}OWNER/NAME, with @REVISION and /FILE.")
    files = [match["file"]] if match["file"] else list(HUB_FILES)
    path = _fetch(match["name"], files, match["revision"])
    return FoundWeights(path, f"{HUB_PREFIX}{match['name']}/{path.name}", _hub_normalization(match))


def _hub_normalization(match: re.Match[str]) -> Normalization | None:
    """Normalization in ``config.json``, as timm writes it; None if the repository has none."""
    try:
        file = _fetch(match["name"], ["config.json"], match["revision"])
        config = json.loads(file.read_text(encoding="utf-8"))
        config = config.get("pretrained_cfg", config)
        return _normalization(config.get("mean"), config.get("std"))
    except (SettingsError, ValueError, AttributeError, TypeError):
        return None


def _normalization(mean: Any, std: Any) -> Normalization | None:
    if mean is None or std is None:
        return None
    return tuple(float(value) for value in mean), tuple(float(value) for value in std)


def _fetch(repository: str, files: Sequence[str], revision: str | None = None) -> Path:
    """Download the first of the given files that a repository has."""
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError as error:
        raise SettingsError(
            f"weights: {HUB_PREFIX}{repository} needs huggingface_hub, which can't be imported: pip install "
            "'monai-fgssl[timm]'."
        ) from error
    problem: Exception | None = None
    for file in files:
        if Path(file).suffix not in (*WEIGHT_SUFFIXES, ".json"):
            raise SettingsError(f"weights: {file} must end in one of {', '.join(WEIGHT_SUFFIXES)}.")
        try:
            return Path(hf_hub_download(repository, file, revision=revision))
        except EntryNotFoundError as error:
            problem = problem or error
        except Exception as error:
            problem = error
            break
    assert problem is not None
    reason = _reason(problem)
    raise SettingsError(
        f"weights: {files[0]} of {repository} can't be fetched ({reason}). On a machine with a connection: hf download "
        f"{repository} {files[0]} --local-dir . ; then --weights {Path(files[0]).name}"
    ) from problem


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:120]}"


def _of_timm(text: str, backbone: str, published: Sequence[Any]) -> FoundWeights:
    having = [one for one in published if one.hf_hub_id or one.url]
    if text == "imagenet":
        having = [one for one in having if IMAGENET_TAG.search(f"{one.tag or ''} {one.hf_hub_id or ''}")]
    if not having:
        raise SettingsError(
            f"weights: timm has no {text} weights of {backbone!r}: give a file or {HUB_PREFIX}OWNER/NAME, or take "
            "another backbone."
        )
    chosen = having[0]
    normalization = _normalization(chosen.mean, chosen.std)
    if not chosen.hf_hub_id:
        return FoundWeights(_download(chosen.url), f"timm's {chosen.url.rsplit('/', 1)[-1]}", normalization)
    files = [chosen.hf_hub_filename] if chosen.hf_hub_filename else list(HUB_FILES)
    path = _fetch(chosen.hf_hub_id, files)
    return FoundWeights(path, f"{HUB_PREFIX}{chosen.hf_hub_id}", normalization)


def _of_medicalnet(text: str, backbone: str, depth: int) -> FoundWeights:
    if text == "imagenet":
        raise SettingsError(
            f"weights: {backbone!r} in 3D has no ImageNet weights; --weights pretrained takes those of MedicalNet, and "
            "a file of 2D weights loads with --inflate_weights true."
        )
    if depth in (18, 34) and not backbone.startswith("medicalnet-"):
        # Their shortcuts have no weights.
        raise SettingsError(
            f"weights: MedicalNet's {backbone} has other shortcuts than {backbone!r}: take --backbone "
            f"medicalnet-{backbone}."
        )
    # The names of MONAI's get_pretrained_resnet_medicalnet, whose files are read here as all others.
    files = [f"resnet_{depth}_23dataset.pth", f"resnet_{depth}.pth"]
    path = _fetch(f"TencentMedicalNet/MedicalNet-Resnet{depth}", files)
    return FoundWeights(path, f"MedicalNet's {path.name}")
