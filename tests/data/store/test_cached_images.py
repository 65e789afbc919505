# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Images in memory: they have the pixels of the files, in the order that the seed determines."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from monai_fgssl.data import (
    UNLABELED,
    CachedImages,
    DataError,
    ReadImaged,
    SplitPlan,
    load_images,
    load_test_images,
    make_loader,
    prepare_data,
    read_image,
    read_isic2018,
    read_split,
    split_table,
    write_split,
)


@given(count=st.integers(0, 40), size=st.integers(1, 30), seed=st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_a_sample_is_drawn_without_replacement_and_is_the_same_for_a_seed(count: int, size: int, seed: int) -> None:
    names = [f"image{i}" for i in range(size)]
    images = CachedImages(torch.arange(size, dtype=torch.uint8).view(size, 1), torch.arange(size) % 3, names, names)
    chosen = images.sample(count, seed)
    assert len(set(chosen.names)) == len(chosen) == min(count, size)
    assert chosen.names == images.sample(count, seed).names
    for position in range(len(chosen)):
        found = chosen[position]
        original = images[int(found["name"].removeprefix("image"))]
        assert torch.equal(found["image"], original["image"])
        assert (found["label"], found["group"]) == (original["label"], original["group"])


def test_a_sample_is_not_the_first_images() -> None:
    names = [f"image{i}" for i in range(200)]
    images = CachedImages(torch.zeros(200, 1, dtype=torch.uint8), torch.zeros(200), names, names)
    positions = [int(name.removeprefix("image")) for name in images.sample(50).names]
    assert max(positions) > 150
    assert positions != sorted(positions)


def test_pixels_are_those_of_the_file_channel_row_column(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    image = read_image(tmp_path / "image.png", 24)
    assert np.array_equal(image.numpy(), pixels.transpose(2, 0, 1))
    scaled = ReadImaged("image", 24)({"image": tmp_path / "image.png"})["image"]
    np.testing.assert_allclose(scaled.numpy(), pixels.transpose(2, 0, 1) / 255, atol=1e-7)


def test_gray_palette_and_alpha_become_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    for mode in ("L", "P", "RGBA", "LA"):
        image.convert(mode).save(tmp_path / f"{mode}.png")
        assert read_image(tmp_path / f"{mode}.png", 8).shape == (3, 8, 8)


def test_shrinking_averages_and_the_orientation_tag_is_applied(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[::2] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn by 90 degrees.
    Image.fromarray(stripes).save(tmp_path / "stripes.png", exif=exif)
    # Point sampling would give 0 or 200.
    assert (read_image(tmp_path / "stripes.png", 8).int() - 100).abs().max() <= 4
    # Rows of the file are columns of the picture, from the right.
    assert read_image(tmp_path / "stripes.png", 64)[0, 0].tolist() == [0, 200] * 32
    # A fourfold reduction of a smooth image is close to the mean of 4 x 4 pixels.
    smooth = np.add.outer(np.arange(64), 2 * np.arange(64)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "smooth.png")
    means = smooth.reshape(16, 4, 16, 4).mean((1, 3))
    assert np.abs(read_image(tmp_path / "smooth.png", 16)[1, 1:-1, 1:-1].numpy() - means[1:-1, 1:-1]).max() <= 1


def test_unreadable_images_are_all_named(lesions: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(lesions, tmp_path / "copy"))
    items = read_isic2018(folder).items
    for item in items[:2]:
        path = Path(item["image"])
        path.write_bytes(path.read_bytes()[:100])
    Path(items[2]["image"]).write_bytes(b"")
    Path(items[3]["image"]).unlink()
    with pytest.raises(DataError) as error:
        load_images(items, 16)
    message = str(error.value)
    assert f"4 of {len(items)} images can't be read" in message
    reasons = ("is damaged", "is damaged", "is empty", "does not exist")
    for item, reason in zip(items[:4], reasons, strict=True):
        assert f"{item['image']} {reason}" in message
    assert items[4]["name"] not in message
    with pytest.raises(DataError, match="no images to load"):
        load_images([], 16)


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


def test_single_images_and_labeled_ones() -> None:
    images = torch.arange(6, dtype=torch.uint8).reshape(6, 1, 1, 1)
    labels = torch.tensor([0, UNLABELED, 2, UNLABELED, 1, 0])
    dataset = CachedImages(images, labels, list("abcdef"), list("uvwxyz"))
    assert (dataset[2]["image"].item(), dataset[2]["label"].item(), dataset[2]["name"]) == (2, 2, "c")
    known = dataset.labeled()
    everything = known[range(4)]
    assert (everything["image"].flatten().tolist(), known.labels.tolist()) == ([0, 2, 4, 5], [0, 2, 1, 0])
    assert known.store.data_ptr() == images.data_ptr()
    assert (known.names, known.groups) == (list("acef"), list("uwyz"))
    assert known[1]["image"].item() == 2
    with pytest.raises(ValueError, match="got 6, 6, 6 and 1"):
        CachedImages(images, labels, list("abcdef"), ["u"])


def test_epochs_depend_on_the_seed_alone(lesions: Path) -> None:
    dataset = load_images(read_isic2018(lesions).items, 8)

    def run(epochs: int, first: int = 0) -> list[list[str]]:
        loader = make_loader(dataset, 32, shuffle=True, seed=5)
        loader.sampler.set_epoch(first)
        return [[name for batch in loader for name in batch["name"]] for _ in range(epochs)]

    state = torch.random.get_rng_state()
    expected = run(4)
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(123)
    assert run(2, first=2) == expected[2:]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.booleans(), st.booleans(), st.integers(1, 3))
def test_batches_of_any_size(size: int, batch_size: int, shuffle: bool, drop_last: bool, world_size: int) -> None:
    dataset = CachedImages(torch.zeros(size, 1, 2, 2), torch.arange(size), ["n"] * size, ["g"] * size)
    share = size // world_size
    if share < (batch_size if drop_last else 1):
        with pytest.raises(ValueError, match="do not fill one batch"):
            make_loader(dataset, batch_size, shuffle, 0, drop_last, 0, world_size)
        return
    seen: list[int] = []
    for rank in range(world_size):
        loader = make_loader(dataset, batch_size, shuffle, 0, drop_last, rank, world_size)
        sizes = [len(batch["label"]) for batch in loader]
        assert len(loader) == len(sizes)
        assert all(size == batch_size for size in sizes[:-1])
        assert sum(sizes) == share - (share % batch_size if drop_last else 0)
        loader.sampler.set_epoch(0)
        seen += [int(label) for batch in loader for label in batch["label"]]
    assert len(set(seen)) == len(seen)
    if not shuffle and world_size == 1:
        assert seen == list(range(len(seen)))


def test_batch_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        make_loader(CachedImages(torch.zeros(1, 1, 2, 2), torch.zeros(1), ["a"], ["a"]), 0)


def test_processes_share_without_overlap(lesions: Path) -> None:
    dataset = load_images(read_isic2018(lesions).items, 16)
    loaders = [make_loader(dataset, 16, shuffle=True, seed=3, rank=rank, world_size=3) for rank in range(3)]
    assert len({len(loader) for loader in loaders}) == 1
    shares = [{name for batch in loader for name in batch["name"]} for loader in loaders]
    assert not shares[0] & shares[1] | shares[1] & shares[2] | shares[0] & shares[2]
    assert sum(map(len, shares)) >= len(dataset) - 2


def test_prepare_data_keeps_lesions_apart(lesions: Path, tmp_path: Path) -> None:
    fractions = {"train": 0.6, "validation": 0.2, "test": 0.2}
    data = prepare_data(lesions, 16, SplitPlan(fractions), tmp_path / "split.json", 0.25)
    assert not set(data.train.groups) & set(data.test.groups)
    assert not set(data.validation.groups) & set(data.test.groups)
    labeled = data.train.labeled()
    assert 0.15 * len(data.train) < len(labeled) < 0.4 * len(data.train)
    split = read_split(tmp_path / "split.json", read_isic2018(lesions))
    for part, images in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        assert images.names == [item["name"] for item in split[part]]
        expected = read_image(split[part][-1]["image"], 16)
        assert torch.equal(images[len(images) - 1]["image"], expected)


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


def test_balanced_batches_have_all_classes_equally_often_and_an_order_of_the_epoch() -> None:
    labels = torch.tensor([0] * 30 + [1] * 6 + [2] * 4)
    images = torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1)
    dataset = CachedImages(images, labels, [str(i) for i in range(40)], ["a"] * 40)
    loader = make_loader(dataset, 10, seed=3, balanced=True)
    first, second = ([name for batch in loader for name in batch["name"]] for _ in range(2))
    assert len(first) == 40
    assert sorted(np.bincount(labels[[int(name) for name in first]].numpy()).tolist()) == [13, 13, 14]
    assert first != second
    loader.sampler.set_epoch(0)
    assert [name for batch in loader for name in batch["name"]] == first
