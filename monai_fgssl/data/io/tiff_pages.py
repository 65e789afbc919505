# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Select the pages of a TIFF that form one volume, if the file holds several channels or points in time."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from tifffile import TiffFile, TiffPage

from monai_fgssl.utils.errors import DataError

from .selection import Selection, choose

__all__ = ["select_pages"]

Axes = list[tuple[str, int]]
"""Letter and length of each axis along which the pages run, the slowest first; ``"?"``: no known letter."""


def select_pages(file: TiffFile, pages: Sequence[TiffPage], selection: Selection) -> tuple[list[TiffPage], int | None]:
    """Choose the slices of one channel and one point in time.

    Args:
        file: file with the metadata of ImageJ, OME or tifffile; without such metadata all pages are slices.
        pages: pages of the file.
        selection: time and channel.

    Returns:
        Slices in their order, and the channel to choose within each slice; None: none.

    Raises:
        DataError: when a time or a channel must be chosen, or the metadata do not fit the pages.
    """
    axes = _axes_of(file, len(pages))
    lengths = dict(axes)
    time = choose(lengths.get("T", 1), selection.time, "time", "points in time")
    numbers = np.arange(len(pages)).reshape([length for _, length in axes])
    channel = selection.channel
    if lengths.get("C", 1) > 1:
        numbers = numbers.take([choose(lengths["C"], channel, "channel", "channels")], _place(axes, "C"))
        channel = None
    if "T" in lengths:
        numbers = numbers.take([time], _place(axes, "T"))
    return [pages[number] for number in numbers.ravel().tolist()], channel


def _place(axes: Axes, letter: str) -> int:
    return [one for one, _ in axes].index(letter)


def _axes_of(file: TiffFile, count: int) -> Axes:
    axes = _imagej_axes(file) or _ome_axes(file) or _tifffile_axes(file, count) or [("Z", count)]
    sides = " x ".join(str(length) for _, length in axes)
    if np.prod([length for _, length in axes]) != count:
        raise DataError(f"has {count} pages, but its metadata describe {sides}: save it again with all of its pages.")
    slices = [letter for letter, length in axes if length > 1 and letter not in "TC"]
    if len(slices) > 1:
        raise DataError(
            f"has pages along several axes ({sides}), and nothing tells which are slices: save each volume as a file "
            "of its own."
        )
    return axes


def _imagej_axes(file: TiffFile) -> Axes:
    told = file.imagej_metadata if file.is_imagej else None
    if not told or not any(name in told for name in ("frames", "slices", "channels")):
        return []
    return [(letter, int(told.get(name, 1))) for letter, name in (("T", "frames"), ("Z", "slices"), ("C", "channels"))]


def _ome_axes(file: TiffFile) -> Axes:
    """Read the axes of the first image in the OME header. A channel of several samples is one plane."""
    text = (file.ome_metadata or "") if file.is_ome else ""
    pixels = re.search(r"<(?:\w+:)?Pixels\b([^>]*)>(.*?)</(?:\w+:)?Pixels>", text, re.DOTALL)
    if pixels is None:
        return []
    told = dict(re.findall(r'(\w+)="([^"]*)"', pixels[1]))
    order = told.get("DimensionOrder", "")
    if sorted(order) != sorted("XYZCT") or not all(told.get(f"Size{axis}", "").isdigit() for axis in "ZCT"):
        return []
    channels = re.findall(r"<(?:\w+:)?Channel\b", pixels[2])
    sizes = {axis: int(told[f"Size{axis}"]) for axis in "ZCT"} | ({"C": len(channels)} if channels else {})
    _check_order(pixels[2], order[2:], sizes)
    return [(axis, sizes[axis]) for axis in reversed(order[2:])]


def _check_order(text: str, order: str, sizes: Mapping[str, int]) -> None:
    """Refuse an OME header that puts the pages in another order than that of its dimensions."""
    steps = {axis: math.prod(sizes[one] for one in order[:place]) for place, axis in enumerate(order)}
    for found in re.findall(r"<(?:\w+:)?TiffData\b([^>]*)", text):
        told = {name: int(number) for name, number in re.findall(r'\b(IFD|First[ZCT])="(\d{1,9})"', found)}
        if told.get("IFD", 0) != sum(told.get(f"First{axis}", 0) * step for axis, step in steps.items()):
            raise DataError(
                "has pages in another order than that of its dimensions, as its OME header tells: save it again with "
                "its pages in order."
            )


def _tifffile_axes(file: TiffFile, count: int) -> Axes:
    """Read the axes of the array that tifffile wrote: those along which the pages run."""
    series = file.shaped_metadata or ()
    if len(series) != 1 or "shape" not in series[0]:
        return []
    shape = [int(length) for length in series[0]["shape"]]
    letters = str(series[0].get("axes", "")).upper()
    letters = letters if len(letters) == len(shape) else "?" * len(shape)
    for number in range(len(shape)):
        if np.prod(shape[: number + 1]) == count:
            # Other letters may stand for anything that runs from slice to slice.
            return list(zip(letters[: number + 1], shape, strict=False))
    return []
