# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic lesions: nothing but the texture tells the classes apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from monai_fgssl.data import DataError, make_synthetic_lesions, read_isic2018
from monai_fgssl.data.synthetic import TEXTURES, draw_lesion


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


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="has other files"):
        make_synthetic_lesions(tmp_path, num_images=10, image_size=8)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def spectrum(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Energy by frequency and strength of orientation of the middle of a lesion: what a texture is, not its colour."""
    grey = image[16:48, 16:48].mean(2)
    power = np.abs(np.fft.fft2((grey - grey.mean()) * np.outer(np.hanning(32), np.hanning(32)))) ** 2
    power /= power.sum()
    y, x = np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32), indexing="ij")
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    rings = [power[(radius >= r / 64) & (radius < (r + 2) / 64)].sum() for r in range(1, 24, 2)]
    gradient_x, gradient_y = np.gradient(grey)
    skew = [((g - g.mean()) ** 3).mean() / g.std() ** 3 for g in (grey, np.hypot(gradient_x, gradient_y))]
    orientation = [abs((power * np.exp(2j * order * angle)).sum()) for order in (1, 2, 3)]
    return np.array([*rings, *skew, *orientation])


def test_texture_tells_the_class_and_colour_does_not() -> None:
    textures = list(TEXTURES)
    labels = np.arange(350) % len(textures)
    images = [draw_lesion(textures[label], 64, lesion=lesion) for lesion, label in enumerate(labels)]
    histograms = np.array(
        [np.concatenate([np.histogram(i[..., c], 16, (0, 255))[0] for c in range(3)]) for i in images]
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    by_colour = cross_val_score(model, histograms, labels, cv=5).mean()
    by_texture = cross_val_score(model, np.array([spectrum(i) for i in images]), labels, cv=5).mean()
    assert by_colour < 0.3
    assert by_texture > by_colour + 0.15
