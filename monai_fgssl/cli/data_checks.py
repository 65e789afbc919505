# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Checks of a data set before anything is trained on it."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from tqdm import tqdm

from monai_fgssl.bundle import SettingsError, check_room
from monai_fgssl.data import LAYOUTS, UNLABELED, DataError, ImageGeometry, ImageTable, missing_classes
from monai_fgssl.data.io.contrast import describe_contrast
from monai_fgssl.data.io.reasons import failure_of
from monai_fgssl.data.layouts.registry import recognize_layout
from monai_fgssl.data.layouts.table import count_classes
from monai_fgssl.data.prepare import images_of
from monai_fgssl.data.splits import draw_labels, scarce_labels, split_notes
from monai_fgssl.report.results import check_class_names
from monai_fgssl.tasks import read_labels, task_of
from monai_fgssl.utils.errors import first_lines

from .doctor import Check
from .planned_run import PlannedRun, plan_run

__all__ = ["check_data"]

READ_SIZE = 32


def check_data(dataset_dir: str | Path, spatial_dims: int = 2, given: Mapping[str, str] | None = None) -> list[Check]:
    """Check that a run can read and split a data set: its layout, labels, groups, and every file.

    Args:
        dataset_dir: as in :func:`~monai_fgssl.data.read_table`.
        spatial_dims: 2 for pictures, 3 for volumes.
        given: settings of the run that are not its defaults, as text.
    """
    try:
        run = plan_run(str(dataset_dir), spatial_dims, given or {})
    except (SettingsError, DataError, TypeError) as error:
        return [Check("settings", "can't work", str(error), required=True)]
    try:
        layout = run.settings["layout"] or recognize_layout(Path(dataset_dir))
        names = ("layout", "task", "class_order", "subgroup_columns", "subgroup_file")
        table = images_of(read_labels(dataset_dir, **{name: run.settings[name] for name in names}), run.geometry)
        task_of(run.settings["task"], table).check(run.settings)
    except (DataError, SettingsError) as error:
        return [Check("data", "can't be understood", str(error), required=True)]
    checks = [Check("layout", "\n".join([f"{layout}: {LAYOUTS[layout]}", *table.notes])), check_labels(table)]
    if any(item["label"] != UNLABELED for item in table.items):
        checks.append(check_split(table, run))
    checks.append(check_files(table.items, run.geometry))
    checks.append(check_size(len(table.items), run))
    if {"output_dir", "model_path"} & set(run.given):
        checks.append(check_output(run))
    return checks


def check_labels(table: ImageTable) -> Check:
    """Count images, classes and groups."""
    labels = [item["label"] for item in table.items]
    counts, unlabeled = count_classes(labels, len(table.class_names)), labels.count(UNLABELED)
    num_groups = len({item["group"] for item in table.items})
    found = f"{len(table.items)} images in {num_groups} groups (lesion, patient)"
    if unlabeled == len(table.items):
        return Check(
            "labels",
            f"{found}, no labels",
            "good for pre-training (configs/pretrain.json). To fine-tune, put the images into a folder for each class, "
            "or list them in a CSV file with the columns image and label.",
        )
    classes = ", ".join(f"{name} {count}" for name, count in zip(table.class_names, counts, strict=True))
    found = f"{found}\n{len(table.class_names)} classes: {classes}; without label {unlabeled}"
    try:
        check_class_names(table.class_names)
    except DataError as error:
        return Check("labels", found, str(error), required=True)
    if num_groups == len(table.items):
        return Check(
            "labels",
            found,
            "every image is a group of its own. If a patient or lesion has several images, list them in a CSV file "
            "with a column patient_id or lesion_id: photos of one lesion in training and test make results too good.",
        )
    return Check("labels", found)


def check_split(table: ImageTable, run: PlannedRun) -> Check:
    """Make the split of a run."""
    try:
        parts = run.split.apply(table)
        told = [] if run.split.split_from is None else split_notes(parts, table)
        fraction, per_class = run.settings["label_fraction"], run.settings["labels_per_class"]
        if per_class is not None:
            told += scarce_labels(parts["train"], table.class_names, per_class)
        parts["train"] = draw_labels(parts["train"], fraction, per_class, run.settings["fine_tuning_seed"])
    except DataError as error:
        return Check("split", "can't be split into train, validation and test", str(error), required=True)
    found = ", ".join(f"{part} {len(items)}" for part, items in parts.items())
    missing = missing_classes(parts, table.class_names)
    fixes = [*told, *(f"{sentence}: the figures of that part do not cover it" for sentence in missing)]
    labeled, batch_size = sum(item["label"] != UNLABELED for item in parts["train"]), run.settings["batch_size"]
    if labeled < batch_size:
        fixes.append(f"{labeled} labeled images to train on do not fill a batch of {batch_size}")
    return Check("split", found, "\n".join(fixes))


def check_files(items: Sequence[dict[str, Any]], geometry: ImageGeometry) -> Check:
    """Read every file as a run does, but at a smaller size."""
    small = replace(geometry, image_size=READ_SIZE)

    def look_at(item: dict[str, Any]) -> Tensor | str:
        try:
            return torch.stack(small.read(item["image"], item.get("frame")).aminmax())
        except Exception as error:
            return failure_of(item["image"], error)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = list(tqdm(pool.map(look_at, items), desc="read files", total=len(items), leave=False, disable=None))
    broken = [text for text in found if isinstance(text, str)]
    if broken:
        return Check(
            "files",
            f"{len(broken)} of {len(items)} can't be read",
            f"replace or remove them:{first_lines(broken)}",
            required=True,
        )
    levels = [one for one in found if isinstance(one, Tensor)]
    return Check("files", f"all {len(items)} can be read", describe_contrast(items, levels, geometry))


def check_size(num_images: int, run: PlannedRun) -> Check:
    """Check whether the decoded images fit into the memory, or on the disk of ``cache_dir``."""
    size = num_images * math.prod(run.geometry.shape)
    finding = f"{size / 1e9:.1f} GB decoded at {' x '.join(map(str, run.geometry.shape[1:]))}"
    if run.settings["cache_dir"] is None:
        fix = "keep them on disk: --cache_dir FOLDER" if size > 0.8 * psutil.virtual_memory().available else ""
        return Check("size", finding, fix)
    folder = Path(run.settings["cache_dir"])
    while not folder.exists():
        folder = folder.absolute().parent
    free = shutil.disk_usage(folder).free
    fix = f"{folder} has {free / 1e9:.1f} GB left: free some, or name a folder on another disk" if size > free else ""
    return Check("size", f"{finding}, in {run.settings['cache_dir']}", fix, required=True)


def check_output(run: PlannedRun) -> Check:
    """Try the folders that the run writes to."""
    folders = ", ".join(str(run.settings[name]) for name in ("output_dir", "model_path") if name in run.given)
    try:
        check_room({name: run.settings[name] for name in ("output_dir", "model_path", "cache_dir")})
    except SettingsError as error:
        return Check("output", folders, str(error), required=True)
    return Check("output", f"{folders} can be written to")
