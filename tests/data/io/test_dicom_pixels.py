# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""DICOM pixels of any layout against the array that was written, including errors of old or careless writers."""

from __future__ import annotations

import subprocess
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from dicom_files import run_length_encoded, sequence_item, write_dicom
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from picture_files import encoded
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from monai_fgssl.data.io.reader import read_medical_image
from monai_fgssl.utils.errors import DataError

SYNTAXES = [
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
    JPEGLSLossless,
    JPEG2000Lossless,
]


def compressed(frame: NDArray[Any], syntax: str) -> list[bytes]:
    """A frame in a transfer syntax that packs frames one by one; none for others."""
    if syntax == RLELossless:
        return [run_length_encoded(frame)]
    if syntax == JPEGLSLossless:
        # pyjpegls has no room for the smallest pictures.
        return [imagecodecs.jpegls_encode(frame)]
    if syntax == JPEG2000Lossless:
        return [encoded(frame, "JPEG2000", irreversible=False, mct=0, no_jp2=True)]
    return []


@st.composite
def palettes(draw: st.DrawFn, stored: int, is_signed: bool, order: str) -> dict[str, Any]:
    """Attributes of a palette, shorter or longer than there are values, that begins anywhere."""
    depth, count = draw(st.sampled_from([8, 16])), draw(st.integers(2, 300))
    first = draw(st.integers(-(2 ** (stored - 1)) if is_signed else 0, 2 ** (stored - 1)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    attributes: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for color in ("Red", "Green", "Blue"):
        entries = rng.integers(0, 2**depth, count)
        data = entries.astype(f"{order}u2").tobytes()
        if depth == 8 and order == "<" and draw(st.booleans()):
            # Two to a word.
            data = entries.astype("u1").tobytes() + b"\0" * (count % 2)
        attributes[f"{color}PaletteColorLookupTableDescriptor"] = [count, first, depth]
        attributes[f"{color}PaletteColorLookupTableData"] = data
    return attributes


def brightness(layout: dict[str, Any]) -> NDArray[np.float64]:
    """Brightness in a viewer, by PS3.3, C.7.6.3.1.5 and C.11, ``(rows, columns)`` or ``(rows, columns, 3)``."""
    attributes = layout["attributes"]
    stored, is_signed = attributes["BitsStored"], attributes["PixelRepresentation"]
    values = layout["values"][layout["frame"]].astype(np.float64)
    if attributes["PhotometricInterpretation"] == "PALETTE COLOR":
        planes = []
        for color in ("Red", "Green", "Blue"):
            count, first, depth = attributes[f"{color}PaletteColorLookupTableDescriptor"]
            data = attributes[f"{color}PaletteColorLookupTableData"]
            order = ">" if layout["syntax"] == ExplicitVRBigEndian else "<"
            entries = np.frombuffer(data, f"{order}u2") if len(data) == 2 * count else np.frombuffer(data, "u1")
            planes.append(entries[np.clip(values - first, 0, count - 1).astype(int)] / (2**depth - 1))
        return np.stack(planes, -1)
    low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if is_signed else (0, 2**stored - 1)
    if values.ndim == 3:
        return values / (2**stored - 1)
    if attributes["RescaleSlope"] is not None:
        slope, intercept = attributes["RescaleSlope"], attributes["RescaleIntercept"]
        values = values * slope + intercept
        low, high = sorted((low * slope + intercept, high * slope + intercept))
    if "WindowCenter" in attributes:
        center, width = attributes["WindowCenter"], attributes["WindowWidth"]
        if attributes["VOILUTFunction"] == "SIGMOID":
            shown = 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
        elif attributes["VOILUTFunction"] == "LINEAR_EXACT":
            shown = np.clip((values - center) / width + 0.5, 0, 1)
        elif width == 1:
            shown = (values > center - 0.5).astype(np.float64)
        else:
            shown = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    else:
        shown = (values - low) / (high - low)
    return 1 - shown if attributes["PhotometricInterpretation"] == "MONOCHROME1" else shown


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """Values, the words that hold them, and the header."""
    allocated = draw(st.sampled_from([8, 16, 32]))
    stored = draw(st.integers(1, allocated))
    is_color = draw(st.booleans()) and allocated < 32
    high = draw(st.integers(stored - 1, allocated - 1))
    is_signed = draw(st.booleans())
    frames = draw(st.integers(1, 3))
    shape = (frames, draw(st.integers(1, 12)), draw(st.integers(1, 12)), *((3,) if is_color else ()))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = rng.integers(0, 2**stored, shape, dtype=np.uint64)
    below = high + 1 - stored
    # What lies outside of the stored bits, such as overlays.
    junk = rng.integers(0, 2**allocated, shape, dtype=np.uint64) * draw(st.booleans())
    mask = ((1 << stored) - 1) << below
    words = (bits << np.uint64(below)) | (junk & np.uint64((1 << allocated) - 1 ^ mask))
    low_bits = words & np.uint64((1 << below) - 1)
    is_tag_wrong = any(
        low.any() and frame_words.max() < 1 << stored for low, frame_words in zip(low_bits, words, strict=True)
    )
    assume(not is_tag_wrong)
    values = bits.astype(np.int64)
    if is_signed and not is_color:
        values = np.where(values >= 1 << (stored - 1), values - (1 << stored), values)
    syntax = draw(st.sampled_from(SYNTAXES))
    # What the encoders take.
    assume(syntax not in (JPEGLSLossless, JPEG2000Lossless) or allocated == 8 or (allocated == 16 and not is_color))
    is_palette = (
        not is_color and allocated < 32 and stored <= 10 and not syntax.endswith((".80", ".90")) and draw(st.booleans())
    )
    # Rescales that pydicom writes exactly.
    slope, intercept = draw(st.sampled_from([(None, None), (1, -1024), (0.5, 3), (-2, 7)]))
    attributes: dict[str, Any] = {
        "BitsAllocated": allocated,
        "BitsStored": stored,
        "HighBit": high,
        "PixelRepresentation": int(is_signed),
        "PhotometricInterpretation": "RGB" if is_color else draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
        "NumberOfFrames": frames,
        "RescaleSlope": None if is_color or is_palette else slope,
        "RescaleIntercept": None if is_color or is_palette else intercept,
    }
    if is_palette:
        attributes |= draw(palettes(stored, is_signed, "<" if syntax != ExplicitVRBigEndian else ">"))
    elif not is_color and draw(st.booleans()):
        function = draw(st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID"]))
        attributes |= {
            "WindowCenter": draw(st.integers(-200, 2000)) / 2,
            "WindowWidth": draw(st.integers(2, 3000)) / 2,
            "VOILUTFunction": function,
        }
    if is_color:
        is_packed = syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless)
        attributes["PlanarConfiguration"] = 0 if is_packed else draw(st.sampled_from([0, 1]))
    return {
        "values": values,
        "words": words.astype(f"u{allocated // 8}"),
        "attributes": attributes,
        "syntax": syntax,
        "frame": draw(st.integers(0, frames - 1)),
    }


@given(layout=layouts())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_layout_is_read_as_it_was_written(layout: dict[str, Any], tmp_path: Path) -> None:
    attributes, words = layout["attributes"], layout["words"]
    codestreams = [one for frame in words for one in compressed(frame, layout["syntax"])]
    pixels = words if attributes["NumberOfFrames"] > 1 else words[0]
    path = write_dicom(tmp_path / "a.dcm", pixels, syntax=layout["syntax"], codestreams=codestreams, **attributes)

    expected = brightness(layout)
    got = read_medical_image(path, frame=layout["frame"]).numpy()
    got = got.transpose(1, 2, 0) if expected.ndim == 3 else got[0]
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() < 1e-6


TWELVE_BITS = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("is_signed", [False, True])
def test_overlay_bits_are_cleared_in_all_transfer_syntaxes(syntax: str, is_signed: bool, tmp_path: Path) -> None:
    words = TWELVE_BITS | (TWELVE_BITS % 5 << 12).astype(np.uint16)
    path = write_dicom(
        tmp_path / "a.dcm", words, syntax, compressed(words, syntax), BitsStored=12, PixelRepresentation=int(is_signed)
    )
    values = TWELVE_BITS.astype(float)
    expected = ((values + 2048) % 4096 if is_signed else values) / 4095
    assert np.abs(read_medical_image(path).numpy()[0] - expected).max() < 1e-6


def test_high_bit_is_that_of_dcmtk(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS << 4, BitsStored=12, HighBit=15)
    assert np.abs(read_medical_image(path).numpy()[0] - TWELVE_BITS / 4095).max() < 1e-6
    subprocess.run(["dcmj2pnm", path, tmp_path / "b.pgm"], check=True, capture_output=True)
    with Image.open(tmp_path / "b.pgm") as image:
        assert np.abs(np.asarray(image) - 255 * read_medical_image(path).numpy()[0]).max() < 1.01


def test_a_high_bit_that_the_values_contradict_is_told(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS + 1, BitsStored=12, HighBit=15)
    with pytest.raises(DataError, match=r"a.dcm has High Bit \(0028,0102\) 15 with 12 Bits Stored, .* set it to 11"):
        read_medical_image(path)
    # One that is too low says nothing.
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS, BitsStored=12, HighBit=7)
    assert np.abs(read_medical_image(path).numpy()[0] - TWELVE_BITS / 4095).max() < 1e-6


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("key", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("count", [256, 255])
def test_tables_of_8_bits_may_be_packed_into_words(key: str, syntax: str, count: int, tmp_path: Path) -> None:
    table = np.arange(count, dtype=np.uint8)[::-1]
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    data = np.concatenate([table, np.zeros(count % 2, np.uint8)])
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [count, 0, 8])
    item.add_new("LUTData", "OW", (data.view("u2").byteswap() if syntax == ExplicitVRBigEndian else data).tobytes())
    item.ModalityLUTType = "US"
    path = write_dicom(tmp_path / "a.dcm", pixels, syntax, **{key: [item]})
    assert np.abs(255 * read_medical_image(path).numpy()[0] - table[pixels]).max() < 1e-4


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_the_first_value_of_a_table_is_signed_if_the_values_are(syntax: str, tmp_path: Path) -> None:
    table = np.linspace(0, 65535, 4096).astype("<u2")
    pixels = np.arange(24, dtype=np.uint16).reshape(4, 6) * 170
    item = Dataset()
    # -1024 as unsigned 16 bits, as most write it.
    item.add_new("LUTDescriptor", "US", [4096, 65536 - 1024, 16])
    item.add_new("LUTData", "OW", table.tobytes())
    path = write_dicom(
        tmp_path / "a.dcm",
        pixels,
        syntax,
        BitsStored=12,
        RescaleSlope="1",
        RescaleIntercept="-1024",
        VOILUTSequence=[item],
    )
    assert np.abs(65535 * read_medical_image(path).numpy()[0] - table[pixels]).max() < 0.1


def test_a_depth_too_small_for_its_entries_is_corrected(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    item = sequence_item(LUTDescriptor=[16, 0, 8], LUTData=[257 * 17 * x for x in range(16)])
    item[0]["LUTDescriptor"].VR = item[0]["LUTData"].VR = "US"
    path = write_dicom(tmp_path / "a.dcm", pixels, VOILUTSequence=item)
    assert np.abs(15 * read_medical_image(path).numpy()[0] - pixels).max() < 1e-5


@pytest.mark.parametrize("key", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("items", [0, 1])
def test_empty_sequences_are_none(key: str, items: int, tmp_path: Path) -> None:
    value = sequence_item(LUTExplanation="") * items
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS, BitsStored=12, **{key: value})
    assert np.abs(read_medical_image(path).numpy()[0] - TWELVE_BITS / 4095).max() < 1e-6


def test_a_table_that_is_cut_off_is_told(tmp_path: Path) -> None:
    item = sequence_item(LUTDescriptor=[4096, 0, 16], LUTData=[1, 2, 3])
    item[0]["LUTDescriptor"].VR = item[0]["LUTData"].VR = "US"
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS, BitsStored=12, VOILUTSequence=item)
    with pytest.raises(DataError, match=r"a.dcm has a VOILUTSequence with 6 bytes for 4096 entries of 16 bits"):
        read_medical_image(path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("first", [0, -3])
def test_palettes_of_16_bits_in_both_byte_orders(syntax: str, first: int, tmp_path: Path) -> None:
    tables = np.random.default_rng(0).integers(0, 2**16, (3, 32), dtype=np.uint16)
    indices = np.arange(-8, 40, dtype=np.int16).reshape(6, 8)
    names = [f"{color}PaletteColorLookupTable" for color in ("Red", "Green", "Blue")]
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    path = write_dicom(
        tmp_path / "a.dcm",
        indices,
        syntax,
        PhotometricInterpretation="PALETTE COLOR",
        **{f"{name}Descriptor": [32, first, 16] for name in names},
        **{f"{name}Data": table.astype(f"{order}u2").tobytes() for name, table in zip(names, tables, strict=True)},
    )
    expected = tables[:, np.clip(indices - first, 0, 31)] / 65535
    assert np.abs(read_medical_image(path).numpy() - expected).max() < 1e-6


def test_colors_are_never_negative(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    path = write_dicom(tmp_path / "a.dcm", pixels, PixelRepresentation=1)
    assert np.abs(255 * read_medical_image(path).numpy().transpose(1, 2, 0) - pixels).max() < 1e-4


@pytest.mark.parametrize(("kind", "syntax"), [("JPEG", JPEGBaseline8Bit), ("JPEG2000", JPEG2000Lossless)])
def test_what_is_compressed_must_fit_the_header(kind: str, syntax: str, tmp_path: Path) -> None:
    colors, gray = np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9), np.uint8)
    options: dict[str, Any] = {"no_jp2": True} if kind == "JPEG2000" else {}
    path = write_dicom(tmp_path / "a.dcm", gray, syntax, [encoded(colors, kind, **options)])
    with pytest.raises(
        DataError, match=r"a.dcm has a header for 9 x 8 pixels with 1 sample\(s\), and holds a picture of 9 x 8 with 3."
    ):
        read_medical_image(path)
    path = write_dicom(tmp_path / "a.dcm", gray, syntax, [encoded(gray[:, :7], kind, **options)])
    with pytest.raises(DataError, match=r"header for 9 x 8 .* picture of 7 x 8 with 1"):
        read_medical_image(path)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("representation", ["OB", "OW"])
def test_one_bit(syntax: str, representation: str, tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (8, 12), dtype=np.uint8)
    packed = np.packbits(bits, bitorder="little")
    if representation == "OW" and syntax == ExplicitVRBigEndian:
        packed = packed.view("u2").byteswap().view("u1")
    path = write_dicom(tmp_path / "a.dcm", packed[:, None], syntax, Rows=8, Columns=12, BitsAllocated=1, BitsStored=1)
    if representation == "OW":
        # Both have a length of 4 bytes in Explicit VR.
        start = b"\xe0\x7f\x10\x00" if syntax == ExplicitVRLittleEndian else b"\x7f\xe0\x00\x10"
        path.write_bytes(path.read_bytes().replace(start + b"OB", start + b"OW"))
    assert np.array_equal(read_medical_image(path).numpy()[0], bits.astype(np.float32))


@pytest.mark.parametrize("spacing", [["0.5"], "0,5\\0,5", ["0", "0"], ["-1", "1"]])
def test_a_picture_needs_no_spacing(spacing: Any, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS, BitsStored=12, PixelSpacing=["1234567", "1234567"])
    text = spacing if isinstance(spacing, str) else "\\".join(spacing)
    path.write_bytes(path.read_bytes().replace(b"1234567\\1234567 ", text.encode().ljust(16)))
    image = read_medical_image(path)
    assert np.abs(image.numpy()[0] - TWELVE_BITS / 4095).max() < 1e-6
    assert np.array_equal(image.affine.numpy(), np.eye(4))


def test_a_window_that_is_no_number_is_told(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS, BitsStored=12, WindowCenter="1234567", WindowWidth="400")
    path.write_bytes(path.read_bytes().replace(b"1234567 ", b"40,5    "))
    with pytest.raises(DataError, match=r"a.dcm has a WindowCenter that is not a number"):
        read_medical_image(path)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_files_without_preamble(syntax: str, tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS, syntax, BitsStored=12)
    expected = read_medical_image(path).numpy()
    whole = path.read_bytes()
    meta = pydicom.dcmread(path).file_meta
    length = 12 + meta.FileMetaInformationGroupLength
    for name, start in (("without preamble", 132), ("without file meta information", 132 + length)):
        (tmp_path / name).write_bytes(whole[start:])
        assert np.array_equal(read_medical_image(tmp_path / name).numpy(), expected)


def test_a_deflated_file_that_unpacks_to_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS, DeflatedExplicitVRLittleEndian, BitsStored=12)
    read_medical_image(path)
    start = 144 + pydicom.dcmread(path).file_meta.FileMetaInformationGroupLength
    whole = path.read_bytes()
    data_set = zlib.decompress(whole[start:], -15)
    packer = zlib.compressobj(wbits=-15)
    # A private element of 9 MB behind the pixels.
    trailer = b"\xfd\xff\x11\x00OB\0\0" + (9 << 20).to_bytes(4, "little") + bytes(9 << 20)
    path.write_bytes(whole[:start] + packer.compress(data_set + trailer) + packer.flush())
    read_medical_image(path)
    with pytest.raises(DataError, match=r"a.dcm is too large: it unpacks to more than 8388608 bytes"):
        read_medical_image(path, max_pixels=16 << 20)


def test_sizes_are_checked_before_pixels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS, BitsStored=12, Rows=0)
    with pytest.raises(DataError, match=r"a.dcm has no pixels: its header says 0 x 16 x 1"):
        read_medical_image(path)
    path = write_dicom(tmp_path / "a.dcm", TWELVE_BITS, BitsStored=12)
    monkeypatch.setattr("monai_fgssl.data.io.limits.MAX_PIXELS", 255)
    with pytest.raises(DataError, match=r"a.dcm is too large: 16 x 16 x 1 values, but an image may have only 255"):
        read_medical_image(path)


def test_a_codestream_header_is_that_of_pillow() -> None:
    from monai_fgssl.data.io.codestream import Codestream, read_codestream_header

    for shape in ((8, 9), (8, 9, 3)):
        pixels = np.zeros(shape, np.uint8)
        expected = Codestream(8, 9, 3 if len(shape) == 3 else 1, 8)
        for kind, options in (
            ("JPEG", {}),
            ("JPEG", {"progressive": True, "comment": b"\xff\xc0" * 40}),
            ("JPEG2000", {"no_jp2": True}),
            ("JPEG2000", {}),
        ):
            data = encoded(pixels, kind, **options)
            assert read_codestream_header(data) == expected
            # Wherever it is cut off, there is the whole header or none.
            found = [read_codestream_header(data[:size]) for size in range(len(data))]
            assert found[:21] == [None] * 21
            assert {*found, expected} == {None, expected}
    buffer = BytesIO()
    Image.fromarray(np.zeros((8, 9), np.uint16)).save(buffer, "JPEG2000", no_jp2=True)
    assert read_codestream_header(buffer.getvalue()) == Codestream(8, 9, 1, 16)


def test_a_jpeg_whose_header_is_damaged_does_not_reach_gdcm(tmp_path: Path) -> None:
    """GDCM ends the process if bytes lie between the segments of a lossless JPEG."""
    gray = np.arange(72, dtype=np.uint8).reshape(8, 9)
    whole = imagecodecs.ljpeg_encode(gray)
    path = write_dicom(tmp_path / "a.dcm", gray, JPEGLosslessSV1, [whole])
    assert np.abs(255 * read_medical_image(path).numpy()[0] - gray).max() < 1e-4
    # A segment of length 0, and bytes that belong to none.
    for added in (b"\xff\xee\0\0\0\1Adobe", b"\0\1", b"\xff\xee\0\3"):
        damaged = whole[:2] + added + whole[2:]
        path = write_dicom(tmp_path / "a.dcm", gray, JPEGLosslessSV1, [damaged])
        with pytest.raises(DataError, match=r"a.dcm is damaged: its compressed pixels have no complete header"):
            read_medical_image(path)


def test_a_jp2_whose_boxes_are_damaged_does_not_reach_pydicom(tmp_path: Path) -> None:
    """Its search for the codestream does not end with a box of no length."""
    gray = np.arange(72, dtype=np.uint8).reshape(8, 9)
    whole = encoded(gray, "JPEG2000", irreversible=False)
    path = write_dicom(tmp_path / "a.dcm", gray, JPEG2000Lossless, [whole])
    assert np.abs(255 * read_medical_image(path).numpy()[0] - gray).max() < 1e-4
    for length in (0, 1, 7, 2**31):
        damaged = whole[:12] + length.to_bytes(4, "big") + whole[16:]
        path = write_dicom(tmp_path / "a.dcm", gray, JPEG2000Lossless, [damaged])
        with pytest.raises(DataError, match=r"a.dcm is damaged: its compressed pixels have no complete header"):
            read_medical_image(path)


def test_an_identifier_that_is_no_element_is_told_by_name(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", np.zeros((8, 9), np.uint8))
    data = path.read_bytes()
    # Tag, value representation.
    element = b"\x08\0\x16\0UI"
    assert data.count(element) == 1
    path.write_bytes(data.replace(element, element[:4] + b"EI"))
    with pytest.raises(DataError, match=r"a.dcm "):
        read_medical_image(path)
