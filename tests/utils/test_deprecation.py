# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Former names work for one release, with a warning that gives the new name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from monai_fgssl import data
from monai_fgssl.data import CachedImages, make_synthetic_lesions


def test_former_name_of_the_missing_label() -> None:
    with pytest.warns(FutureWarning, match="UNLABELLED is now called UNLABELED"):
        assert data.UNLABELLED == data.UNLABELED
    with pytest.raises(AttributeError, match="UNLABELLD"):
        data.UNLABELLD  # noqa: B018


def test_former_name_of_the_labeled_images() -> None:
    images = CachedImages(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([1, -1]), ["a", "b"], ["a", "b"])
    with pytest.warns(FutureWarning, match="labelled is now called labeled"):
        assert images.labelled().names == ["a"]


def test_former_name_of_an_argument(tmp_path: Path) -> None:
    with pytest.warns(FutureWarning, match="num_labelled is now called num_labeled"):
        make_synthetic_lesions(tmp_path / "new", num_images=4, image_size=16, num_labelled=2)
    labels = [item["label"] for item in data.read_isic2018(tmp_path / "new").items]
    assert labels.count(data.UNLABELED) == 2
