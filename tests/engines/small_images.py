# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Random images with labels."""

from __future__ import annotations

import torch

from monai_fgssl.data import CachedImages


def make_images(
    count: int, size: int = 32, num_classes: int = 3, seed: int = 0, visible_labels: bool = False
) -> CachedImages:
    """Square images in color, the same ones for a seed.

    Args:
        count: number of images.
        size: in pixels.
        num_classes: labels go from 0 to the last class, and again from 0.
        seed: of the pixels; names begin with it.
        visible_labels: the color channel with the number of the label is half as bright.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)
    labels = torch.arange(count) % num_classes
    if visible_labels:
        pixels[torch.arange(count), labels] //= 2
    names = [f"{seed}_{i}" for i in range(count)]
    return CachedImages(pixels, labels, names, names)
