# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import itk
import numpy as np
import pydicom
import pytest
import torch
from dicom_files import CT, PATIENT, sequence_item, write_dicom
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, Orientationd, Spacingd
from numpy.typing import NDArray
from pydicom.dataset import Dataset as DicomDataset
from pydicom.uid import generate_uid

from monai_fgssl.data.io.reader import read_medical_image
from monai_fgssl.data.io.transform import LoadMedicalImaged
from monai_fgssl.utils.errors import DataError

ROWS, COLUMNS, SLICES = 7, 9, 6


def turned(seed: int) -> NDArray[np.float64]:
    """Random directions of rows, columns and slices: the rows of a rotation."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def decimals(values: NDArray[np.float64]) -> list[str]:
    return [f"{value:.9g}" for value in values]


def write_series(
    folder: Path,
    directions: NDArray[np.float64],
    step: NDArray[np.float64] | None = None,
    places: list[int] | None = None,
    **attributes: Any,
) -> NDArray[np.int16]:
    """Write slices whose values tell where they are, with file names and Instance Numbers in no order.

    Args:
        folder: where to; is made.
        directions: ``(3, 3)``: along the rows, the columns and from slice to slice.
        step: from slice to slice in mm.
        places: numbers of the slices along the step.
        **attributes: of all slices.

    Returns:
        ``(slices, rows, columns)`` in order.
    """
    folder.mkdir()
    places = list(range(SLICES)) if places is None else places
    step = 2.5 * directions[2] if step is None else step
    stack = np.random.default_rng(0).integers(-1024, 3000, (len(places), ROWS, COLUMNS)).astype(np.int16)
    names = random.Random(0).sample(range(100), len(places))
    series = {"SeriesInstanceUID": generate_uid(), "StudyInstanceUID": generate_uid()}
    for name, place, pixels in zip(names, places, stack, strict=True):
        write_dicom(
            folder / f"IM{name}",
            pixels,
            sop_class=CT,
            **series
            | {
                "InstanceNumber": name,
                "ImagePositionPatient": decimals(np.array([10.0, -20, 30]) + place * step),
                "ImageOrientationPatient": decimals(directions[:2].flatten()),
                "PixelSpacing": ["0.7", "0.4"],
                "RescaleSlope": 1,
                "RescaleIntercept": 0,
            }
            | attributes,
        )
    return stack


@pytest.mark.parametrize("seed", range(4))
def test_slices_are_put_in_order_by_their_places(seed: int, tmp_path: Path) -> None:
    directions = turned(seed) if seed else np.eye(3)
    stack = write_series(tmp_path / "series", directions)
    volume = read_medical_image(tmp_path / "series", 3)
    assert volume.shape == (1, COLUMNS, ROWS, SLICES)
    assert np.array_equal(volume.numpy()[0], stack.transpose(2, 1, 0))
    # PS3.3, equation C.7.6.2.1-1, from LPS to RAS.
    expected = np.eye(4)
    expected[:3] = np.column_stack([0.4 * directions[0], 0.7 * directions[1], 2.5 * directions[2], [10, -20, 30]])
    expected[:2] *= -1
    assert np.allclose(volume.affine.numpy(), expected, atol=1e-6)
    # The order and the geometry of ITK.
    names = itk.GDCMSeriesFileNames.New(Directory=str(tmp_path / "series"))
    image = itk.imread(names.GetFileNames(names.GetSeriesUIDs()[0]))
    assert np.array_equal(itk.array_view_from_image(image).transpose(2, 1, 0), volume.numpy()[0])
    for index in ([0, 0, 0], [3, 5, 2], [8, 6, 5]):
        point = np.array(image.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        assert np.allclose(volume.affine.numpy() @ [*index, 1], [*point, 1], atol=1e-4)


def test_the_files_of_a_series_as_a_list(tmp_path: Path) -> None:
    write_series(tmp_path / "series", turned(1))
    files = sorted((tmp_path / "series").iterdir(), reverse=True)
    volume = read_medical_image(files, 3)
    assert torch.equal(volume.as_tensor(), read_medical_image(tmp_path / "series", 3).as_tensor())
    assert volume.meta["filename_or_obj"] == str(files[0])


def test_uids_follow_the_slices(tmp_path: Path) -> None:
    stack = write_series(tmp_path / "series", turned(2))
    headers: list[DicomDataset] = []
    meta = read_medical_image(tmp_path / "series", 3, headers=headers).meta
    datasets = {ds.SOPInstanceUID: ds for ds in map(pydicom.dcmread, (tmp_path / "series").iterdir())}
    uids = meta["SOPInstanceUID"].split("\\")
    assert len(uids) == SLICES
    for uid, pixels in zip(uids, stack, strict=True):
        assert np.array_equal(datasets[uid].pixel_array, pixels)
    assert meta["SeriesInstanceUID"] == datasets[uids[0]].SeriesInstanceUID
    assert [header.SOPInstanceUID for header in headers] == uids
    # The patient is in the first one; of the others a result needs identifiers only.
    assert [header.get("PatientID") for header in headers] == [PATIENT["PatientID"], *[None] * (SLICES - 1)]
    assert not [value for value in PATIENT.values() if value in repr(meta)]


def test_monai_resamples_in_true_millimeters(tmp_path: Path) -> None:
    """Values that grow linearly in space keep telling the place after a new spacing and orientation."""
    directions, slopes = turned(3), np.array([3.0, -5.0, 7.0])
    write_series(tmp_path / "series", directions)
    for path in (tmp_path / "series").iterdir():
        dataset = pydicom.dcmread(path)
        rows, columns = np.mgrid[:ROWS, :COLUMNS]
        origin = np.array(dataset.ImagePositionPatient, dtype=float)
        points = origin + 0.4 * columns[..., None] * directions[0] + 0.7 * rows[..., None] * directions[1]
        dataset.PixelData = np.rint(30 * points @ slopes).astype("<i2").tobytes()
        dataset.save_as(path)
    transform = Compose(
        [LoadMedicalImaged("image", 3), Orientationd("image", "RAS", labels=None), Spacingd("image", (0.5, 0.6, 0.45))]
    )
    volume = transform({"image": tmp_path / "series"})["image"]
    assert np.allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), [0.5, 0.6, 0.45])
    indices = np.indices(volume.shape[1:]).reshape(3, -1)
    points = volume.affine[:3, :3].numpy() @ indices + volume.affine[:3, 3:].numpy()
    expected = 30 * (points.T * [-1, -1, 1]) @ slopes
    # Spacing repeats the outermost values beyond the outermost voxels.
    back = np.linalg.inv(read_medical_image(tmp_path / "series", 3).affine.numpy()) @ np.vstack(
        [points, np.ones_like(points[:1])]
    )
    inside = ((back[:3] >= 0) & (back[:3] <= np.array([[COLUMNS - 1], [ROWS - 1], [SLICES - 1]]))).all(axis=0)
    assert inside.sum() > 100
    assert np.abs(volume.numpy().reshape(-1)[inside] - expected[inside]).max() < 0.6


def test_a_tilted_gantry_gives_a_sheared_grid(tmp_path: Path) -> None:
    step = np.array([0, 1.0, 2.5])
    stack = write_series(tmp_path / "series", np.eye(3), step=step)
    volume = read_medical_image(tmp_path / "series", 3)
    assert np.array_equal(volume.numpy()[0], stack.transpose(2, 1, 0))
    assert np.allclose(volume.affine[:3, 2], [0, -1, 2.5])


def test_rounded_positions_are_even_enough(tmp_path: Path) -> None:
    write_series(tmp_path / "series", np.eye(3), step=np.array([0, 0, 0.625]))
    for path in (tmp_path / "series").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ImagePositionPatient[2] = round(float(dataset.ImagePositionPatient[2]), 1)
        dataset.save_as(path)
    assert read_medical_image(tmp_path / "series", 3).shape[-1] == SLICES


def test_modality_units_and_windows(tmp_path: Path) -> None:
    window = {"WindowCenter": 40, "WindowWidth": 400, "RescaleSlope": 2, "RescaleIntercept": -1000}
    stack = write_series(tmp_path / "series", np.eye(3), **window)
    units = 2.0 * stack.transpose(2, 1, 0) - 1000
    assert np.array_equal(read_medical_image(tmp_path / "series", 3).numpy()[0], units)
    expected = np.clip((units - 39.5) / 399 + 0.5, 0, 1)
    for choice in ("dicom", (40, 400)):
        assert np.abs(read_medical_image(tmp_path / "series", 3, window=choice).numpy()[0] - expected).max() < 1e-6
    path = next((tmp_path / "series").iterdir())
    dataset = pydicom.dcmread(path)
    dataset.WindowCenter = 50
    dataset.RescaleIntercept = -500
    dataset.save_as(path)
    # Every slice has its own rescale, as in PET, but the volume has no window of its own any more.
    assert (read_medical_image(tmp_path / "series", 3).numpy()[0] != units).any(axis=(0, 1)).sum() == 1
    with pytest.raises(DataError, match=r"series has no window for the whole volume"):
        read_medical_image(tmp_path / "series", 3, window="dicom")


def test_a_single_slice(tmp_path: Path) -> None:
    stack = write_series(tmp_path / "series", turned(1), places=[0], SliceThickness=3)
    volume = read_medical_image(tmp_path / "series", 3)
    assert np.array_equal(volume.numpy()[0, :, :, 0], stack[0].T)
    assert np.allclose(volume.affine[:3, 2], 3 * turned(1)[2] * [-1, -1, 1])
    # A folder with one picture is that picture.
    (file,) = (tmp_path / "series").iterdir()
    picture = read_medical_image(tmp_path / "series", window=(0, 1000))
    assert torch.equal(picture.as_tensor(), read_medical_image(file, window=(0, 1000)).as_tensor())
    assert picture.shape == (1, ROWS, COLUMNS)


def write_multi_frame(path: Path, directions: NDArray[np.float64], order: list[int], **attributes: Any) -> NDArray[Any]:
    """Frame ``k`` is at place ``order[k]``; returns the slices by place."""
    stack = np.random.default_rng(1).integers(0, 4096, (max(order) + 1, ROWS, COLUMNS)).astype(np.uint16)
    origin = np.array([10.0, -20, 30])
    write_dicom(
        path,
        stack[order],
        NumberOfFrames=len(order),
        BitsStored=12,
        sop_class="1.2.840.10008.5.1.4.1.1.2.1",
        SharedFunctionalGroupsSequence=sequence_item(
            PixelMeasuresSequence=sequence_item(PixelSpacing=[0.7, 0.4], SliceThickness=2.5),
            PlaneOrientationSequence=sequence_item(ImageOrientationPatient=decimals(directions[:2].flatten())),
        ),
        PerFrameFunctionalGroupsSequence=[
            sequence_item(
                PlanePositionSequence=sequence_item(
                    ImagePositionPatient=decimals(origin + 2.5 * place * directions[2])
                ),
                PixelValueTransformationSequence=sequence_item(
                    RescaleSlope=1, RescaleIntercept=-place, RescaleType="HU"
                ),
            )[0]
            for place in order
        ],
        **attributes,
    )
    return stack


def test_frames_of_an_enhanced_image(tmp_path: Path) -> None:
    directions = turned(2)
    stack = write_multi_frame(tmp_path / "a.dcm", directions, [3, 0, 2, 1])
    headers: list[DicomDataset] = []
    volume = read_medical_image(tmp_path / "a.dcm", 3, headers=headers)
    expected = stack.transpose(2, 1, 0) - np.arange(4.0)
    assert np.array_equal(volume.numpy()[0], expected)
    assert np.allclose(volume.affine[:3, 2], 2.5 * directions[2] * [-1, -1, 1], atol=1e-6)
    assert volume.meta["SOPInstanceUID"] == pydicom.dcmread(tmp_path / "a.dcm").SOPInstanceUID
    # Once for all frames, and without the attributes of each frame.
    assert [header.SOPInstanceUID for header in headers] == [volume.meta["SOPInstanceUID"]]
    assert "PerFrameFunctionalGroupsSequence" not in headers[0]
    with pytest.raises(DataError, match=r"a.dcm has 4 frames: choose one"):
        read_medical_image(tmp_path / "a.dcm")
    write_multi_frame(tmp_path / "b.dcm", directions, [0, 1, 3])
    with pytest.raises(
        DataError, match=r"b.dcm has slices at uneven distances, from 2.5 mm to 5 mm \(between frame 1 and frame 2\)"
    ):
        read_medical_image(tmp_path / "b.dcm", 3)
    write_dicom(tmp_path / "c.dcm", np.zeros((4, ROWS, COLUMNS), np.uint8), NumberOfFrames=4)
    with pytest.raises(DataError, match=r"c.dcm has 4 frames and doesn't say where they are: read single frames"):
        read_medical_image(tmp_path / "c.dcm", 3)


def first_two(folder: Path) -> tuple[Path, Path]:
    first, second = sorted(folder.iterdir())[:2]
    return first, second


def change(path: Path, **attributes: Any) -> None:
    dataset = pydicom.dcmread(path)
    for key, value in attributes.items():
        if value is None:
            delattr(dataset, key)
        else:
            setattr(dataset, key, value)
    dataset.save_as(path)


def lose_a_file(folder: Path) -> None:
    by_place = sorted(folder.iterdir(), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2]))
    by_place[2].unlink()


def copy_a_file(folder: Path) -> None:
    shutil.copy(first_two(folder)[0], folder / "copy")


def cut_a_file(folder: Path) -> None:
    first, _ = first_two(folder)
    first.write_bytes(first.read_bytes()[:-50])


def add_a_report(folder: Path) -> None:
    shutil.copy(Path(pydicom.__file__).parent / "data" / "test_files" / "reportsi.dcm", folder / "report")


def add_a_localizer(folder: Path) -> None:
    pixels = np.zeros((ROWS, COLUMNS), np.int16)
    write_dicom(folder / "scout", pixels, sop_class=CT, SeriesInstanceUID=generate_uid())


def add_localizers(folder: Path) -> None:
    series = generate_uid()
    for number in range(3):
        pixels = np.zeros((ROWS, COLUMNS), np.int16)
        write_dicom(
            folder / f"scout{number}",
            pixels,
            sop_class=CT,
            SeriesInstanceUID=series,
            ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        )


def add_color(folder: Path) -> None:
    first, _ = first_two(folder)
    change(
        first, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0, BitsAllocated=8, BitsStored=8
    )
    change(first, HighBit=7, PixelRepresentation=0, PixelData=bytes(ROWS * COLUMNS * 3 + 1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lose_a_file,
            r"has slices at uneven distances, from 2.5 mm to 5 mm \(between IM\d+ and IM\d+\): one may be missing",
        ),
        (
            copy_a_file,
            r"has several slices in the same place, such as .*copies, points in time, echoes or directions",
        ),
        (cut_a_file, r"has IM\d+, which is damaged, or not what it says it is: The "),
        (add_color, r"has IM\d+, which is in color, but volumes are gray: read it with spatial_dims=2"),
        (
            lambda folder: [change(file, SeriesInstanceUID="1.2.3") for file in first_two(folder)],
            r"has images of 2 series \((2, 4|4, 2) files\): keep each series in a folder of its own",
        ),
        (
            lambda folder: change(first_two(folder)[0], ImageOrientationPatient=[0, 1, 0, 0, 0, 1]),
            r"has slices in different directions, as localizers do: IM\d+ and IM\d+",
        ),
        (
            lambda folder: change(first_two(folder)[0], ImageOrientationPatient=[0, 1, 0, 0, 1, 1]),
            r"has IM\d+, which has an ImageOrientationPatient that is not two perpendicular unit vectors",
        ),
        (
            lambda folder: change(first_two(folder)[0], PixelSpacing=[0.7, 0.7]),
            r"has slices of different pixel spacing: IM\d+ and IM\d+",
        ),
        (
            lambda folder: change(first_two(folder)[0], Rows=ROWS - 1, PixelData=bytes(2 * (ROWS - 1) * COLUMNS)),
            r"has slices of different size: IM\d+ of 9 x \d and IM\d+ of 9 x \d pixels",
        ),
        (
            lambda folder: change(first_two(folder)[0], ImagePositionPatient=None),
            r"has IM\d+, which doesn't say where it is in the patient \(no ImagePositionPatient\)",
        ),
        (
            lambda folder: change(first_two(folder)[0], NumberOfFrames=2),
            r"has IM\d+, which has 2 frames: name it alone",
        ),
        (
            lambda folder: (folder / "IM200.dcm").write_bytes(b"cut off"),
            r"has IM200.dcm, which is not a DICOM file, or is damaged",
        ),
    ],
)
def test_a_series_that_is_none_says_why(spoil: Any, message: str, tmp_path: Path) -> None:
    write_series(tmp_path / "series", np.eye(3))
    assert read_medical_image(tmp_path / "series", 3).shape == (1, COLUMNS, ROWS, SLICES)
    spoil(tmp_path / "series")
    with pytest.raises(DataError, match=rf"series {message}"):
        read_medical_image(tmp_path / "series", 3)


@pytest.mark.parametrize("beside", [add_a_report, add_a_localizer, add_localizers])
def test_what_else_a_study_has_is_left_out_with_a_warning(
    beside: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(tmp_path / "series", np.eye(3))
    expected = read_medical_image(tmp_path / "series", 3).as_tensor()
    beside(tmp_path / "series")
    assert torch.equal(read_medical_image(tmp_path / "series", 3).as_tensor(), expected)
    told = {
        "add_a_report": "0 of localizers and single images, 1 DICOM files without an image",
        "add_a_localizer": "1 of localizers and single images, 0 DICOM files without an image",
        "add_localizers": "3 of localizers and single images, 0 DICOM files without an image",
    }
    assert [record.getMessage() for record in caplog.records if record.name.startswith("monai_fgssl")] == [
        f"{tmp_path / 'series'} has a series of 6 files; left out beside it: {told[beside.__name__]}."
    ]


def test_a_folder_of_reports_is_no_series(tmp_path: Path) -> None:
    (tmp_path / "series").mkdir()
    add_a_report(tmp_path / "series")
    with pytest.raises(DataError, match=r"is a folder without DICOM images \(1 DICOM files hold none\)"):
        read_medical_image(tmp_path / "series", 3)


def test_several_images_are_no_picture(tmp_path: Path) -> None:
    write_series(tmp_path / "series", np.eye(3))
    with pytest.raises(DataError, match=r"series holds 6 images: name one for a picture, or use spatial_dims=3"):
        read_medical_image(tmp_path / "series")


def test_other_files_in_the_folder_don_t_matter(tmp_path: Path) -> None:
    write_series(tmp_path / "series", np.eye(3))
    (tmp_path / "series" / "notes.txt").write_text("Patient moved.")
    (tmp_path / "series" / ".hidden").write_text("")
    (tmp_path / "series" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (tmp_path / "series" / "subfolder").mkdir()
    assert read_medical_image(tmp_path / "series", 3).shape[-1] == SLICES


def test_volumes_make_a_batch(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / name, turned(1), places=[0, 1, 2] if name == "a" else [2, 1, 0])
    files = [{"image": str(tmp_path / name)} for name in ("a", "b")]
    (batch,) = DataLoader(Dataset(files, LoadMedicalImaged("image", 3)), batch_size=2)
    assert batch["image"].shape == (2, 1, COLUMNS, ROWS, 3)
    assert [len(uids.split("\\")) for uids in batch["image"].meta["SOPInstanceUID"]] == [3, 3]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "has slices of MONOCHROME1 and of other colors"),
        ({"RescaleSlope": 1, "RescaleIntercept": -1024}, "has slices with and without a rescale"),
    ],
)
def test_slices_whose_values_mean_different_things_are_refused(
    entries: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    write_series(tmp_path / "a", np.eye(3))
    one = sorted((tmp_path / "a").iterdir())[2]
    dataset = pydicom.dcmread(one)
    for key, value in entries.items():
        setattr(dataset, key, value)
    if "RescaleSlope" in entries:
        for other in (tmp_path / "a").iterdir():
            header = pydicom.dcmread(other)
            header.pop("RescaleSlope", None)
            header.pop("RescaleIntercept", None)
            header.save_as(other)
    dataset.save_as(one)
    with pytest.raises(DataError, match=reason):
        read_medical_image(tmp_path / "a", 3)


@pytest.mark.parametrize(
    ("keyword", "other"),
    [
        ("PatientID", "another"),
        ("StudyInstanceUID", "1.2.3"),
        ("FrameOfReferenceUID", "1.2.3"),
        ("Modality", "MR"),
        ("RescaleType", "US"),
        ("Units", "GML"),
    ],
)
def test_slices_of_different_origin_are_no_volume(keyword: str, other: str, tmp_path: Path) -> None:
    """Tools that remove identifiers may give all series of a patient, or of all patients, one UID."""
    write_series(tmp_path / "series", np.eye(3), **{keyword: "CT" if keyword in ("Modality", "Units") else "1.2.4"})
    assert read_medical_image(tmp_path / "series", 3).shape == (1, COLUMNS, ROWS, SLICES)
    path = next((tmp_path / "series").iterdir())
    dataset = pydicom.dcmread(path)
    setattr(dataset, keyword, other)
    dataset.save_as(path)
    with pytest.raises(DataError, match=f"has slices of different {keyword}: IM"):
        read_medical_image(tmp_path / "series", 3)
    delattr(dataset, keyword)
    dataset.save_as(path)
    read_medical_image(tmp_path / "series", 3)


def test_times_in_another_order_in_some_places_are_not_mixed(tmp_path: Path) -> None:
    write_series(tmp_path / "series", np.eye(3), places=[0, 0, 1, 1, 2, 2])
    files = [(pydicom.dcmread(path), path) for path in (tmp_path / "series").iterdir()]
    files.sort(key=lambda one: (float(one[0].ImagePositionPatient[2]), int(one[0].InstanceNumber)))
    for is_mixed in (False, True):
        for number, (dataset, path) in enumerate(files):
            dataset.DiffusionBValue = 1000.0 * (number % 2 if number < 4 or not is_mixed else 1 - number % 2)
            dataset.save_as(path)
        if not is_mixed:
            assert read_medical_image(tmp_path / "series", 3, time=1).shape == (1, COLUMNS, ROWS, 3)
    for time in (0, 1):
        with pytest.raises(DataError, match=f"time={time} would mix several values of DiffusionBValue"):
            read_medical_image(tmp_path / "series", 3, time=time)


@pytest.mark.parametrize(("photometric", "darkest"), [("MONOCHROME2", "min"), ("MONOCHROME1", "max")])
def test_padding_of_a_volume_is_as_dark_as_its_data(photometric: str, darkest: str, tmp_path: Path) -> None:
    """The range of the values is that of the data, and not that of the padding."""
    plain = write_series(tmp_path / "plain", np.eye(3), PhotometricInterpretation=photometric, RescaleIntercept=-10)
    padding = int(plain[0, 0, 0])
    options = {"PhotometricInterpretation": photometric, "RescaleIntercept": -10, "PixelPaddingValue": padding}
    write_series(tmp_path / "padded", np.eye(3), **options)
    data = plain[plain != padding]
    expected = np.where(plain == padding, getattr(data, darkest)(), plain) - 10
    volume = read_medical_image(tmp_path / "padded", 3)
    assert np.array_equal(volume.numpy()[0], expected.transpose(2, 1, 0))
