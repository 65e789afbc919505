# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Reading ahead: order, failures, memory."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from monai.data import Dataset
from monai.transforms import Lambdad
from torch import Tensor

from monai_fgssl.data.store.stream import ImageStream
from monai_fgssl.utils.errors import DataError


def make_dataset(n: int, read: Callable[[int], Tensor]) -> Dataset:
    items = [{"image": i, "name": f"image{i}"} for i in range(n)]
    return Dataset(items, Lambdad("image", read))


def read(number: int) -> Tensor:
    if number % 5 == 3:
        raise DataError(f"{number} is damaged.")
    return torch.full((1, 2, 2), float(number))


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_readable_images_in_order_and_the_others_with_their_reason(batch_size: int, num_threads: int) -> None:
    stream = ImageStream(make_dataset(23, read), batch_size, num_threads)
    for _ in range(2):
        batches = list(stream)
        good = [i for i in range(23) if i % 5 != 3]
        assert [len(batch["name"]) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        assert [path for batch in batches for path in batch["path"]] == good
        assert [name for batch in batches for name in batch["name"]] == [f"image{i}" for i in good]
        assert torch.cat([batch["image"] for batch in batches])[:, 0, 0, 0].tolist() == good
        assert stream.failures == [(f"image{i}", f"{i} is damaged.") for i in range(3, 23, 5)]


def test_nothing_readable() -> None:
    stream = ImageStream(Dataset([{"image": 3, "name": "a"}], Lambdad("image", read)), 2)
    assert list(stream) == []
    assert stream.failures == [("a", "3 is damaged.")]


def test_holds_few_images_at_a_time() -> None:
    asked, most = 0, 0
    handed_out = 0
    lock = threading.Lock()

    def count(number: int) -> Tensor:
        nonlocal asked, most
        with lock:
            asked += 1
            most = max(most, asked - handed_out)
        return torch.zeros(1, 1, 1)

    for batch in ImageStream(make_dataset(400, count), batch_size=4, num_threads=2):
        handed_out += len(batch["name"])
    assert asked == 400
    assert most <= 3 * 4


def test_an_error_that_nobody_foresaw_costs_one_image_and_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken(number: int) -> Tensor:
        if number == 1:
            raise RuntimeError("a bug")
        return torch.zeros(1, 2, 2)

    stream = ImageStream(make_dataset(3, broken), 3)
    with caplog.at_level("DEBUG", logger="monai_fgssl"):
        assert [name for batch in stream for name in batch["name"]] == ["image0", "image2"]
    assert stream.failures == [("image1", "1 can't be read (RuntimeError: a bug).")]
    assert "in broken" in caplog.text


def test_leaving_early_does_not_read_the_rest() -> None:
    asked = []
    for _ in ImageStream(make_dataset(1000, lambda number: asked.append(number) or torch.zeros(1)), 2, 1):
        break
    assert len(asked) < 20


def test_numbers_that_can_not_be() -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        ImageStream(make_dataset(1, read), 0)
    with pytest.raises(ValueError, match="num_threads must be at least 1, got 0"):
        ImageStream(make_dataset(1, read), 1, 0)
