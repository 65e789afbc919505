# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Find gray pictures that use few of the possible gray levels of their files, such as 12 bits stored in 16."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from .geometry import ImageGeometry
from .limits import limit_pixels
from .reader import read_stored
from .selection import Selection

__all__ = ["describe_contrast"]

FEW = 64
"""Number of gray levels, of 256, up to which a picture uses few."""

MAX_LOOKED_AT = 8
"""Number of files whose stored values are read again."""


def describe_contrast(
    items: Sequence[Mapping[str, Any]], images: Sequence[Tensor] | Tensor, geometry: ImageGeometry
) -> str:
    """Advise a window when most pictures are nearly black, or all of one gray.

    Args:
        items: dictionaries with ``"image"`` (path), and ``"frame"`` where it is not the one of the geometry.
        images: uint8, as they were read by the geometry, in any size.
        geometry: without a window.

    Returns:
        A sentence; empty if there is nothing to report.
    """
    if geometry.window is not None or geometry.spatial_dims != 2:
        return ""
    flat = [number for number, image in enumerate(images) if int(image.max()) - int(image.min()) < FEW]
    if 2 * len(flat) <= len(items):
        return ""
    # Small images have lost fine detail, so look at the file itself.
    looked_at = [items[number] for number in flat[:MAX_LOOKED_AT]]
    found = [(item["image"], *ends) for item in looked_at if (ends := _ends(item, geometry))]
    if 2 * len(found) <= len(looked_at):
        return ""
    path, low, high, black, white = found[0]
    lowest, highest = min(ends[1] for ends in found), max(ends[2] for ends in found)
    if lowest >= 0 and highest == int(highest) > 1:
        # Round the range up to whole bits.
        lowest, highest = 0, 2 ** int(highest).bit_length() - 1
    return (
        f"{len(flat)} of {len(items)} pictures show less than a quarter of all gray levels, such as {path}, whose "
        f"values are {low:g} to {high:g} of {black:g} to {white:g}. If that is too dark or too flat, give the range of "
        f'values as center and width, such as --window "[{(lowest + highest + 1) / 2:g}, {highest - lowest + 1:g}]".'
    )


def _ends(item: Mapping[str, Any], geometry: ImageGeometry) -> tuple[float, float, float, float] | None:
    """Return the lowest and highest value of a gray picture without a window, its black and its white.

    None if its values fill the range from black to white, or it has a window.
    """
    frame = item.get("frame", geometry.frame)
    selection = Selection(frame if isinstance(frame, int) else None, geometry.channel, geometry.time)
    with limit_pixels(geometry.max_pixels):
        image = read_stored([Path(item["image"])], 2, selection)
    if len(image.values) > 1 or image.voi is not None or image.value_range is None:
        return None
    data = np.isfinite(image.values)
    if image.padding is not None and not image.padding.all():
        data &= ~image.padding
    values = image.values[data]
    low, high, (black, white) = float(values.min()), float(values.max()), image.value_range
    return (low, high, black, white) if (high - low) * 256 < FEW * (white - black) else None
