# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""From a data set's folder to images in memory, part by part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ignite import distributed as idist

from .errors import DataError
from .isic2018 import IMAGE_SUFFIXES, read_isic2018
from .loading import CachedImages, load_images
from .splits import limit_labels, read_split, split_table, write_split
from .synthetic import make_synthetic_lesions
from .table import UNLABELLED

__all__ = ["PreparedData", "list_images", "load_test_images", "prepare_data"]

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class PreparedData:
    """Images of the three parts.

    Attributes:
        class_names: one name for each label from 0 up.
        train: all images to pre-train on, labelled or not; ``train.labelled()`` are those to fine-tune on.
        validation: labelled images to choose settings and checkpoints on.
        test: labelled images to report on.
    """

    class_names: tuple[str, ...]
    train: CachedImages
    validation: CachedImages
    test: CachedImages


def prepare_data(
    dataset_dir: str | Path | None,
    synthetic_dir: str | Path,
    synthetic_images: int,
    split_file: str | Path,
    image_size: int,
    fractions: Mapping[str, float],
    label_fraction: float = 1.0,
    seed: int = 0,
) -> PreparedData:
    """Read a data set, split it by lesion, and load its images.

    Args:
        dataset_dir: folder in the layout of ISIC 2018 Task 3; None takes synthetic lesions.
        synthetic_dir: where these are made, or found if they were made before.
        synthetic_images: how many.
        split_file: JSON file that the split is written to.
        image_size: height and width in pixels.
        fractions: share of the labelled images of ``train``, ``validation`` and ``test``, adding up to 1.
        label_fraction: share of the training labels that fine-tuning may use, in (0, 1]; the other training images
            count as unlabelled.
        seed: of the synthetic lesions, the split and the choice of labels.

    Raises:
        DataError: when the data set can't be read or split as asked; nothing is trained then.
    """
    if dataset_dir is None:
        dataset_dir = make_synthetic_lesions(synthetic_dir, synthetic_images, image_size, seed=seed)
    table = read_isic2018(dataset_dir)
    split = split_table(table, fractions, seed)
    if label_fraction < 1:
        split["train"] = limit_labels(split["train"], label_fraction, seed)
    Path(split_file).parent.mkdir(parents=True, exist_ok=True)
    write_split(split_file, split)
    num_labelled = sum(item["label"] != UNLABELLED for item in split["train"])
    counts = Counter(table.class_names[item["label"]] for item in table.items if item["label"] != UNLABELLED)
    if idist.get_rank() == 0:
        print(
            f"{len(table.items)} images in {dataset_dir}\n"
            f"  train {len(split['train'])} ({num_labelled} with a label to learn from), "
            f"validation {len(split['validation'])}, test {len(split['test'])}, split by lesion\n"
            f"  classes: {', '.join(f'{name} {counts[name]}' for name in table.class_names)}"
        )
    # All at once, so that one message tells of every image that can't be read.
    images = load_images([item for part in PARTS for item in split[part]], image_size)
    return PreparedData(table.class_names, *images.split([len(split[part]) for part in PARTS]))


def load_test_images(
    dataset_dir: str | Path, part: str | None, split_file: str | Path, class_names: Sequence[str], image_size: int
) -> CachedImages:
    """Load the images that a trained model is scored on.

    Args:
        dataset_dir: folder in the layout of ISIC 2018 Task 3.
        part: ``"Training"``, ``"Validation"`` or ``"Test"``: all labelled images of that official part. None: the part
            that the training run kept for testing.
        split_file: JSON file of that run's split, for None.
        class_names: the model's classes in the order of its scores; the data set may have its columns in any order.
        image_size: height and width in pixels.

    Raises:
        DataError: when the data set can't be read, has other classes than the model, or no labels.
    """
    table = read_isic2018(dataset_dir, part or "Training")
    if set(table.class_names) != set(class_names):
        raise DataError(
            f"{dataset_dir} has the classes {', '.join(table.class_names)}, "
            f"but the model was trained for {', '.join(class_names)}."
        )
    items = table.items if part else read_split(split_file, table)["test"]
    labelled = [
        item | {"label": list(class_names).index(table.class_names[item["label"]])}
        for item in items
        if item["label"] != UNLABELLED
    ]
    return load_images(labelled, image_size)


def list_images(path: str | Path) -> list[dict[str, str]]:
    """Data list of one image file, or of all images in a folder and the folders below it.

    Args:
        path: an image, or a folder of ``.jpg``, ``.jpeg`` and ``.png`` files.

    Returns:
        One dictionary per image, sorted by path: ``"image"`` (path) and ``"name"`` (path within the folder, without
        suffix).

    Raises:
        DataError: when there is nothing at the path, or no image in the folder.
    """
    root = Path(path)
    if root.is_file():
        return [{"image": str(root), "name": root.stem}]
    if not root.is_dir():
        raise DataError(f"there is no file or folder {root}: name the images with --dataset_dir.")
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"there are no images ({', '.join(IMAGE_SUFFIXES)}) in {root} or the folders below it.")
    return [{"image": str(file), "name": file.relative_to(root).with_suffix("").as_posix()} for file in files]
