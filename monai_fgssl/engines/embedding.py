# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Features of images: the means of the maps of a backbone's stages."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.utils import eval_mode
from torch import Tensor, nn
from tqdm import tqdm

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines.hierarchical import prepare_images
from monai_fgssl.networks import unwrap

__all__ = ["embed_images"]

BATCH_SIZE = 256


@torch.no_grad()
def embed_images(
    network: nn.Module, images: CachedImages, device: str | torch.device, batch_size: int = BATCH_SIZE
) -> Tensor:
    """Compute the means of all stages for each image, in evaluation mode, without augmentation and in float32.

    Args:
        network: a :class:`~monai_fgssl.networks.StagedNet` on the device, maybe wrapped by
            :func:`~monai_fgssl.networks.distribute`; its mode is left as it was.
        images: to embed; a progress bar counts them.
        device: where to compute.
        batch_size: images that are computed at once.

    Returns:
        ``(N, D)`` float32 on the CPU: the means of the stages side by side, from shallow to deep.
    """
    module: Any = unwrap(network)
    batches = []
    with eval_mode(module), tqdm(total=len(images), desc="embed", unit="image", leave=False, disable=None) as progress:
        for batch in make_loader(images, batch_size):
            pixels, _ = prepare_images(batch, torch.device(device))
            batches.append(torch.cat(module.stage_means(pixels), dim=1).float().cpu())
            progress.update(len(pixels))
    return torch.cat(batches)
