# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Public data sets, downloaded, divided into sections and cached like those of ``monai.apps``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import CacheDataset
from monai.transforms import Randomizable
from monai.utils import look_up_option

from monai_fgssl.data.io.transform import LoadMedicalImaged
from monai_fgssl.data.layouts.aptos2019 import has_aptos2019, read_aptos2019
from monai_fgssl.data.layouts.official import find_csv
from monai_fgssl.data.layouts.registry import OFFICIAL, Official
from monai_fgssl.data.layouts.table import UNLABELED, ImageTable
from monai_fgssl.utils.errors import DataError

from .download import download_file
from .splits import split_table

__all__ = ["APTOS2019Dataset", "ISIC2017Dataset", "ISIC2018Dataset"]

SECTIONS = {"training": "train", "validation": "validation", "test": "test"}


class PublicDataset(Randomizable, CacheDataset):
    """Labeled images of one section of a public data set.

    Args:
        root_dir: folder that has, or gets, the folder of the data set.
        section: ``"training"``, ``"validation"`` or ``"test"``.
        transform: transform of the items, which are dictionaries with ``"image"`` (path), ``"label"``, ``"name"`` and
            ``"group"``. By default the images are loaded in their full size: float32 in [0, 1], ``(3, rows, columns)``.
            That may be more than the memory holds: add a transform that resizes, or lower ``cache_rate``.
        download: True: missing files are downloaded and unpacked.
        seed: seed of the order of the images, and of the split where there are no official parts.
        cache_num: this and the following arguments are those of :class:`monai.data.CacheDataset`.
        cache_rate: share of the images that is kept in memory.
        num_workers: threads that fill the cache.
        progress: show bars while downloading and caching.
        copy_cache: copy images before random transforms.
        as_contiguous: keep images contiguous in memory.
        runtime_cache: fill the cache while training.

    Attributes:
        class_names: names of the classes, one for each label from 0 up.

    Raises:
        DataError: when the data set is missing, incomplete or can't be downloaded.
    """

    dataset_folder_name: str

    def __init__(
        self,
        root_dir: str | Path,
        section: str,
        transform: Sequence[Callable] | Callable = (),
        download: bool = False,
        seed: int = 0,
        cache_num: int = sys.maxsize,
        cache_rate: float = 1.0,
        num_workers: int | None = 1,
        progress: bool = True,
        copy_cache: bool = True,
        as_contiguous: bool = True,
        runtime_cache: bool = False,
    ) -> None:
        self.section = section
        self.seed = seed
        part = look_up_option(section, SECTIONS)
        dataset_dir = Path(root_dir) / self.dataset_folder_name
        if download:
            self.download(dataset_dir, part, progress)
        table = self.read(dataset_dir, part)
        self.class_names = table.class_names
        items = [item for item in table.items if item["label"] != UNLABELED]
        self.set_random_state(seed=seed)
        # The items are shuffled, since a cache of the first images in order would not be a fair sample.
        self.randomize(items)
        super().__init__(
            data=items,
            transform=LoadMedicalImaged("image", channels=3) if transform == () else transform,
            cache_num=cache_num,
            cache_rate=cache_rate,
            num_workers=num_workers,
            progress=progress,
            copy_cache=copy_cache,
            as_contiguous=as_contiguous,
            runtime_cache=runtime_cache,
        )

    def download(self, dataset_dir: Path, part: str, progress: bool) -> None:
        """Download the missing files of a part."""
        raise NotImplementedError

    def read(self, dataset_dir: Path, part: str) -> ImageTable:
        """Read a part."""
        raise NotImplementedError

    def randomize(self, data: list[dict[str, Any]]) -> None:
        """Shuffle the items in place."""
        self.R.shuffle(data)

    def get_num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


class ISICDataset(PublicDataset):
    """Data set of an ISIC challenge, whose sections are the official parts."""

    official: Official
    resource: str
    files: tuple[str, ...]
    md5: Mapping[str, str] = {}

    def files_of(self, part: str) -> list[str]:
        """Names of the published files of a part."""
        return [name.format(part=self.official.parts[part]) for name in self.files]

    def download(self, dataset_dir: Path, part: str, progress: bool) -> None:
        """Download the missing files of a part."""
        for name in self.files_of(part):
            stem = Path(name).stem
            if not (dataset_dir / stem).is_dir() and find_csv(dataset_dir, stem) is None:
                download_file(f"{self.resource}/{name}", dataset_dir, self.md5.get(name), progress)

    def read(self, dataset_dir: Path, part: str) -> ImageTable:
        """Read a part."""
        if not self.official.has_part(dataset_dir, self.official.parts[part]):
            raise DataError(
                f"the section {self.section} is not in {dataset_dir}: use download=True, or put the content of "
                f"{', '.join(self.files_of(part))} from https://challenge.isic-archive.com/data/ there."
            )
        return self.official.read(dataset_dir, self.official.parts[part])


class ISIC2018Dataset(ISICDataset):
    """ISIC 2018 Task 3 (HAM10000): 10,015 images of 7 classes for training, 193 for validation, 1,512 for testing.

    They are in ``root_dir/isic2018``. The archive of the training images has about 2.6 GB. The server publishes no
    checksum of these files; :func:`~monai_fgssl.data.download_file` says what is checked. CC BY-NC 4.0.

    Arguments are those of :class:`PublicDataset`.

    Example:
        >>> dataset = ISIC2018Dataset("data", "test", download=True, cache_rate=0)  # doctest: +SKIP
        >>> dataset[0]["image"].shape  # doctest: +SKIP
        torch.Size([3, 450, 600])

    Source:
        https://challenge.isic-archive.com/data/#2018
    """

    official = OFFICIAL["isic2018"]
    dataset_folder_name = "isic2018"
    resource = "https://isic-challenge-data.s3.amazonaws.com/2018"
    files = ("ISIC2018_Task3_{part}_Input.zip", "ISIC2018_Task3_{part}_GroundTruth.zip")

    def files_of(self, part: str) -> list[str]:
        """Names of the published files of a part."""
        groupings = ["ISIC2018_Task3_Training_LesionGroupings.csv"] if part == "train" else []
        return super().files_of(part) + groupings


class ISIC2017Dataset(ISICDataset):
    """ISIC 2017 Part 3: 2,000 images of 3 classes for training, 150 for validation, 600 for testing.

    They are in ``root_dir/isic2017``. The archives of the images have about 6, 1 and 6 GB. CC-0.

    Arguments are those of :class:`PublicDataset`.

    Example:
        >>> dataset = ISIC2017Dataset("data", "validation", download=True, cache_rate=0)  # doctest: +SKIP
        >>> dataset.class_names  # doctest: +SKIP
        ('melanoma', 'seborrheic_keratosis', 'nevus')

    Source:
        https://challenge.isic-archive.com/data/#2017
    """

    official = OFFICIAL["isic2017"]
    dataset_folder_name = "isic2017"
    resource = "https://isic-challenge-data.s3.amazonaws.com/2017"
    files = ("ISIC-2017_{part}_Data.zip", "ISIC-2017_{part}_Part3_GroundTruth.csv")
    # The makers do not publish these values. Several projects record the same values, and we compared those of the
    # first two CSV files with the files.
    md5 = {  # noqa: RUF012
        "ISIC-2017_Training_Data.zip": "a14a7e622c67a358797ae59abb8a0b0c",
        "ISIC-2017_Training_Part3_GroundTruth.csv": "0cb4add57c65c22ca1a1cb469ad1f0c5",
        "ISIC-2017_Validation_Data.zip": "8d6419d942112f709894c0d82f6c9038",
        "ISIC-2017_Validation_Part3_GroundTruth.csv": "8d4826a76adcd8fb928ca52a23ebae4c",
        "ISIC-2017_Test_v2_Data.zip": "5f6a0b5e1f2972bd1f5ea02680489f09",
        "ISIC-2017_Test_v2_Part3_GroundTruth.csv": "9e957b72a0c4f9e0d924889fd03b36ed",
    }


class APTOS2019Dataset(PublicDataset):
    """APTOS 2019 blindness detection: 3,662 fundus photos with grades 0 to 4 of diabetic retinopathy.

    They are in ``root_dir/aptos2019``. Only the training images have published labels: the three sections are split
    off from them, stratified by grade. The data set has duplicates, which may come into different sections here; for
    training use :func:`~monai_fgssl.data.prepare_data`, which keeps them together.

    Arguments are those of :class:`PublicDataset`, and:

    Args:
        *args: see :class:`PublicDataset`.
        val_frac: share of the images in the validation section.
        test_frac: share of the images in the test section.
        **kwargs: see :class:`PublicDataset`.

    Source:
        https://www.kaggle.com/competitions/aptos2019-blindness-detection/data
    """

    dataset_folder_name = "aptos2019"

    def __init__(self, *args: Any, val_frac: float = 0.1, test_frac: float = 0.1, **kwargs: Any) -> None:
        self.fractions = {"train": 1 - val_frac - test_frac, "validation": val_frac, "test": test_frac}
        super().__init__(*args, **kwargs)

    def download(self, dataset_dir: Path, part: str, progress: bool) -> None:
        """Check that the data set is there: it can't be downloaded without a login.

        Raises:
            DataError: when it is missing; the message has the steps to get it.
        """
        if not has_aptos2019(dataset_dir):
            raise DataError(
                "APTOS 2019 can't be downloaded without a Kaggle account. Log in, accept the rules on "
                "https://www.kaggle.com/competitions/aptos2019-blindness-detection/rules, then run\n"
                f"  kaggle competitions download -c aptos2019-blindness-detection -p {dataset_dir}\n"
                f"  unzip {dataset_dir / 'aptos2019-blindness-detection.zip'} -d {dataset_dir}\n"
                f"or unpack the archive by hand, so that train.csv and train_images/ are in {dataset_dir}."
            )

    def read(self, dataset_dir: Path, part: str) -> ImageTable:
        """Read and split the training images, and take a part of them."""
        self.download(dataset_dir, part, progress=False)
        table = read_aptos2019(dataset_dir)
        return ImageTable(table.class_names, split_table(table, self.fractions, self.seed)[part])
