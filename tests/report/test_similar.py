# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Nearest images against scikit-learn's neighbors, and the files of the results."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from monai_fgssl.data import ImageGeometry
from monai_fgssl.engines import Embeddings
from monai_fgssl.report import find_similar, write_similar
from monai_fgssl.utils.errors import DataError


def make_embeddings(paths: list[str], seed: int) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(paths), 6, generator=generator) * torch.logspace(-2, 2, 6) + 3
    return Embeddings(tuple(Path(path).stem for path in paths), tuple(paths), (None,) * len(paths), features, (6,))


def test_neighbors_are_those_of_scikit_learn() -> None:
    collection = make_embeddings([f"folder/{i}.png" for i in range(40)], seed=0)
    query = make_embeddings(["elsewhere/q.png"], seed=1)
    scaler = StandardScaler().fit(collection.features.double().numpy())
    expected = NearestNeighbors(n_neighbors=7, metric="cosine").fit(scaler.transform(collection.features))
    distances, indices = expected.kneighbors(scaler.transform(query.features))
    found = find_similar(query, collection, 7)
    assert [one.name for one in found] == [str(i) for i in indices[0]]
    np.testing.assert_allclose([one.similarity for one in found], 1 - distances[0], atol=1e-4)


def test_an_image_of_the_collection_is_not_its_own_neighbor() -> None:
    collection = make_embeddings([f"folder/{i}.png" for i in range(5)], seed=0)
    query = Embeddings(("x",), ("folder/../folder/3.png",), (None,), collection.features[3:4], (6,))
    found = find_similar(query, collection, 9)
    assert sorted(one.name for one in found) == ["0", "1", "2", "4"]
    similarities = [one.similarity for one in found]
    assert similarities == sorted(similarities, reverse=True)


def test_nothing_to_compare_is_one_line() -> None:
    collection, query = make_embeddings(["a.png"], 0), make_embeddings(["a.png"], 0)
    with pytest.raises(DataError, match="no other image"):
        find_similar(query, collection, 3)
    broken = Embeddings((), (), (), torch.empty(0, 6), (6,), (("q", "q.png is no picture"),))
    with pytest.raises(DataError, match=r"q\.png is no picture"):
        find_similar(broken, collection, 3)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_table_and_picture(spatial_dims: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for i in range(4):
        if spatial_dims == 2:
            paths.append(str(tmp_path / f"{i}.png"))
            Image.fromarray(rng.integers(0, 256, (30 + i, 40, 3), dtype=np.uint8)).save(paths[-1])
        else:
            import nibabel

            paths.append(str(tmp_path / f"$odd_{i}$.nii.gz"))
            nibabel.save(nibabel.Nifti1Image(rng.normal(size=(12, 10, 8)).astype(np.float32), np.eye(4)), paths[-1])
    everything = make_embeddings(paths, seed=0)
    query = Embeddings(everything.names[:1], everything.paths[:1], (None,), everything.features[:1], (6,))
    geometry = ImageGeometry(16, spatial_dims)
    found = write_similar(query, everything, 2, tmp_path / "out", geometry)
    with open(tmp_path / "out" / "similar.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["rank"], row["image"], row["path"]) for row in rows] == [
        (str(rank), one.name, one.path) for rank, one in enumerate(found, start=1)
    ]
    assert [float(row["similarity"]) for row in rows] == pytest.approx([one.similarity for one in found], abs=1e-6)
    printed = capsys.readouterr().out
    assert all(one.name in printed for one in found)
    with Image.open(tmp_path / "out" / "similar.png") as picture:
        # Three panels side by side.
        assert picture.width > 1.5 * picture.height
        assert np.asarray(picture.convert("L")).std() > 10
