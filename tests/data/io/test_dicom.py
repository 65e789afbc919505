# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from dicom_files import CT, DERMOSCOPY, PATIENT, sequence_item, write_dicom
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from monai_fgssl.data.io.reader import read_medical_image
from monai_fgssl.utils.errors import DataError

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def shown(path: Path, **options: Any) -> NDArray[np.float32]:
    """Brightness of a gray picture, ``(rows, columns)``."""
    image = read_medical_image(path, **options)
    assert image.shape[0] == 1
    return image.numpy()[0]


def linear(x: float, center: float, width: float) -> float:
    """PS3.3, C.11.2.1.2.1, word by word, from black 0 to white 1."""
    if x <= center - 0.5 - (width - 1) / 2:
        return 0
    if x > center - 0.5 + (width - 1) / 2:
        return 1
    return (x - (center - 0.5)) / (width - 1) + 0.5


def linear_exact(x: float, center: float, width: float) -> float:
    """PS3.3, C.11.2.1.3.2."""
    if x <= center - width / 2:
        return 0
    if x > center + width / 2:
        return 1
    return (x - center) / width + 0.5


def sigmoid(x: float, center: float, width: float) -> float:
    """PS3.3, C.11.2.1.3.1."""
    return 1 / (1 + math.exp(min(-4 * (x - center) / width, 700)))


ALL_12_BITS = np.arange(4096, dtype=np.uint16).reshape(64, 64)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("stored_as", "bits", "low"),
    [("u1", 8, 0), ("u2", 12, 0), ("i2", 12, -2048), ("u2", 16, 0), ("i2", 16, -32768), ("u4", 32, 0)],
)
def test_whole_range_without_a_window(photometric: str, stored_as: str, bits: int, low: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(low, low + 2**bits, (7, 9)).astype(stored_as)
    pixels[0, :2] = low, low + 2**bits - 1
    path = write_dicom(tmp_path / "a.dcm", pixels, BitsStored=bits, PhotometricInterpretation=photometric)
    expected = (pixels.astype(np.float64) - low) / (2**bits - 1)
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    assert np.abs(shown(path) - expected).max() < 1e-7
    assert shown(path)[0, :2].tolist() == ([1, 0] if photometric == "MONOCHROME1" else [0, 1])


@pytest.mark.parametrize("slope", [1, 0.5, -2])
def test_a_rescale_alone_leaves_the_whole_range(slope: float, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", ALL_12_BITS, BitsStored=12, RescaleSlope=slope, RescaleIntercept=-1024)
    expected = ALL_12_BITS / 4095 if slope > 0 else 1 - ALL_12_BITS / 4095
    assert np.abs(shown(path) - expected).max() < 1e-7


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", [linear, linear_exact, sigmoid])
@pytest.mark.parametrize(("center", "width"), [(40, 400), (1000.5, 1), (2047.5, 4096), (-300, 37.25)])
def test_windows_are_those_of_the_standard(
    photometric: str, function: Any, center: float, width: float, tmp_path: Path
) -> None:
    path = write_dicom(
        tmp_path / "a.dcm",
        ALL_12_BITS,
        BitsStored=12,
        PhotometricInterpretation=photometric,
        RescaleSlope="1",
        RescaleIntercept="-1024",
        WindowCenter=[center, 7],
        WindowWidth=[width, 7],
        # Without this attribute the function is linear.
        VOILUTFunction=None if function is linear else function.__name__.upper(),
    )
    expected = np.array([function(x - 1024, center, width) for x in range(4096)]).reshape(64, 64)
    expected = 1 - expected if photometric == "MONOCHROME1" else expected
    assert np.abs(shown(path) - expected).max() < 1e-6
    assert np.array_equal(shown(path), shown(path, window="dicom"))
    # A window that is asked for takes the place of that in the file, and is linear.
    other = np.array([linear(x - 1024, 500, 300) for x in range(4096)]).reshape(64, 64)
    other = 1 - other if photometric == "MONOCHROME1" else other
    assert np.abs(shown(path, window=(500, 300)) - other).max() < 1e-6


@pytest.mark.parametrize("values", [{"WindowCenter": "", "WindowWidth": ""}, {"WindowCenter": 40}, {"WindowWidth": 9}])
def test_half_a_window_is_none(values: dict[str, Any], tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", ALL_12_BITS, BitsStored=12, **values)
    assert np.abs(shown(path) - ALL_12_BITS / 4095).max() < 1e-7


@pytest.mark.parametrize("width", [0, 0.5, -3])
def test_an_impossible_window_is_named(width: float, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", ALL_12_BITS, WindowCenter=40, WindowWidth=width)
    with pytest.raises(DataError, match=rf"a.dcm has a window of width {width}, too small for LINEAR: give window="):
        shown(path)
    assert shown(path, window=(40, 400)).max() == 1
    path = write_dicom(tmp_path / "a.dcm", ALL_12_BITS, WindowCenter=40, WindowWidth=9, VOILUTFunction="CUBIC")
    with pytest.raises(DataError, match=r"a.dcm has the VOI LUT Function CUBIC, which is not known: give window="):
        shown(path)


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("representation", ["US", "OW", "OW, big endian"])
def test_voi_luts(bits: int, representation: str, tmp_path: Path) -> None:
    first, count = 1000, 2000
    entries = np.rint((np.arange(count) / (count - 1)) ** 0.5 * (2**bits - 1)).astype(np.uint16)
    is_big = "big" in representation
    item = sequence_item(LUTDescriptor=[count, first, bits])
    if representation == "US":
        item[0].add_new("LUTData", "US", entries.tolist())
    else:
        item[0].add_new("LUTData", "OW", entries.astype(">u2" if is_big else "<u2").tobytes())
    item[0]["LUTDescriptor"].VR = "US"
    path = write_dicom(
        tmp_path / "a.dcm",
        ALL_12_BITS,
        BitsStored=12,
        VOILUTSequence=item,
        WindowCenter=40,
        WindowWidth=400,
        **({"syntax": ExplicitVRBigEndian} if is_big else {}),
    )
    expected = [entries[min(max(x - first, 0), count - 1)] / (2**bits - 1) for x in range(4096)]
    assert np.abs(shown(path) - np.array(expected).reshape(64, 64)).max() < 1e-6


def test_modality_luts(tmp_path: Path) -> None:
    item = sequence_item(LUTDescriptor=[4096, 0, 16], ModalityLUTType="US")
    item[0]["LUTDescriptor"].VR = "US"
    item[0].add_new("LUTData", "US", [16 * (4095 - x) for x in range(4096)])
    path = write_dicom(tmp_path / "a.dcm", ALL_12_BITS, BitsStored=12, ModalityLUTSequence=item)
    assert np.abs(shown(path) - 16 * (4095 - ALL_12_BITS.astype(float)) / 65535).max() < 1e-6
    windowed = shown(path, window=(30000, 20000))
    expected = [linear(16 * (4095 - x), 30000, 20000) for x in range(4096)]
    assert np.abs(windowed - np.array(expected).reshape(64, 64)).max() < 1e-6


def test_float_pixels(tmp_path: Path) -> None:
    for kind in ("f4", "f8"):
        pixels = np.linspace(0, 1, 63).reshape(7, 9).astype(kind)
        path = write_dicom(tmp_path / "a.dcm", pixels, BitsStored=None, HighBit=None, PixelRepresentation=None)
        assert np.abs(shown(path) - pixels).max() < 1e-7
        path = write_dicom(tmp_path / "a.dcm", pixels * 9, BitsStored=None, HighBit=None, PixelRepresentation=None)
        with pytest.raises(DataError, match=r"a.dcm has float\d\d values from 0 to 9, .* give window="):
            shown(path)


def test_unused_bits_are_cleared(tmp_path: Path) -> None:
    # Old devices keep overlays above the 12 bits that are stored.
    overlaid = ALL_12_BITS | (ALL_12_BITS % 3 == 0).astype(np.uint16) << 13
    path = write_dicom(tmp_path / "a.dcm", overlaid, BitsStored=12)
    assert np.abs(shown(path) - ALL_12_BITS / 4095).max() < 1e-7


def test_palettes_of_many_entries(tmp_path: Path) -> None:
    names = ("Red", "Green", "Blue")
    tables = np.random.default_rng(0).integers(0, 256, (3, 1000), dtype=np.uint8)
    indices = np.random.default_rng(1).integers(0, 1200, (20, 30)).astype(np.uint16)
    path = write_dicom(
        tmp_path / "a.dcm",
        indices,
        PhotometricInterpretation="PALETTE COLOR",
        **{f"{name}PaletteColorLookupTableDescriptor": [1000, 100, 8] for name in names},
        **{f"{name}PaletteColorLookupTableData": table.tobytes() for name, table in zip(names, tables, strict=True)},
    )
    expected = tables[:, np.clip(indices.astype(int) - 100, 0, 999)]
    assert np.array_equal(np.rint(255 * read_medical_image(path).numpy()), expected)


def test_windows_of_frames(tmp_path: Path) -> None:
    """Multi-frame images keep rescale and window in functional groups, shared or per frame."""
    frames = np.stack([ALL_12_BITS, ALL_12_BITS[::-1]])
    group: dict[str, Any] = {}
    shared = sequence_item(
        PixelValueTransformationSequence=sequence_item(RescaleSlope=2, RescaleIntercept=-100, RescaleType="US"),
        PixelMeasuresSequence=sequence_item(PixelSpacing=[0.3, 0.4]),
    )
    per_frame = [
        sequence_item(FrameVOILUTSequence=sequence_item(WindowCenter=center, WindowWidth=1000), **group)[0]
        for center in (1000, 3000)
    ]
    path = write_dicom(
        tmp_path / "a.dcm",
        frames,
        NumberOfFrames=2,
        BitsStored=12,
        SharedFunctionalGroupsSequence=shared,
        PerFrameFunctionalGroupsSequence=per_frame,
    )
    for number, center in enumerate((1000, 3000)):
        expected = [linear(2 * int(x) - 100, center, 1000) for x in frames[number].flat]
        image = read_medical_image(path, frame=number)
        assert np.abs(image.numpy()[0] - np.reshape(expected, (64, 64))).max() < 1e-6
        assert image.affine.diagonal().tolist() == [0.3, 0.4, 1, 1]


@pytest.mark.parametrize("photometric", ["HSV", "CMYK", "YBR_PARTIAL_420", "XYB"])
def test_colors_that_are_not_known_are_named(photometric: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4, 3), np.uint8), PhotometricInterpretation=photometric)
    with pytest.raises(DataError, match=rf"a.dcm has the Photometric Interpretation \(0028,0004\) {photometric}, "):
        read_medical_image(path)


def test_a_file_without_transfer_syntax_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", ALL_12_BITS)
    # Make it a private attribute that means nothing: (0002,0010) becomes (0002,0011).
    path.write_bytes(path.read_bytes().replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI"))
    with pytest.raises(DataError, match=r"a.dcm has no Transfer Syntax UID \(0002,0010\)"):
        read_medical_image(path)


def test_ybr_of_16_bits_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4, 3), np.uint16), PhotometricInterpretation="YBR_FULL")
    with pytest.raises(DataError, match=r"a.dcm has YBR colors of 16 bits, which are not supported"):
        read_medical_image(path)


def test_any_sop_class_and_no_suffix(tmp_path: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    for sop_class in (DERMOSCOPY, CT, "1.2.840.10008.5.1.4.1.1.77.1.4", "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4.5"):
        image = read_medical_image(write_dicom(tmp_path / "IM0001", pixels, sop_class=sop_class))
        assert np.array_equal(np.rint(255 * image.numpy().transpose(1, 2, 0)), pixels)
        assert image.meta["SOPClassUID"] == sop_class


def test_uids_are_those_of_the_file(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", ALL_12_BITS)
    dataset = pydicom.dcmread(path)
    meta = read_medical_image(path).meta
    for key in ("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"):
        assert meta[key] == dataset[key].value
        assert type(meta[key]) is str


def test_headers_are_those_of_the_file_without_pixels(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", ALL_12_BITS, **PATIENT)
    expected = pydicom.dcmread(path, stop_before_pixels=True)
    headers: list[Dataset] = []
    image = read_medical_image(path, headers=headers)
    (header,) = headers
    assert list(header) == list(expected)
    # Only who asks for it gets what names a patient.
    assert not [value for value in PATIENT.values() if value in str(image.meta)]


def test_other_files_have_no_headers(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    headers: list[Dataset] = []
    read_medical_image(tmp_path / "a.png", headers=headers)
    assert headers == []


def test_every_file_of_pydicom_loads_or_says_why() -> None:
    files = [path for path in sorted(PYDICOM_FILES.rglob("*")) if path.is_file()]
    loaded: dict[str, torch.Tensor] = {}
    reasons: dict[str, str] = {}
    for path in files:
        name = path.relative_to(PYDICOM_FILES).as_posix()
        for spatial_dims in (2, 3):
            try:
                image = read_medical_image(path, spatial_dims)
                assert image.ndim == spatial_dims + 1
                assert torch.isfinite(image).all()
                if spatial_dims == 2:
                    assert image.min() >= 0
                    assert image.max() <= 1
                    assert image.max() > image.min() or name.startswith("dicomdirtests")
                    loaded[name] = image
            except DataError as error:
                reasons[name if spatial_dims == 2 else f"{name} in 3D"] = str(error)
    assert len(loaded) > 60
    for name, reason in reasons.items():
        path = str(PYDICOM_FILES / name.removesuffix(" in 3D"))
        assert reason.startswith(f"{path} ")
        assert len(reason) > len(path) + 10
    # Every file with pixels that is one picture, and no more.
    for name in [path.relative_to(PYDICOM_FILES).as_posix() for path in files]:
        try:
            dataset = pydicom.dcmread(PYDICOM_FILES / name)
            has_picture = {"PixelData", "Rows"} <= set(dataset.dir()) and int(dataset.get("NumberOfFrames") or 1) == 1
        except Exception:
            has_picture = False
        # In one the number of columns is overwritten by bytes that look like the end of a sequence.
        told = (
            "JPEG Extended (Process 2 and 4) with 12 bits",
            "is damaged",
            "and holds a picture of 3722445056 x 1024",
        )
        assert (name in loaded) == has_picture or any(words in reasons[name] for words in told), name
    # The same picture, stored in different ways.
    for name in ("RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"):
        assert torch.equal(loaded[f"MR_small_{name}.dcm"].as_tensor(), loaded["MR_small.dcm"].as_tensor())
    assert torch.equal(loaded["SC_rgb_jpeg_gdcm.dcm"].as_tensor(), loaded["SC_rgb_rle.dcm"].as_tensor())
    # Eight flat bars; lossy compression and chroma in half resolution blur their edges only.
    bars = np.rint(255 * loaded["SC_rgb_rle.dcm"].numpy())[:, 5:100:10, 50]
    for name in (
        "dcmtk_+eb+cr",
        "dcmtk_+eb+cy+n1",
        "dcmtk_+eb+cy+np",
        "dcmtk_+eb+cy+s2",
        "dcmtk_+eb+cy+s4",
        "jpeg_dcmtk",
    ):
        pixels = 255 * loaded[f"SC_rgb_{name}.dcm"].numpy()[:, 5:100:10, 50]
        assert np.abs(pixels - bars).max() <= 5, name
    for name in ("reportsi.dcm", "rtplan.dcm", "test-SR.dcm", "dicomdirtests/DICOMDIR"):
        assert "is a DICOM file without an image" in reasons[name]


SHOWN_BY_DCMTK = [
    "CT_small",
    "ExplVR_BigEnd",
    "MR_small",
    "MR_small_RLE",
    "MR_small_bigendian",
    "SC_jpeg_no_color_transform",
    "SC_rgb_dcmtk_+eb+cr",
    "SC_rgb_dcmtk_+eb+cy+n1",
    "SC_rgb_dcmtk_+eb+cy+np",
    "SC_rgb_dcmtk_+eb+cy+s2",
    "SC_rgb_jpeg_app14_dcmd",
    "SC_rgb_jpeg_gdcm",
    "SC_rgb_jpeg_lossy_gdcm",
    "SC_rgb_rle",
    "SC_rgb_rle_16bit",
    "SC_rgb_rle_32bit",
    "SC_rgb_small_odd_big_endian",
    "image_dfl",
    "SC_ybr_full_422_uncompressed",
    "dicomdirtests/77654033/CR1/6154",
    "dicomdirtests/77654033/CT2/17106",
    "rtdose_1frame",
]


@pytest.mark.parametrize("name", SHOWN_BY_DCMTK)
def test_pictures_are_as_dcmtk_shows_them(name: str, tmp_path: Path) -> None:
    path = PYDICOM_FILES / (name if "/" in name else f"{name}.dcm")
    dataset = pydicom.dcmread(path)
    window = ["+Wi", "1"] if dataset.get("WindowCenter") is not None else []
    subprocess.run(["dcmj2pnm", *window, path, tmp_path / "a.ppm"], check=True, capture_output=True)
    with Image.open(tmp_path / "a.ppm") as image:
        expected = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    difference = np.abs(255 * read_medical_image(path).numpy() - expected)
    # dcmtk cuts gray values to 8 bits, and averages the chroma of 4:2:2 without compression otherwise.
    if len(expected) == 1 or "422" in name:
        assert difference.max() < 1.01
    else:
        assert difference.max() < (1 if dataset.BitsAllocated > 8 else 1e-4)


def test_no_patient_data_in_errors(tmp_path: Path) -> None:
    damaged = write_dicom(tmp_path / "damaged.dcm", ALL_12_BITS)
    damaged.write_bytes(damaged.read_bytes()[:-100])
    files = [
        damaged,
        write_dicom(tmp_path / "window.dcm", ALL_12_BITS, WindowCenter=1, WindowWidth=0),
        write_dicom(tmp_path / "color.dcm", ALL_12_BITS, PhotometricInterpretation="HSV"),
        write_dicom(tmp_path / "frames.dcm", np.zeros((2, 4, 4), np.uint8), NumberOfFrames=2),
        write_dicom(tmp_path / "bits.dcm", ALL_12_BITS, BitsAllocated=13),
    ]
    for path in files:
        with pytest.raises(DataError, match=rf"{path.name} (is|has) ") as caught:
            read_medical_image(path)
        assert not [value for value in PATIENT.values() if value in str(caught.value)]


@pytest.mark.slow
def test_a_missing_decoder_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    """In a Python that has no plug-ins, which only a new process can show."""
    script = """
import sys
for name in ("gdcm", "jpeg_ls", "libjpeg", "openjpeg", "pylibjpeg", "nvidia.nvimgcodec"):
    sys.modules[name] = None
from pathlib import Path
from monai_fgssl.utils.errors import DataError
from monai_fgssl.data.io.reader import read_medical_image
for path in sys.argv[1:]:
    try:
        print(tuple(read_medical_image(path).shape))
    except DataError as error:
        print(str(error)[len(path) + 1 :])
"""
    plain = write_dicom(tmp_path / "plain.dcm", np.zeros((8, 8), np.uint8))
    files = [plain]
    for command in (["dcmcjpls"], ["dcmcjpeg", "+e1"], ["dcmcrle"]):
        files.append(tmp_path / f"{command[0]}.dcm")
        subprocess.run([*command, plain, files[-1]], check=True)
    codes = {"htj2k": "1.2.840.10008.1.2.4.201", "video": "1.2.840.10008.1.2.4.102", "jpip": "1.2.840.10008.1.2.4.94"}
    for name, syntax in codes.items():
        zeros = np.zeros((8, 8), np.uint8)
        path = write_dicom(tmp_path / f"{name}.dcm", zeros, syntax=codes["video"], codestreams=[b"\xff" * 64])
        # pydicom 2.4 doesn't write syntaxes that it doesn't know.
        path.write_bytes(path.read_bytes().replace(codes["video"].encode(), syntax.encode().ljust(23, b"\0")))
        files.append(path)
    run = subprocess.run([sys.executable, "-c", script, *files], check=True, capture_output=True, text=True)
    lines = run.stdout.splitlines()
    needs = ", for which no decoder is installed: `pip install 'monai-fgssl[dicom]'`."
    assert lines[0] == "(1, 8, 8)"
    assert lines[1] == "is compressed as JPEG-LS Lossless Image Compression" + needs
    assert lines[2].startswith("is compressed as JPEG Lossless, Non-Hierarchical, First-Order Prediction")
    assert lines[2].endswith(needs)
    assert lines[3] == "(1, 8, 8)"
    assert lines[4].endswith("`pip install 'pydicom>=3' pylibjpeg pylibjpeg-openjpeg`.")
    assert lines[5].startswith("is a video (MPEG-4 AVC/H.264 High Profile")
    assert lines[6] == "is stored as JPIP Referenced, which is not supported."


@pytest.mark.parametrize("entry", [{"RescaleIntercept": -1024}, {"RescaleSlope": 2}])
def test_half_a_rescale_is_applied(entry: dict[str, int], tmp_path: Path) -> None:
    """GDCM and dcm4che take 1 and 0 for what is missing; pydicom leaves both out, and HU are wrong by 1024."""
    values = np.arange(0, 3000, 50, dtype=np.uint16).reshape(6, 10)
    half = write_dicom(tmp_path / "half.dcm", values, WindowCenter=40, WindowWidth=400, **entry)
    whole = {"RescaleSlope": 1, "RescaleIntercept": 0} | entry
    full = write_dicom(tmp_path / "full.dcm", values, WindowCenter=40, WindowWidth=400, **whole)
    plain = write_dicom(tmp_path / "plain.dcm", values, WindowCenter=40, WindowWidth=400)
    assert np.array_equal(shown(half), shown(full))
    assert not np.array_equal(shown(half), shown(plain))


def test_doses_are_scaled(tmp_path: Path) -> None:
    values = np.arange(500, 60500, 1000, dtype=np.uint16).reshape(6, 10)
    dose = {"sop_class": "1.2.840.10008.5.1.4.1.1.481.2", "Modality": "RTDOSE", "DoseUnits": "GY"}
    path = write_dicom(tmp_path / "a.dcm", values, DoseGridScaling="0.001", **dose)
    expected = np.clip((values * 0.001 - 20) / 10 + 0.5, 0, 1)
    assert np.allclose(read_medical_image(path, window=(20, 10)).numpy()[0], expected, atol=1e-6)
    assert np.allclose(read_medical_image(path).numpy()[0], values / 65535, atol=1e-6)
    zero = write_dicom(tmp_path / "b.dcm", values, DoseGridScaling="0", **dose)
    with pytest.raises(DataError, match=r"b.dcm has a Dose Grid Scaling \(3004,000E\) of 0"):
        read_medical_image(zero)


def test_frames_without_functional_groups_are_refused(tmp_path: Path) -> None:
    """The last frame would have no rescale."""
    groups = []
    for number in range(2):
        group = Dataset()
        group.PixelValueTransformationSequence = sequence_item(RescaleSlope=1 + number, RescaleIntercept=-number)
        groups.append(group)
    pixels = np.ones((3, 4, 5), np.uint16)
    path = write_dicom(tmp_path / "a.dcm", pixels, NumberOfFrames=3, PerFrameFunctionalGroupsSequence=groups)
    with pytest.raises(DataError, match=r"a.dcm has 3 frames and the functional groups \(5200,9230\) of 2 only"):
        read_medical_image(path, frame=2)


def test_a_slope_of_0_is_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 5), np.uint16), RescaleSlope=0, RescaleIntercept=-1024)
    with pytest.raises(DataError, match=r"a.dcm has a Rescale Slope \(0028,1053\) of 0, which makes all .* -1024"):
        read_medical_image(path, window=(40, 400))


@pytest.mark.parametrize(
    ("shape", "photometric"), [((4, 5, 3), "MONOCHROME2"), ((4, 5, 3), "PALETTE COLOR"), ((4, 5), "RGB")]
)
def test_colors_and_samples_must_agree(shape: tuple[int, ...], photometric: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros(shape, np.uint8), PhotometricInterpretation=photometric)
    with pytest.raises(DataError, match=rf"a.dcm has {len(shape[2:]) * 2 + 1} sample.*{photometric} can't have"):
        read_medical_image(path)


def test_pixels_of_more_frames_than_the_header_tells_are_refused(tmp_path: Path) -> None:
    frames = np.zeros((3, 64, 64), np.uint16)
    path = write_dicom(tmp_path / "a.dcm", frames.reshape(192, 64), Rows=64)
    with pytest.raises(DataError, match=r"a.dcm has the pixels of 3 frames, and its header tells of 1: correct Number"):
        read_medical_image(path)
    # Some writers fill the last block of the file.
    path = write_dicom(tmp_path / "b.dcm", np.zeros((66, 64), np.uint8), Rows=64)
    assert read_medical_image(path).shape == (1, 64, 64)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
def test_the_presentation_lut_shape_tells_what_is_bright(photometric: str, shape: str, tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "a.dcm", ALL_12_BITS, photometric=photometric, BitsStored=12, HighBit=11, PresentationLUTShape=shape
    )
    expected = ALL_12_BITS / 4095
    assert np.allclose(shown(path), 1 - expected if shape == "INVERSE" else expected, atol=1e-6)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("options", [{}, {"window": (0, 3000)}])
def test_padding_is_black(options: dict[str, Any], photometric: str, syntax: str, tmp_path: Path) -> None:
    """PS3.3, C.7.5.1.1.2: padding is not part of the picture. Here it would be the brightest or the darkest value."""
    pixels = np.random.default_rng(0).integers(-1000, 1000, (8, 8)).astype(np.int16)
    outside = np.hypot(*np.mgrid[-3.5:4, -3.5:4]) > 4
    padded = {value: np.where(outside, value, pixels).astype(np.int16) for value in (-2000, 2000)}
    for value, stored in padded.items():
        common = {"syntax": syntax, "PhotometricInterpretation": photometric}
        plain = shown(write_dicom(tmp_path / "plain.dcm", stored, **common), **options)
        path = write_dicom(tmp_path / "padded.dcm", stored, **common, PixelPaddingValue=value)
        assert np.array_equal(shown(path, **options), np.where(outside, 0, plain))
        # A rescale changes the values of the modality, and the padding is told as it is stored.
        rescaled = write_dicom(
            tmp_path / "rescaled.dcm", stored, **common, PixelPaddingValue=value, RescaleSlope=2, RescaleIntercept=7
        )
        assert (shown(rescaled, **options)[outside] == 0).all()


def test_padding_may_be_a_range_of_values(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    path = write_dicom(tmp_path / "a.dcm", pixels, PixelPaddingValue=63000, PixelPaddingRangeLimit=50000)
    assert np.array_equal(shown(path), np.where(pixels >= 50000, 0, pixels / np.float32(65535)))
    floats = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    options = {"BitsStored": None, "HighBit": None, "PixelRepresentation": None, "FloatPixelPaddingValue": 1.0}
    assert shown(write_dicom(tmp_path / "b.dcm", floats, **options))[7, 7] == 0


def test_a_padding_value_that_no_pixel_has_changes_nothing(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    path = write_dicom(tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=255)
    assert np.array_equal(shown(path), 1 - pixels / np.float32(255))
