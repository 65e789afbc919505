# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Heat maps as transparent layers, which the page shows over an image."""

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
    """Draws heat maps by stage and slice, and keeps those of the last image. Safe for several threads.

    Args:
        model: model that computes the heat maps.
    """

    def __init__(self, model: LabelModel) -> None:
        self._model = model
        self._lock = threading.Lock()
        # The last heat maps ``(K, *spatial)``, with a key that says of which image, model and class they are.
        self._last: tuple[tuple[object, ...], Tensor] | None = None

    def draw(
        self,
        path: str | Path,
        class_name: str,
        stage: int | None = None,
        place: float = 0.5,
        extent: Sequence[float] | None = None,
    ) -> NDArray[np.uint8]:
        """Draw a layer. The page stretches it over the whole picture.

        Args:
            path: file or folder of the image.
            class_name: class whose evidence is shown.
            stage: stage of the network, from 0; None: the mean of all stages.
            place: position of the slice in a volume, from 0 (feet) to 1 (head).
            extent: size of a volume in millimeters along X, Y and Z; see :class:`~monai_fgssl.report.pictures.Slices`.

        Returns:
            ``(H, W, 4)``, RGBA, of any size; its largest value is opaque.

        Raises:
            DataError: when the image can't be read.
            LookupError: when there is no such class or stage.
            SettingsError: without a model.
        """
        maps = self._maps(path, class_name)
        if stage is not None and not 0 <= stage < len(maps):
            raise LookupError(f"there is no stage {stage}: the stages of the model are 0 to {len(maps) - 1}.")
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
    """Pad a heat map with zeros to the whole volume, of which the network saw only the middle.

    Args:
        heat: heat map ``(X, Y, Z)``.
        shares: fraction of the volume that the heat map covers along X, Y and Z; above 1 if the network saw more than
            the volume.

    Returns:
        ``(X', Y', Z')``, with voxels of the same size.
    """
    size = [max(1, round(n / share)) for n, share in zip(heat.shape, shares, strict=True)]
    theta = torch.zeros(1, 3, 4)
    # affine_grid takes the last axis first.
    theta[0, :, :3] = torch.diag(1 / torch.tensor(shares[::-1], dtype=torch.float32))
    grid = F.affine_grid(theta, [1, 1, *size], align_corners=False)
    return F.grid_sample(heat[None, None], grid, padding_mode="zeros", align_corners=False)[0, 0]


def slice_at(heat: Tensor, place: float) -> Tensor:
    """Interpolate the axial slice of a volume at a position between its ends.

    Args:
        heat: heat map ``(X, Y, Z)``.
        place: position from 0 (the lower edge of the lowest slice) to 1 (the upper edge of the highest).

    Returns:
        ``(Y, X)``, see :func:`~monai_fgssl.report.heat_maps.axial_slices`.
    """
    slices = axial_slices(heat[None])[0]
    position = min(max(place * len(slices) - 0.5, 0.0), len(slices) - 1.0)
    low = int(position)
    high = min(low + 1, len(slices) - 1)
    return torch.lerp(slices[low], slices[high], position - low)
