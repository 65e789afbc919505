# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Limit the size of an image. The header is checked before memory is taken for the pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from monai_fgssl.utils.errors import DataError

__all__ = [
    "MAX_DEFLATE_RATIO",
    "MAX_JPEG_RATIO",
    "MAX_LZW_RATIO",
    "MAX_PACKBITS_RATIO",
    "MAX_PIXELS",
    "check_inflated",
    "check_size",
    "check_stored_size",
    "limit_pixels",
]

MAX_PIXELS = 2**30
"""Largest number of pixels or voxels of an image, times its channels: 32,768 x 32,768, or 4,096 slices of 512 x 512."""

MAX_DEFLATE_RATIO = 1032
"""Largest compression ratio of deflate. Source: https://zlib.net/zlib_tech.html."""

MAX_LZW_RATIO = 2560
"""Largest compression ratio of LZW: a code of 12 bits stands for at most 3,840 bytes. Source: TIFF 6.0, section 13."""

MAX_PACKBITS_RATIO = 64
"""Largest compression ratio of PackBits, the RLE of TIFF and DICOM. Source: TIFF 6.0, section 9."""

MAX_JPEG_RATIO = 2048
"""Largest compression ratio of Huffman-coded JPEG: a block of 64 samples takes at least a bit, and six blocks are
768 bytes of color at 4:2:0. Source: ITU-T T.81, annexes F and G."""

_max_pixels: ContextVar[int | None] = ContextVar("max_pixels", default=None)


@contextmanager
def limit_pixels(max_pixels: int | None) -> Iterator[None]:
    """Limit the pixels of images within the block, in this thread only.

    Args:
        max_pixels: largest number of pixels or voxels, times channels; None: :data:`MAX_PIXELS`.
    """
    token = _max_pixels.set(max_pixels)
    try:
        yield
    finally:
        _max_pixels.reset(token)


def _limit() -> int:
    return _max_pixels.get() or MAX_PIXELS


def check_size(shape: Sequence[int]) -> None:
    """Refuse an invalid size, or one above the limit.

    Args:
        shape: shape of the array that the header promises, in any order.

    Raises:
        DataError: when a length is not positive, or there are more values than :func:`limit_pixels` allows.
    """
    sides = " x ".join(str(side) for side in shape)
    if any(side < 1 for side in shape):
        raise DataError(f"has no pixels: its header says {sides}.")
    if math.prod(shape) > _limit():
        raise DataError(
            f"is too large: {sides} values, but an image may have only {_limit()}. If the memory is large enough, give "
            f"max_pixels={math.prod(shape)} (--max_pixels)."
        )


def check_inflated(size: int) -> None:
    """Refuse a compressed file that unpacks to more bytes than half the number of allowed pixels.

    Args:
        size: number of unpacked bytes so far.

    Raises:
        DataError: when there are more.
    """
    if size > _limit() // 2:
        raise DataError(
            f"is too large: it unpacks to more than {_limit() // 2} bytes. If the memory is large enough, give "
            f"max_pixels={2 * _limit()} (--max_pixels), or more."
        )


def check_stored_size(needed: int, stored: int, ratio: float = 1) -> None:
    """Refuse a file that can't hold what its header promises.

    Args:
        needed: number of bytes of the decoded pixels.
        stored: number of bytes of the file that are left for them.
        ratio: largest compression ratio; 1 without compression.

    Raises:
        DataError: when there are too few bytes.
    """
    if needed > stored * ratio:
        raise DataError(f"is cut off: its header promises {needed} bytes of pixels, and it has {stored}.")
