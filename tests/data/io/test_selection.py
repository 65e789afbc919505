# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files with several frames, channels or points in time, and files that are too large: each message names a fix."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np
import pytest
import tifffile
from dicom_files import CT, write_dicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid
from tiff_files import BLACK_IS_ZERO, write_tiff

from monai_fgssl.data.io.geometry import ImageGeometry
from monai_fgssl.data.io.reader import read_medical_image
from monai_fgssl.data.store.cached_images import ReadImaged, load_images
from monai_fgssl.utils.errors import DataError

RNG = np.random.default_rng(0)
GRAY, COLOR = RNG.integers(0, 256, (6, 8), dtype=np.uint8), RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def advice(path: Path, *arguments: Any, **options: Any) -> tuple[str, int]:
    """The setting that a refusal asks for, and the largest number that it allows; the message names the setting."""
    with pytest.raises(DataError) as caught:
        read_medical_image(path, *arguments, **options)
    found = re.search(r"(\w+)=0 to (\d+) \(--\1\)", str(caught.value))
    assert found, str(caught.value)
    return found[1], int(found[2])


def write_nifti(path: Path, values: NDArray[Any]) -> None:
    nibabel.Nifti1Image(values, np.eye(4)).to_filename(path)


def write_itk(path: Path, values: NDArray[Any]) -> None:
    # ITK's arrays have their axes the other way round.
    itk.imwrite(itk.image_from_array(np.ascontiguousarray(values.T)), str(path))


@pytest.mark.parametrize(("write", "name"), [(write_nifti, "a.nii.gz"), (write_itk, "a.nrrd"), (write_itk, "a.mha")])
@pytest.mark.parametrize("option", ["time", "channel"])
def test_a_fourth_axis_is_chosen_from(write: Callable, name: str, option: str, tmp_path: Path) -> None:
    values = RNG.normal(size=(5, 4, 3, 6)).astype(np.float32)
    write(tmp_path / name, values)
    setting, last = advice(tmp_path / name, 3, channels=1)
    assert setting in ("time", "channel")
    assert last == 5
    # The same place for all kinds of files, which differ in the signs of their axes.
    whole = read_medical_image(tmp_path / name, 3, **{option: 0}).numpy()
    assert np.array_equal(np.abs(whole[0]), np.abs(values[..., 0]))
    for number in range(6):
        volume = read_medical_image(tmp_path / name, 3, channels=1, **{option: number})
        assert np.array_equal(volume.numpy()[0], values[..., number])
    with pytest.raises(DataError, match=f"has no {option}=6: its .* are 0 to 5"):
        read_medical_image(tmp_path / name, 3, channels=1, **{option: 6})


def test_times_and_channels_of_nifti(tmp_path: Path) -> None:
    values = RNG.normal(size=(5, 4, 3, 2, 4)).astype(np.float32)
    write_nifti(tmp_path / "a.nii", values)
    assert advice(tmp_path / "a.nii", 3) == ("time", 1)
    assert advice(tmp_path / "a.nii", 3, channels=1, time=1) == ("channel", 3)
    volume = read_medical_image(tmp_path / "a.nii", 3, channels=1, time=1, channel=2)
    assert np.array_equal(volume.numpy()[0], values[:, :, :, 1, 2])


def test_a_slice_with_channels_that_are_no_colors(tmp_path: Path) -> None:
    values = RNG.random((8, 6, 3, 4)).astype(np.float32)
    write_nifti(tmp_path / "a.nii", values)
    assert advice(tmp_path / "a.nii") == ("frame", 2)
    assert advice(tmp_path / "a.nii", frame=1) == ("channel", 3)
    picture = read_medical_image(tmp_path / "a.nii", frame=1, channel=3)
    assert np.array_equal(picture.numpy()[0], values[:, :, 1, 3].T)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.dcm", "a.nii"])
def test_a_channel_of_a_color_picture(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "a.dcm":
        write_dicom(path, COLOR)
    elif name == "a.nii":
        write_nifti(path, COLOR.transpose(1, 0, 2)[:, :, None])
    else:
        Image.fromarray(COLOR).save(path)
    for channel in range(3):
        picture = read_medical_image(path, channel=channel)
        assert np.array_equal(np.rint(255 * picture.numpy()[0]), COLOR[..., channel])
        assert read_medical_image(path, channel=channel, channels=3).shape == (3, 6, 8)
    with pytest.raises(DataError, match=r"has no channel=3: its channels are 0 to 2"):
        read_medical_image(path, channel=3)


def test_gray_is_three_equal_channels(tmp_path: Path) -> None:
    """The same picture gives the same array, whichever way it is stored."""
    Image.fromarray(GRAY).save(tmp_path / "gray.png")
    Image.fromarray(np.stack([GRAY] * 3, -1)).save(tmp_path / "color.png")
    gray, color = (read_medical_image(tmp_path / f"{name}.png", channel=1).numpy() for name in ("gray", "color"))
    assert np.array_equal(gray, color)


def test_channels_of_a_tiff_that_nothing_explains(tmp_path: Path) -> None:
    samples = RNG.integers(0, 256, (6, 8, 4), dtype=np.uint8)
    write_tiff(tmp_path / "a.tif", [samples], photometric=BLACK_IS_ZERO)
    assert advice(tmp_path / "a.tif") == ("channel", 3)
    for channel in range(4):
        picture = read_medical_image(tmp_path / "a.tif", channel=channel).numpy()
        assert np.array_equal(np.rint(255 * picture[0]), samples[..., channel])


@pytest.mark.parametrize("kind", ["ImageJ", "OME", "tifffile"])
def test_stacks_of_several_channels_and_times(kind: str, tmp_path: Path) -> None:
    stack = RNG.integers(0, 256, (2, 5, 3, 6, 8), dtype=np.uint8)
    path = tmp_path / ("a.ome.tif" if kind == "OME" else "a.tif")
    options: dict[str, Any] = {"metadata": {"axes": "TZCYX"}, "photometric": "minisblack"}
    tifffile.imwrite(path, stack, imagej=kind == "ImageJ", **options)
    assert advice(path, 3) == ("time", 1)
    assert advice(path, 3, time=0) == ("channel", 2)
    for time in range(2):
        for channel in range(3):
            volume = read_medical_image(path, 3, time=time, channel=channel).numpy()
            assert np.array_equal(volume[0], stack[time, :, channel].transpose(2, 1, 0))
    # As pictures they are pages.
    assert advice(path) == ("frame", 29)


@pytest.mark.parametrize("order", ["ZCTYX", "CTZYX"])
def test_planes_of_ome_in_another_order(order: str, tmp_path: Path) -> None:
    stack = RNG.integers(0, 256, (2, 3, 4, 6, 8), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", stack, metadata={"axes": order}, photometric="minisblack")
    sizes = dict(zip(order, stack.shape, strict=True))
    volume = read_medical_image(tmp_path / "a.ome.tif", 3, time=sizes["T"] - 1, channel=sizes["C"] - 1).numpy()
    expected = stack[tuple(slice(None) if axis in "ZYX" else -1 for axis in order)]
    assert np.array_equal(volume[0], expected.transpose(2, 1, 0))


def test_pages_along_axes_without_a_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 5, 6, 8), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=r"has pages along several axes \(2 x 5\), and nothing tells which are slices"):
        read_medical_image(tmp_path / "a.tif", 3)
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((5, 6, 8), np.uint8), photometric="minisblack")
    assert read_medical_image(tmp_path / "b.tif", 3).shape == (1, 8, 6, 5)


def test_a_dicom_series_with_several_times(tmp_path: Path) -> None:
    stack = RNG.integers(0, 1000, (3, 4, 6, 8), dtype=np.uint16)
    series = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid(), "sop_class": CT}
    for number, (time, place) in enumerate((time, place) for time in range(3) for place in range(4)):
        write_dicom(
            tmp_path / f"IM{RNG.integers(10**9)}",
            stack[time, place],
            ImagePositionPatient=[0, 0, 2 * place],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            PixelSpacing=[1, 1],
            InstanceNumber=number + 1,
            **series,
        )
    assert advice(tmp_path, 3) == ("time", 2)
    for time in range(3):
        volume = read_medical_image(tmp_path, 3, time=time)
        assert np.array_equal(volume.numpy()[0], stack[time].transpose(2, 1, 0))
        assert len(volume.meta["SOPInstanceUID"].split("\\")) == 4
    # One place lost a time: which belong together is not known.
    next(tmp_path.iterdir()).unlink()
    with pytest.raises(DataError, match="not the same number in every place"):
        read_medical_image(tmp_path, 3, time=0)


def test_time_0_of_a_file_without_times(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    assert read_medical_image(tmp_path / "a.png", time=0).shape == (1, 6, 8)
    with pytest.raises(DataError, match="has no time=1: it has time=0 only"):
        read_medical_image(tmp_path / "a.png", time=1)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.dcm", "deflated.dcm", "a.nii.gz", "a.nrrd", "a.mha"])
def test_the_limit_is_named_with_a_number_that_helps(name: str, tmp_path: Path) -> None:
    path, pixels = tmp_path / name, RNG.integers(0, 256, (60, 80), dtype=np.uint8)
    if name == "deflated.dcm":
        write_dicom(path, pixels, DeflatedExplicitVRLittleEndian)
    elif name == "a.dcm":
        write_dicom(path, pixels)
    elif name in ("a.nrrd", "a.mha"):
        write_itk(path, pixels.T)
    elif name == "a.nii.gz":
        write_nifti(path, pixels.T[..., None])
    else:
        Image.fromarray(pixels).save(path)
    expected = read_medical_image(path).numpy()
    limit = 100
    # The number may grow once: a file that unpacks to much is refused before its header is read.
    while limit < 40_000:
        try:
            image = read_medical_image(path, max_pixels=limit)
        except DataError as error:
            message = str(error)
        else:
            break
        found = re.search(r"give max_pixels=(\d+) \(--max_pixels\)", message)
        assert found, message
        assert int(found[1]) > limit
        limit = int(found[1])
    assert np.array_equal(image.numpy(), expected)
    assert limit > 100


def test_a_picture_beyond_the_limit_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_medical_image(tmp_path / "a.png").shape == (1, 6, 8)


@pytest.mark.parametrize(
    "options", [{"frame": -1}, {"channel": 1.0}, {"time": True}, {"max_pixels": 0}, {"spatial_dims": 3, "frame": 0}]
)
def test_options_without_such_a_value(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{list(options)[-1]} "):
        read_medical_image("none.png", **options)


def test_all_frames_are_images(tmp_path: Path) -> None:
    frames = RNG.integers(0, 256, (3, 6, 8), dtype=np.uint8)
    images = [Image.fromarray(frame) for frame in frames]
    images[0].save(tmp_path / "scan.tif", save_all=True, append_images=images[1:])
    images[0].save(tmp_path / "one.png")
    write_dicom(tmp_path / "loop.dcm", frames, NumberOfFrames=3)
    write_nifti(tmp_path / "ct.nii", frames.transpose(2, 1, 0))
    (tmp_path / "broken.png").write_bytes(b"nothing")
    files = ["scan.tif", "one.png", "loop.dcm", "ct.nii", "broken.png"]
    items = [{"image": str(tmp_path / name), "name": name, "label": 1, "group": name} for name in files]

    geometry = ImageGeometry((6, 8), frame="all")
    split = geometry.split_frames(items)
    several = [f"{name}#{number}" for name in ("scan.tif", "loop.dcm", "ct.nii") for number in range(3)]
    assert sorted(item["name"] for item in split) == sorted([*several, "one.png", "broken.png"])
    assert {item["group"] for item in split} == set(files)
    readable = [item for item in split if item["name"] != "broken.png"]
    loaded = load_images(readable, geometry)
    for item, image in zip(readable, loaded.store, strict=True):
        expected = frames[item.get("frame", 0)]
        assert np.array_equal(image.numpy(), np.stack([expected] * 3))
        read = ReadImaged("image", geometry)(item)["image"]
        assert np.array_equal(np.rint(255 * read.numpy()), image.numpy())
    assert ImageGeometry((6, 8)).split_frames(items) == items
