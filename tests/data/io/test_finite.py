# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Values that are not finite numbers never reach a network."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from monai_fgssl.data import DataError, read_image, read_medical_image
from monai_fgssl.data.io.display import StoredImage
from monai_fgssl.data.io.finite import check_affine, replace_not_finite

NOT_NUMBERS = [np.nan, np.inf, -np.inf]


def volume(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nib.save(nib.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize("value", NOT_NUMBERS)
@pytest.mark.parametrize("options", [{}, {"spacing": 1.5}, {"window": (100.0, 200.0)}])
def test_a_defect_changes_little(
    value: float, options: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.random.default_rng(0).normal(100, 20, (20, 20, 20)).astype(np.float32)
    expected = read_image(volume(tmp_path / "whole.nii", values), 16, 3, **options)
    values[10, 10, 10] = value
    found = read_image(volume(tmp_path / "defect.nii", values), 16, 3, **options)
    assert (found != expected).float().mean() < 0.05
    (record,) = caplog.records
    assert f"{tmp_path / 'defect.nii'} has 1 values that are NaN or infinite" in record.message


def test_what_lies_outside_of_a_scan_is_black(tmp_path: Path) -> None:
    values = np.full((16, 16, 16), np.nan, dtype=np.float32)
    values[4:12, 4:12, 4:12] = np.random.default_rng(0).uniform(50, 100, (8, 8, 8))
    found = read_medical_image(volume(tmp_path / "masked.nii", values), spatial_dims=3)
    assert (found[0].numpy()[np.isnan(values)] == np.nanmin(values)).all()


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_nothing_but_no_numbers_is_refused(value: float, tmp_path: Path) -> None:
    path = volume(tmp_path / "empty.nii", np.full((8, 8, 8), value, dtype=np.float32))
    with pytest.raises(DataError, match=r"empty\.nii has no value that is a number"):
        read_medical_image(path, spatial_dims=3)


@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_a_picture_of_floats_with_a_defect(value: float, tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    values[5, 5] = value
    Image.fromarray(values).save(tmp_path / "picture.tif")
    found = read_medical_image(tmp_path / "picture.tif")[0].numpy()
    values[5, 5] = found[5, 5]
    assert found[5, 5] in (values[4, 5], values[5, 4], values[6, 5], values[5, 6])
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("rows", [np.zeros((3, 3)), np.array([[1, 1, 0], [0, 0, 0], [0, 0, 1]])])
def test_a_volume_without_positions_is_refused(rows: np.ndarray, tmp_path: Path) -> None:
    path = volume(tmp_path / "flat.nii", np.ones((8, 8, 8), dtype=np.float32))
    header = bytearray(path.read_bytes())
    header[252:256] = np.array([0, 2], dtype="<i2").tobytes()
    header[280:328] = np.concatenate([rows, np.zeros((3, 1))], axis=1).astype("<f4").tobytes()
    path.write_bytes(header)
    with pytest.raises(DataError, match=r"flat\.nii has an affine that gives its voxels no positions"):
        read_medical_image(path, spatial_dims=3)


def test_positions_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="no positions"):
        check_affine(StoredImage(np.ones((1, 2, 2, 2)), np.diag([np.nan, 1, 1, 1]), None))
    # Voxels of any size, and axes that are not at right angles, are fine.
    sheared = np.diag([1e-4, 1.0, 50.0, 1.0])
    sheared[0, 1] = 0.3
    check_affine(StoredImage(np.ones((1, 2, 2, 2)), sheared, None))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from([*NOT_NUMBERS, 0.0, 1.0, -3.5]), min_size=1, max_size=60),
    st.sampled_from([np.float32, np.float64]),
)
def test_all_values_are_finite_and_numbers_stay(values: list[float], dtype: type) -> None:
    stored = np.array(values, dtype=dtype).reshape(1, 1, -1)
    image = StoredImage(stored.copy(), np.eye(4), None)
    if not np.isfinite(stored).any():
        with pytest.raises(DataError, match="no value that is a number"):
            replace_not_finite(image, "file")
        return
    replace_not_finite(image, "file")
    finite = np.isfinite(stored)
    assert np.isfinite(image.values).all()
    np.testing.assert_array_equal(image.values[finite], stored[finite])
    assert set(image.values.ravel()) <= set(stored[finite])


@pytest.mark.parametrize("value", [1e300, -1e39])
def test_values_beyond_the_range_of_float32_are_refused(value: float, tmp_path: Path) -> None:
    values = np.linspace(0, 1, 6 * 5 * 4).reshape(6, 5, 4)
    values[0, 0, 0] = value
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"a.nii has values that are too large for 32-bit floats"):
        read_medical_image(tmp_path / "a.nii", 3)
