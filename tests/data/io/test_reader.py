# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import gzip
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np
import pytest
import torch
from dicom_files import PATIENT, write_dicom
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImage, Resized
from numpy.typing import NDArray
from picture_files import LOSSLESS_COLOR, LOSSLESS_GRAY, encoded, itk_writer, pillow, write_vector_nifti
from PIL import Image, ImageOps, PngImagePlugin, TiffImagePlugin
from pydicom.uid import (
    JPEGBaseline8Bit,
)

from monai_fgssl.data.io.reader import read_medical_image
from monai_fgssl.data.io.reasons import reason_of
from monai_fgssl.data.io.transform import LoadMedicalImage, LoadMedicalImaged, LoadMedicalImageDict
from monai_fgssl.utils.errors import DataError

ROWS, COLUMNS = 21, 34
"""Odd, so that padded and transposed arrays don't pass."""


@pytest.fixture(scope="module")
def color() -> NDArray[np.uint8]:
    """Noise in 200 colors, which a palette can hold, with black, white and single primaries."""
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (200, 3), dtype=np.uint8)
    colors[:5] = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    return colors[rng.integers(0, 200, (ROWS, COLUMNS))]


@pytest.fixture(scope="module")
def gray() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (ROWS, COLUMNS), dtype=np.uint8)


@pytest.mark.parametrize("name", LOSSLESS_COLOR)
def test_the_same_color_picture_whatever_the_file(name: str, color: NDArray[np.uint8], tmp_path: Path) -> None:
    image = read_medical_image(LOSSLESS_COLOR[name](color, tmp_path))
    assert isinstance(image, MetaTensor)
    assert image.dtype == torch.float32
    # As torchvision's ToTensor and the loader in loading.py do it.
    expected = torch.from_numpy(color).permute(2, 0, 1).float() / 255
    assert image.shape == (3, ROWS, COLUMNS)
    assert torch.equal(image.as_tensor(), expected)
    assert torch.equal(read_medical_image(image.meta["filename_or_obj"], channels=3).as_tensor(), expected)


@pytest.mark.parametrize("name", LOSSLESS_GRAY)
def test_the_same_gray_picture_whatever_the_file(name: str, gray: NDArray[np.uint8], tmp_path: Path) -> None:
    path = LOSSLESS_GRAY[name](gray, tmp_path)
    expected = torch.from_numpy(gray).float()[None] / 255
    assert torch.equal(read_medical_image(path).as_tensor(), expected)
    assert torch.equal(read_medical_image(path, channels=3).as_tensor(), expected.expand(3, -1, -1))


@pytest.mark.parametrize(("subsampling", "label"), [(0, "YBR_FULL"), (1, "YBR_FULL_422"), (2, "YBR_FULL_422")])
def test_a_jpeg_in_dicom_is_bit_for_bit_that_jpeg(subsampling: int, label: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC))
    (tmp_path / "image.jpg").write_bytes(encoded(pixels, "JPEG", quality=90, subsampling=subsampling))
    codestream = (tmp_path / "image.jpg").read_bytes()
    path = write_dicom(
        tmp_path / "image.dcm",
        pixels,
        syntax=JPEGBaseline8Bit,
        codestreams=[codestream],
        PhotometricInterpretation=label,
    )
    with Image.open(tmp_path / "image.jpg") as image:
        expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
    assert torch.equal(read_medical_image(tmp_path / "image.jpg").as_tensor(), expected)
    assert torch.equal(read_medical_image(path).as_tensor(), expected)
    # A device that calls such data RGB is not believed: a JFIF header means YCbCr.
    wrong = write_dicom(tmp_path / "wrong.dcm", pixels, syntax=JPEGBaseline8Bit, codestreams=[codestream])
    assert torch.equal(read_medical_image(wrong).as_tensor(), expected)


def test_a_jpeg_in_rgb_in_dicom_is_not_converted(color: NDArray[np.uint8], tmp_path: Path) -> None:
    codestream = encoded(color, "JPEG", quality=95, keep_rgb=True)
    path = write_dicom(tmp_path / "image.dcm", color, syntax=JPEGBaseline8Bit, codestreams=[codestream])
    expected = np.asarray(Image.open(BytesIO(codestream)).convert("RGB"))
    assert np.array_equal(255 * read_medical_image(path).numpy().transpose(1, 2, 0), expected.astype(np.float32))


def test_ybr_full_differs_by_its_rounding_only(color: NDArray[np.uint8], tmp_path: Path) -> None:
    # PS3.3, C.7.6.3.1.2, and its inverse, in float64.
    forward = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    ybr = np.clip(np.rint(color @ forward.T + [0, 128, 128]), 0, 255).astype(np.uint8)
    back = np.clip(np.rint((ybr - np.array([0.0, 128, 128])) @ np.linalg.inv(forward).T), 0, 255)
    path = write_dicom(tmp_path / "image.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    pixels = 255 * read_medical_image(path).numpy().transpose(1, 2, 0)
    # Fixed point and floats may round a tie differently.
    assert np.abs(pixels - back).max() < 1.001
    assert (np.abs(pixels - back) > 0.5).mean() < 1e-3
    # Y, Cb and Cr are rounded to whole numbers: an error of up to (1 + 1.772) / 2 + 1 / 2 after rounding again.
    assert np.abs(pixels - color).max() <= 2


def test_ybr_full_422_is_expanded(tmp_path: Path) -> None:
    # Pairs of equal pixels lose nothing by sharing their chroma: Y Y Cb Cr.
    ybr = np.random.default_rng(3).integers(64, 192, (6, 8, 3)).astype(np.uint8)
    ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]
    pairs = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    full = write_dicom(tmp_path / "full.dcm", ybr, PhotometricInterpretation="YBR_FULL")
    half = write_dicom(
        tmp_path / "half.dcm",
        pairs.reshape(6, 16),
        PhotometricInterpretation="YBR_FULL_422",
        SamplesPerPixel=3,
        PlanarConfiguration=0,
        Columns=8,
    )
    assert torch.equal(read_medical_image(half).as_tensor(), read_medical_image(full).as_tensor())


def test_cmyk_is_converted_as_by_pillow(color: NDArray[np.uint8], tmp_path: Path) -> None:
    path = pillow(".jpg", "CMYK", quality=95)(color, tmp_path)
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert np.array_equal(255 * read_medical_image(path).numpy().transpose(1, 2, 0), expected.astype(np.float32))


def test_luminance_is_that_of_bt601(color: NDArray[np.uint8], tmp_path: Path) -> None:
    image = read_medical_image(pillow(".png")(color, tmp_path), channels=1)
    red, green, blue = np.moveaxis(color.astype(np.float64), -1, 0)
    assert image.shape == (1, ROWS, COLUMNS)
    assert np.abs(image.numpy()[0] - (0.299 * red + 0.587 * green + 0.114 * blue) / 255).max() < 1e-6
    # Pillow rounds the same sum.
    assert np.abs(255 * image.numpy()[0] - np.asarray(Image.fromarray(color).convert("L"))).max() < 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_pictures_are_upright(orientation: int, suffix: str, color: NDArray[np.uint8], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    path = pillow(suffix, exif=exif)(color, tmp_path)
    image = read_medical_image(path)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert image.shape == (3, *((ROWS, COLUMNS) if orientation < 5 else (COLUMNS, ROWS)))
    assert np.array_equal(255 * image.numpy().transpose(1, 2, 0), expected.astype(np.float32))


def test_bilevel_pictures_are_black_and_white(gray: NDArray[np.uint8], tmp_path: Path) -> None:
    image = read_medical_image(pillow(".png", "1")(gray, tmp_path))
    assert image.shape == (1, ROWS, COLUMNS)
    assert set(image.unique().tolist()) == {0, 1}


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii", ".nrrd", ".mha", ".dcm"])
def test_16_bits_are_not_clipped(suffix: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 2**16, (ROWS, COLUMNS), dtype=np.uint16)
    path = tmp_path / f"image{suffix}"
    if suffix == ".dcm":
        write_dicom(path, pixels)
    elif suffix in (".png", ".tif"):
        Image.fromarray(pixels).save(path)
    else:
        itk.imwrite(itk.image_from_array(pixels), str(path))
    assert np.array_equal(read_medical_image(path).numpy()[0], pixels.astype(np.float32) / np.float32(65535))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nrrd", ".mha", ".dcm"])
def test_16_bits_per_color_are_not_clipped(suffix: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 2**16, (ROWS, COLUMNS, 3), dtype=np.uint16)
    path = tmp_path / f"image{suffix}"
    if suffix == ".dcm":
        write_dicom(path, pixels)
    else:
        itk.imwrite(itk.image_from_array(pixels, is_vector=True), str(path))
    expected = pixels.astype(np.float32) / np.float32(65535)
    assert np.array_equal(read_medical_image(path).numpy().transpose(1, 2, 0), expected)


def test_16_bit_color_with_an_orientation_tag_is_upright(tmp_path: Path) -> None:
    pixels = np.random.default_rng(5).integers(0, 2**16, (4, 5, 3), dtype=np.uint16)
    itk.imwrite(itk.image_from_array(pixels, is_vector=True), str(tmp_path / "a.png"))
    plain = (tmp_path / "a.png").read_bytes()
    exif = Image.Exif()
    exif[274] = 6
    tagged = encoded(np.zeros((4, 5, 3), np.uint8), "PNG", exif=exif)
    start = tagged.index(b"eXIf") - 4
    chunk = tagged[start : start + 12 + int.from_bytes(tagged[start : start + 4], "big")]
    (tmp_path / "a.png").write_bytes(plain[:33] + chunk + plain[33:])
    expected = np.rot90(pixels, 3).astype(np.float32) / np.float32(65535)
    assert np.array_equal(read_medical_image(tmp_path / "a.png").numpy().transpose(1, 2, 0), expected)


def test_16_bits_in_pnm_are_their_range(tmp_path: Path) -> None:
    values = np.array([[0, 1000, 4095]], ">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 4095\n" + values.tobytes())
    assert np.abs(read_medical_image(tmp_path / "a.pgm").numpy()[0] - values / 4095).max() < 1e-5


@pytest.mark.parametrize("order", ["<", ">"])
def test_float_maps_are_not_clipped(order: str, tmp_path: Path) -> None:
    shares = np.random.default_rng(0).random((4, 5)).astype(np.float32)
    for scale, window in ((1, None), (1000, (500.0, 1000.0))):
        # Rows are stored from the bottom up; a negative number says little endian.
        data = (scale * shares[::-1]).astype(f"{order}f4").tobytes()
        (tmp_path / "a.pfm").write_bytes(b"Pf\n5 4\n%d\n" % (-1 if order == "<" else 1) + data)
        got = read_medical_image(tmp_path / "a.pfm", window=window).numpy()
        assert got.shape == (1, 4, 5)
        assert np.abs(got[0] - shares).max() < 1e-6
    with pytest.raises(DataError, match=r"a.pfm has float32 values .* give window="):
        read_medical_image(tmp_path / "a.pfm")


@pytest.mark.parametrize("is_last", [False, True])
def test_much_text_in_a_png_is_left_out(is_last: bool, color: NDArray[np.uint8], tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", "x" * 2_000_000, zip=True)
    if is_last:
        # Pillow writes private chunks that are marked so after the pixels.
        info.chunks = [(*chunk, True) for chunk in info.chunks]
    Image.fromarray(color).save(tmp_path / "a.png", pnginfo=info)
    assert np.array_equal(255 * read_medical_image(tmp_path / "a.png").numpy().transpose(1, 2, 0), color.astype("f4"))


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"8BPS\0\1", "a Photoshop document"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x24ftypheic", "HEIC"),
    ],
)
def test_kinds_that_are_not_read_are_named(start: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(start + bytes(200))
    with pytest.raises(DataError, match=rf"a.jpg is {name}, which is not supported: save it as PNG or TIFF."):
        read_medical_image(tmp_path / "a.jpg")


def test_pillow_reads_the_promised_formats_only(color: NDArray[np.uint8], tmp_path: Path) -> None:
    # Formats with layers, other programs or rare decoders.
    for suffix in (".ico", ".tga", ".pcx", ".sgi", ".eps"):
        Image.fromarray(color).save(tmp_path / f"a{suffix}")
        with pytest.raises(DataError, match=rf"a{suffix} is (not in a supported format|PostScript)"):
            read_medical_image(tmp_path / f"a{suffix}")


def test_white_is_zero_is_inverted(tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    pixels = np.array([[0, 1000, 65535]], np.uint16)
    Image.fromarray(pixels).save(tmp_path / "image.tif", tiffinfo=tags)
    assert np.abs(read_medical_image(tmp_path / "image.tif").numpy()[0] - (1 - pixels / 65535)).max() < 1e-7


@pytest.mark.parametrize("suffix", [".tif", ".nii", ".nrrd"])
def test_floats_need_a_window_unless_their_range_is_known(suffix: str, tmp_path: Path) -> None:
    def read(values: list[float], window: tuple[float, float] | None = None) -> list[float]:
        path = tmp_path / f"image{suffix}"
        pixels = np.array([values], np.float32)
        Image.fromarray(pixels).save(path) if suffix == ".tif" else itk.imwrite(itk.image_from_array(pixels), str(path))
        return read_medical_image(path, window=window).numpy()[0, 0].tolist()

    assert read([0, 0.25, 1]) == [0, 0.25, 1]
    assert np.allclose(read([0, 51, 255]), [0, 0.2, 1])
    # LINEAR_EXACT, but LINEAR where all values are whole numbers.
    assert np.allclose(read([-1024, 40, 40.5, 3071], (40, 400)), [0, 0.5, 0.5 + 0.5 / 400, 1])
    assert np.allclose(read([-1024, 40, 41, 3071], (40, 400)), [0, 0.5 + 0.5 / 399, 0.5 + 1.5 / 399, 1])
    assert np.allclose(read([-1, 0, 0.25, 1], (0, 2)), [0, 0.5, 0.625, 1])
    assert np.allclose(read([-1, 0, 0.25, 1], (0.25, 0.001)), [0, 0, 0.5, 1])
    assert np.allclose(read([-1, 0, 1], (0, 0.5)), [0, 0.5, 1])
    for values in ([-1024, 0, 3071], [0, 0.5, 200]):
        with pytest.raises(DataError, match=r"has float32 values from .* to .* give window=\(center, width\)"):
            read(values)
    # What is no number tells nothing of the range: the other values do.
    assert read([0, np.nan, 1])[::2] == [0, 1]


def test_tiff_that_pillow_does_not_read(tmp_path: Path) -> None:
    pixels = np.random.default_rng(9).random((ROWS, COLUMNS, 3), dtype=np.float32)
    itk.imwrite(itk.image_from_array(pixels, is_vector=True), str(tmp_path / "image.tif"))
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(tmp_path / "image.tif")
    assert np.array_equal(read_medical_image(tmp_path / "image.tif").numpy().transpose(1, 2, 0), pixels)


def test_integers_of_32_bits_need_a_window(tmp_path: Path) -> None:
    nibabel.Nifti1Image(np.array([[[-1000], [3000]]], np.int32), np.eye(4)).to_filename(tmp_path / "image.nii")
    with pytest.raises(DataError, match=r"image.nii has int32 values from -1000 to 3000"):
        read_medical_image(tmp_path / "image.nii")
    assert read_medical_image(tmp_path / "image.nii", window=(0, 1000)).flatten().tolist() == [0, 1]


def test_spacing_of_pictures(color: NDArray[np.uint8], tmp_path: Path) -> None:
    nifti = read_medical_image(write_vector_nifti(color, tmp_path))
    dicom = read_medical_image(write_dicom(tmp_path / "a.dcm", color, PixelSpacing=[0.2, 0.1]))
    png = read_medical_image(pillow(".png")(color, tmp_path))
    assert torch.allclose(nifti.affine, torch.diag(torch.tensor([0.2, 0.1, 1, 1], dtype=torch.float64)))
    assert torch.equal(dicom.affine, torch.diag(torch.tensor([0.2, 0.1, 1, 1], dtype=torch.float64)))
    assert torch.equal(png.affine, torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "APNG", "DICOM", "NIfTI"])
def test_frames_must_be_chosen(kind: str, tmp_path: Path) -> None:
    frames = np.random.default_rng(6).integers(0, 256, (3, ROWS, COLUMNS), dtype=np.uint8)
    path = tmp_path / {"GIF": "a.gif", "TIFF": "a.tif", "APNG": "a.png", "DICOM": "a.dcm", "NIfTI": "a.nii"}[kind]
    if kind == "DICOM":
        write_dicom(path, frames, NumberOfFrames=3)
    elif kind == "NIfTI":
        nibabel.Nifti1Image(frames.transpose(2, 1, 0), np.eye(4)).to_filename(path)
    else:
        images = [Image.fromarray(frame) for frame in frames]
        images[0].save(path, save_all=True, append_images=images[1:])
    what = {"NIfTI": "slices", "TIFF": "pages"}.get(kind, "frames")
    message = rf"{path.name} has 3 {what}: choose one by its number, frame=0 to 2 \(--frame\); --frame all makes"
    with pytest.raises(DataError, match=message):
        read_medical_image(path)
    with pytest.raises(DataError, match=rf"{path.name} has no frame=3: its {what} are 0 to 2."):
        read_medical_image(path, frame=3)
    for number, frame in enumerate(frames):
        image = read_medical_image(path, channels=1, frame=number)
        assert np.abs(255 * image.numpy()[0] - frame).max() < 1e-4
        assert image.meta["frame"] == number


def test_frame_0_of_a_single_picture_is_that_picture(color: NDArray[np.uint8], tmp_path: Path) -> None:
    path = pillow(".png")(color, tmp_path)
    assert torch.equal(read_medical_image(path, frame=0).as_tensor(), read_medical_image(path).as_tensor())


def test_previews_in_a_jpeg_are_no_frames(color: NDArray[np.uint8], tmp_path: Path) -> None:
    image = Image.fromarray(color)
    image.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[image.resize((8, 8))])
    with Image.open(tmp_path / "phone.jpg") as both:
        assert both.n_frames == 2
        expected = np.asarray(both.convert("RGB")).astype(np.float32)
    assert np.array_equal(255 * read_medical_image(tmp_path / "phone.jpg").numpy().transpose(1, 2, 0), expected)


def test_all_kinds_make_a_batch(color: NDArray[np.uint8], tmp_path: Path) -> None:
    names = ["PNG", "DICOM, RLE", "NIfTI by ITK", "NRRD", "TIFF"]
    files = []
    for name in names:
        (tmp_path / name).mkdir()
        files.append({"image": str(LOSSLESS_COLOR[name](color, tmp_path / name)), "name": name})
    load = Compose([LoadMedicalImaged("image", channels=3), EnsureChannelFirstd("image"), Resized("image", (16, 16))])
    (batch,) = DataLoader(Dataset(files, load), batch_size=len(files))
    assert batch["image"].shape == (len(files), 3, 16, 16)
    assert all(torch.equal(image.as_tensor(), batch["image"][0].as_tensor()) for image in batch["image"])
    meta = batch["image"].meta
    assert meta["filename_or_obj"] == [file["image"] for file in files]
    assert [bool(uid) for uid in meta["SOPInstanceUID"]] == [False, True, False, False, False]
    for key in ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "spatial_shape", "frame", "affine"):
        assert len(meta[key]) == len(files)


def test_transforms_are_the_function(color: NDArray[np.uint8], tmp_path: Path) -> None:
    path = pillow(".png")(color, tmp_path)
    expected = read_medical_image(path, channels=1, window=(40, 400)).as_tensor()
    assert torch.equal(LoadMedicalImage(channels=1, window=[40, 400])(path).as_tensor(), expected)
    data = LoadMedicalImageDict(["image", "other"], channels=1, allow_missing_keys=True)({"image": path, "id": 3})
    assert torch.equal(data["image"].as_tensor(), expected)
    assert data["id"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"channels": 2}, "channels must be 1, 3 or None, got 2"),
        ({"window": "ct"}, "window must be None, 'dicom' or .* got 'ct'"),
        ({"window": (40, 0)}, r"width above 0, got \(40, 0\)"),
        ({"window": (40,)}, r"window must be None, 'dicom' or .* got \(40,\)"),
        ({"frame": -1}, "frame must be a whole number from 0, got -1"),
        ({"frame": 1, "spatial_dims": 3}, "frame is for spatial_dims=2 only"),
    ],
)
def test_wrong_options_are_told_before_there_is_a_file(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoadMedicalImage(**options)


def test_no_patient_data_in_meta(color: NDArray[np.uint8], tmp_path: Path) -> None:
    image = read_medical_image(write_dicom(tmp_path / "a.dcm", color))
    told = repr(image.meta)
    assert not [value for value in PATIENT.values() if value in told]
    assert image.meta["SOPInstanceUID"] in told


def test_what_is_not_there_or_no_image_is_named(color: NDArray[np.uint8], tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.txt").write_text("This is no image, but it is long enough.\n" * 20)
    (tmp_path / "folder").mkdir()
    png = pillow(".png")(color, tmp_path)
    (tmp_path / "a.png.gz").write_bytes(gzip.compress(png.read_bytes()))
    write_vector_nifti(color, tmp_path).rename(tmp_path / "image.dat")
    messages = {
        "none.png": "none.png does not exist.",
        "empty.png": "empty.png is empty.",
        "notes.txt": r"notes.txt is not in a supported format \(DICOM, NIfTI, .*PNG",
        "folder": r"folder is a folder without DICOM images \(0 files\)",
        "a.png.gz": "a.png.gz is compressed with gzip but is not NIfTI: unpack it first.",
        "image.dat": "image.dat holds NIfTI, which can only be read when its name ends in .nii: rename it.",
    }
    for name, message in messages.items():
        with pytest.raises(DataError, match=message):
            read_medical_image(tmp_path / name)
    with pytest.raises(DataError, match=r"image.png is a picture of 34 x 21 pixels: use spatial_dims=2."):
        read_medical_image(png, spatial_dims=3)
    with pytest.raises(DataError, match=r"the list is empty"):
        read_medical_image([])
    with pytest.raises(DataError, match=r"image.png \(and 1 more\) holds 2 images: name one"):
        read_medical_image([png, png])


def test_what_is_neither_a_picture_nor_a_volume_is_named(color: NDArray[np.uint8], tmp_path: Path) -> None:
    def nifti(shape: tuple[int, ...], kind: str = "f4") -> Path:
        nibabel.Nifti1Image(np.zeros(shape, kind), np.eye(4)).to_filename(tmp_path / "a.nii")
        return tmp_path / "a.nii"

    with pytest.raises(DataError, match=r"a.nii has 7 channels of float32, .* channel=0 to 6"):
        read_medical_image(nifti((4, 5, 1, 7)))
    with pytest.raises(DataError, match=r"a.nii has 2 points in time: choose one by its number, time=0 to 1"):
        read_medical_image(nifti((4, 5, 6, 2, 3)), 3)
    with pytest.raises(DataError, match=r"a.nii has values of type complex64, which can't be shown as brightness"):
        read_medical_image(nifti((4, 5, 6), "c8"), 3)
    png = pillow(".png")(color, tmp_path)
    with pytest.raises(DataError, match=r"image.png \(and 1 more\) holds other files than DICOM slices"):
        read_medical_image([png, png], 3)
    assert reason_of(PermissionError()) == "may not be read (permission denied)."


def test_a_resolution_is_no_spacing(tmp_path: Path) -> None:
    pixels = np.zeros((4, 5, 3), np.uint16)
    image = itk.image_from_array(pixels, is_vector=True)
    image.SetSpacing([0.1, 0.2])
    for name in ("deep.tif", "deep.png"):
        itk.imwrite(image, str(tmp_path / name))
        assert torch.equal(read_medical_image(tmp_path / name).affine, torch.eye(4, dtype=torch.float64))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".dcm", ".nii", ".nii.gz", ".nrrd", ".mha"])
def test_damaged_files_are_named(suffix: str, color: NDArray[np.uint8], tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    if suffix == ".dcm":
        codestream = encoded(color, "JPEG")
        write_dicom(
            path, color, syntax=JPEGBaseline8Bit, codestreams=[codestream], PhotometricInterpretation="YBR_FULL_422"
        )
    elif suffix in (".png", ".jpg"):
        Image.fromarray(color).save(path)
    else:
        itk_writer(suffix)(color, tmp_path)  # ITK keeps the directory of a TIFF at its end
    whole = path.read_bytes()
    for share in (0.01, 0.3, 0.6, 0.9):
        path.write_bytes(whole[: max(1, int(share * len(whole)))])
        with pytest.raises(DataError, match=r"image\.[a-z.]+ (is|has) "):
            read_medical_image(path)


def test_volumes_are_as_monai_loads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    affine = nibabel.affines.from_matvec(np.array([[0, -0.7, 0], [0.8, 0, 0.1], [0, 0, 2.5]]), [10, -20, 30])
    load = LoadImage(image_only=True, ensure_channel_first=True)
    for shape in ((5, 6, 7), (5, 6, 1), (5, 6, 7, 4)):
        grid = rng.normal(100, 500, shape).astype(np.float32)
        nibabel.Nifti1Image(grid, affine).to_filename(tmp_path / "a.nii.gz")
        image, expected = read_medical_image(tmp_path / "a.nii.gz", 3), load(tmp_path / "a.nii.gz")
        assert torch.equal(image.as_tensor(), expected.as_tensor())
        assert torch.equal(image.affine, expected.affine)
        assert image.ndim == 4
    with pytest.raises(DataError, match=r"a.nii.gz has 4 channels, which can't be made 1: choose one, channel=0 to 3"):
        read_medical_image(tmp_path / "a.nii.gz", 3, channels=1)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".tif"])
def test_volumes_of_itk(suffix: str, tmp_path: Path) -> None:
    grid = np.random.default_rng(8).integers(0, 1000, (4, 5, 6)).astype(np.uint16)
    image = itk.image_from_array(grid)
    image.SetSpacing([0.5, 0.6, 2.0])
    image.SetOrigin([1.0, 2.0, 3.0])
    itk.imwrite(image, str(tmp_path / f"a{suffix}"))
    volume = read_medical_image(tmp_path / f"a{suffix}", 3, channels=3)
    assert torch.equal(
        volume.as_tensor(), torch.from_numpy(grid.transpose(2, 1, 0).astype(np.float32)).expand(3, -1, -1, -1)
    )
    if suffix != ".tif":
        expected = [[-0.5, 0, 0, -1], [0, -0.6, 0, -2], [0, 0, 2, 3], [0, 0, 0, 1]]
        assert np.allclose(volume.affine.numpy(), expected)


def test_a_window_makes_a_volume_shown(tmp_path: Path) -> None:
    grid = np.array([-1000, -160, 40, 240, 3000.5], np.float32).reshape(5, 1, 1)
    nibabel.Nifti1Image(grid, np.eye(4)).to_filename(tmp_path / "a.nii")
    assert np.allclose(read_medical_image(tmp_path / "a.nii", 3, window=(40, 400)).flatten(), [0, 0, 0.5, 1, 1])
    with pytest.raises(DataError, match=r"a.nii has no window for the whole volume: give window="):
        read_medical_image(tmp_path / "a.nii", 3, window="dicom")


def write_deep_png(path: Path, samples: NDArray[np.uint16], *chunks: tuple[bytes, bytes]) -> Path:
    """PNG of 16 bits, from gray with alpha (2 samples) to color with alpha (4)."""
    rows, columns, channels = samples.shape
    head = struct.pack(">2I5B", columns, rows, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in parts
        )
    )
    return path


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("kind", ["", "sBIT", "gAMA", "tRNS"])
def test_png_of_16_bits_and_several_channels(channels: int, kind: str, tmp_path: Path) -> None:
    """ITK shifts values by the depth in sBIT, and makes a fourth channel of tRNS."""
    samples = np.random.default_rng(0).integers(0, 2**16, (6, 7, channels), dtype=np.uint16)
    data = {
        "sBIT": bytes([12] * channels),
        "gAMA": struct.pack(">I", 100000),
        "tRNS": samples[0, 0].astype(">u2").tobytes(),
    }
    # Only colors without alpha may have tRNS.
    chunks = [(kind.encode(), data[kind])] if kind and (kind != "tRNS" or channels == 3) else []
    image = read_medical_image(write_deep_png(tmp_path / "a.png", samples, *chunks)).numpy()
    colors = samples[..., : 1 if channels == 2 else 3]
    assert np.array_equal(image, (colors / 65535).astype(np.float32).transpose(2, 0, 1))


def test_much_text_in_a_png_leaves_its_orientation(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    text = PngImagePlugin.PngInfo()
    text.add_text("much", "x" * 2_000_000, zip=True)
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    text.add_itxt("XML:com.adobe.xmp", xmp)
    Image.fromarray(pixels).save(tmp_path / "a.png", pnginfo=text)
    image = read_medical_image(tmp_path / "a.png").numpy().transpose(1, 2, 0)
    assert np.array_equal(np.rint(255 * image), np.rot90(pixels, 3))


def test_a_color_of_16_bits_in_bmp_is_whole(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(0, 2**15, (64, 128), dtype=np.uint16)
    head = struct.pack("<2sIHHI", b"BM", 54 + stored.nbytes, 0, 0, 54)
    head += struct.pack("<IiiHHIIiiII", 40, 128, -64, 1, 16, 0, stored.nbytes, 0, 0, 0, 0)
    (tmp_path / "a.bmp").write_bytes(head + stored.tobytes())
    expected = np.stack([stored >> shift & 31 for shift in (10, 5, 0)]) / 31
    assert np.abs(read_medical_image(tmp_path / "a.bmp").numpy() - expected).max() <= 1 / 255
    (tmp_path / "a.bmp").write_bytes(head + stored.tobytes()[:8000])
    with pytest.raises(DataError, match=r"a.bmp is cut off"):
        read_medical_image(tmp_path / "a.bmp")


def test_a_window_that_color_does_not_use_is_told_once(
    color: NDArray[np.uint8], gray: NDArray[np.uint8], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [tmp_path / f"{number}.png" for number in range(3)]
    for path, pixels in zip(names, (gray, color, color), strict=True):
        Image.fromarray(pixels).save(path)
        # No other test has this window.
        read_medical_image(path, channels=3, window=(17, 23))
    for path in names[1:]:
        read_medical_image(path, window="dicom")
        read_medical_image(path, channel=1, window=(17, 23))
    (record,) = caplog.records
    assert f"{names[1]} is in color, and the window (17.0, 23.0) is for gray values" in record.getMessage()
