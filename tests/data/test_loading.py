# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Images in memory: the pixels of the files, in the order that the seed says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_fgssl.data import (
    DataError,
    ReadImaged,
    check_images,
    list_images,
    load_images,
    load_test_images,
    make_loader,
    prepare_data,
    read_image,
    read_isic2018,
    split_table,
    write_split,
)


def test_pixels_are_those_of_the_file_channel_row_column(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    image = read_image(tmp_path / "image.png", 24)
    assert np.array_equal(image.numpy(), pixels.transpose(2, 0, 1))
    scaled = ReadImaged("image", 24)({"image": tmp_path / "image.png"})["image"]
    np.testing.assert_allclose(scaled.numpy(), pixels.transpose(2, 0, 1) / 255, atol=1e-7)


def test_grey_palette_and_alpha_become_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    for mode in ("L", "P", "RGBA", "LA"):
        image.convert(mode).save(tmp_path / f"{mode}.png")
        assert read_image(tmp_path / f"{mode}.png", 8).shape == (3, 8, 8)


def test_unreadable_images_are_all_named(lesions: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lesions, tmp_path / "copy"))
    items = read_isic2018(folder).items
    for item in items[:2]:
        path = Path(item["image"])
        path.write_bytes(path.read_bytes()[:100])
    Path(items[2]["image"]).write_bytes(b"")
    for function in (check_images, lambda broken: load_images(broken, 16)):
        with pytest.raises(DataError) as error:
            function(items)
        for item in items[:3]:
            assert item["name"] in str(error.value)
        assert items[3]["name"] not in str(error.value)


def test_loader_covers_every_image_once_in_the_seeds_order(lesions: Path) -> None:
    dataset = load_images(read_isic2018(lesions).items, 16)
    orders = []
    for seed in (1, 1, 2):
        loader = make_loader(dataset, 32, shuffle=True, seed=seed)
        epochs = [[name for batch in loader for name in batch["name"]] for _ in range(2)]
        assert sorted(epochs[0]) == sorted(dataset.names)
        assert epochs[0] != epochs[1]
        orders.append(epochs)
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]


def test_batches_hold_what_belongs_together(lesions: Path) -> None:
    items = read_isic2018(lesions).items
    dataset = load_images(items, 32)
    by_name = {item["name"]: item for item in items}
    for batch in make_loader(dataset, 50, shuffle=True):
        assert batch["image"].dtype == torch.uint8
        for image, label, name, group in zip(
            batch["image"], batch["label"], batch["name"], batch["group"], strict=True
        ):
            assert (int(label), group) == (by_name[name]["label"], by_name[name]["group"])
            assert torch.equal(image, read_image(by_name[name]["image"], 32))


def test_processes_share_without_overlap(lesions: Path) -> None:
    dataset = load_images(read_isic2018(lesions).items, 16)
    loaders = [make_loader(dataset, 16, shuffle=True, seed=3, rank=rank, world_size=3) for rank in range(3)]
    assert len({len(loader) for loader in loaders}) == 1
    shares = [{name for batch in loader for name in batch["name"]} for loader in loaders]
    assert not shares[0] & shares[1] | shares[1] & shares[2] | shares[0] & shares[2]
    assert sum(map(len, shares)) >= len(dataset) - 2


def test_prepare_data_keeps_lesions_apart(lesions: Path, tmp_path: Path) -> None:
    fractions = {"train": 0.6, "validation": 0.2, "test": 0.2}
    data = prepare_data(lesions, tmp_path / "unused", 0, tmp_path / "split.json", 16, fractions, 0.25)
    assert not set(data.train.groups) & set(data.test.groups)
    assert not set(data.validation.groups) & set(data.test.groups)
    labelled = data.train.labelled()
    assert 0.15 * len(data.train) < len(labelled) < 0.4 * len(data.train)
    assert (tmp_path / "split.json").is_file()


def test_a_model_is_scored_on_columns_in_another_order(lesions: Path, tmp_path: Path) -> None:
    table = read_isic2018(lesions)
    write_split(tmp_path / "split.json", split_table(table))
    names = table.class_names[::-1]
    images = load_test_images(lesions, None, tmp_path / "split.json", names, 16)
    truth = {item["name"]: table.class_names[item["label"]] for item in table.items}
    assert [names[label] for label in images.labels] == [truth[name] for name in images.names]
    assert len(load_test_images(lesions, "Training", tmp_path / "none.json", names, 16)) == len(table.items)
    with pytest.raises(DataError, match="the model was trained for A, B"):
        load_test_images(lesions, None, tmp_path / "split.json", ["A", "B"], 16)


def test_list_images(lesions: Path, tmp_path: Path) -> None:
    listed = list_images(lesions)
    assert len(listed) == 140
    assert listed[0]["name"] == "ISIC2018_Task3_Training_Input/SYN_000000"
    assert list_images(listed[0]["image"])[0]["name"] == "SYN_000000"
    for folder, message in ((tmp_path, "no images"), (tmp_path / "none", "no file or folder")):
        with pytest.raises(DataError, match=message):
            list_images(folder)
