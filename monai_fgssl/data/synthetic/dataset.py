# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The data set of a run without ``dataset_dir``."""

from __future__ import annotations

from pathlib import Path

from ignite import distributed as idist

from monai_fgssl.data.io.geometry import ImageGeometry

from .lesions import TEXTURES, make_synthetic_lesions
from .volumes import VOLUME_TEXTURES, make_synthetic_volumes

__all__ = ["make_synthetic", "synthetic_classes"]


@idist.one_rank_first()
def make_synthetic(folder: str | Path, count: int, geometry: ImageGeometry, seed: int = 0) -> Path:
    """Make synthetic lesions, or volumes if the geometry has three dimensions. Those that were made before are used
    again.

    Args:
        folder: folder to write to.
        count: number of images.
        geometry: geometry of the run.
        seed: seed of the images.

    Returns:
        The folder.
    """
    if geometry.spatial_dims == 3:
        return make_synthetic_volumes(folder, count, seed)
    # Photos are drawn at the size at which the run reads them.
    return make_synthetic_lesions(folder, count, max(geometry.shape[1:]), seed=seed)


def synthetic_classes(spatial_dims: int = 2) -> tuple[str, ...]:
    """Return the classes of the images of :func:`make_synthetic`, without making any.

    Args:
        spatial_dims: 2 or 3.
    """
    # Lesions have a table with a column for each class, volumes a folder for each.
    return tuple(sorted(VOLUME_TEXTURES)) if spatial_dims == 3 else tuple(TEXTURES)
