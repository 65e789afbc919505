# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pictures as files for a browser."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["as_png"]


def as_png(picture: NDArray[np.uint8]) -> bytes:
    """Content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
