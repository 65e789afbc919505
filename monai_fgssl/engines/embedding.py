# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Features of images: the mean of each stage's feature map, computed once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from tqdm import tqdm

from monai_fgssl.data import CachedImages, ImageGeometry, ImageStream, make_loader
from monai_fgssl.data.store.image_store import fingerprint
from monai_fgssl.engines.hierarchical import prepare_images
from monai_fgssl.networks import unwrap
from monai_fgssl.utils.files import atomic_write

__all__ = ["Embeddings", "embed_files", "embed_images"]

BATCH_SIZE = 256


@dataclass(frozen=True)
class Embeddings:
    """Features of images.

    Attributes:
        names: names of the images.
        paths: paths of their files.
        features: means of the stages, concatenated from shallow to deep: ``(N, D)`` float32.
        frames: numbers of the frames, for files with several; None: the file is one image.
        widths: number of features of each stage; they add up to ``D``.
        failures: name of each image that could not be read, and the reason.
    """

    names: tuple[str, ...]
    paths: tuple[str, ...]
    frames: tuple[int | None, ...]
    features: Tensor
    widths: tuple[int, ...]
    failures: tuple[tuple[str, str], ...] = ()

    def stages(self) -> dict[str, Tensor]:
        """Features ``(N, width)`` of ``stage1``, ``stage2`` and so on."""
        return {f"stage{k}": part for k, part in enumerate(self.features.split(list(self.widths), dim=1), start=1)}


@torch.no_grad()
def embed_images(
    network: nn.Module,
    images: CachedImages,
    device: str | torch.device,
    batch_size: int = BATCH_SIZE,
    cache_dir: str | Path | None = None,
) -> Tensor:
    """Compute the means of all stages for each image, in evaluation mode, without augmentation and in float32.

    Args:
        network: a :class:`~monai_fgssl.networks.StagedNet` on the device, which may be wrapped by
            ``DistributedDataParallel``; its mode does not change.
        images: images to embed; a progress bar counts them.
        device: where to compute.
        batch_size: images that are computed at once.
        cache_dir: folder that keeps the result for the same pixels and weights; None: it is not kept.

    Returns:
        Means of the stages, concatenated from shallow to deep: ``(N, D)`` float32 on the CPU.
    """
    module: Any = unwrap(network)
    file = None
    if cache_dir is not None:
        file = Path(cache_dir) / f"{_digest_of_pixels(images, batch_size)}-{_digest_of_weights(module)}.npy"
        if file.is_file():
            return torch.from_numpy(np.load(file))
    batches = []
    with eval_mode(module), tqdm(total=len(images), desc="embed", unit="image", leave=False, disable=None) as progress:
        for batch in make_loader(images, batch_size):
            batches.append(_embed(module, batch, device))
            progress.update(len(batches[-1]))
    features = torch.cat(batches)
    if file is not None:
        with atomic_write(file) as temporary:
            np.save(temporary, features.numpy())
    return features


@torch.no_grad()
def embed_files(
    network: nn.Module,
    stream: ImageStream,
    geometry: ImageGeometry,
    device: str | torch.device,
    cache_dir: str | Path | None = None,
) -> Embeddings:
    """Compute the features of :func:`embed_images` for any number of files. Only the features stay in memory.

    Args:
        network: network of :func:`embed_images`.
        stream: stream that reads the files and shows the progress. An image that can't be read does not affect others.
        geometry: geometry in which the stream reads the images.
        device: where to compute.
        cache_dir: folder that keeps the result for the same files and weights; None: it is not kept. Files that could
            not be read are tried again.
    """
    module: Any = unwrap(network)
    widths = tuple(module.backbone.channels)
    items: Sequence[dict[str, Any]] = stream.dataset.data
    file = None
    if cache_dir is not None:
        frames_of_files = [item.get("frame") for item in items]
        settings = vars(geometry) | {"frames": frames_of_files, "max_pixels": None}
        key = fingerprint([item["image"] for item in items], **settings)
        file = Path(cache_dir) / f"{key}-{_digest_of_weights(module)}.npy"
        if file.is_file():
            return _embeddings(items, torch.from_numpy(np.load(file)), widths)
    read: list[str] = []
    batches = [torch.empty(0, sum(widths))]
    with eval_mode(module):
        for batch in stream:
            batches.append(_embed(module, batch, device))
            read += batch["name"]
    by_name = {item["name"]: item for item in items}
    embeddings = _embeddings([by_name[name] for name in read], torch.cat(batches), widths, stream.failures)
    if file is not None and not embeddings.failures:
        with atomic_write(file) as temporary:
            np.save(temporary, embeddings.features.numpy())
    return embeddings


def _embeddings(
    items: Sequence[dict[str, Any]],
    features: Tensor,
    widths: tuple[int, ...],
    failures: Sequence[tuple[str, str]] = (),
) -> Embeddings:
    return Embeddings(
        tuple(item["name"] for item in items),
        tuple(item["image"] for item in items),
        tuple(item.get("frame") for item in items),
        features,
        widths,
        tuple(failures),
    )


def _embed(module: Any, batch: dict[str, Any], device: str | torch.device) -> Tensor:
    pixels, _ = prepare_images(batch, torch.device(device))
    return torch.cat(module.stage_means(pixels), dim=1).float().cpu()


def _digest_of_pixels(images: CachedImages, batch_size: int) -> str:
    digest = hashlib.blake2b(json.dumps([len(images), *images.store.shape[1:]]).encode(), digest_size=16)
    for first in range(0, len(images), batch_size):
        digest.update(images[range(first, min(first + batch_size, len(images)))]["image"].numpy().tobytes())
    return digest.hexdigest()


def _digest_of_weights(module: Any) -> str:
    """Digest of all values that the features of an image depend on: backbone, its statistics, and normalization."""
    digest = hashlib.blake2b(repr(module.backbone).encode(), digest_size=16)
    values = module.backbone.state_dict() | {"mean": module.mean, "std": module.std}
    for name, value in sorted(values.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
