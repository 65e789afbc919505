# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Convert stored samples to red, green and blue, at the depth at which they are stored."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["cmyk_to_rgb", "palette_depth", "palette_to_rgb", "without_premultiplied_alpha"]


def palette_depth(colors: NDArray[np.uint16]) -> tuple[NDArray[Any], int]:
    """Reduce the entries of a palette of 16 bits to their real depth.

    Many writers store 8 bits as the upper half of 16, where white is 0xFF00.

    Args:
        colors: colors as an array of any shape.

    Returns:
        Colors, and the value of full intensity.
    """
    return (colors, 65535) if (colors & 0xFF).any() else (colors >> 8, 255)


def palette_to_rgb(indices: NDArray[Any], table: NDArray[np.uint16]) -> tuple[NDArray[Any], int]:
    """Look up the colors of a TIFF.

    Args:
        indices: ``(rows, columns)``.
        table: ``(3, N)``; if all are below 256 they are 8 bits in the lower half, as in libtiff's tools.

    Returns:
        ``(rows, columns, 3)``, and the value of full intensity.
    """
    entries, white = (table, 255) if table.max() < 256 else palette_depth(table)
    return np.moveaxis(entries[:, indices], 0, -1), white


def cmyk_to_rgb(samples: NDArray[Any], white: int) -> NDArray[Any]:
    """Convert inks to light as Pillow does, ``(white - ink) * (white - black) / white``, without a profile.

    Args:
        samples: ``(rows, columns, 4)``, from 0 to ``white``.
        white: value of full intensity.

    Returns:
        ``(rows, columns, 3)``: uint8 for 8 bits, float32 from 0 to ``white`` for others.
    """
    if white == 255:
        return np.asarray(Image.fromarray(np.ascontiguousarray(samples, np.uint8), "CMYK").convert("RGB"))
    inks = white - samples.astype(np.float64)
    return (inks[..., :3] * inks[..., 3:] / white).astype(np.float32)


def without_premultiplied_alpha(colors: NDArray[Any], alpha: NDArray[Any], white: int | None) -> NDArray[Any]:
    """Divide colors by the alpha that they were multiplied by.

    Args:
        colors: ``(rows, columns, C)``.
        alpha: ``(rows, columns)`` of the same type.
        white: full intensity of integers, rounded down as Pillow does it; None for floats, where it is 1.

    Returns:
        The shape and type of ``colors``; black where alpha is 0.
    """
    divisor = np.where(alpha > 0, alpha, 1)[..., None]
    if white is None:
        whole = colors / divisor
    else:
        whole = np.minimum(colors.astype(np.uint64) * np.uint64(white) // divisor, white)
    return np.where(alpha[..., None] > 0, whole, 0).astype(colors.dtype)
