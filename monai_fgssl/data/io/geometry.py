# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Size, dimensions, spacing and window of all images of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.utils import ensure_tuple_rep
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from torch import Tensor

from monai_fgssl.utils.errors import DataError

from .decoder_pool import DecoderPool
from .reader import check_options, count_frames, read_medical_image
from .volumes import read_volume

__all__ = ["ImageGeometry", "read_image"]


ALL = "all"
"""Each frame is an image of its own."""


@dataclass(frozen=True)
class ImageGeometry:
    """Form of the images that a network sees: size, dimensions, spacing, window, and their place in a file.

    Attributes:
        image_size: pixels along each axis, one number for all axes or one for each. Pictures don't keep their aspect
            ratio.
        spatial_dims: 2 for pictures in RGB, 3 for volumes in gray.
        spacing: spacing of volumes in mm, one number for all axes or one for each; see
            :func:`~monai_fgssl.data.fit_volume`.
        window: values from black to white: ``(center, width)`` in the units of the modality, or ``"dicom"`` for the
            window of the file. None: pictures use the window of the file, volumes the range of their values. See
            :func:`~monai_fgssl.data.read_medical_image`.
        frame: number of the frame, page or slice that is the picture, from 0; ``"all"``: each is an image of its own,
            see :meth:`split_frames`. None: files with several frames are refused.
        channel: number of the channel that is read as gray, from 0.
        time: number of the point in time, from 0, if files have several.
        max_pixels: pixels or voxels, times channels, that an image may have; None: 2^30.

    Raises:
        ValueError: when an attribute has an invalid value, or a size does not fit the dimensions.

    Example:
        >>> ImageGeometry((64, 64, 32), spatial_dims=3).shape
        (1, 64, 64, 32)
    """

    image_size: int | Sequence[int]
    spatial_dims: int = 2
    spacing: float | Sequence[float] | None = None
    window: str | Sequence[float] | None = None
    frame: int | str | None = None
    channel: int | None = None
    time: int | None = None
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        self.check(self.spatial_dims, self.window, self.frame, self.channel, self.time, self.max_pixels)
        ensure_tuple_rep(self.image_size, self.spatial_dims)

    @staticmethod
    def check(
        spatial_dims: int,
        window: Any = None,
        frame: Any = None,
        channel: Any = None,
        time: Any = None,
        max_pixels: Any = None,
    ) -> None:
        """Check the values of some attributes.

        Raises:
            TypeError: when the window is a list of anything but numbers.
            ValueError: when a value is invalid.
        """
        if frame == ALL and spatial_dims == 2:
            frame = None
        check_options(spatial_dims, None, window, frame, channel, time, max_pixels)

    @classmethod
    def of(cls, geometry: ImageGeometry | int | Sequence[int]) -> ImageGeometry:
        """Return a geometry unchanged, or make one for pictures from their size."""
        return geometry if isinstance(geometry, ImageGeometry) else cls(geometry)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image, ``(C, *image_size)``."""
        return (3 if self.spatial_dims == 2 else 1, *ensure_tuple_rep(self.image_size, self.spatial_dims))

    def split_frames(self, items: Sequence[Mapping[str, Any]], pool: DecoderPool | None = None) -> list[dict[str, Any]]:
        """Make an image of each frame, page or slice of a file, if ``frame`` is ``"all"``.

        Args:
            items: dictionaries with ``"image"`` (path) and ``"name"``.
            pool: processes that open the files; None: this process does.

        Returns:
            The items. A file with several frames becomes as many items, with ``"frame"`` and names such as
            ``"scan#0"``. Files that can't be read stay as they are: the error is reported when they are read.
        """
        if self.frame != ALL:
            return [dict(item) for item in items]

        def count(item: Mapping[str, Any]) -> int:
            path = item["image"]
            with suppress(DataError):
                return count_frames(path) if pool is None else int(pool.run(_count_frames, path))
            return 1

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            counts = threads.map(count, items)
            return [one for item, count in zip(items, counts, strict=True) for one in _frames_of(item, count)]

    def read(
        self, path: str | os.PathLike[str], frame: int | None = None, headers: list[Dataset] | None = None
    ) -> Tensor:
        """Read an image in this form from any file.

        A picture is read by :func:`~monai_fgssl.data.read_medical_image`, and rounded to the 256 levels of a screen.
        Shrinking averages over all source pixels (antialiased bilinear). For volumes see
        :func:`~monai_fgssl.data.read_volume`.

        Args:
            path: file, or folder of a DICOM series for a volume.
            frame: number of the frame, instead of the frame of the geometry.
            headers: see :func:`~monai_fgssl.data.read_medical_image`.

        Returns:
            uint8, of :attr:`shape`.

        Raises:
            DataError: when the file is missing, damaged, or not a picture (or not a volume).
        """
        if self.spatial_dims == 3:
            return read_volume(
                path, self.image_size, self.spacing, self.window, self.channel, self.time, self.max_pixels, headers
            )
        _, height, width = self.shape
        if frame is None and not isinstance(self.frame, str):
            frame = self.frame
        image = read_medical_image(path, 2, 3, self.window, frame, self.channel, self.time, self.max_pixels, headers)
        values = image.permute(1, 2, 0).numpy()
        picture = Image.fromarray(np.round(255 * values).astype(np.uint8))
        pixels = np.array(picture.resize((width, height), Image.Resampling.BILINEAR))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _count_frames(path: str) -> NDArray[np.int64]:
    return np.array(count_frames(path))


def _frames_of(item: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    if count == 1:
        return [dict(item)]
    return [{**item, "name": f"{item['name']}#{frame}", "frame": frame} for frame in range(count)]


def read_image(
    path: str | os.PathLike[str],
    image_size: int | Sequence[int],
    spatial_dims: int = 2,
    spacing: float | Sequence[float] | None = None,
    window: str | Sequence[float] | None = None,
    **others: Any,
) -> Tensor:
    """Read one image; arguments and result are those of :class:`ImageGeometry` and its ``read``."""
    return ImageGeometry(image_size, spatial_dims, spacing, window, **others).read(path)
