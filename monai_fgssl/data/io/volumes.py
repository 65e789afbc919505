# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Prepare volumes for a network: all get the same orientation, spacing, size and brightness."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from monai.data import MetaTensor
from monai.transforms import (
    Orientation,
    Resize,
    ResizeWithPadOrCrop,
    ScaleIntensityRangePercentiles,
    Spacing,
)
from monai.utils import convert_to_dst_type, ensure_tuple_rep
from pydicom.dataset import Dataset
from scipy.ndimage import gaussian_filter
from torch import Tensor

from monai_fgssl.utils.errors import printable

from .reader import kind_of, read_medical_image

__all__ = ["fit_volume", "read_volume"]

logger = logging.getLogger(__name__)

PERCENTILES = (0.5, 99.5)
"""Percentiles shown as black and white if there is no window, so that outliers such as metal do not matter."""


def read_volume(
    path: str | os.PathLike[str],
    image_size: int | Sequence[int],
    spacing: float | Sequence[float] | None = None,
    window: str | Sequence[float] | None = None,
    channel: int | None = None,
    time: int | None = None,
    max_pixels: int | None = None,
    headers: list[Dataset] | None = None,
) -> Tensor:
    """Read a volume from any file or from the folder of a DICOM series, in the form that the network needs.

    Args:
        path: see :func:`~monai_fgssl.data.read_medical_image`.
        image_size: voxels along each axis; see :func:`fit_volume`.
        spacing: spacing in mm; see :func:`fit_volume`.
        window: values that become 0 to 1: ``(center, width)`` in the units of the modality, or ``"dicom"`` for the
            window of the file; None: the range of the result's values, without the lowest and the highest 0.5 %.
        channel: see :func:`~monai_fgssl.data.read_medical_image`.
        time: see :func:`~monai_fgssl.data.read_medical_image`.
        max_pixels: see :func:`~monai_fgssl.data.read_medical_image`.
        headers: see :func:`~monai_fgssl.data.read_medical_image`.

    Returns:
        uint8, ``(1, X, Y, Z)``. X runs to the patient's right, Y to the front, Z to the head.

    Raises:
        DataError: when the file is missing, damaged, in color or not a volume.
    """
    whole = read_medical_image(path, 3, 1, window, channel=channel, time=time, max_pixels=max_pixels, headers=headers)
    if 1 in whole.shape[1:]:
        logger.warning(f"{printable(str(path))} has only one slice: for a DICOM series, name its folder.")
    if spacing is not None and Path(path).is_file() and kind_of(Path(path)) == "TIFF":
        logger.warning(
            f"{printable(str(path))} is a TIFF, whose voxels are taken for 1 mm: it tells no distances in mm."
        )
    volume = fit_volume(whole, image_size, spacing)
    if window is None:
        volume = ScaleIntensityRangePercentiles(*PERCENTILES, 0, 1, clip=True)(volume)
    return volume.as_tensor().mul(255).round().clamp(0, 255).to(torch.uint8).contiguous()


def fit_volume(
    volume: MetaTensor, image_size: int | Sequence[int], spacing: float | Sequence[float] | None = None
) -> MetaTensor:
    """Turn a volume to RAS, and resample and crop it to a size.

    Interpolation is linear. Where the result is coarser, a Gaussian smooths the volume first, as in MONAI's ``Resize``:
    for a step of n voxels its standard deviation is ``(n - 1) / 2`` voxels.

    Args:
        volume: ``(C, X, Y, Z)`` with an affine.
        image_size: voxels of the result along each axis, one number for all or one for each.
        spacing: spacing of the result in mm, one number for all axes or one for each. A larger volume is cropped around
            its middle, and a smaller one is padded with the values of its edge. None: the whole volume is scaled to
            ``image_size``, at any spacing.

    Returns:
        ``(C, *image_size)``, with the affine of its own voxels.
    """
    size = ensure_tuple_rep(image_size, 3)
    volume = Orientation("RAS", labels=None)(volume)
    if spacing is None:
        steps = [before / after for before, after in zip(volume.shape[1:], size, strict=True)]
    else:
        wanted = ensure_tuple_rep(spacing, 3)
        steps = [after / before for before, after in zip(volume.pixdim.tolist(), wanted, strict=True)]
    sigma = [0.0, *(max(0.0, (step - 1) / 2) for step in steps)]
    if any(sigma):
        # Not MONAI's GaussianSmooth: it assumes 0 around the volume, which may be far from the values at the edge.
        smooth = gaussian_filter(volume.numpy(), sigma, mode="nearest")
        volume = convert_to_dst_type(smooth, volume)[0]
    if spacing is None:
        return Resize(size, mode="trilinear")(volume)
    volume = Spacing(wanted, mode="bilinear", padding_mode="border")(volume)
    return ResizeWithPadOrCrop(size, mode="edge")(volume)
