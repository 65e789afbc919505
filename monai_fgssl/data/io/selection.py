# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Choose the part of a file that is the image, if the file has several frames, channels or times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from monai_fgssl.utils.errors import DataError

__all__ = ["Selection", "choose", "choose_channel"]


@dataclass(frozen=True)
class Selection:
    """Numbers of the parts to read, each from 0; None: the file must have only one such part.

    Attributes:
        frame: number of the frame, page or slice that is the picture.
        channel: number of the channel that is read as gray.
        time: number of the point in time.
    """

    frame: int | None = None
    channel: int | None = None
    time: int | None = None


def choose(count: int, number: int | None, name: str, kind: str) -> int:
    """Choose the number of the part to read.

    Args:
        count: number of parts in the file.
        number: requested number, from 0; None: no number was requested.
        name: name of the setting that chooses.
        kind: kind of part, named in the message.

    Raises:
        DataError: when there are several parts and no number, or the part does not exist.
    """
    if number is None and count != 1:
        every = f"; --{name} all makes each an image of its own" if name == "frame" else ""
        raise DataError(f"has {count} {kind}: choose one by its number, {name}=0 to {count - 1} (--{name}){every}.")
    if number is not None and number >= count:
        there = f"its {kind} are 0 to {count - 1}" if count > 1 else f"it has {name}=0 only"
        raise DataError(f"has no {name}={number}: {there}.")
    return number or 0


def choose_channel(values: NDArray[Any], channel: int | None) -> NDArray[Any]:
    """Return one channel of an image ``(C, *spatial)``, or the whole image if ``channel`` is None.

    A gray picture counts as a picture with three equal channels, since a file may hold either.

    Raises:
        DataError: when the channel does not exist.
    """
    if channel is None:
        return values
    if len(values) == 1 and values.ndim == 3 and channel < 3:
        return values
    number = choose(len(values), channel, "channel", "channels")
    return values[number : number + 1]
