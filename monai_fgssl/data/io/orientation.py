# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Turn pictures upright, by their orientation tag."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

__all__ = ["ORIENTATION", "upright"]

ORIENTATION = 274
"""Tag of TIFF 6.0 and EXIF 2.32: 1 to 8."""


def upright(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror a picture as its orientation tag says.

    Args:
        values: ``(rows, columns, ...)``.
        orientation: 1 to 8; 5 to 8 exchange rows and columns. Other numbers are ignored, as in all viewers.

    Example:
        >>> import numpy as np
        >>> upright(np.array([[1, 2], [3, 4]]), 6)
        array([[3, 1],
               [4, 2]])
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    # The sides where the first row and the first column of the file are shown.
    from_right = orientation in (2, 3, 6, 7)
    from_bottom = orientation in (3, 4, 7, 8)
    return values[:: -1 if from_bottom else 1, :: -1 if from_right else 1]
