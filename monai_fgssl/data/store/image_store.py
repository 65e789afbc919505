# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Decoded images of one size: in memory, or in a file that is mapped into memory and used again by the next run."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from ignite import distributed as idist
from torch import Tensor

from monai_fgssl.utils.errors import DataError
from monai_fgssl.utils.files import atomic_write, remove_leftovers

__all__ = ["fingerprint", "make_store"]

# Raise this number when the same file is decoded to other pixels. Older stores are then ignored.
VERSION = 3
MEMORY_SHARE = 0.8
"""Share of the available memory that images may take."""


def make_store(shape: Sequence[int], fill: Callable[[Tensor], None], file: str | Path | None = None) -> Tensor:
    """Make a tensor of images once, in memory or in a file.

    The pages of a file are loaded when they are used, and the system drops them when it needs the memory. So data sets
    may be larger than the memory, and processes on one machine share them. MONAI's ``PersistentDataset`` is not used,
    since it opens and unpickles a file for every image.

    Args:
        shape: ``(N, C, *spatial)``.
        fill: function that writes the images into the empty tensor. It is not called if the file exists already.
        file: file that keeps the images. One process of each machine writes it, all or nothing. None: memory.

    Returns:
        uint8 tensor of this shape. Do not write to it if it is mapped from a file.

    Raises:
        DataError: when the images don't fit into the memory, or the file on the disk.
    """
    if file is None:
        _check_memory(math.prod(shape))
        images = torch.empty(*shape, dtype=torch.uint8)
        fill(images)
        return images
    file = Path(file)
    with idist.one_rank_first(local=True):
        # Check the size: mapping would extend a shorter file with black images.
        if not file.is_file() or file.stat().st_size != math.prod(shape):
            file.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(file.parent)
            _check_disk(math.prod(shape), file)
            with atomic_write(file) as temporary:
                _reserve(temporary, math.prod(shape))
                fill(_mapped(temporary, shape))
        return _mapped(file, shape)


def fingerprint(paths: Iterable[str | Path], **settings: Any) -> str:
    """Compute the name of a store. It changes when a file or a setting changes.

    Args:
        paths: paths of the images in their order: files, or folders of a series.
        settings: all other values that affect the pixels.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(json.dumps([VERSION, settings], sort_keys=True).encode(), digest_size=16)
    for path in map(Path, paths):
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        for file in files:
            # A missing file is reported when it is read.
            status = file.stat() if file.exists() else None
            size, time = (status.st_size, status.st_mtime_ns) if status else (0, 0)
            digest.update(f"{file.absolute()}\0{size}\0{time}\0".encode())
    return digest.hexdigest()


def _reserve(file: Path, size: int) -> None:
    """Reserve the space on the disk now: if the disk fills up under a mapped file, a signal ends the process."""
    if hasattr(os, "posix_fallocate"):
        with open(file, "wb") as empty:
            os.posix_fallocate(empty.fileno(), 0, size)


def _mapped(file: Path, shape: Sequence[int]) -> Tensor:
    return torch.from_file(os.fspath(file), shared=True, size=math.prod(shape), dtype=torch.uint8).view(*shape)


def _check_memory(size: int) -> None:
    available = psutil.virtual_memory().available
    if size > MEMORY_SHARE * available:
        raise DataError(
            f"the images take {size / 2**30:.1f} GiB of memory, and {available / 2**30:.1f} GiB are available: keep "
            "them on disk with --cache_dir FOLDER, or use a smaller --image_size."
        )


def _check_disk(size: int, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    available = psutil.disk_usage(os.fspath(file.parent)).free
    # If the disk fills up under a sparse file, a signal ends the process.
    if size > available:
        raise DataError(
            f"the images take {size / 2**30:.1f} GiB in {file.parent}, where {available / 2**30:.1f} GiB are free: "
            "name another folder with --cache_dir, or use a smaller --image_size."
        )
