# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Decode images once, keep them as bytes, and return them in whole batches."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from pydicom.dataset import Dataset as DicomDataset
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from monai_fgssl.data.balance import balanced_order
from monai_fgssl.data.io.decoder_pool import DecoderPool
from monai_fgssl.data.io.geometry import ImageGeometry
from monai_fgssl.data.io.reasons import failure_of
from monai_fgssl.data.layouts.table import UNLABELED, label_tensor
from monai_fgssl.utils.deprecation import warn_former_name
from monai_fgssl.utils.errors import DataError, first_lines

from .image_store import fingerprint, make_store

__all__ = ["CachedImages", "ReadImaged", "first_batch", "load_images", "make_loader"]


class ReadImaged(MapTransform):
    """:meth:`ImageGeometry.read <monai_fgssl.data.ImageGeometry.read>` as a MONAI transform: a path becomes an image.

    Args:
        keys: keys of the paths.
        geometry: geometry of the images; for pictures, their size is enough.
        allow_missing_keys: leave out keys that are missing.
        headers_key: key of a list that gets the headers of DICOM files, see
            :func:`~monai_fgssl.data.read_medical_image`. None: they are dropped.
        pool: processes that decode the images; None: this process does.
    """

    def __init__(
        self,
        keys: KeysCollection,
        geometry: ImageGeometry | int | Sequence[int],
        allow_missing_keys: bool = False,
        headers_key: str | None = None,
        pool: DecoderPool | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.geometry = ImageGeometry.of(geometry)
        self.headers_key = headers_key
        self.pool = pool
        self._read = self.geometry.read if pool is None else partial(pool.read, self.geometry)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each path by its image, of the item's ``"frame"`` if any: float32 ``(C, *image_size)`` in [0, 1]."""
        d = dict(data)
        headers: list[DicomDataset] = []
        for key in self.key_iterator(d):
            d[key] = self._read(d[key], d.get("frame"), headers).float() / 255
        if self.headers_key is not None:
            d[self.headers_key] = headers
        return d


class CachedImages(Dataset):
    """Images of one size in a uint8 tensor. A number gives an image, a list of numbers a batch.

    Args:
        store: uint8, ``(M, C, *spatial)``, in memory or on disk, see :mod:`~monai_fgssl.data.store.image_store`.
        labels: int64, ``(N,)``; -1: not known. Where images may have several findings, ``(N, num_classes)`` with 1, 0
            and -1.
        names: ``N`` names.
        groups: ``N`` names of lesions or patients.
        rows: row of each image in the store, int64 ``(N,)``. None: all rows in order.
        subgroups: for each column that divides the images into subgroups, such as sex, ``N`` values, empty where not
            known. Batches do not have them.

    Raises:
        ValueError: when labels, names, groups, rows and values differ in number.
    """

    def __init__(
        self,
        store: Tensor,
        labels: Tensor,
        names: Sequence[str],
        groups: Sequence[str],
        rows: Tensor | Sequence[int] | None = None,
        subgroups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.store = store
        self.rows = torch.arange(len(store)) if rows is None else torch.as_tensor(rows, dtype=torch.int64)
        self.labels = labels
        self.names = list(names)
        self.groups = list(groups)
        if not len(self.rows) == len(labels) == len(names) == len(groups):
            raise ValueError(
                f"images, labels, names and groups must have the same number, got {len(self.rows)}, {len(labels)}, "
                f"{len(names)} and {len(groups)}."
            )
        self.subgroups = {column: list(values) for column, values in (subgroups or {}).items()}
        if wrong := [column for column, values in self.subgroups.items() if len(values) != len(names)]:
            raise ValueError(f"subgroups must have a value for each of the {len(names)} images: {', '.join(wrong)}.")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | Sequence[int]) -> dict[str, Any]:
        """Return an image, or a batch for a sequence of numbers, as a dictionary: image, label, name, group."""
        if isinstance(index, int):
            return {
                "image": self.store[self.rows[index]],
                "label": self.labels[index],
                "name": self.names[index],
                "group": self.groups[index],
            }
        positions = torch.as_tensor(index, dtype=torch.int64)
        return {
            "image": self.store[self.rows[positions]],
            "label": self.labels[positions],
            "name": [self.names[i] for i in index],
            "group": [self.groups[i] for i in index],
        }

    def select(self, positions: Sequence[int] | Tensor) -> CachedImages:
        """Select the images at some positions, in this order, without copying them."""
        chosen = torch.as_tensor(positions, dtype=torch.int64)
        places = chosen.tolist()
        names, groups = ([values[i] for i in places] for values in (self.names, self.groups))
        subgroups = {column: [values[i] for i in places] for column, values in self.subgroups.items()}
        return CachedImages(self.store, self.labels[chosen], names, groups, self.rows[chosen], subgroups)

    def listed(self, items: Sequence[Mapping[str, Any]]) -> CachedImages:
        """Select the images that a list names, in its order and with its labels and groups, without copying them.

        Args:
            items: dictionaries with ``"name"``, ``"label"`` and ``"group"``, and ``"subgroups"`` if there are any.
        """
        row_of = dict(zip(self.names, self.rows.tolist(), strict=True))
        names, groups = ([item[key] for item in items] for key in ("name", "group"))
        labels = label_tensor([item["label"] for item in items])
        return CachedImages(self.store, labels, names, groups, [row_of[name] for name in names], _subgroups_of(items))

    def sample(self, count: int, seed: int = 0) -> CachedImages:
        """Draw at most ``count`` images at random, always the same ones for a seed, without copying them."""
        return self.select(np.random.default_rng(seed).permutation(len(self))[:count].tolist())

    def labeled(self) -> CachedImages:
        """Select the images whose label is known, without copying them."""
        known = self.labels != UNLABELED
        return self.select((known.any(1) if known.ndim == 2 else known).nonzero().flatten())

    def labelled(self) -> CachedImages:
        """Former name of :meth:`labeled`."""
        warn_former_name("labelled", "labeled", "method")
        return self.labeled()


def load_images(
    items: Sequence[dict[str, Any]],
    geometry: ImageGeometry | int | Sequence[int],
    cache_dir: str | Path | None = None,
    pool: DecoderPool | None = None,
) -> CachedImages:
    """Read all images of a data list once, in threads.

    10,000 images take 123 MB at 64 px and 1.5 GB at 224 px, 1000 volumes 885 MB at 96 voxels along each axis.

    Args:
        items: dictionaries with ``"image"`` (path), ``"label"``, ``"name"`` and ``"group"``, as in
            :class:`~monai_fgssl.data.ImageTable`, and optionally ``"frame"``.
        geometry: geometry of the images; for pictures, their size is enough.
        cache_dir: folder for the decoded images. The next run with the same images reads them from there. Nothing in it
            is ever removed. None: images are kept in memory.
        pool: processes that decode the images; None: threads of this process.

    Raises:
        DataError: when there are no items, or they don't fit into memory or on the disk; or when files are missing,
            empty, truncated or not images: one message counts these, and names the first five.
    """
    if not items:
        raise DataError("there are no images to load: the list of items is empty.")
    geometry = ImageGeometry.of(geometry)
    read = geometry.read if pool is None else partial(pool.read, geometry)
    paths = [item["image"] for item in items]
    frames = [item.get("frame") for item in items]

    def fill(store: Tensor) -> None:
        def read_into(position: int) -> None:
            store[position] = read(paths[position], frames[position])

        broken: list[str] = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
            futures = [threads.submit(read_into, position) for position in range(len(paths))]
            try:
                progress = tqdm(futures, desc="load images", leave=False, disable=None)
                for path, future in zip(paths, progress, strict=True):
                    try:
                        future.result()
                    except Exception as error:
                        broken.append(failure_of(path, error))
            finally:
                # Otherwise, a person who interrupts this would wait for all images that are queued.
                threads.shutdown(cancel_futures=True)
        if broken:
            raise DataError(
                f"{len(broken)} of {len(items)} images can't be read; replace or remove them:{first_lines(broken)}"
            )

    settings = {**vars(geometry), "frames": frames, "max_pixels": None}
    file = None if cache_dir is None else Path(cache_dir) / f"{fingerprint(paths, **settings)}.uint8"
    return CachedImages(
        make_store((len(items), *geometry.shape), fill, file),
        label_tensor([item["label"] for item in items]),
        [item["name"] for item in items],
        [item["group"] for item in items],
        subgroups=_subgroups_of(items),
    )


def _subgroups_of(items: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Values of each column that divides the images into subgroups."""
    columns = items[0].get("subgroups", {}) if items else {}
    return {column: [item["subgroups"][column] for item in items] for column in columns}


class EpochBatches(Sampler[list[int]]):
    """Lists of positions, one for each batch. The order of an epoch depends only on the seed and the epoch."""

    def __init__(
        self,
        size: int,
        batch_size: int,
        shuffle: bool,
        seed: int,
        drop_last: bool,
        rank: int,
        world_size: int,
        balanced_labels: Tensor | None,
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.rank = rank
        self.world_size = world_size
        self.balanced_labels = balanced_labels
        self.epoch = 0
        self._first_batch = 0

    def state_dict(self) -> dict[str, int]:
        """Return the values that determine the order of images, and the number of images in a step of all processes."""
        return {"images": self.size, "seed": self.seed, "images_per_step": self.batch_size * self.world_size}

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        """Continue with this epoch, counted from 0, in the same order as without an interruption.

        Args:
            epoch: number of the next epoch.
            first_batch: number of the first batch in this epoch, counted from 0. Later epochs are whole.
        """
        self.epoch = epoch
        self._first_batch = first_batch

    def __len__(self) -> int:
        # All processes must take the same number of steps; otherwise one would wait for the others forever.
        share = self.size // self.world_size
        return share // self.batch_size if self.drop_last else -(-share // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.size)
        rng = np.random.default_rng([self.seed, self.epoch])
        if self.balanced_labels is not None:
            order = balanced_order(self.balanced_labels, rng)
        elif self.shuffle:
            order = rng.permutation(order)
        self.epoch += 1
        first_batch, self._first_batch = self._first_batch, 0
        share = order[self.rank :: self.world_size][: self.size // self.world_size].tolist()
        for start in range(first_batch * self.batch_size, len(self) * self.batch_size, self.batch_size):
            yield share[start : start + self.batch_size]


def make_loader(
    dataset: CachedImages,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    balanced: bool = False,
) -> DataLoader:
    """Make a loader of whole batches from memory, without worker processes.

    Args:
        dataset: the cached images.
        batch_size: images per batch (and process).
        shuffle: True to draw a new order for each epoch, the same for the same seed.
        seed: seed of the order.
        drop_last: True to leave out the last batch if it is smaller.
        rank: number of this process among those that share the data set.
        world_size: number of these processes; an epoch leaves out a remainder of fewer images than that.
        balanced: True to draw all classes equally often, see :func:`~monai_fgssl.data.balanced_order`; all images need
            a label.

    Returns:
        A loader of dictionaries: ``"image"`` uint8 ``(B, C, *spatial)``, ``"label"`` int64 ``(B,)``, ``"name"`` and
        ``"group"``, lists of ``B`` strings. ``loader.sampler.set_epoch`` chooses where to go on, to resume a run.

    Raises:
        ValueError: when there is not a single batch.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
    labels = dataset.labels if balanced else None
    batches = EpochBatches(len(dataset), batch_size, shuffle, seed, drop_last, rank, world_size, labels)
    if len(batches) == 0:
        raise ValueError(
            f"{len(dataset)} images for {world_size} process(es) do not fill one batch of {batch_size}: use a smaller "
            "batch_size or more images."
        )
    # batch_size=None: the data set itself makes batches, so nothing is collated image by image.
    # The loader gets a generator of its own, since every epoch would take a number from the global one.
    return DataLoader(dataset, batch_size=None, sampler=batches, generator=torch.Generator())


def first_batch(loader: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch of a loader, without affecting the batches of its next epoch.

    Args:
        loader: loader of :func:`make_loader`, whose first images are returned in their order; or another loader that
            can be iterated again, whose first batch is returned.
    """
    sampler = getattr(loader, "sampler", None)
    if isinstance(loader, DataLoader) and isinstance(sampler, EpochBatches):
        return loader.dataset[list(range(sampler.batch_size))]
    return next(iter(loader))
