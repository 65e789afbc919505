# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The loader as MONAI transforms."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

from .reader import check_options, read_medical_image

__all__ = ["LoadMedicalImage", "LoadMedicalImageD", "LoadMedicalImageDict", "LoadMedicalImaged"]


class LoadMedicalImage(Transform):
    """Read a picture or a volume from any file; see :func:`~monai_fgssl.data.read_medical_image`.

    It replaces ``LoadImage`` and ``EnsureChannelFirst``. Pictures are ``(C, rows, columns)``, volumes
    ``(C, X, Y, Z)``.

    Args:
        spatial_dims: 2 for pictures, in [0, 1] as a screen shows them; 3 for volumes, in the units of the modality.
        channels: 1, 3, or ``None`` for the channels of the file.
        window: ``(center, width)``, ``"dicom"`` for the window of the file, or ``None``.
        frame: number of the frame, page or slice, from 0, if a picture's file has several.
        channel: number of the channel that is read as gray, from 0.
        time: number of the point in time, from 0, if a file has several.
        max_pixels: pixels or voxels, times channels, that an image may have; None: 2^30.

    Raises:
        ValueError: when an option has an invalid value.

    Example:
        >>> LoadMedicalImage(channels=3)("lesion.dcm").shape
        torch.Size([3, 450, 600])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        channels: int | None = None,
        window: str | Sequence[float] | None = None,
        frame: int | None = None,
        channel: int | None = None,
        time: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        check_options(spatial_dims, channels, window, frame, channel, time, max_pixels)
        self.spatial_dims = spatial_dims
        self.channels = channels
        self.window = window
        self.frame = frame
        self.channel = channel
        self.time = time
        self.max_pixels = max_pixels

    def __call__(self, path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> MetaTensor:
        """Read a file, a folder with a DICOM series, or the files of a series."""
        return read_medical_image(
            path, self.spatial_dims, self.channels, self.window, self.frame, self.channel, self.time, self.max_pixels
        )


class LoadMedicalImaged(MapTransform):
    """Dictionary version of :class:`LoadMedicalImage`: replaces paths by images.

    Args:
        keys: keys of the paths.
        spatial_dims: see :class:`LoadMedicalImage`.
        channels: see :class:`LoadMedicalImage`.
        window: see :class:`LoadMedicalImage`.
        frame: see :class:`LoadMedicalImage`.
        allow_missing_keys: leave out keys that are missing.
        channel: see :class:`LoadMedicalImage`.
        time: see :class:`LoadMedicalImage`.
        max_pixels: see :class:`LoadMedicalImage`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spatial_dims: int = 2,
        channels: int | None = None,
        window: str | Sequence[float] | None = None,
        frame: int | None = None,
        allow_missing_keys: bool = False,
        channel: int | None = None,
        time: int | None = None,
        max_pixels: int | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadMedicalImage(spatial_dims, channels, window, frame, channel, time, max_pixels)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path by its image."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.load(d[key])
        return d


LoadMedicalImageD = LoadMedicalImageDict = LoadMedicalImaged
