# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read, split and load a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ignite import distributed as idist

from monai_fgssl.data.io.contrast import describe_contrast
from monai_fgssl.data.io.decoder_pool import DecoderPool
from monai_fgssl.data.io.geometry import ImageGeometry
from monai_fgssl.data.layouts.registry import explain_missing_labels, read_part, read_table
from monai_fgssl.data.layouts.series import join_series
from monai_fgssl.data.layouts.table import PARTS, UNLABELED, ImageTable, Label, count_classes
from monai_fgssl.data.store.cached_images import CachedImages, load_images
from monai_fgssl.utils.errors import DataError, first_lines
from monai_fgssl.utils.run_log import tell

from .duplicates import DuplicatePair, find_duplicates, join_duplicates, pairs_across_parts, write_duplicates
from .splits import SplitPlan, draw_labels, missing_classes, read_split, scarce_labels, split_notes, write_split

__all__ = ["PreparedData", "images_of", "load_test_images", "prepare_data"]

Split = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Source:
    """Images of a data set and their split, before labels are removed.

    Attributes:
        table: table of the images.
        split: items of each part.
        duplicates: pairs of near-duplicates; None: they were not looked for.
        images: all images of the parts.
    """

    table: ImageTable
    split: Split
    duplicates: Sequence[DuplicatePair] | None
    images: CachedImages


@dataclass(frozen=True)
class PreparedData:
    """Images of the three parts of a data set.

    Attributes:
        class_names: names of the classes, one for each label from 0 up.
        train: all images to pre-train on, labeled or not; ``train.labeled()`` are those to fine-tune on.
        validation: labeled images to choose settings and checkpoints on.
        test: labeled images to report on.
        source: images and split that :func:`prepare_data` has read; None: the data were made in another way.
    """

    class_names: tuple[str, ...]
    train: CachedImages
    validation: CachedImages
    test: CachedImages
    source: Source | None = field(default=None, repr=False)


@idist.one_rank_first()
def prepare_data(
    dataset_dir: str | Path,
    geometry: ImageGeometry | int | Sequence[int],
    plan: SplitPlan,
    split_file: str | Path,
    label_fraction: float | None = None,
    layout: str | None = None,
    group_duplicates: bool = True,
    require_labels: bool = True,
    cache_dir: str | Path | None = None,
    table: ImageTable | None = None,
    pool: DecoderPool | None = None,
    labels_per_class: int | None = None,
    label_seed: int | None = None,
    loaded: PreparedData | None = None,
) -> PreparedData:
    """Read a data set, load its images, find duplicates, and split it by lesion.

    The split treats near-duplicates as photos of one lesion: in different parts they would make results look better
    than they are. They are written to ``duplicates.csv`` beside the split file. Volumes are not searched for
    duplicates.

    With several processes, the first one writes the files while the others wait, and these then read them.

    Args:
        dataset_dir: a data set in any of :data:`~monai_fgssl.data.LAYOUTS`.
        geometry: geometry of the images; for pictures, their size is enough.
        plan: plan of how the data set is split.
        split_file: JSON file that the split is written to.
        label_fraction: share of the training labels that fine-tuning may use, in (0, 1]; the other training images
            count as unlabeled. None: all.
        layout: see :func:`~monai_fgssl.data.read_table`.
        group_duplicates: False allows duplicates in different parts. They are reported in both cases.
        require_labels: False also accepts a data set without any label, for pre-training alone. Its validation and test
            parts are empty.
        cache_dir: see :func:`~monai_fgssl.data.load_images`.
        table: table of the data set, if it has been read already.
        pool: see :func:`~monai_fgssl.data.load_images`.
        labels_per_class: number of training images of each class that keep their label, instead of a share.
        label_seed: another seed, other images keep their label; None: the seed of the plan.
        loaded: result of an earlier call, whose images and split are used again instead of reading them: only the split
            file and the arguments about labels may differ. None: the images are read.

    Raises:
        DataError: when the data set can't be read or split as asked; nothing is trained then.
    """
    source = loaded.source if loaded is not None else None
    if source is None:
        table = read_table(dataset_dir, layout) if table is None else table
        if require_labels and all(item["label"] == UNLABELED for item in table.items):
            raise DataError(explain_missing_labels(dataset_dir) + first_lines(table.notes))
        source = _read(dataset_dir, table, ImageGeometry.of(geometry), plan, group_duplicates, cache_dir, pool)
    table, split, duplicates = source.table, dict(source.split), "not looked for"
    if idist.get_rank() == 0:
        write_split(split_file, split, table)
        if source.duplicates is not None:
            listed = Path(split_file).with_name("duplicates.csv")
            write_duplicates(listed, source.duplicates, split, table.class_names)
    if source.duplicates is not None:
        across = len(pairs_across_parts(source.duplicates, split))
        duplicates = f"{len(source.duplicates)} pairs, {across} of them in different parts"
    notes = [] if plan.split_from is None else split_notes(split, table)
    if labels_per_class is not None:
        notes += scarce_labels(split["train"], table.class_names, labels_per_class)
    draw = plan.seed if label_seed is None else label_seed
    split["train"] = draw_labels(split["train"], label_fraction, labels_per_class, draw)
    tell(_describe_split(split, table.class_names, plan, duplicates, notes))
    train, validation, test = (source.images.listed(split[part]) for part in PARTS)
    return PreparedData(table.class_names, train, validation, test, source)


def _read(
    dataset_dir: str | Path,
    table: ImageTable,
    geometry: ImageGeometry,
    plan: SplitPlan,
    group_duplicates: bool,
    cache_dir: str | Path | None,
    pool: DecoderPool | None,
) -> Source:
    """Load the images of a table, find duplicates, and split the data set by lesion."""
    table = images_of(table, geometry, pool)
    tell(_describe_table(dataset_dir, table))
    # Split before reading the images, so that mistakes are reported at once.
    split = plan.apply(table)
    # Also read images that the first split leaves out: they may belong to a part once duplicates are known. Only the
    # unlabeled images of the data set's own test part never do.
    items = [item for item in table.items if item["label"] != UNLABELED or item.get("part", "train") == "train"]
    # Read all parts at once, so that one message names every image that can't be read.
    images = load_images(items, geometry, cache_dir, pool)
    if idist.get_rank() == 0 and (note := describe_contrast(items, images.store, geometry)):
        print(f"  note: {note}", flush=True)
    pairs = find_duplicates(images.store, images.names) if geometry.spatial_dims == 2 else None
    if group_duplicates and pairs:
        split = _split_with_duplicates(table, items, pairs, plan)
    return Source(table, split, pairs, images)


def images_of(table: ImageTable, geometry: ImageGeometry, pool: DecoderPool | None = None) -> ImageTable:
    """Turn a table of files into a table of images: DICOM series become volumes, and frames images, if the geometry
    says so.

    Args:
        table: table of files.
        geometry: geometry of the images.
        pool: see :func:`~monai_fgssl.data.load_images`.

    Raises:
        DataError: see :func:`~monai_fgssl.data.layouts.series.join_series`.
    """
    if geometry.spatial_dims == 3:
        return join_series(table)
    return replace(table, items=geometry.split_frames(table.items, pool))


def _split_with_duplicates(
    table: ImageTable, items: list[dict[str, Any]], pairs: Sequence[DuplicatePair], plan: SplitPlan
) -> Split:
    try:
        return plan.apply(replace(table, items=join_duplicates(items, pairs)))
    except DataError as error:
        raise DataError(
            f"{error} {len(pairs)} pairs of near-duplicates count as one lesion each: group_duplicates=False lets "
            "them come into different parts."
        ) from error


def _describe_table(dataset_dir: str | Path, table: ImageTable) -> str:
    """Describe a data set in lines: its images, its classes, and how it was read."""
    lines = [f"{len(table.items)} images in {dataset_dir}", *table.notes, f"classes: {_describe_classes(table)}"]
    return "\n  ".join(lines)


def _describe_split(
    split: Split, class_names: Sequence[str], plan: SplitPlan, duplicates: str, notes: Sequence[str]
) -> str:
    """Describe the split in lines: the number of images in each part."""
    lines = [
        f"  train {len(split['train'])} ({_count_labels(split['train'])} with a label to learn from), "
        f"validation {len(split['validation'])}, test {len(split['test'])}, split {plan.origin}",
        *(f"  note: {sentence}" for sentence in (*notes, *missing_classes(split, class_names))),
        f"  near-duplicates: {duplicates}",
    ]
    return "\n".join(lines)


def _count_labels(items: Sequence[dict[str, Any]]) -> int:
    return sum(item["label"] != UNLABELED for item in items)


def _describe_classes(table: ImageTable) -> str:
    counts = count_classes([item["label"] for item in table.items], len(table.class_names))
    return ", ".join(f"{name} {count}" for name, count in zip(table.class_names, counts, strict=True)) or "none"


def _in_classes_of_model(label: Label, class_names: Sequence[str], of_model: Sequence[str]) -> Label:
    """Label by the model's classes. Findings that the data set lacks are not known."""
    if not isinstance(label, tuple):
        return list(of_model).index(class_names[label])
    known = dict(zip(class_names, label, strict=True))
    return tuple(known.get(name, UNLABELED) for name in of_model)


def load_test_images(
    dataset_dir: str | Path,
    part: str | None,
    split_file: str | Path,
    class_names: Sequence[str],
    geometry: ImageGeometry | int | Sequence[int],
    layout: str | None = None,
    cache_dir: str | Path | None = None,
    pool: DecoderPool | None = None,
    subgroup_columns: str | Sequence[str] | None = None,
    subgroup_file: str | Path | None = None,
    task: str | None = None,
) -> CachedImages:
    """Load the images that a trained model is scored on.

    Args:
        dataset_dir: a data set in any of :data:`~monai_fgssl.data.LAYOUTS`.
        part: ``"Training"``, ``"Validation"`` or ``"Test"``: all labeled images of that official part; in a data set
            without parts, all images are ``"Training"``. ``"all"``: all labeled images. None: the test part of the
            training run's split.
        split_file: JSON file of that split; it is needed if ``part`` is None.
        class_names: the model's classes in the order of its scores. The data set may have them in another order, and
            may lack some.
        geometry: geometry of the images; for pictures, their size is enough.
        layout: see :func:`~monai_fgssl.data.read_table`.
        cache_dir: see :func:`~monai_fgssl.data.load_images`.
        pool: see :func:`~monai_fgssl.data.load_images`.
        subgroup_columns: see :func:`~monai_fgssl.data.read_table`.
        subgroup_file: see :func:`~monai_fgssl.data.read_table`.
        task: task of the model, see :func:`~monai_fgssl.data.read_table`.

    Raises:
        DataError: when the data set can't be read, has no labels, or has classes that the model lacks.
    """
    whole = part is None or part == "all"
    options = layout, subgroup_columns, subgroup_file, task
    table = read_table(dataset_dir, *options) if whole else read_part(dataset_dir, str(part), *options)
    if set(table.class_names) - set(class_names):
        raise DataError(
            f"{dataset_dir} has the classes {', '.join(table.class_names)}, "
            f"but the model was trained for {', '.join(class_names)}."
        )
    geometry = ImageGeometry.of(geometry)
    table = images_of(table, geometry, pool)
    items = table.items if part else read_split(split_file, table)["test"]
    labeled = [
        item | {"label": _in_classes_of_model(item["label"], table.class_names, class_names)}
        for item in items
        if item["label"] != UNLABELED
    ]
    if not labeled:
        raise DataError(explain_missing_labels(dataset_dir) + first_lines(table.notes))
    for note in table.notes:
        print(note)
    return load_images(labeled, geometry, cache_dir, pool)
