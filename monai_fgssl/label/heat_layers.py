# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Heat maps as layers that the page lays over the picture of an image."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from monai_fgssl.report.heat_maps import axial_slices, color_layer

from .model import LabelModel

__all__ = ["HeatLayers", "place_in_whole", "slice_at"]


class HeatLayers:
    """Heat maps of the image that was looked at last, by stage and by slice. May be used by several threads.

    Args:
        model: whose heat maps they are.
    """

    def __init__(self, model: LabelModel) -> None:
        self._model = model
        self._lock = threading.Lock()
        # What they belong to, and ``(K, *spatial)``.
        self._last: tuple[tuple[object, ...], Tensor] | None = None

    def draw(
        self,
        path: str | Path,
        class_name: str,
        stage: int | None = None,
        place: float = 0.5,
        extent: Sequence[float] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw a layer, which is to be stretched over the whole picture.

        Args:
            path: of the image.
            class_name: whose evidence is shown.
            stage: of the network, from 0; None: the mean of all stages.
            place: of the slice of a volume, from 0 (feet) to 1 (head).
            extent: millimeters of a volume along X, Y and Z; see :class:`~monai_fgssl.report.pictures.Slices`.

        Returns:
            ``(H, W, 4)``, RGBA, of any size; its largest value is opaque.

        Raises:
            DataError: when the image can't be read.
            LookupError: when there is no such class or stage.
            SettingsError: without a model.
        """
        maps = self._maps(path, class_name)
        if stage is not None and not 0 <= stage < len(maps):
            raise LookupError(f"there are {len(maps)} stages, from 0 on: there is no stage {stage}.")
        heat = maps.mean(0) if stage is None else maps[stage]
        heat = heat / heat.max().clamp_min(1e-12)
        if heat.ndim == 3:
            geometry = self._model.geometry()
            if geometry.spacing is not None and extent is not None:
                shares = np.array(heat.shape) * geometry.spacing / extent
                heat = place_in_whole(heat, shares.tolist())
            heat = slice_at(heat, place)
        return color_layer(heat)

    def _maps(self, path: str | Path, class_name: str) -> Tensor:
        key = str(path), Path(path).stat().st_mtime_ns, self._model.version, class_name.lower()
        with self._lock:
            if self._last is None or self._last[0] != key:
                self._last = key, self._model.heat_maps(path, class_name)
            return self._last[1]


def place_in_whole(heat: Tensor, shares: Sequence[float]) -> Tensor:
    """Heat map of a whole volume, of which the network saw the middle; outside of it there is no heat.

    Args:
        heat: ``(X, Y, Z)``.
        shares: of the whole that it covers along X, Y and Z; more than 1 where the network saw more than the whole.

    Returns:
        ``(X', Y', Z')``, voxels of the same size.
    """
    size = [max(1, round(n / share)) for n, share in zip(heat.shape, shares, strict=True)]
    theta = torch.zeros(1, 3, 4)
    # The last axis comes first.
    theta[0, :, :3] = torch.diag(1 / torch.tensor(shares[::-1], dtype=torch.float32))
    grid = F.affine_grid(theta, [1, 1, *size], align_corners=False)
    return F.grid_sample(heat[None, None], grid, padding_mode="zeros", align_corners=False)[0, 0]


def slice_at(heat: Tensor, place: float) -> Tensor:
    """The axial slice of a volume at a place between its ends, between two slices interpolated.

    Args:
        heat: ``(X, Y, Z)``.
        place: from 0 (the lower edge of the lowest slice) to 1.

    Returns:
        ``(Y, X)``, see :func:`~monai_fgssl.report.heat_maps.axial_slices`.
    """
    slices = axial_slices(heat[None])[0]
    position = min(max(place * len(slices) - 0.5, 0.0), len(slices) - 1.0)
    low = int(position)
    high = min(low + 1, len(slices) - 1)
    return torch.lerp(slices[low], slices[high], position - low)
