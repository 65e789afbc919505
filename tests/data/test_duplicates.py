# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates against a brute-force search in float64, on synthetic and on the real images."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from scipy import ndimage

from monai_fgssl.data.duplicates import (
    DuplicatePair,
    find_duplicates,
    join_duplicates,
    pairs_across_parts,
    write_duplicates,
)
from monai_fgssl.data.layouts.registry import read_table
from monai_fgssl.data.layouts.table import ImageTable
from monai_fgssl.data.splits import split_table
from monai_fgssl.data.store.cached_images import load_images
from monai_fgssl.data.synthetic.lesions import TEXTURES, draw_lesion

SIZE = 96


def lesion(number: int) -> Image.Image:
    return Image.fromarray(draw_lesion(list(TEXTURES)[number % len(TEXTURES)], SIZE, lesion=number))


def fundus(number: int) -> Image.Image:
    """A lesion seen through a round field: the black around it is the same in all images."""
    pixels = np.asarray(lesion(number)).copy()
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    pixels[np.hypot(x, y) > 0.47 * SIZE] = 0
    return Image.fromarray(pixels)


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "same": lambda image: image,
    "jpeg": jpeg,
    "scaled": lambda image: image.resize((61, 61)).resize((SIZE, SIZE)),
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "colored": lambda image: Image.merge("RGB", [image.getchannel(c) for c in "BRG"]),
    "cropped": lambda image: image.resize((SIZE, SIZE), box=(1, 1, SIZE - 1, SIZE - 1)),
}


def as_tensor(images: list[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2).contiguous()


def names_of(pairs: list[DuplicatePair]) -> set[tuple[str, str]]:
    return {(pair.first, pair.second) for pair in pairs}


def reference(images: torch.Tensor, names: list[str], threshold: float = 0.7) -> dict[tuple[str, str], float]:
    """All pairs by the definition, one after the other, without a hash."""

    def mean(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
        weights = ndimage.uniform_filter(np.ones_like(values), window, mode="constant")
        return ndimage.uniform_filter(values, window, mode="constant") / weights

    prepared = []
    for image in images.numpy().astype(np.float64):
        small = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(image).mean(0)[None], 64)[0].numpy()
        detail = small - mean(small, 9)
        lit = mean(small, 5) > 15
        visible = ndimage.minimum_filter(lit, 9, mode="nearest")
        prepared.append((detail / (np.sqrt(mean(detail**2, 9).clip(0)) + 2), visible))
    found = {}
    for (i, (a, seen_a)), (j, (b, seen_b)) in combinations(enumerate(prepared), 2):
        both = seen_a & seen_b
        if both.sum() >= 400 and a[both].std() > 0 and b[both].std() > 0:
            correlation = np.corrcoef(a[both], b[both])[0, 1]
            if correlation > threshold:
                found[names[i], names[j]] = correlation
    return found


@pytest.mark.parametrize("draw", [lesion, fundus])
def test_copies_are_found_as_by_brute_force(draw: Callable[[int], Image.Image]) -> None:
    images, names = [], []
    for number in range(24):
        images.append(draw(number))
        names.append(f"{number}")
        if number < len(CHANGES):
            change = list(CHANGES)[number]
            images.append(CHANGES[change](draw(number)))
            names.append(f"{number} {change}")
    pairs = find_duplicates(as_tensor(images), names)
    assert names_of(pairs) == {(f"{number}", f"{number} {change}") for number, change in enumerate(CHANGES)}
    expected = reference(as_tensor(images), names)
    assert names_of(pairs) == expected.keys()
    for pair in pairs:
        assert pair.correlation == pytest.approx(expected[pair.first, pair.second], abs=1e-4)
    assert [pair.correlation for pair in pairs] == sorted((pair.correlation for pair in pairs), reverse=True)


def test_the_threshold() -> None:
    images = as_tensor([lesion(0), CHANGES["cropped"](lesion(0))])
    ((_, _, correlation),) = find_duplicates(images, ["a", "b"])
    assert find_duplicates(images, ["a", "b"], threshold=correlation + 1e-3) == []


def test_images_without_structure_are_no_duplicates() -> None:
    flat = torch.cat([torch.full((2, 3, 64, 64), value, dtype=torch.uint8) for value in (0, 7, 200)])
    assert find_duplicates(flat, [str(i) for i in range(6)]) == []
    noisy = flat[:2] + torch.randint(0, 9, flat[:2].shape, dtype=torch.uint8, generator=torch.manual_seed(0))
    assert find_duplicates(torch.cat([noisy, noisy]), list("abcd")) == []
    assert find_duplicates(torch.empty(0, 3, 64, 64, dtype=torch.uint8), []) == []


@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 200, 150), (1, 32, 32), (1, 12, 48, 48)])
def test_other_shapes(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    fields = [ndimage.gaussian_filter(rng.normal(size=shape), [0, *[1.5] * (len(shape) - 1)]) for _ in range(6)]
    images = torch.stack([torch.from_numpy(128 + 100 * field / np.abs(field).max()) for field in fields]).byte()
    pairs = find_duplicates(torch.cat([images, (images // 2 + 50)[3:4]]), [str(i) for i in range(7)])
    assert names_of(pairs) == {("3", "6")}


def test_as_many_names_as_images() -> None:
    with pytest.raises(ValueError, match="equally many, got 2 and 1"):
        find_duplicates(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), ["a"])


def make_items(groups: str) -> list[dict]:
    return [{"image": "", "name": str(i), "label": i % 2, "group": group} for i, group in enumerate(groups)]


def test_groups_are_joined() -> None:
    items = make_items("abcdaef")
    pairs = [DuplicatePair("1", "3", 0.9), DuplicatePair("3", "5", 0.9), DuplicatePair("4", "6", 0.8)]
    joined = join_duplicates(items, pairs)
    assert [item["group"] for item in joined] == list("abcbaba")
    assert [{**item, "group": old["group"]} for item, old in zip(joined, items, strict=True)] == items
    assert join_duplicates(items, []) == items


def test_report(tmp_path: Path) -> None:
    items = make_items("abcd")
    split = {"train": items[:2], "test": [items[2]]}
    pairs = [DuplicatePair("0", "1", 0.91236), DuplicatePair("1", "2", 0.8), DuplicatePair("2", "3", 0.75)]
    assert pairs_across_parts(pairs, split) == [pairs[1]]
    write_duplicates(tmp_path / "duplicates.csv", pairs, split, ("NV", "MEL"))
    with (tmp_path / "duplicates.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["first", "second", "correlation", "first_part", "second_part", "first_class", "second_class"],
        ["0", "1", "0.9124", "train", "train", "NV", "MEL"],
        ["1", "2", "0.8000", "train", "test", "MEL", "NV"],
        ["2", "3", "0.7500", "test", "", "NV", ""],
    ]


def test_real_fundus_photos(aptos2019: Path) -> None:
    table = read_table(aptos2019)
    images = load_images(table.items, 64)
    pairs = find_duplicates(images.store, images.names)
    # Known copies, and photos that differ in nothing to the eye.
    assert {("3b018e8b7303", "3ddb86eb530e"), ("8688f3d0fcaf", "d85ea1220a03")} < names_of(pairs)
    assert 115 < len(pairs) < 130
    found = {pair[:2]: pair.correlation for pair in pairs}
    chosen = sorted(
        {name for pair in pairs[:: len(pairs) // 12] for name in pair[:2]} | {"98d41bce73a8", "ad944bd56bb6"}
    )
    positions = [images.names.index(name) for name in chosen]
    expected = reference(images.store[positions], chosen)
    assert len(expected) > 10
    assert expected == pytest.approx({pair: found[pair] for pair in expected}, abs=1e-3)
    # A split by image tears many apart; one by groups none.
    fractions = {"train": 0.7, "validation": 0.1, "test": 0.2}
    assert len(pairs_across_parts(pairs, split_table(table, fractions))) > 30
    joined = ImageTable(table.class_names, join_duplicates(table.items, pairs))
    assert pairs_across_parts(pairs, split_table(joined, fractions)) == []


def test_real_lesions(isic2017: Path) -> None:
    images = load_images(read_table(isic2017).items, 64)
    pairs = find_duplicates(images.store, images.names)
    # The same lesion on two photos; seen by eye.
    assert names_of(pairs) == {
        # This one is in the official training part and in the validation part.
        ("ISIC_0012970", "ISIC_0012127"),
        ("ISIC_0012290", "ISIC_0013594"),
        ("ISIC_0012756", "ISIC_0013184"),
        ("ISIC_0012672", "ISIC_0012673"),
        ("ISIC_0000171", "ISIC_0015124"),
        ("ISIC_0000222", "ISIC_0014846"),
        ("ISIC_0000164", "ISIC_0014795"),
    }
