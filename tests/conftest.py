# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What several test files need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_fgssl.data import make_synthetic_lesions


@pytest.fixture(scope="session")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic data set; tests copy it before they change it."""
    return make_synthetic_lesions(tmp_path_factory.mktemp("data") / "lesions", num_images=140, image_size=32)


@pytest.fixture(scope="session")
def isic2018() -> Path:
    """The real ISIC 2018 images, which are not part of the repository."""
    root = Path(os.environ.get("FGSSL_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
    folder = root / "isic2018"
    if not folder.is_dir():
        pytest.skip(f"needs the real ISIC 2018 images in {folder}: set FGSSL_DATA_DIR to the folder that has isic2018/")
    return folder
