# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Feature maps in the plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_fgssl.report.feature_map import embed_features, plot_feature_map

RNG = np.random.default_rng(1)
LABELS = np.repeat([0, 1, 2], 20)
# Three clusters far apart.
FEATURES = RNG.normal(size=(60, 16)) + 20 * RNG.normal(size=(3, 16))[LABELS]


def test_pca_equals_the_singular_value_decomposition() -> None:
    values = (FEATURES - FEATURES.mean(0)) / FEATURES.std(0)
    u, s, _ = np.linalg.svd(values, full_matrices=False)
    np.testing.assert_allclose(np.abs(embed_features(FEATURES, "pca")), np.abs(u[:, :2] * s[:2]), atol=1e-9)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_clusters_stay_apart_and_a_seed_gives_one_picture(method: str) -> None:
    points = embed_features(FEATURES, method)
    np.testing.assert_array_equal(points, embed_features(FEATURES, method))
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    np.testing.assert_array_equal(LABELS[distances.argmin(1)], LABELS)


def test_few_points() -> None:
    assert embed_features(FEATURES[:4]).shape == (4, 2)
    with pytest.raises(ValueError, match=r"N of at least 3, got \(2, 16\)"):
        embed_features(FEATURES[:2])
    with pytest.raises(ValueError, match="one of tsne, pca, got 'umap'"):
        embed_features(FEATURES, "umap")


def test_figure_has_a_panel_for_each_step_and_state(tmp_path: Path) -> None:
    states = {"before": RNG.normal(size=(60, 4, 16)), "after": np.repeat(FEATURES[:, None], 4, axis=1)}
    figure = plot_feature_map(states, LABELS, ["a", "b", "c"], method="pca", path=tmp_path / "map.png")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == [f"{state}: {step}" for state in states for step in ("stage1", "stage2", "stage3", "concat")]
    drawn = np.concatenate([points.get_offsets() for points in figure.axes[4].collections])
    np.testing.assert_allclose(drawn, embed_features(FEATURES, "pca"))
    assert (tmp_path / "map.png").stat().st_size > 10_000


def test_classes_differ_in_shape_too() -> None:
    """Some readers see few differences of color."""
    classes = 20
    vectors = {"now": RNG.normal(size=(60, 1, 16))}
    figure = plot_feature_map(vectors, np.arange(60) % classes, [str(label) for label in range(classes)], "pca")
    looks = [
        (collection.get_facecolor().tobytes(), collection.get_paths()[0].vertices.tobytes())
        for collection in figure.axes[0].collections
    ]
    assert len(looks) == classes
    assert len(set(looks)) == classes
    assert len({shape for _, shape in looks[:8]}) == 8
