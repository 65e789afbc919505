# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic volumes: only the texture differs between the classes."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_fgssl.data import (
    DataError,
    ImageGeometry,
    load_images,
    make_synthetic_lesions,
    make_synthetic_volumes,
    read_table,
)
from monai_fgssl.data.synthetic.volumes import VOLUME_TEXTURES, draw_volume


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_same_seed_same_files_and_a_second_call_changes_nothing(tmp_path: Path) -> None:
    first, second, other = (
        make_synthetic_volumes(tmp_path / name, num_images=6, seed=seed)
        for name, seed in (("first", 1), ("second", 1), ("other", 2))
    )
    assert digest(first) == digest(second) != digest(other)
    times = [path.stat().st_mtime_ns for path in sorted(first.rglob("*"))]
    make_synthetic_volumes(first, num_images=6, seed=1)
    assert [path.stat().st_mtime_ns for path in sorted(first.rglob("*"))] == times
    assert sorted(tmp_path.iterdir()) == [first, other, second]


def test_other_settings_and_photos_are_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    folder = make_synthetic_lesions(tmp_path / "data", num_images=2, image_size=8)
    make_synthetic_volumes(folder, num_images=5)
    table = read_table(folder)
    assert len(table.items) == 5
    assert "synthetic.json names no image: not used" in table.notes
    assert {path.name for path in folder.iterdir()} == {"volumes", "volumes.csv", "synthetic.json"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="has other files"):
        make_synthetic_volumes(tmp_path / "mine", num_images=5)
    with pytest.raises(DataError, match="num_images must be at least 1, got 0"):
        make_synthetic_volumes(tmp_path / "none", num_images=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_synthetic_volumes(tmp_path_factory.mktemp("data") / "volumes", num_images=200)


def test_the_reader_of_lists_knows_classes_and_lesions(folder: Path) -> None:
    table = read_table(folder)
    assert set(table.class_names) == set(VOLUME_TEXTURES)
    counts = np.bincount([item["label"] for item in table.items])
    assert counts.min() >= 46
    assert counts.max() <= 54
    scans = Counter(item["group"] for item in table.items)
    assert set(scans.values()) == {1, 2}
    # Second scans tell nothing about the class.
    repeated = Counter(item["label"] for item in table.items if scans[item["group"]] == 2)
    assert max(repeated.values()) - min(repeated.values()) <= 4


def test_files_are_anisotropic_and_turned_in_many_ways(folder: Path) -> None:
    images = [nib.load(item["image"]) for item in read_table(folder).items[:40]]
    orientations = {"".join(nib.aff2axcodes(image.affine)) for image in images}
    assert len(orientations) >= 4
    for image in images:
        spacing = sorted(nib.affines.voxel_sizes(image.affine))
        assert spacing[2] > 1.6 * spacing[1]
        assert sorted(image.shape) == [18, 34, 34]


def test_scans_of_a_lesion_differ() -> None:
    first, again, second = (draw_volume("FOAM", lesion=3, scan=scan).get_fdata() for scan in (0, 0, 1))
    assert np.array_equal(first, again)
    assert first.shape != second.shape or np.abs(first - second).mean() > 5


def statistics(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energy by frequency, and how much of it has one direction."""
    inner = volume[6:26, 6:26, 3:13]
    window = np.einsum("i,j,k->ijk", *(np.hanning(count) for count in inner.shape))
    power = np.abs(np.fft.fftn((inner - inner.mean()) * window)) ** 2
    k = np.stack(
        np.meshgrid(*(np.fft.fftfreq(n, d) for n, d in zip(inner.shape, (1, 1, 2), strict=True)), indexing="ij")
    )
    radius = np.linalg.norm(k, axis=0)
    power = np.where(radius > 0.05, power, 0)
    power /= power.sum()
    rings = [power[(radius >= r / 20) & (radius < (r + 1) / 20)].sum() for r in range(1, 9)]
    directions = np.linalg.eigvalsh(np.einsum("xyz,ixyz,jxyz->ij", power, k, k))
    skew = ((inner - inner.mean()) ** 3).mean() / inner.std() ** 3
    return np.array([*rings, *(directions / directions.sum()), skew])


def test_texture_tells_the_class_and_brightness_does_not(folder: Path) -> None:
    table = read_table(folder)
    # As the network sees them.
    data = load_images(table.items, ImageGeometry((32, 32, 16), 3, (1, 1, 2)))
    volumes, labels = data.store[:, 0].numpy().astype(float), data.labels.numpy()
    # Two scans of a lesion would make both look easier than they are.
    first = [i for i, item in enumerate(table.items) if item["group"] not in data.groups[:i]]
    histograms = np.array([np.histogram(volumes[i], 16, (0, 255))[0] for i in first])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.3))
    by_brightness = cross_val_score(model, histograms, labels[first], cv=5).mean()
    by_texture = cross_val_score(model, np.array([statistics(volumes[i]) for i in first]), labels[first], cv=5).mean()
    print(by_brightness, by_texture)
    assert by_brightness < 0.4
    assert by_texture > by_brightness + 0.2


def test_the_same_lesion_of_another_texture_has_the_same_histogram() -> None:
    for lesion in range(4):
        values = [np.sort(draw_volume(texture, lesion=lesion).get_fdata().ravel()) for texture in VOLUME_TEXTURES]
        # Noise of 15 HU falls on other voxels, and at the rim the lesion is transparent.
        quantiles = np.array([one[100:-100:200] for one in values])
        assert np.ptp(quantiles, axis=0).max() < 12
        assert np.ptp(quantiles[0]) > 100
