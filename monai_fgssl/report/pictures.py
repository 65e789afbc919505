# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Images as pictures for a screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_fgssl.data import read_medical_image

from .heat_maps import middle_slice

__all__ = ["draw_image"]


def draw_image(
    path: str | Path,
    spatial_dims: int = 2,
    window: str | Sequence[float] | None = None,
    max_size: int = 1024,
    **others: Any,
) -> NDArray[np.uint8]:
    """Picture of an image as the loader reads it; of a volume the middle slice.

    Args:
        path: of the file or the folder of a DICOM series.
        spatial_dims: 2 for pictures, 3 for volumes.
        window: see :func:`~monai_fgssl.data.read_medical_image`.
        max_size: height and width in pixels, at most.
        others: ``frame``, ``channel``, ``time`` and ``max_pixels``: see there.

    Returns:
        ``(H, W, 3)``.

    Raises:
        DataError: when it can't be read.
    """
    values = read_medical_image(path, spatial_dims, 3 if spatial_dims == 2 else 1, window, **others).as_tensor()
    if spatial_dims == 3:
        values = middle_slice(values)
        if window is None:
            low, high = values.aminmax()
            values = (values - low) / max(float(high - low), 1e-6)
    pixels = (255 * values.clamp(0, 1)).round().byte().expand(3, -1, -1).permute(1, 2, 0).numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((max_size, max_size))
    return np.asarray(picture)
