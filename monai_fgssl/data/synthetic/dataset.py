# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The data set of a run that names none."""

from __future__ import annotations

from pathlib import Path

from ignite import distributed as idist

from monai_fgssl.data.io.geometry import ImageGeometry

from .lesions import make_synthetic_lesions
from .volumes import make_synthetic_volumes

__all__ = ["make_synthetic"]


@idist.one_rank_first()
def make_synthetic(folder: str | Path, count: int, geometry: ImageGeometry, seed: int = 0) -> Path:
    """Make synthetic lesions, or volumes where the geometry has three dimensions, or find those that were made before.

    Args:
        folder: where to.
        count: of images.
        geometry: of the run.
        seed: another seed, other images.

    Returns:
        The folder.
    """
    if geometry.spatial_dims == 3:
        return make_synthetic_volumes(folder, count, seed)
    # Photos have no size of their own: they are drawn as large as they are looked at.
    return make_synthetic_lesions(folder, count, max(geometry.shape[1:]), seed=seed)
