# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Volumes as the network sees them, against nibabel and SciPy, and the same from every kind of file."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from dicom_files import CT, write_dicom
from monai.data import MetaTensor
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from scipy.ndimage import affine_transform, gaussian_filter

from monai_fgssl.data import (
    DataError,
    ImageGeometry,
    ReadImaged,
    SplitPlan,
    fit_volume,
    list_images,
    load_images,
    load_test_images,
    prepare_data,
    read_image,
    read_medical_image,
    read_volume,
)


def smooth_values(shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(size=shape)
    return (1000 * gaussian_filter(noise, 2)).astype(np.float32)


def turned_affine(code: str, spacing: tuple[float, ...], angle: float = 0.0) -> NDArray[np.float64]:
    """Affine of axes in a named order, turned a little about the long axis of the body."""
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(code), (1, 1, 1))
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = turn @ affine @ np.diag([*spacing, 1])
    affine[:3, 3] = [12, -30, 45]
    return affine


@pytest.mark.parametrize("code", ["RAS", "LPS", "PSR", "IRA"])
@pytest.mark.parametrize("angle", [0.0, 0.2])
def test_resampled_values_are_those_of_scipy_at_the_same_places(code: str, angle: float) -> None:
    values = smooth_values((30, 22, 26))
    affine = turned_affine(code, (1.3, 0.9, 2.1), angle)
    # Finer than the file everywhere, so that nothing is smoothed, and inside it, so that nothing is filled.
    volume = fit_volume(MetaTensor(torch.from_numpy(values)[None], torch.from_numpy(affine)), (16, 14, 12), 0.8)
    assert volume.shape == (1, 16, 14, 12)
    result = volume.affine.numpy()
    assert nib.aff2axcodes(result) == ("R", "A", "S")
    assert np.allclose(nib.affines.voxel_sizes(result), 0.8)
    to_file = np.linalg.inv(affine) @ result
    expected = affine_transform(values, to_file[:3, :3], to_file[:3, 3], (16, 14, 12), order=1, mode="nearest")
    np.testing.assert_allclose(volume[0].numpy(), expected, atol=0.5)
    # Around the middle of the file.
    middle = affine @ [*(np.array(values.shape) - 1) / 2, 1]
    assert np.abs(result @ [7.5, 6.5, 5.5, 1] - middle)[:3].max() < 1.7


def test_a_ramp_in_mm_stays_one_whatever_the_file_looks_like() -> None:
    affine = turned_affine("LSP", (0.5, 2.0, 1.0))
    index = np.stack(np.meshgrid(*map(np.arange, (60, 14, 32)), indexing="ij")).astype(float)
    position = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3, None, None, None]
    for axis, spacing in enumerate((1.0, 1.5, 2.0)):
        ramp = torch.from_numpy(position[axis].astype(np.float32))[None]
        # Coarser than the file: a ramp has no detail that smoothing could take away.
        volume = fit_volume(MetaTensor(ramp, torch.from_numpy(affine)), 8, (1.0, 1.5, 2.0))
        steps = np.diff(volume[0].numpy(), axis=axis)
        np.testing.assert_allclose(steps, spacing, rtol=1e-3)


def test_what_a_coarse_grid_cannot_show_is_no_pattern() -> None:
    stripes = torch.zeros(1, 64, 64, 16)
    stripes[:, ::2] = 100
    for spacing in ((3.2, 1, 1), None):
        volume = fit_volume(MetaTensor(stripes, torch.eye(4)), (16, 64, 16), spacing)
        # Point sampling would give 0 to 100.
        assert (volume - 50).abs().max() < 8


def test_what_is_missing_is_filled_with_the_edge() -> None:
    volume = fit_volume(MetaTensor(torch.full((1, 4, 4, 4), -1000.0), torch.eye(4)), (12, 6, 4), (1, 1, 1))
    assert volume.shape == (1, 12, 6, 4)
    assert (volume == -1000).all()


def test_without_a_spacing_the_whole_volume_is_scaled() -> None:
    values = smooth_values((20, 24, 10))
    affine = np.diag([1, 1, 2.5, 1.0])
    volume = fit_volume(MetaTensor(torch.from_numpy(values)[None], torch.from_numpy(affine)), (40, 48, 20))
    # Edges stay edges: the voxel size halves.
    assert np.allclose(nib.affines.voxel_sizes(volume.affine.numpy()), (0.5, 0.5, 1.25))
    expected = affine_transform(values, np.diag([0.5] * 3), [-0.25] * 3, (40, 48, 20), order=1, mode="nearest")
    np.testing.assert_allclose(volume[0].numpy(), expected, atol=0.5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One volume as a series with names in no order, as NIfTI in its axes, and as NIfTI in others."""
    folder = tmp_path_factory.mktemp("files")
    values = smooth_values((24, 20, 9)).round().astype(np.int16)
    series = {key: generate_uid() for key in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")}
    (folder / "series").mkdir()
    for number, z in enumerate(np.random.default_rng(0).permutation(9)):
        write_dicom(
            folder / "series" / f"IM{number}.dcm",
            np.ascontiguousarray(values[:, :, z].T),
            sop_class=CT,
            **series,
            ImagePositionPatient=["-10", "5", f"{2.5 * z:g}"],
            ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
            PixelSpacing=["0.8", "0.9"],
            RescaleSlope=1,
            RescaleIntercept=0,
        )
    # DICOM's axes point to the left and to the back.
    affine = np.diag([-0.9, -0.8, 2.5, 1])
    affine[:3, 3] = [10, -5, 0]
    image = nib.Nifti1Image(values, affine)
    nib.save(image, folder / "same.nii.gz")
    to_ras = nib.as_closest_canonical(image)
    nib.save(to_ras, folder / "ras.nii")
    return {"series": folder / "series", "nifti": folder / "same.nii.gz", "ras": folder / "ras.nii"}


@pytest.mark.parametrize("spacing", [None, (1, 1, 2), 0.7])
@pytest.mark.parametrize("window", [None, (100, 900)])
def test_the_same_input_from_dicom_and_nifti(files: dict[str, Path], spacing: object, window: object) -> None:
    volumes = [read_volume(path, (16, 16, 8), spacing, window) for path in files.values()]
    assert volumes[0].dtype == torch.uint8
    assert volumes[0].shape == (1, 16, 16, 8)
    assert volumes[0].float().std() > 10
    for volume in volumes[1:]:
        # The affine of a series is a sum of decimals: at most the last bit of a byte is another.
        assert (volume.int() - volumes[0].int()).abs().max() <= 1


def test_brightness(files: dict[str, Path]) -> None:
    raw = nib.load(files["ras"]).get_fdata()
    whole = raw.shape
    shown = read_volume(files["ras"], whole, None, (100, 901)).numpy()[0] / 255
    # DICOM PS3.3, C.11.2.1.2.1.
    np.testing.assert_allclose(shown, np.clip((raw - 99.5) / 900 + 0.5, 0, 1), atol=0.6 / 255)
    low, high = np.percentile(raw, (0.5, 99.5))
    shown = read_volume(files["ras"], whole).numpy()[0] / 255
    np.testing.assert_allclose(shown, np.clip((raw - low) / (high - low), 0, 1), atol=1 / 255)


def test_cache_and_inference_see_the_same(files: dict[str, Path]) -> None:
    items = [{"image": str(path), "name": name, "label": 0, "group": name} for name, path in files.items()]
    options = {"spatial_dims": 3, "spacing": (1, 1, 2), "window": (0, 800)}
    geometry = ImageGeometry((16, 16, 8), **options)
    cached = load_images(items, geometry)
    assert cached.store.shape == (3, 1, 16, 16, 8)
    read = ReadImaged("image", geometry)
    for item, image in zip(items, cached.store, strict=True):
        assert torch.equal(read(item)["image"], image.float() / 255)
        assert torch.equal(read_image(item["image"], (16, 16, 8), **options), image)


def test_no_volume(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(files["nifti"].read_bytes()[:300])
    with pytest.raises(DataError, match=r"broken\.nii\.gz"):
        read_volume(tmp_path / "broken.nii.gz", 8)
    items = [{"image": str(tmp_path / "none.nii"), "name": "none", "label": 0, "group": "none"}]
    with pytest.raises(DataError, match=r"1 of 1 images can't be read.*\n.*none\.nii"):
        load_images(items, ImageGeometry(8, 3))


def test_a_series_is_one_image(files: dict[str, Path], tmp_path: Path) -> None:
    study = tmp_path / "study"
    (study / "head").mkdir(parents=True)
    for path in files["series"].iterdir():
        (study / "head" / path.stem).write_bytes(path.read_bytes())
    for name in ("a.nii.gz", "notes.txt"):
        (study / name).touch()
    alone = sorted(files["series"].iterdir())[0]
    (study / "alone").write_bytes(alone.read_bytes())
    expected = [("a.nii.gz", "a"), ("alone", "alone"), ("head", "head")]
    assert list_images(study, 3) == [{"image": str(study / path), "name": name} for path, name in expected]
    assert list_images(study / "head", 3) == [{"image": str(study / "head"), "name": "head"}]
    # As pictures they are one each.
    assert len(list_images(study)) == 11


def test_a_series_with_a_broken_file_is_one_image_that_fails(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    for path in files["series"].iterdir():
        (tmp_path / "head" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "head" / "IM3.dcm").write_bytes(b"broken")
    assert [item["name"] for item in list_images(tmp_path, 3)] == ["head"]
    with pytest.raises(DataError, match=r"head has IM3\.dcm, which is not a DICOM file"):
        read_volume(tmp_path / "head", 8)


def test_a_data_set_of_series_and_files(files: dict[str, Path], tmp_path: Path) -> None:
    for number in range(12):
        values = smooth_values((12, 12, 6), number)
        nib.save(nib.Nifti1Image(values, np.diag([1, 1, 2, 1.0])), tmp_path / f"v{number}.nii.gz")
    rows = [f"v{number}.nii.gz,{'ab'[number % 2]},{number // 2 * 2 + number % 2}" for number in range(12)]
    rows.append(f"{files['series']},a,series")
    (tmp_path / "list.csv").write_text("\n".join(["image,label,patient", *rows]))
    fractions = {"train": 0.5, "validation": 0.25, "test": 0.25}
    split_file = tmp_path / "run" / "split.json"
    geometry = ImageGeometry((8, 8, 4), 3, spacing=(1, 1, 2))
    data = prepare_data(tmp_path / "list.csv", geometry, SplitPlan(fractions), split_file)
    parts = (data.train, data.validation, data.test)
    assert sum(map(len, parts)) == 13
    assert all(part[0]["image"].shape == (1, 8, 8, 4) for part in parts)
    tested = load_test_images(tmp_path / "list.csv", None, split_file, data.class_names, geometry)
    everything = range(len(data.test))
    assert torch.equal(tested[everything]["image"], data.test[everything]["image"])
    assert not (tmp_path / "run" / "duplicates.csv").exists()


def test_cifti_is_not_supported_rather_than_damaged(tmp_path: Path) -> None:
    rows = nib.cifti2.SeriesAxis(0, 1, 2)
    columns = nib.cifti2.BrainModelAxis.from_surface([0, 1, 2], 9, "CortexLeft")
    nib.Cifti2Image(np.zeros((2, 3), np.float32), (rows, columns)).to_filename(tmp_path / "a.dtseries.nii")
    for dims in (2, 3):
        with pytest.raises(DataError, match=r"a.dtseries.nii is Cifti2, which is not supported: save it as NIfTI."):
            read_medical_image(tmp_path / "a.dtseries.nii", dims)


def test_a_tiff_tells_no_distances(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.arange(512, dtype=np.uint8).reshape(8, 8, 8), photometric="minisblack")
    read_volume(tmp_path / "a.tif", 8)
    assert not caplog.records
    read_volume(tmp_path / "a.tif", 8, spacing=1)
    assert "a.tif is a TIFF, whose voxels are taken for 1 mm" in caplog.text


def test_what_nibabel_corrects_is_told_once_with_the_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "scan.nii"
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.float32), np.eye(4))
    nib.save(image, path)
    header = nib.Nifti1Header(path.read_bytes()[:348])
    header["pixdim"][1] = -1
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    read_medical_image(path, 3)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("nibabel")]
    assert told == [f"{path}: pixdim[1,2,3] should be positive; setting to abs of pixdim values"]
