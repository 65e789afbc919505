# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Test predictions on disk, and those of several folds together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from monai_fgssl.data import DataError
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import LogitAdjustment
from monai_fgssl.report.stored import join_stored, read_stored, write_stored

CLASSES = ["a", "ü", "c"]


def make(fold: int, count: int, seed: int = 0, adjustment: LogitAdjustment | None = None) -> PredictionCollector:
    generator = torch.Generator().manual_seed(10 * fold + seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    logits = torch.randn(count, 2, 3, generator=generator)
    # So large that probabilities are zero.
    logits[0] *= 300
    names = [f"folder/{fold} {number}" for number in range(count)]
    groups = [f"{fold} {number // 2}" for number in range(count)]
    return PredictionCollector(names, groups, [labels], [logits], temperature=1.5, adjustment=adjustment)


def test_folds_come_back_together(tmp_path: Path) -> None:
    rule = LogitAdjustment(1.0, (0.8, 0.1, 0.1))
    folds = [[make(fold, count, seed, rule) for seed in (0, 1)] for fold, count in ((0, 7), (1, 5))]
    for fold, of_seeds in enumerate(folds):
        # The labels are those of the images, so equal for all seeds.
        of_seeds[1]._labels = of_seeds[0]._labels
        write_stored(tmp_path / f"{fold}.npz", "FG-SSL", CLASSES, of_seeds)
    parts = [read_stored(tmp_path / f"{fold}.npz") for fold in (0, 1)]
    assert (parts[0].method, parts[0].class_names) == ("FG-SSL", tuple(CLASSES))
    joined = join_stored(parts)
    assert len(joined) == 2
    for seed, one in enumerate(joined):
        expected = [of_seeds[seed] for of_seeds in folds]
        assert one.names == [*expected[0].names, *expected[1].names]
        # Two images each, told by the first of them: a patient may be written by name.
        assert one.groups == [f"folder/{fold} {k - k % 2}" for fold, count in ((0, 7), (1, 5)) for k in range(count)]
        assert torch.equal(one.labels, torch.cat([part.labels for part in expected]))
        # Each fold has its own temperature and decisions; zero probabilities are no trouble.
        both = torch.cat([part.probabilities for part in expected])
        torch.testing.assert_close(one.probabilities.float(), both, rtol=1e-6, atol=1e-30)
        np.testing.assert_array_equal(one.predicted, np.concatenate([part.predicted for part in expected]))
    assert any((one.predicted != one.probabilities.argmax(1).numpy()).any() for one in joined)


def test_folds_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    for name, classes, of_seeds in (
        ("first", CLASSES, [make(0, 4)]),
        ("other classes", ["a", "b", "c"], [make(1, 4)]),
        ("more seeds", CLASSES, [make(1, 4)] * 2),
        ("same images", CLASSES, [make(0, 3)]),
    ):
        write_stored(tmp_path / f"{name}.npz", "FG-SSL", classes, of_seeds)
    first = read_stored(tmp_path / "first.npz")
    for name in ("other classes", "more seeds"):
        with pytest.raises(DataError, match="different classes or numbers of seeds"):
            join_stored([first, read_stored(tmp_path / f"{name}.npz")])
    with pytest.raises(DataError, match="an image is in the test part of two folds"):
        join_stored([first, read_stored(tmp_path / "same images.npz")])


@pytest.mark.parametrize("damage", ["missing", "cut", "text", "pickle"])
def test_damaged_files_are_named(damage: str, tmp_path: Path) -> None:
    file = tmp_path / "predictions.npz"
    if damage == "cut":
        write_stored(file, "FG-SSL", CLASSES, [make(0, 4)])
        file.write_bytes(file.read_bytes()[:300])
    elif damage == "text":
        file.write_text("no arrays")
    elif damage == "pickle":
        np.savez(file, method=np.array({"code": 1}, dtype=object))
    with pytest.raises(
        DataError, match=r"predictions\.npz can't be read as predictions of a run .* train that fold again"
    ):
        read_stored(file)
