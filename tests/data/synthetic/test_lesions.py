# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic lesions: only the texture differs between the classes."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_fgssl.data import DataError, make_synthetic_lesions, read_isic2018
from monai_fgssl.data.synthetic.lesions import TEXTURES, draw_lesion


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_same_seed_same_files_and_a_second_call_changes_nothing(tmp_path: Path) -> None:
    first, second, other = (
        make_synthetic_lesions(tmp_path / name, num_images=20, image_size=16, seed=seed)
        for name, seed in (("first", 1), ("second", 1), ("other", 2))
    )
    assert digest(first) == digest(second) != digest(other)
    times = [path.stat().st_mtime_ns for path in sorted(first.rglob("*"))]
    make_synthetic_lesions(first, num_images=20, image_size=16, seed=1)
    assert [path.stat().st_mtime_ns for path in sorted(first.rglob("*"))] == times


def test_classes_are_balanced_and_lesions_repeat(tmp_path: Path) -> None:
    table = read_isic2018(make_synthetic_lesions(tmp_path / "data", num_images=350, image_size=8))
    counts = np.bincount([item["label"] for item in table.items])
    assert table.class_names == tuple(TEXTURES)
    assert counts.min() >= 45
    assert counts.max() <= 55
    assert len({item["group"] for item in table.items}) == pytest.approx(350 * 4 / 5, abs=2)


def test_other_settings_replace_the_images(tmp_path: Path) -> None:
    folder = make_synthetic_lesions(tmp_path / "data", num_images=14, image_size=8)
    make_synthetic_lesions(folder, num_images=10, image_size=16, num_labeled=7)
    table = read_isic2018(folder)
    assert [item["label"] >= 0 for item in table.items] == [True] * 7 + [False] * 3
    assert len({item["group"] for item in table.items}) == 8
    with Image.open(table.items[0]["image"]) as image:
        assert image.size == (16, 16)
    # Nothing is left of the making.
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(DataError, match=r"num_labeled must be in 1...10 \(num_images\), got 11"):
        make_synthetic_lesions(folder, num_images=10, num_labeled=11)


def test_processes_that_start_together_make_one_data_set(tmp_path: Path) -> None:
    def make(_: int) -> Path:
        return make_synthetic_lesions(tmp_path / "data", num_images=20, image_size=16)

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(make, range(4)))
    assert len(read_isic2018(folders[0]).items) == 20
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


# Green values of 12 pixels within a lesion.
DRAWN = {
    "NETWORK": [70, 62, 109, 97, 98, 79, 50, 130, 80, 96, 124, 48],
    "COBBLESTONE": [147, 45, 67, 72, 113, 99, 151, 58, 105, 128, 57, 37],
    "GLOBULES": [117, 48, 98, 105, 92, 112, 145, 58, 92, 119, 59, 52],
    "DOTS": [63, 62, 117, 77, 101, 76, 50, 84, 112, 148, 129, 30],
    "STREAKS": [74, 62, 55, 112, 84, 111, 100, 106, 77, 54, 129, 48],
    "FINGERPRINT": [54, 51, 68, 52, 97, 110, 155, 119, 74, 73, 90, 49],
    "CRYSTALLINE": [160, 52, 58, 64, 100, 102, 100, 105, 77, 54, 130, 48],
}


def test_a_drawing_is_the_same_wherever_it_is_drawn() -> None:
    """Results on these images hold for these images only."""
    for texture, expected in DRAWN.items():
        drawn = draw_lesion(texture, 48, seed=3, lesion=2)[14:34:6, 14:38:8, 1].ravel()
        # Another version of a library may round in another way.
        assert np.abs(drawn.astype(int) - expected).max() <= 2, texture
        assert np.array_equal(draw_lesion(texture, 48, seed=3, lesion=2, photo=0)[14:34:6, 14:38:8, 1].ravel(), drawn)
        assert not np.array_equal(
            draw_lesion(texture, 48, seed=3, lesion=2, photo=1)[14:34:6, 14:38:8, 1].ravel(), drawn
        )


def test_photos_of_a_lesion_share_the_skin_but_not_the_light() -> None:
    def skin(lesion: int, photo: int) -> NDArray[np.float64]:
        """Hue of the skin in the corners: light takes from all channels alike, and hairs do not reach the median."""
        image = draw_lesion("NETWORK", lesion=lesion, photo=photo)
        corners = np.median(image[np.ix_([*range(5), *range(-5, 0)], [*range(5), *range(-5, 0)])], (0, 1))
        return corners / corners.sum()

    lesions = range(30)
    between_photos = np.std([skin(lesion, 0) - skin(lesion, 1) for lesion in lesions])
    between_lesions = np.std([skin(lesion, 0) - skin(lesion + 1, 0) for lesion in lesions])
    assert between_photos < 0.5 * between_lesions
    first, again, second = (draw_lesion("NETWORK", photo=photo).astype(int) for photo in (0, 0, 1))
    assert np.array_equal(first, again)
    assert np.abs(first - second).mean() > 5


def test_without_variation_lesions_differ_in_texture_only(tmp_path: Path) -> None:
    def spread(variation: float) -> tuple[float, float]:
        """Standard deviation over lesions: brightness of the middle, and share of dark pixels, which is the size."""
        images = [draw_lesion("NETWORK", 64, lesion=lesion, variation=variation) for lesion in range(40)]
        gray = np.array(images, dtype=float).mean(3)
        return float(gray[:, 16:48, 16:48].mean((1, 2)).std()), float((gray < 150).mean((1, 2)).std())

    (brightness, size), (same_brightness, same_size) = spread(1), spread(0)
    assert same_brightness < 0.5 * brightness
    assert same_size < 0.7 * size
    # It is a part of the record: lesions of another variation are not taken for these.
    folder = make_synthetic_lesions(tmp_path / "data", num_images=3, image_size=8)
    before = digest(folder)
    assert digest(make_synthetic_lesions(folder, num_images=3, image_size=8, variation=0.5)) != before
    assert digest(make_synthetic_lesions(folder, num_images=3, image_size=8)) == before
    with pytest.raises(DataError, match=r"variation must be in \[0, 1\], got 1.5"):
        make_synthetic_lesions(folder, num_images=3, variation=1.5)


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="has other files"):
        make_synthetic_lesions(tmp_path, num_images=10, image_size=8)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def spectrum(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Energy by frequency and strength of orientation of the middle of a lesion: what a texture is, not its color."""
    gray = image[16:48, 16:48].mean(2)
    power = np.abs(np.fft.fft2((gray - gray.mean()) * np.outer(np.hanning(32), np.hanning(32)))) ** 2
    power /= power.sum()
    y, x = np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32), indexing="ij")
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    rings = [power[(radius >= r / 64) & (radius < (r + 2) / 64)].sum() for r in range(1, 24, 2)]
    gradient_x, gradient_y = np.gradient(gray)
    skew = [((g - g.mean()) ** 3).mean() / g.std() ** 3 for g in (gray, np.hypot(gradient_x, gradient_y))]
    orientation = [abs((power * np.exp(2j * order * angle)).sum()) for order in (1, 2, 3)]
    return np.array([*rings, *skew, *orientation])


def test_texture_tells_the_class_and_color_does_not() -> None:
    textures = list(TEXTURES)
    labels = np.arange(350) % len(textures)
    images = [draw_lesion(textures[label], 64, lesion=lesion) for lesion, label in enumerate(labels)]
    histograms = np.array(
        [np.concatenate([np.histogram(i[..., c], 16, (0, 255))[0] for c in range(3)]) for i in images]
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    by_color = cross_val_score(model, histograms, labels, cv=5).mean()
    by_texture = cross_val_score(model, np.array([spectrum(i) for i in images]), labels, cv=5).mean()
    assert by_color < 0.3
    assert by_texture > by_color + 0.15
