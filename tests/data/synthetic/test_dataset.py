# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The classes of the synthetic images are known before the images exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_fgssl.data import ImageGeometry, make_synthetic, read_table, synthetic_classes


@pytest.mark.parametrize("geometry", [ImageGeometry(16), ImageGeometry((16, 16, 8), 3)])
def test_classes_are_those_of_the_images(geometry: ImageGeometry, tmp_path: Path) -> None:
    folder = make_synthetic(tmp_path / "images", 70, geometry)
    assert read_table(folder).class_names == synthetic_classes(geometry.spatial_dims)
