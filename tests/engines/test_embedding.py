# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Features of images: the means of all stages, computed once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import Dataset
from PIL import Image

from monai_fgssl.data import CachedImages, ImageGeometry, ImageStream, ReadImaged, list_images
from monai_fgssl.engines import Embeddings, embed_files, embed_images
from monai_fgssl.networks import HierarchicalNet, PlainNet, PooledNet, StagedNet


def make_images(spatial_dims: int = 2, count: int = 7) -> CachedImages:
    generator = torch.Generator().manual_seed(0)
    channels = 3 if spatial_dims == 2 else 1
    store = torch.randint(0, 256, (count, channels, *[32] * spatial_dims), dtype=torch.uint8, generator=generator)
    names = [str(i) for i in range(count)]
    return CachedImages(store, torch.zeros(count, dtype=torch.int64), names, names)


def means_by_hand(network: StagedNet, pixels: torch.Tensor) -> np.ndarray:
    network.eval()
    with torch.no_grad():
        maps = network.backbone((pixels.float() / 255 - 0.5) / 0.5)
    return np.concatenate([m.double().numpy().mean(axis=tuple(range(2, m.ndim))) for m in maps], axis=1)


@pytest.mark.parametrize(("kind", "spatial_dims"), [(HierarchicalNet, 2), (PlainNet, 2), (PooledNet, 3)])
def test_features_are_the_means_of_all_stages(kind: type[StagedNet], spatial_dims: int) -> None:
    torch.manual_seed(0)
    network = kind("resnet18", spatial_dims, 3 if spatial_dims == 2 else 1).train()
    images = make_images(spatial_dims)
    features = embed_images(network, images, "cpu", batch_size=3)
    assert network.training
    assert features.shape == (7, 64 + 128 + 256 + 512)
    np.testing.assert_allclose(features.numpy(), means_by_hand(network, images.store), rtol=1e-3, atol=1e-5)


class Unused(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the features were known")


def test_kept_features_are_those_of_the_same_pixels_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network, images = PooledNet("resnet18"), make_images()
    first = embed_images(network, images, "cpu", cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(PooledNet, "stage_means", Unused().forward)
        assert torch.equal(embed_images(network, images, "cpu", batch_size=2, cache_dir=tmp_path), first)
        # Other classifiers have the same features.
        network.classifier.weight.data.mul_(2)
        network.fit_standardization(first)
        assert torch.equal(embed_images(network, images, "cpu", cache_dir=tmp_path), first)
    images.store[3, 0, 5, 5] ^= 255
    changed = embed_images(network, images, "cpu", cache_dir=tmp_path)
    assert (changed != first).any(1).tolist() == [i == 3 for i in range(7)]
    for name in ("stem.bn1.running_mean", "stages.1.0.conv1.weight"):
        network.backbone.state_dict()[name].add_(0.5)
        again = embed_images(network, images, "cpu", cache_dir=tmp_path)
        assert not torch.equal(again, changed)
        changed = again
    network.mean.add_(0.1)
    assert not torch.equal(embed_images(network, images, "cpu", cache_dir=tmp_path), changed)
    assert len(list(tmp_path.iterdir())) == 5


def embed(folder: Path, network: StagedNet, cache_dir: Path | None = None, size: int = 32) -> Embeddings:
    geometry = ImageGeometry(size)
    stream = ImageStream(Dataset(list_images(folder), ReadImaged("image", geometry)), batch_size=2)
    return embed_files(network, stream, geometry, "cpu", cache_dir)


def draw(folder: Path, count: int = 5) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    (folder / "b").mkdir(parents=True)
    for i, values in enumerate(pixels):
        Image.fromarray(values).save(folder / ("b" if i % 2 else ".") / f"{i}.png")
    order = [0, 2, 4, 1, 3][:count]
    return torch.from_numpy(pixels[order]).permute(0, 3, 1, 2)


def test_features_of_files_are_in_the_order_of_the_list(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, pixels = PooledNet("resnet18"), draw(tmp_path / "images")
    found = embed(tmp_path / "images", network)
    assert found.names == ("0", "2", "4", "b/1", "b/3")
    assert [Path(path).name for path in found.paths] == ["0.png", "2.png", "4.png", "1.png", "3.png"]
    np.testing.assert_allclose(found.features.numpy(), means_by_hand(network, pixels), rtol=1e-3, atol=1e-5)
    stages = found.stages()
    assert {name: values.shape[1] for name, values in stages.items()} == {
        "stage1": 64,
        "stage2": 128,
        "stage3": 256,
        "stage4": 512,
    }
    assert torch.equal(torch.cat(list(stages.values()), dim=1), found.features)


def test_features_of_files_are_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = PooledNet("resnet18")
    draw(tmp_path / "images")
    first = embed(tmp_path / "images", network, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(PooledNet, "stage_means", Unused().forward)
        again = embed(tmp_path / "images", network, tmp_path / "cache")
    assert (again.names, again.paths, again.widths) == (first.names, first.paths, first.widths)
    assert torch.equal(again.features, first.features)
    assert not torch.equal(embed(tmp_path / "images", network, tmp_path / "cache", size=48).features, first.features)
    os.utime(tmp_path / "images" / "0.png", (1, 1))
    embed(tmp_path / "images", network, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_an_image_that_can_not_be_read_costs_no_other_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = PooledNet("resnet18")
    draw(tmp_path / "images")
    (tmp_path / "images" / "2.png").write_bytes(b"no picture")
    found = embed(tmp_path / "images", network, tmp_path / "cache")
    assert found.names == ("0", "4", "b/1", "b/3")
    assert found.features.shape == (4, 960)
    ((name, reason),) = found.failures
    assert name == "2"
    assert "2.png" in reason
    # Tried again the next time, when it may be there.
    assert not (tmp_path / "cache").exists()
