# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Limit of an image's size. It is checked against the header before memory is taken for the pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monai_fgssl.utils.errors import DataError

__all__ = ["MAX_DEFLATE_RATIO", "MAX_INFLATED", "MAX_PIXELS", "check_size", "check_stored_size"]

MAX_PIXELS = 2**30
"""Pixels or voxels that one image may have, times its channels: 32,768 x 32,768, or 2,000 slices of 512 x 512 twice."""

MAX_INFLATED = 2**29
"""Bytes of a deflated DICOM file, which is unpacked as a whole."""

MAX_DEFLATE_RATIO = 1032
"""Bytes that deflate makes of one, at most. Source: https://zlib.net/zlib_tech.html."""


def check_size(shape: Sequence[int]) -> None:
    """Refuse sizes that no image has.

    Args:
        shape: of the array that the header promises, in any order.

    Raises:
        DataError: when a length is not positive, or there are more values than :data:`MAX_PIXELS`.
    """
    sides = " x ".join(str(side) for side in shape)
    if any(side < 1 for side in shape):
        raise DataError(f"has no pixels: its header says {sides}.")
    if math.prod(shape) > MAX_PIXELS:
        raise DataError(
            f"is too large: {sides} values, of which an image may have {MAX_PIXELS} (monai_fgssl.data.io.limits)."
        )


def check_stored_size(needed: int, stored: int, ratio: float = 1) -> None:
    """Refuse a file that can't hold what its header promises.

    Args:
        needed: bytes of the decoded pixels.
        stored: bytes of the file that are left for them.
        ratio: largest of the compression; 1 without.

    Raises:
        DataError: when there are too few bytes.
    """
    if needed > stored * ratio:
        raise DataError(f"is cut off: its header promises {needed} bytes of pixels, and it has {stored}.")
