# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What every reader of a data set returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["UNLABELLED", "ImageTable"]

UNLABELLED = -1
"""Label of an image whose class is not known: used in pre-training only."""


@dataclass(frozen=True)
class ImageTable:
    """Images of a data set with their labels, as a MONAI data list.

    Attributes:
        class_names: one name for each label from 0 up.
        items: one dictionary per image: ``"image"`` (path), ``"name"`` (unique; the file name without suffix),
            ``"label"`` (int, :data:`UNLABELLED` where not known) and ``"group"`` (what must not be torn apart by a
            split: the lesion, the patient).
    """

    class_names: tuple[str, ...]
    items: list[dict[str, Any]]
