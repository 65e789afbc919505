# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Draw the README's picture of the method from two synthetic lesions: ``python docs/draw_method.py``."""

from __future__ import annotations

from pathlib import Path

import torch

from monai_fgssl.data.synthetic.lesions import draw_lesion
from monai_fgssl.report import plot_views

LESIONS = [draw_lesion(texture, image_size=256, lesion=lesion) for texture, lesion in (("NETWORK", 0), ("STREAKS", 7))]

if __name__ == "__main__":
    images = torch.stack([torch.from_numpy(lesion).permute(2, 0, 1) for lesion in LESIONS])
    plot_views(images, grids=(16, 8, 4), seed=3, path=Path(__file__).parent / "images" / "method.jpg")
