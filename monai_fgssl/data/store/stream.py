# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read batches of images ahead in threads, from any number of files. A damaged file does not stop the others."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from monai.data import Dataset
from tqdm import tqdm

from monai_fgssl.data.io.reasons import failure_of

__all__ = ["ImageStream"]


class ImageStream:
    """Reads images in threads while the network computes, and yields batches of the images that could be read.

    At most three batches are in memory, however many files there are.

    Args:
        dataset: a MONAI data set of dictionaries with ``"image"`` (path) and ``"name"``, whose transform makes images
            ``(C, *spatial)`` of one shape and raises an error where it can't. It may add ``"headers"``, see
            :class:`~monai_fgssl.data.ReadImaged`.
        batch_size: images per batch; the last one may be smaller.
        num_threads: number of threads that read at the same time; None: one for each core, at most 8.

    Attributes:
        failures: name and reason of each image that could not be read; complete when the iteration has ended.
        incomplete: name and reason of each image that has a prediction, but lacks another requested result, such as a
            report. The writers of these results fill it.

    Raises:
        ValueError: when ``batch_size`` or ``num_threads`` is less than 1.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        num_threads: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads must be at least 1, got {num_threads}.")
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_threads = num_threads or min(8, os.cpu_count() or 1)
        self.failures: list[tuple[str, str]] = []
        self.incomplete: list[tuple[str, str]] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield ``"image"`` ``(B, C, *spatial)``, and lists of ``B``.

        The lists are ``"name"``, ``"path"``, ``"frame"`` (None if the file has one image), and ``"headers"`` if the
        transform adds them.
        """
        self.failures, self.incomplete = [], []
        readable: list[dict[str, Any]] = []
        with ThreadPoolExecutor(self.num_threads) as pool:
            progress = tqdm(total=len(self.dataset), desc="images", unit="image", disable=None)
            try:
                for item in self._read_ahead(pool):
                    progress.update()
                    if item is None:
                        continue
                    readable.append(item)
                    if len(readable) == self.batch_size:
                        yield _collate(readable)
                        readable = []
                if readable:
                    yield _collate(readable)
            finally:
                progress.close()
                # Otherwise, leaving early would wait for all images that are queued.
                pool.shutdown(cancel_futures=True)

    def _read_ahead(self, pool: ThreadPoolExecutor) -> Iterator[dict[str, Any] | None]:
        """Yield items in order, with images and paths; None for an unreadable item, which is added to ``failures``."""
        waiting: deque[tuple[int, Future[Any]]] = deque()
        for index in range(len(self.dataset)):
            waiting.append((index, pool.submit(self.dataset.__getitem__, index)))
            if len(waiting) > self.batch_size + self.num_threads:
                yield self._result(*waiting.popleft())
        while waiting:
            yield self._result(*waiting.popleft())

    def _result(self, index: int, future: Future[Any]) -> dict[str, Any] | None:
        item = self.dataset.data[index]
        try:
            return {**future.result(), "name": item["name"], "path": item["image"], "frame": item.get("frame")}
        except Exception as error:
            # Any error: whatever one file does to its reader, the others get their results.
            self.failures.append((item["name"], failure_of(item["image"], error)))
            return None


def _collate(readable: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    keys = [key for key in ("name", "path", "frame", "headers") if key in readable[0]]
    lists = {key: [item[key] for item in readable] for key in keys}
    return {"image": torch.stack([item["image"] for item in readable]), **lists}
