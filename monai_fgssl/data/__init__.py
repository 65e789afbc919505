# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Data sets, their checks, splits and loading into memory."""

from __future__ import annotations

from .errors import DataError
from .isic2018 import ISIC2018_CLASSES, read_isic2018
from .load_image import LoadMedicalImage, LoadMedicalImaged, LoadMedicalImageD, LoadMedicalImageDict
from .loading import CachedImages, ReadImaged, load_images, make_loader, read_image
from .medical_image import read_medical_image
from .prepare import PreparedData, list_images, load_test_images, prepare_data
from .splits import limit_labels, read_split, split_table, write_split
from .stream import ImageStream
from .synthetic import make_synthetic_lesions
from .table import UNLABELLED, ImageTable

__all__ = [
    "ISIC2018_CLASSES",
    "UNLABELLED",
    "CachedImages",
    "DataError",
    "ImageStream",
    "ImageTable",
    "LoadMedicalImage",
    "LoadMedicalImageD",
    "LoadMedicalImageDict",
    "LoadMedicalImaged",
    "PreparedData",
    "ReadImaged",
    "limit_labels",
    "list_images",
    "load_images",
    "load_test_images",
    "make_loader",
    "make_synthetic_lesions",
    "prepare_data",
    "read_image",
    "read_isic2018",
    "read_medical_image",
    "read_split",
    "split_table",
    "write_split",
]
