# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""NIfTI, MetaImage and NRRD files whose header does not agree with the content of the file."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest

from monai_fgssl.data.io.reader import read_medical_image
from monai_fgssl.utils.errors import DataError

GRID = np.random.default_rng(0).integers(0, 1000, (6, 7, 8)).astype(np.int16)
METAIMAGE = "ObjectType = Image\nNDims = {}\nDimSize = {}\nElementType = MET_USHORT\nElementDataFile = LOCAL\nxxxx"
NRRD = "NRRD0004\ntype: short\ndimension: {}\nsizes: {}\nencoding: raw\nendian: little\n\nabc"


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
def test_checksums_of_compressed_pixels_are_verified(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".nii.gz":
        nibabel.Nifti1Image(GRID, np.eye(4)).to_filename(path)
    else:
        itk.imwrite(itk.image_from_array(GRID.transpose(2, 1, 0).copy()), str(path), compression=True)
    assert np.array_equal(read_medical_image(path, 3).numpy()[0], GRID)
    whole = path.read_bytes()
    for position in range(len(whole) // 2, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"a{suffix} is damaged"):
            read_medical_image(path, 3)


@pytest.mark.parametrize("axes", ["2147483648", "99999", "-1", "0", "4", "x", "3\nNDims = 2"])
def test_numbers_of_axes_that_are_none_are_refused(axes: str, tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_text(METAIMAGE.format(axes, "4 5 6"))
    with pytest.raises(DataError, match=r"a.mha has a DimSize of 3 numbers, and NDims is "):
        read_medical_image(tmp_path / "a.mha", 3)
    (tmp_path / "a.nrrd").write_text(NRRD.format(axes.replace("NDims =", "dimension:"), "4 5 6"))
    with pytest.raises(DataError, match=r"a.nrrd has 3 sizes, and its dimension is "):
        read_medical_image(tmp_path / "a.nrrd", 3)


@pytest.mark.parametrize("sizes", ["9" * 500 + "; 5", "9 " * 500 + ";", "1" * 19 + " 5"])
def test_long_numbers_are_no_sizes(sizes: str, tmp_path: Path) -> None:
    """A pattern that tried every way to part the digits would not end."""
    (tmp_path / "a.nrrd").write_text(NRRD.format(2, sizes))
    with pytest.raises(DataError, match=r"a.nrrd has 0 sizes, and its dimension is 2"):
        read_medical_image(tmp_path / "a.nrrd")
    (tmp_path / "a.mha").write_text(METAIMAGE.format(2, sizes))
    with pytest.raises(DataError, match=r"a.mha has a DimSize of 0 numbers, and NDims is 2"):
        read_medical_image(tmp_path / "a.mha")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ("4 0 6", "has no pixels: its header says 4 x 0 x 6"),
        ("4 -5 6", "has no pixels: its header says 4 x -5 x 6"),
        ("2000 2000 1000", "is too large: 2000 x 2000 x 1000"),
        ("400 400 100", "is cut off: its header promises 32000000 bytes of pixels, and it has [34]"),
    ],
)
def test_sizes_are_checked_before_memory_is_taken(sizes: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_text(METAIMAGE.format(3, sizes))
    (tmp_path / "a.nrrd").write_text(NRRD.format(3, sizes))
    for name in ("a.mha", "a.nrrd"):
        with pytest.raises(DataError, match=rf"{name} {message}"):
            read_medical_image(tmp_path / name, 3)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2000, 2000, 1000), "is too large: 2000 x 2000 x 1000"),
        ((400, 400, 100), "is cut off: its header promises 32000000 bytes of pixels"),
        ((4, 0, 6), "has no pixels: its header says 4 x 0 x 6"),
    ],
)
def test_sizes_of_nifti_are_checked_before_memory_is_taken(
    shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["dim"][:4] = (3, *shape)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    data = header.binaryblock + bytes(104)
    (tmp_path / "a.nii").write_bytes(data)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(data))
    for name in ("a.nii", "a.nii.gz"):
        with pytest.raises(DataError, match=rf"{name} {message}"):
            read_medical_image(tmp_path / name, 3)


def test_a_header_without_its_pixels_says_what_is_missing(tmp_path: Path) -> None:
    nibabel.Nifti1Pair(GRID, np.eye(4)).to_filename(tmp_path / "a.hdr")
    assert np.array_equal(read_medical_image(tmp_path / "a.hdr", 3).numpy()[0], GRID)
    (tmp_path / "a.img").unlink()
    with pytest.raises(DataError, match=r"a.hdr is only the header: the file a.img with its pixels is missing"):
        read_medical_image(tmp_path / "a.hdr", 3)


@pytest.mark.parametrize(("unit", "factor"), [("m", 1000), ("cm", 10), ("mm", 1), ("um", 0.001), ("?", 1)])
def test_lengths_are_in_mm_whatever_the_unit(unit: str, factor: float, tmp_path: Path) -> None:
    """ITK and nibabel give the numbers of the header, and leave the unit to the caller."""
    (tmp_path / "a.mha").write_bytes(
        b"NDims = 3\nDimSize = 6 7 8\nDistanceUnits = %s\nElementSpacing = 1 2 3\nElementType = MET_SHORT\n"
        b"ElementDataFile = LOCAL\n%s" % (unit.encode(), GRID.tobytes(order="F"))
    )
    units = " ".join([f'"{unit}"'] * 3) if unit != "?" else ""
    place = "space: left-posterior-superior\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (0,0,0)"
    for name, entries in (("a.nrrd", f"{place}\nspace units: {units}"), ("b.nrrd", f"spacings: 1 2 3\nunits: {units}")):
        entries = entries if units else entries.rsplit("\n", 1)[0]
        head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 6 7 8\n{entries}\nencoding: raw\nendian: little\n\n"
        (tmp_path / name).write_bytes(head.encode() + GRID.tobytes(order="F"))
    names = ["a.mha", "a.nrrd", "b.nrrd"]
    if unit != "cm":
        image = nibabel.Nifti1Image(GRID, np.diag([1.0, 2, 3, 1]))
        image.header["xyzt_units"] = {"m": 1, "mm": 2, "um": 3, "?": 0}[unit]
        image.to_filename(tmp_path / "a.nii")
        names.append("a.nii")
    for name in names:
        volume = read_medical_image(tmp_path / name, 3)
        assert np.allclose(volume.pixdim, np.array([1, 2, 3]) * factor), name
        assert np.array_equal(volume.numpy()[0], GRID), name


def test_units_that_are_not_known_or_differ_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mha").write_bytes(
        b"NDims = 3\nDimSize = 6 7 8\nDistanceUnits = parsec\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        + GRID.tobytes()
    )
    with pytest.raises(DataError, match=r"a.mha has lengths in 'parsec', a unit that is not known: save it in mm"):
        read_medical_image(tmp_path / "a.mha", 3)
    head = NRRD.format(3, "6 7 8").replace("encoding", 'spacings: 1 1 1\nunits: "mm" "mm" "cm"\nencoding')
    (tmp_path / "a.nrrd").write_bytes(head.removesuffix("abc").encode() + GRID.tobytes())
    with pytest.raises(DataError, match=r"a.nrrd has axes in different units \(cm, mm\)"):
        read_medical_image(tmp_path / "a.nrrd", 3)
    nibabel.Nifti1Image(GRID, np.eye(4)).to_filename(tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[123] = 5
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(DataError, match=r"a.nii has lengths in the unit 5 \(xyzt_units\), which NIfTI does not have"):
        read_medical_image(tmp_path / "a.nii", 3)


def test_what_itk_overlooks_in_a_header_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def write(name: str, head: str) -> Path:
        (tmp_path / name).write_bytes(head.encode() + GRID.tobytes(order="F"))
        return tmp_path / name

    mha = "NDims = 3\nDimSize = 6 7 8\n{}ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    for entry, told in (
        ("Slope = 2", r"2 \* value \+ 0"),
        ("Slope = 0", r"0 \* value \+ 0"),
        ("Offset = -1024", r"1 \* value \+ -1024"),
        ("Slope = x", "nan"),
    ):
        path = write("a.mha", mha.format(f"ElementToIntensityFunction{entry}\n"))
        with pytest.raises(DataError, match=rf"a.mha has an ElementToIntensityFunction \({told}"):
            read_medical_image(path, 3)
    identity = "ElementToIntensityFunctionSlope = 1\nElementToIntensityFunctionOffset = 0\n"
    assert np.array_equal(read_medical_image(write("a.mha", mha.format(identity)), 3).numpy()[0], GRID)

    nrrd = "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 7 8\n{}\nencoding: raw\nendian: little\n\n"
    with pytest.raises(DataError, match=r"a.nrrd tells distances by axis mins and maxs, which are not supported"):
        read_medical_image(write("a.nrrd", nrrd.format("axis mins: 0 0 0\naxis maxs: 6 7 16")), 3)
    read_medical_image(write("a.nrrd", nrrd.format("old min: -1000\nold max: 3000")), 3)
    assert "a.nrrd holds values that were scaled from -1000 to 3000" in caplog.text


def test_three_points_in_time_are_no_color(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (6, 7, 1, 3), dtype=np.uint8)
    image = nibabel.Nifti1Image(values, np.eye(4))
    image.to_filename(tmp_path / "color.nii")
    assert read_medical_image(tmp_path / "color.nii").shape == (3, 7, 6)
    image.header.set_xyzt_units("mm", "sec")
    image.to_filename(tmp_path / "a.nii")
    with pytest.raises(
        DataError, match=r"a.nii has 3 points in time or channels: choose one .* time=0 to 2 \(--time\)"
    ):
        read_medical_image(tmp_path / "a.nii")
    for option in ("time", "channel"):
        picture = read_medical_image(tmp_path / "a.nii", **{option: 1}).numpy()
        assert np.array_equal(np.rint(255 * picture[0]), values[:, :, 0, 1].T)
    assert read_medical_image(tmp_path / "a.nii", 3).shape == (3, 6, 7, 1)


def test_pixels_that_itk_would_leave_undefined_are_refused(tmp_path: Path) -> None:
    """ITK fills what a header does not tell right with whatever the memory held, without an error."""
    head = "NDims = 3\nDimSize = 6 7 8\nElementType = MET_SHORT\n"
    packed = zlib.compress(GRID.tobytes(order="F"))
    entry = "CompressedData = True\n{}ElementDataFile = LOCAL\n"
    for told in (None, len(packed) - 9, len(packed) + 9):
        size = "" if told is None else f"CompressedDataSize = {told}\n"
        (tmp_path / "a.mha").write_bytes((head + entry.format(size)).encode() + packed)
        with pytest.raises(DataError, match=rf"CompressedDataSize {told or 'none'}, .* take {len(packed)} bytes"):
            read_medical_image(tmp_path / "a.mha", 3)
    (tmp_path / "a.mha").write_bytes(
        (head + entry.format(f"CompressedDataSize = {len(packed)}\n")).encode() + packed + b"more"
    )
    assert np.array_equal(read_medical_image(tmp_path / "a.mha", 3).numpy()[0], GRID)

    names = [f"s{number}.raw" for number in range(8)]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(GRID[:, :, number].tobytes(order="F"))
    for files, message in (
        ("LIST\n" + "\n".join(names), "has a last line without an end"),
        ("LIST\n" + "\n".join(names[:-1]) + "\n", "names 7 files for its pixels, and its DimSize needs 8"),
        ("s%d.raw 0 6 1", "names 7 files for its pixels, and its DimSize needs 8"),
        ("s%d.raw 0 7 2", "names 4 files for its pixels, and its DimSize needs 8"),
        ("LIST\n" + "\n".join(names) + "\n", ""),
        ("LIST 2D\n" + "\n".join(names) + "\n", ""),
        ("s%d.raw 0 7 1", ""),
    ):
        (tmp_path / "a.mhd").write_text(f"{head}ElementDataFile = {files}")
        if message:
            with pytest.raises(DataError, match=rf"a.mhd {message}"):
                read_medical_image(tmp_path / "a.mhd", 3)
        else:
            assert np.array_equal(read_medical_image(tmp_path / "a.mhd", 3).numpy()[0], GRID)


def test_a_file_that_is_longer_than_its_header_tells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    head = "NDims = 3\nDimSize = 6 7 8\nElementSpacing = 1 1 1\nElementType = MET_SHORT\n{}ElementDataFile = a.raw\n"
    (tmp_path / "a.raw").write_bytes(b"headof12byte" + GRID.tobytes(order="F"))
    for size in (12, -1):
        (tmp_path / "a.mhd").write_text(head.format(f"HeaderSize = {size}\n"))
        assert np.array_equal(read_medical_image(tmp_path / "a.mhd", 3).numpy()[0], GRID)
    assert not caplog.text
    (tmp_path / "a.mhd").write_text(head.format(""))
    read_medical_image(tmp_path / "a.mhd", 3)
    assert "a.raw has 12 bytes more than its header tells" in caplog.text


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("a.mha", "BinaryData = False", "holds its pixels as text"),
        ("a.mha", "ElementType = MET_SHORT_ARRAY", "has the ElementType MET_SHORT_ARRAY"),
        ("a.mha", "ElementType = MET_STRING", "has the ElementType MET_STRING"),
        ("a.nrrd", "encoding: bzip2", "has the encoding bzip2"),
        ("a.nrrd", "encoding: zrl", "has the encoding zrl"),
        ("a.nrrd", "type: block", "has the type block"),
    ],
)
def test_forms_that_itk_does_not_read_are_no_damage(name: str, entry: str, message: str, tmp_path: Path) -> None:
    metaimage = "NDims = 3\nDimSize = 6 7 8\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    nrrd = "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 7 8\nencoding: raw\nendian: little\n\n"
    key = re.split("[ :]", entry)[0]
    head = metaimage if name == "a.mha" else nrrd
    head = re.sub(f"(?m)^{key}.*$", entry, head) if key in head else f"{entry}\n{head}"
    (tmp_path / name).write_bytes(head.encode() + GRID.tobytes(order="F"))
    with pytest.raises(DataError, match=rf"{name} {message}.* not supported: save it"):
        read_medical_image(tmp_path / name, 3)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_types_that_itks_python_package_lacks(dtype: str, channels: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0 if dtype == "uint64" else -128, 127, (channels, 6, 7, 8)).astype(dtype)
    several = "dimension: 4\nsizes: 3 6 7 8\nkinds: vector domain domain domain"
    axes = "dimension: 3\nsizes: 6 7 8" if channels == 1 else several
    head = f"NRRD0004\ntype: {dtype}\n{axes}\nencoding: raw\nendian: little\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + values.tobytes(order="F"))
    assert np.array_equal(read_medical_image(tmp_path / "a.nrrd", 3).numpy(), values)
    if dtype == "int8":
        name = {"frame": 0, "channel": 0}
        picture = read_medical_image(tmp_path / "a.nrrd", **name).numpy()
        assert np.allclose(picture[0], (values[0, :, :, 0].T + 128.0) / 255)


def test_two_affines_in_one_nifti_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sform, mirrored = np.diag([1.0, 2, 3, 1]), np.diag([-1.0, 2, 3, 1])
    image = nibabel.Nifti1Image(GRID, sform)
    image.set_sform(sform, 1)
    image.set_qform(sform, 1)
    image.to_filename(tmp_path / "a.nii")
    assert np.array_equal(read_medical_image(tmp_path / "a.nii", 3).affine, sform)
    assert not caplog.text
    image.set_qform(mirrored, 1)
    image.to_filename(tmp_path / "a.nii")
    assert np.array_equal(read_medical_image(tmp_path / "a.nii", 3).affine, sform)
    assert "a.nii tells that its axes run to RAS (sform) and to LAS (qform); the sform is taken" in caplog.text
    image.set_qform(np.diag([1.0, 2, 5, 1]), 1)
    image.to_filename(tmp_path / "a.nii")
    read_medical_image(tmp_path / "a.nii", 3)
    assert "a.nii tells voxels of 1 x 2 x 3 (sform) and of 1 x 2 x 5 (pixdim)" in caplog.text


def test_pixels_of_a_nifti_do_not_begin_in_its_header(tmp_path: Path) -> None:
    """nibabel would show the header as the first voxels; the reference implementation, nifti1_io, takes 352."""
    nibabel.Nifti1Image(GRID, np.eye(4)).to_filename(tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[108:112] = bytes(4)
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(DataError, match=r"a.nii has the vox_offset 0, .*: set it to 352"):
        read_medical_image(tmp_path / "a.nii", 3)


def test_nrrd_without_a_place_in_the_patient_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 7 8\n{}\nencoding: raw\nendian: little\n\n"
    place = "space directions: (1,0,0) (0,2,0) (0,0,3)\nspace origin: (0,0,0)"
    for space in ("left-posterior-superior", "RAS", "scanner-xyz", "3D-left-handed"):
        caplog.clear()
        data = head.format(f"space: {space}\n{place}").encode() + GRID.tobytes(order="F")
        (tmp_path / "a.nrrd").write_bytes(data)
        assert np.array_equal(read_medical_image(tmp_path / "a.nrrd", 3).numpy()[0], GRID)
        assert (f"a.nrrd has the space {space}, which does not tell left" in caplog.text) == (space[0] in "s3")
    (tmp_path / "a.nrrd").write_bytes(head.format("thicknesses: 1 2 3").encode() + GRID.tobytes(order="F"))
    with pytest.raises(DataError, match=r"a.nrrd tells thicknesses of its slices and no distances"):
        read_medical_image(tmp_path / "a.nrrd", 3)


def test_volumes_without_directions_or_distances_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pixels = GRID.tobytes(order="F")
    nrrd = "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 7 8\n{}encoding: raw\nendian: little\n\n"
    meta = "NDims = 3\nDimSize = 6 7 8\nElementType = MET_SHORT\n{}ElementDataFile = LOCAL\n"
    place = "space: RAS\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n"
    left, distances = "so nothing tells left from right in the patient", "tells no distances of its voxels; they are"
    for name, head, told in (
        ("a.nrrd", nrrd.format(place), []),
        ("a.nrrd", nrrd.format("spacings: 1 2 3\n"), [left]),
        ("a.nrrd", nrrd.format("spacings: nan nan nan\nspace: RAS\n"), [distances]),
        ("a.nrrd", nrrd.format(""), [left, distances]),
        ("a.mha", meta.format("ElementSpacing = 1 2 3\n"), []),
        ("a.mha", meta.format("ElementSize = 1 2 3\n"), []),
        ("a.mha", meta.format(""), [distances]),
    ):
        caplog.clear()
        (tmp_path / name).write_bytes(head.encode() + pixels)
        assert np.array_equal(read_medical_image(tmp_path / name, 3).numpy()[0], GRID)
        assert [text for text in (left, distances) if f"{name} " in caplog.text and text in caplog.text] == told
    caplog.clear()
    (tmp_path / "a.nrrd").write_bytes(
        b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3 7 8\nkinds: RGB-color domain domain\nencoding: raw\n\n"
        + bytes(3 * 7 * 8)
    )
    read_medical_image(tmp_path / "a.nrrd")
    assert not caplog.text


@pytest.mark.parametrize(("sform", "qform", "is_told"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_a_nifti_without_an_affine_is_told(
    sform: int, qform: int, is_told: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = nibabel.Nifti1Image(GRID, np.eye(4))
    image.set_sform(np.eye(4), sform)
    image.set_qform(np.eye(4), qform)
    image.to_filename(tmp_path / "a.nii")
    read_medical_image(tmp_path / "a.nii", 3)
    assert ("a.nii has neither an sform nor a qform, so nothing tells left from right" in caplog.text) == is_told


def test_two_orientations_in_one_metaimage_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ITK writes both, and reads the matrix only."""
    turned = np.array([[0.0, 1, 0], [0, 0, -1], [1, 0, 0]])
    oblique = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    for directions, wrong in ((np.eye(3), "LAI"), (np.diag([-1.0, -1, 1]), "RAI"), (turned, "RAI"), (oblique, "LPI")):
        image = itk.image_from_array(GRID)
        image.SetDirection(directions)
        itk.imwrite(image, str(tmp_path / "a.mha"))
        caplog.clear()
        read_medical_image(tmp_path / "a.mha", 3)
        assert not caplog.text
        head, tag, pixels = (tmp_path / "a.mha").read_bytes().partition(b"AnatomicalOrientation = ")
        own = pixels[:3].decode()
        (tmp_path / "a.mha").write_bytes(head + tag + wrong.encode() + pixels[3:])
        read_medical_image(tmp_path / "a.mha", 3)
        assert f"a.mha tells that its axes come from {wrong} (AnatomicalOrientation) and from {own}" in caplog.text


@pytest.mark.parametrize("kind", ["HSV-color", "XYZ-color", "3D-masked-symmetric-matrix"])
def test_kinds_of_nrrd_whose_channels_mean_something_else_are_refused(kind: str, tmp_path: Path) -> None:
    count = 7 if "matrix" in kind else 3
    head = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: {count} 7 8\nkinds: {kind} domain domain\nencoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(count * 7 * 8))
    with pytest.raises(DataError, match=f"a.nrrd has the kind {kind}, which is not supported"):
        read_medical_image(tmp_path / "a.nrrd")


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_endless_numbers_do_not_reach_itk(name: str, tmp_path: Path) -> None:
    """ITK's NRRD reader dies of them, with its process."""
    number = "9" * 400
    directions = f"type: short\ndimension: 3\nsizes: 6 7 8\nspace directions: (1,{number},0) (0,1,0) (0,0,1)"
    texts = {
        "a.nrrd": f"NRRD0004\n{directions}\nencoding: raw\nendian: little\n\n",
        "a.mha": f"NDims = 3\nDimSize = 6 7 8\nOffset = {number} 0 0\nElementType = MET_SHORT\n",
    }
    texts["a.mha"] += "ElementDataFile = LOCAL\n"
    (tmp_path / name).write_bytes(texts[name].encode() + bytes(2 * 6 * 7 * 8))
    with pytest.raises(DataError, match=f"{name} has a number of more than 64 digits in its header"):
        read_medical_image(tmp_path / name, 3)


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
@pytest.mark.parametrize("number", ["1e308", "-1.5e+200", "7E31"])
def test_huge_directions_do_not_reach_itk(name: str, number: str, tmp_path: Path) -> None:
    """ITK does not end to read a MetaImage with 1e308."""
    texts = {
        "a.nrrd": f"NRRD0004\ntype: short\ndimension: 3\nsizes: 6 7 8\nspace: left-posterior-superior\n"
        f"space directions: (1,{number},0) (0,1,0) (0,0,1)\nencoding: raw\nendian: little\n\n",
        "a.mha": f"NDims = 3\nDimSize = 6 7 8\nTransformMatrix = 1 0 0 0 1 0 0 {number} 1\nElementType = MET_SHORT\n"
        "ElementDataFile = LOCAL\n",
    }
    (tmp_path / name).write_bytes(texts[name].encode() + bytes(2 * 6 * 7 * 8))
    with pytest.raises(DataError, match=rf"{name} has the number {re.escape(number.lstrip('-'))} in its "):
        read_medical_image(tmp_path / name, 3)


@pytest.mark.parametrize("field", ["kinds", "units", "labels", "content"])
def test_long_fields_of_nrrd_do_not_reach_itk(field: str, tmp_path: Path) -> None:
    """ITK's NRRD reader copies them into memory of a fixed size."""
    text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 6 7 8\n{}encoding: raw\nendian: little\n\n"
    pixels = GRID.tobytes(order="F")
    (tmp_path / "a.nrrd").write_bytes(text.format(f"{field}: {'domain ' * 400}\n").encode() + pixels)
    with pytest.raises(DataError, match=f"a.nrrd has a field '{field}' of more than 800 characters in its header"):
        read_medical_image(tmp_path / "a.nrrd", 3)
    # Comments and pairs of keys and values may be long.
    (tmp_path / "a.nrrd").write_bytes(text.format(f"# {'x: ' * 2000}\nnote:={'x: ' * 2000}\n").encode() + pixels)
    assert np.array_equal(read_medical_image(tmp_path / "a.nrrd", 3).numpy()[0], GRID)


@pytest.mark.parametrize("pixels", ["", "LOCA", "gone.raw"])
def test_pixels_in_a_file_that_is_not_there_are_told(pixels: str, tmp_path: Path) -> None:
    """With compressed pixels, ITK divides by zero."""
    header = "NDims = 2\nDimSize = 6 5\nCompressedData = True\nElementType = MET_UCHAR\n"
    (tmp_path / "a.mha").write_bytes(f"{header}ElementDataFile = {pixels}\n".encode() + zlib.compress(bytes(30)))
    with pytest.raises(DataError, match=rf"a.mha names the file '{pixels}' for its pixels \(ElementDataFile\), which "):
        read_medical_image(tmp_path / "a.mha")
