# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find images that show the same photo. In different parts of a split they would make results too good."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from monai_fgssl.data.layouts.table import class_text
from monai_fgssl.utils.files import atomic_write

__all__ = ["DuplicatePair", "find_duplicates", "join_duplicates", "pairs_across_parts", "write_duplicates"]

SIZE = 64
"""Height and width in pixels at which images are compared."""

WINDOW = 9
"""Width in pixels of the neighborhood for the local contrast."""

NOISE = 2.0
"""Contrast in gray levels (0 to 255) that is ignored, since compression changes as much."""

DARK = 15.0
"""Largest gray level of 255 around a picture: the black around a fundus or a dermatoscope's field."""

HASH_SIZE = 16
"""Height and width of the hash, which has a bit for each of its pixels."""

MAX_DIFFERENT_BITS = 51
"""Bits of 256 that may differ. With this number no pair was lost in ISIC 2017, ISIC 2018 and APTOS 2019."""

BLOCK = 2048
"""Number of hashes that are compared with as many others at a time."""

MIN_PIXELS = 400
"""Pixels of 4096 that must show something in both pictures to compare them."""


class DuplicatePair(NamedTuple):
    """Two images that show the same photo.

    Attributes:
        first: name of the image that comes first in the data set.
        second: name of the other image.
        correlation: correlation of their local contrast, at most 1.
    """

    first: str
    second: str
    correlation: float


def find_duplicates(images: Tensor, names: Sequence[str], threshold: float = 0.7) -> list[DuplicatePair]:
    """Find images that show the same photo, also with another compression, size, color or light.

    The local contrast at 64 by 64 pixels is compared: gray minus the mean around it, divided by the standard deviation
    around it. So shading, color and the outline that all fundus photos share do not matter. A perceptual hash
    (the contrast at 16 by 16 pixels, one bit for above or below its median) picks the pairs that may be duplicates.
    Such a pair counts as duplicates if its contrast correlates over the pixels that show something in both images.
    Thousands of images take seconds; the time grows with the square of their number.

    In ISIC 2017, ISIC 2018 and APTOS 2019 all pairs above the default threshold looked like the same lesion or eye.
    Pairs of different lesions or eyes reached 0.67, and some pairs of the same lesion were below that. Copies that are
    turned, mirrored or cropped by more than a few per cent are not found; these data sets have no turned or mirrored
    copies.

    Args:
        images: uint8, ``(N, C, H, W)``. Volumes ``(N, C, D, H, W)`` are compared by their middle slice.
        names: ``N`` names.
        threshold: correlation above which two images are duplicates.

    Returns:
        Pairs, the most similar first. Images without any structure are never duplicates.

    Example:
        >>> image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
        >>> [(pair.first, pair.second) for pair in find_duplicates(torch.cat([image, image // 2]), ["a", "b"])]
        [('a', 'b')]
    """
    if len(images) != len(names):
        raise ValueError(f"images and names must be equally many, got {len(images)} and {len(names)}.")
    # Only hashes are kept, 256 bytes for each image. Contrast is computed again for the few pairs that are similar.
    hashes = [_hash(block) for block in images.split(64)]
    bits, structured = (torch.cat(part) for part in zip(*hashes, strict=True)) if hashes else (torch.empty(0, 0),) * 2
    positions = structured.nonzero().flatten()
    pairs: list[DuplicatePair] = []
    # This number of pairs fits the processor's cache, which is twice as fast as 2048 at a time.
    for block in positions[_candidates(bits[positions])].split(256):
        rows, (first, second) = _places(block)
        contrast, visible = (values.flatten(1) for values in _contrast(images[rows]))
        correlation = _correlation(contrast[first], contrast[second], visible[first] & visible[second])
        for (i, j), value in zip(block.tolist(), correlation.tolist(), strict=True):
            if value > threshold:
                pairs.append(DuplicatePair(names[i], names[j], value))
    return sorted(pairs, key=lambda pair: -pair.correlation)


def _places(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Images that occur in pairs ``(P, 2)``, and the positions of both sides of the pairs among them, ``(2, P)``."""
    rows, places = pairs.T.unique(return_inverse=True)
    return rows, places


def _hash(images: Tensor) -> tuple[Tensor, Tensor]:
    """Perceptual hash of uint8 images, int8 ``(N, 256)`` of +1 and -1, and a mask of images with any structure."""
    contrast, visible = _contrast(images)
    structured = (visible.flatten(1).sum(1) >= MIN_PIXELS) & (contrast.abs().flatten(1).amax(1) > 0)
    small = F.interpolate(contrast, size=(HASH_SIZE, HASH_SIZE), mode="area").flatten(1)
    return torch.where(small > small.median(1, keepdim=True).values, 1, -1).to(torch.int8), structured


def _contrast(images: Tensor) -> tuple[Tensor, Tensor]:
    """Local contrast ``(N, 1, SIZE, SIZE)`` of uint8 images, and a mask of the pixels that show something."""
    while images.ndim > 4:
        images = images.select(2, images.shape[2] // 2)
    gray = F.interpolate(images.float().mean(1, keepdim=True), size=(SIZE, SIZE), mode="area")
    detail = gray - _smooth(gray, WINDOW)
    contrast = detail / (_smooth(detail.square(), WINDOW).sqrt() + NOISE)
    # Pixels near the dark surroundings are left out, since the edge would have the strongest contrast of all.
    dark = (_smooth(gray, 5) <= DARK).float()
    return contrast, _spread(dark, WINDOW) == 0


def _smooth(images: Tensor, window: int) -> Tensor:
    """Mean over a square window; at the border over the pixels inside the image."""
    along_rows = F.avg_pool2d(images, (1, window), 1, (0, window // 2), count_include_pad=False)
    return F.avg_pool2d(along_rows, (window, 1), 1, (window // 2, 0), count_include_pad=False)


def _spread(mask: Tensor, window: int) -> Tensor:
    """Maximum over a square window."""
    return F.max_pool2d(F.max_pool2d(mask, (1, window), 1, (0, window // 2)), (window, 1), 1, (window // 2, 0))


def _candidates(bits: Tensor) -> Tensor:
    """Pairs of positions ``(P, 2)`` of hashes that are close."""
    found = [torch.empty(0, 2, dtype=torch.int64)]
    for i in range(0, len(bits), BLOCK):
        for j in range(i, len(bits), BLOCK):
            # The inner product of +1 and -1 counts equal bits minus different ones.
            agreement = bits[i : i + BLOCK].float() @ bits[j : j + BLOCK].float().T
            close = agreement >= HASH_SIZE**2 - 2 * MAX_DIFFERENT_BITS
            found.append((close.triu(1) if i == j else close).nonzero() + torch.tensor([i, j]))
    return torch.cat(found)


def _correlation(first: Tensor, second: Tensor, where: Tensor) -> Tensor:
    """Correlation of each row of two tensors ``(P, D)`` over the elements that a mask selects, 0 for too few."""
    count = where.sum(1, keepdim=True)
    first, second = (
        torch.where(where, values - (values * where).sum(1, keepdim=True) / count.clamp(min=1), 0)
        for values in (first, second)
    )
    norm = (first.square().sum(1) * second.square().sum(1)).sqrt()
    correlation = (first * second).sum(1) / norm.clamp(min=1e-6)
    return torch.where(count.flatten() >= MIN_PIXELS, correlation, 0)


def join_duplicates(items: Sequence[dict[str, Any]], pairs: Sequence[DuplicatePair]) -> list[dict[str, Any]]:
    """Join duplicates and their groups into one group, so that a split keeps them together.

    Args:
        items: items as in :class:`~monai_fgssl.data.ImageTable`.
        pairs: pairs of :func:`find_duplicates`.

    Returns:
        The same items in the same order. A joined group gets the name of its first group.
    """
    group_of = {item["name"]: item["group"] for item in items}
    groups = list(dict.fromkeys(group_of.values()))
    number = {group: i for i, group in enumerate(groups)}
    rows, columns = ([number[group_of[name]] for name in side] for side in _sides(pairs))
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(groups), len(groups)))
    _, joined = connected_components(graph, directed=False)
    first_of: dict[int, str] = {}
    for group, component in zip(groups, joined.tolist(), strict=True):
        first_of.setdefault(component, group)
    return [{**item, "group": first_of[joined[number[item["group"]]]]} for item in items]


def _sides(pairs: Sequence[DuplicatePair]) -> tuple[list[str], list[str]]:
    return [pair.first for pair in pairs], [pair.second for pair in pairs]


def pairs_across_parts(
    pairs: Sequence[DuplicatePair], split: Mapping[str, Sequence[dict[str, Any]]]
) -> list[DuplicatePair]:
    """Pairs whose images are in different parts of a split."""
    part_of = {item["name"]: part for part, items in split.items() for item in items}
    both = [pair for pair in pairs if pair.first in part_of and pair.second in part_of]
    return [pair for pair in both if part_of[pair.first] != part_of[pair.second]]


def write_duplicates(
    path: str | Path,
    pairs: Sequence[DuplicatePair],
    split: Mapping[str, Sequence[dict[str, Any]]],
    class_names: Sequence[str],
) -> None:
    """Write pairs as CSV: names, correlation, and the part and class of each; empty where an image is in no part."""
    seen = {
        item["name"]: (part, class_text(item["label"], class_names)) for part, items in split.items() for item in items
    }
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["first", "second", "correlation", "first_part", "second_part", "first_class", "second_class"])
        for pair in pairs:
            (part, label), (other_part, other_label) = seen.get(pair.first, ("", "")), seen.get(pair.second, ("", ""))
            writer.writerow([pair.first, pair.second, f"{pair.correlation:.4f}", part, other_part, label, other_label])
