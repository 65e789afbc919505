# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Size, dimensions, spacing and window of all images of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.utils import ensure_tuple_rep
from PIL import Image
from torch import Tensor

from .reader import check_options, read_medical_image
from .volumes import read_volume

__all__ = ["ImageGeometry", "read_image"]


@dataclass(frozen=True)
class ImageGeometry:
    """Size, dimensions, spacing and window of the images that a network sees.

    Attributes:
        image_size: pixels along each axis, one number for all or one for each. Pictures do not keep their aspect ratio.
        spatial_dims: 2 for pictures in RGB, 3 for volumes in gray.
        spacing: of volumes in mm, one number for all axes or one for each; see :func:`~monai_fgssl.data.fit_volume`.
        window: values from black to white, ``(center, width)`` in the units of the modality, or ``"dicom"`` for that of
            the file. None: for pictures that of the file, for volumes the range of the values. See
            :func:`~monai_fgssl.data.read_medical_image`.

    Raises:
        ValueError: when ``spatial_dims`` or ``window`` has no such value, or a size does not fit the dimensions.

    Example:
        >>> ImageGeometry((64, 64, 32), spatial_dims=3).shape
        (1, 64, 64, 32)
    """

    image_size: int | Sequence[int]
    spatial_dims: int = 2
    spacing: float | Sequence[float] | None = None
    window: str | Sequence[float] | None = None

    def __post_init__(self) -> None:
        check_options(self.spatial_dims, None, self.window, None)
        ensure_tuple_rep(self.image_size, self.spatial_dims)

    @classmethod
    def of(cls, geometry: ImageGeometry | int | Sequence[int]) -> ImageGeometry:
        """Return a geometry as it is, and make one for pictures from a size."""
        return geometry if isinstance(geometry, ImageGeometry) else cls(geometry)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, *image_size)`` of an image."""
        return (3 if self.spatial_dims == 2 else 1, *ensure_tuple_rep(self.image_size, self.spatial_dims))

    def read(self, path: str | os.PathLike[str]) -> Tensor:
        """Read an image in this form from any file.

        The picture is what :func:`~monai_fgssl.data.read_medical_image` gives, rounded to the 256 levels of a screen.
        Shrinking averages over all source pixels (antialiased bilinear). For volumes see
        :func:`~monai_fgssl.data.read_volume`.

        Args:
            path: of the file, or of the folder of a DICOM series for a volume.

        Returns:
            uint8, of :attr:`shape`.

        Raises:
            DataError: when the file is missing, damaged or no picture (volume).
        """
        if self.spatial_dims == 3:
            return read_volume(path, self.image_size, self.spacing, self.window)
        _, height, width = self.shape
        values = read_medical_image(path, channels=3, window=self.window).permute(1, 2, 0).numpy()
        picture = Image.fromarray(np.round(255 * values).astype(np.uint8))
        pixels = np.array(picture.resize((width, height), Image.Resampling.BILINEAR))
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_image(
    path: str | os.PathLike[str],
    image_size: int | Sequence[int],
    spatial_dims: int = 2,
    spacing: float | Sequence[float] | None = None,
    window: str | Sequence[float] | None = None,
) -> Tensor:
    """Read one image; arguments and result are those of :class:`ImageGeometry` and its ``read``."""
    return ImageGeometry(image_size, spatial_dims, spacing, window).read(path)
