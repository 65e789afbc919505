# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Limit of an image's size. It is checked against the header before memory is taken for the pixels."""

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
"""Pixels or voxels that one image may have, times its channels: 32,768 x 32,768, or 2,000 slices of 512 x 512 twice."""

MAX_DEFLATE_RATIO = 1032
"""Most bytes that deflate can unpack from one. Source: https://zlib.net/zlib_tech.html."""

MAX_LZW_RATIO = 2560
"""Most bytes that LZW can unpack from one: a code of 12 bits stands for 3,840. Source: TIFF 6.0, section 13."""

MAX_PACKBITS_RATIO = 64
"""Most bytes that PackBits, the RLE of TIFF and DICOM, can unpack from one. Source: TIFF 6.0, section 9."""

MAX_JPEG_RATIO = 2048
"""Most bytes that Huffman-coded JPEG can unpack from one: a block of 64 samples takes a bit, and six blocks are
768 bytes of color at 4:2:0. Source: ITU-T T.81, annexes F and G."""

_max_pixels: ContextVar[int | None] = ContextVar("max_pixels", default=None)


@contextmanager
def limit_pixels(max_pixels: int | None) -> Iterator[None]:
    """Set the limit of pixels within the block, in this thread only.

    Args:
        max_pixels: pixels or voxels, times channels; None: :data:`MAX_PIXELS`.
    """
    token = _max_pixels.set(max_pixels)
    try:
        yield
    finally:
        _max_pixels.reset(token)


def _limit() -> int:
    return _max_pixels.get() or MAX_PIXELS


def check_size(shape: Sequence[int]) -> None:
    """Refuse sizes that no image has.

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
    """Refuse a compressed file that unpacks to more bytes than an image of half the allowed pixels has.

    Args:
        size: bytes, as far as they have been counted.

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
        needed: bytes of the decoded pixels.
        stored: bytes of the file that are left for them.
        ratio: largest of the compression; 1 without.

    Raises:
        DataError: when there are too few bytes.
    """
    if needed > stored * ratio:
        raise DataError(f"is cut off: its header promises {needed} bytes of pixels, and it has {stored}.")
