# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Data sets, their checks, splits and loading into memory."""

from __future__ import annotations

from typing import Any

from monai_fgssl.utils.deprecation import warn_former_name
from monai_fgssl.utils.errors import DataError

from .balance import balanced_order, class_weights
from .datasets import APTOS2019Dataset, ISIC2017Dataset, ISIC2018Dataset
from .download import download_file
from .duplicates import DuplicatePair, find_duplicates, join_duplicates, pairs_across_parts, write_duplicates
from .io.decoder_pool import DecoderPool
from .io.geometry import ImageGeometry, read_image
from .io.reader import read_medical_image
from .io.transform import LoadMedicalImage, LoadMedicalImageD, LoadMedicalImaged, LoadMedicalImageDict
from .io.volumes import fit_volume, read_volume
from .layouts.aptos2019 import APTOS2019_CLASSES, read_aptos2019
from .layouts.class_order import order_classes
from .layouts.csv_lists import read_csv_list
from .layouts.data_lists import read_data_list
from .layouts.folders import read_class_folders, read_image_folder
from .layouts.inputs import list_images
from .layouts.isic2017 import ISIC2017_CLASSES, read_isic2017
from .layouts.isic2018 import ISIC2018_CLASSES, read_isic2018
from .layouts.registry import LAYOUTS, read_part, read_table
from .layouts.table import UNLABELED, ImageTable
from .prepare import PreparedData, load_test_images, prepare_data
from .splits import SplitPlan, fold_table, limit_labels, missing_classes, read_split, split_table, write_split
from .store.cached_images import CachedImages, ReadImaged, load_images, make_loader
from .store.stream import ImageStream
from .synthetic.dataset import make_synthetic, synthetic_classes
from .synthetic.lesions import make_synthetic_lesions
from .synthetic.volumes import make_synthetic_volumes

__all__ = [
    "APTOS2019_CLASSES",
    "ISIC2017_CLASSES",
    "ISIC2018_CLASSES",
    "LAYOUTS",
    "UNLABELED",
    "APTOS2019Dataset",
    "CachedImages",
    "DataError",
    "DecoderPool",
    "DuplicatePair",
    "ISIC2017Dataset",
    "ISIC2018Dataset",
    "ImageGeometry",
    "ImageStream",
    "ImageTable",
    "LoadMedicalImage",
    "LoadMedicalImageD",
    "LoadMedicalImageDict",
    "LoadMedicalImaged",
    "PreparedData",
    "ReadImaged",
    "SplitPlan",
    "balanced_order",
    "class_weights",
    "download_file",
    "find_duplicates",
    "fit_volume",
    "fold_table",
    "join_duplicates",
    "limit_labels",
    "list_images",
    "load_images",
    "load_test_images",
    "make_loader",
    "make_synthetic",
    "make_synthetic_lesions",
    "make_synthetic_volumes",
    "missing_classes",
    "order_classes",
    "pairs_across_parts",
    "prepare_data",
    "read_aptos2019",
    "read_class_folders",
    "read_csv_list",
    "read_data_list",
    "read_image",
    "read_image_folder",
    "read_isic2017",
    "read_isic2018",
    "read_medical_image",
    "read_part",
    "read_split",
    "read_table",
    "read_volume",
    "split_table",
    "synthetic_classes",
    "write_duplicates",
    "write_split",
]


def __getattr__(name: str) -> Any:
    if name == "UNLABELLED":
        warn_former_name("UNLABELLED", "UNLABELED")
        return UNLABELED
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
