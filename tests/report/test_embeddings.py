# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Features in files, read back by other programs' own readers."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from pyarrow import parquet

from monai_fgssl.engines import Embeddings
from monai_fgssl.report import check_formats, raise_failures, write_embeddings
from monai_fgssl.utils.errors import DataError, SettingsError


def make_embeddings(failures: tuple[tuple[str, str], ...] = ()) -> Embeddings:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, generator=generator) * torch.logspace(-6, 6, 5)
    return Embeddings(
        ("a, b", "c/ü", "d"), ("x/a, b.png", "x/c/ü.png", "x/d.png"), (None,) * 3, features, (2, 3), failures
    )


def test_all_formats_hold_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    embeddings = make_embeddings()
    files = write_embeddings(embeddings, tmp_path)
    assert [file.name for file in files] == ["embeddings.npz", "embeddings.csv", "embeddings.parquet"]
    assert "3 images, 5 features of 2 stages (2 + 3)" in capsys.readouterr().out
    expected = embeddings.features.numpy()
    with np.load(tmp_path / "embeddings.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"image", "path", "stage1", "stage2", "concat"}
        assert arrays["image"].tolist() == list(embeddings.names)
        assert arrays["path"].tolist() == list(embeddings.paths)
        assert (arrays["concat"] == expected).all()
        assert (arrays["stage1"] == expected[:, :2]).all()
        assert (arrays["stage2"] == expected[:, 2:]).all()
    with open(tmp_path / "embeddings.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "path", "stage1_0", "stage1_1", "stage2_0", "stage2_1", "stage2_2"]
    values = np.array([[float(text) for text in list(row.values())[2:]] for row in rows], dtype=np.float32)
    assert (values == expected).all()
    assert [row["image"] for row in rows] == list(embeddings.names)
    table = parquet.read_table(tmp_path / "embeddings.parquet")
    assert table.column_names == ["image", "path", "stage1", "stage2", "concat"]
    assert table["path"].to_pylist() == list(embeddings.paths)
    assert (np.array(table["concat"].to_pylist(), dtype=np.float32) == expected).all()
    assert (np.array(table["stage2"].to_pylist(), dtype=np.float32) == expected[:, 2:]).all()


def test_files_that_could_not_be_read_are_listed_and_told(tmp_path: Path) -> None:
    broken = make_embeddings((("z", "z.png is no picture"),))
    write_embeddings(broken, tmp_path, "csv")
    assert (tmp_path / "failures.csv").read_text().splitlines() == ["image,reason", "z,z.png is no picture"]
    with pytest.raises(DataError, match=r"1 images have no features.*(\n.*)*z\.png is no picture"):
        raise_failures(broken, tmp_path)
    write_embeddings(make_embeddings(), tmp_path, "csv")
    raise_failures(make_embeddings(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["embeddings.csv"]


def test_formats_are_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [file.name for file in write_embeddings(make_embeddings(), tmp_path, ["npz"])] == ["embeddings.npz"]
    assert check_formats("npz, parquet") == ["npz", "parquet"]
    with pytest.raises(SettingsError, match=r"unknown format 'hdf5', choose some of npz,csv,parquet"):
        check_formats("npz,hdf5")
    monkeypatch.setattr("monai_fgssl.report.embeddings.find_spec", lambda name: None)
    assert check_formats(None) == ["npz", "csv"]
    with pytest.raises(SettingsError, match=r"pip install 'monai-fgssl\[parquet\]'"):
        check_formats("parquet")
