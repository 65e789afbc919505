# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""TIFF of any layout against the array that was written, by a writer that shares no code with the readers."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tiff_files import (
    BLACK_IS_ZERO,
    CMYK,
    DEFLATE,
    LZW,
    NONE,
    PACKBITS,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    write_tiff,
)

from monai_fgssl.data.io.orientation import upright
from monai_fgssl.data.io.reader import read_medical_image
from monai_fgssl.data.io.selection import Selection
from monai_fgssl.data.io.tiff import read_tiff
from monai_fgssl.utils.errors import DataError

COLOR_SAMPLES = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4}
INTEGERS = [("u1", 1), ("u1", 2), ("u1", 4), ("u1", 8), ("i1", 8), ("u2", 10), ("u2", 12), ("u2", 14), ("u2", 16)]
DEPTHS = [*INTEGERS, ("i2", 16), ("u4", 32), ("i4", 32), ("f2", 16), ("f4", 32), ("f8", 64)]
"""Types of arrays, and bits that are stored."""
NO_ALPHA, PREMULTIPLIED, ALPHA = None, 1, 2


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """A picture and how it is stored, of all that :func:`read_tiff` promises to read."""
    kind, bits = draw(st.sampled_from(DEPTHS))
    photometric = draw(st.sampled_from([WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK]))
    alpha = draw(st.sampled_from([NO_ALPHA, PREMULTIPLIED, ALPHA]))
    assume(photometric not in (PALETTE, CMYK) or (kind[0] == "u" and bits <= 16))
    assume(photometric != PALETTE or bits <= 8)
    assume(alpha != PREMULTIPLIED or (photometric not in (PALETTE, CMYK) and kind in ("u1", "u2", "f2", "f4", "f8")))
    rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    # Of gray nothing tells what a second sample is, unless it is transparency.
    may_have_more = alpha is not NO_ALPHA or photometric in (RGB, CMYK)
    extra = ([] if alpha is NO_ALPHA else [alpha]) + [0] * (draw(st.integers(0, 2)) if may_have_more else 0)
    samples = COLOR_SAMPLES[photometric] + len(extra)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = (draw(st.integers(1, 3)), rows, columns, samples)
    if kind[0] == "f":
        pages = rng.random(shape).astype(kind)
    else:
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if kind[0] == "i" else (0, 2**bits)
        pages = rng.integers(low, high, shape, dtype=kind)
    number = draw(st.integers(0, len(pages) - 1))
    page = pages[number]
    tags: dict[int, tuple[int, list[int]]] = {274: (3, [draw(st.integers(1, 8))])}
    if extra:
        tags[338] = (3, extra)
    if photometric == PALETTE:
        # 8 bits, as most palettes have, or 16.
        colors = (
            rng.integers(0, 256, 3 * 2**bits) * 257 if draw(st.booleans()) else rng.integers(256, 2**16, 3 * 2**bits)
        )
        tags[320] = (3, colors.tolist())
    compression = draw(st.sampled_from([NONE, LZW, DEFLATE, PACKBITS]))
    predictors = [1]
    if compression in (LZW, DEFLATE) and bits in (8, 16, 32, 64):
        predictors += [2, 3] if kind[0] == "f" else [2]
    is_tiled = draw(st.booleans())
    options: dict[str, Any] = {
        "bits": bits if bits != 8 * page.dtype.itemsize else None,
        "planar": draw(st.sampled_from([1, 2])) if samples > 1 else 1,
        "tile": (draw(st.sampled_from([16, 32])), draw(st.sampled_from([16, 32]))) if is_tiled else None,
        "rows_per_strip": None if is_tiled else draw(st.integers(1, rows)),
        "compression": compression,
        "predictor": draw(st.sampled_from(predictors)),
        "byte_order": draw(st.sampled_from("<>")),
        "fill_order": draw(st.sampled_from([1, 2])) if compression != LZW and page.dtype.itemsize == 1 else 1,
        "big": draw(st.booleans()),
        "tags": tags,
    }
    return {
        "pages": list(pages),
        "number": number,
        "page": page,
        "photometric": photometric,
        "alpha": alpha,
        "width": bits,
        "options": options,
    }


def shown(layout: dict[str, Any]) -> NDArray[np.float64]:
    """Brightness in a viewer: integers of up to 16 bits as shares of full intensity, others as they are."""
    page, bits, photometric = layout["page"].astype(np.float64), layout["width"], layout["photometric"]
    tags = layout["options"]["tags"]
    white = 2**bits - 1 if layout["page"].dtype.kind == "u" and bits <= 16 else 1
    if photometric == PALETTE:
        picture = np.reshape(tags[320][1], (3, -1))[:, page[..., 0].astype(int)].transpose(1, 2, 0) / 65535
    else:
        colors = COLOR_SAMPLES[photometric]
        picture = page[..., :colors] / white
        if layout["alpha"] == PREMULTIPLIED:
            opacity = page[..., colors : colors + 1] / white
            divided = picture / np.where(opacity > 0, opacity, 1)
            picture = np.where(opacity > 0, np.minimum(divided, 1) if white > 1 else divided, 0)
        if photometric == CMYK:
            picture = (1 - picture[..., :3]) * (1 - picture[..., 3:])
    return upright(picture, tags[274][1][0])


@given(layout=layouts())
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)
def test_any_layout_is_read_as_it_was_written(layout: dict[str, Any], tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", layout["page"], layout["photometric"], **layout["options"])
    image = read_tiff(path, Selection())
    values = np.moveaxis(image.values, 0, -1).astype(np.float64)
    if layout["page"].dtype.kind == "u" and layout["width"] <= 16:
        assert image.value_range is not None
        assert image.value_range[0] == 0
        values /= image.value_range[1]
    assert image.inverted == (layout["photometric"] == WHITE_IS_ZERO)
    expected = shown(layout)
    assert values.shape == expected.shape
    # Ink of 8 bits is rounded as Pillow does it; what was multiplied by transparency is rounded down.
    is_rounded = (layout["photometric"] == CMYK and layout["width"] == 8) or layout["alpha"] == PREMULTIPLIED
    step = 1 / (2 ** layout["width"] - 1) if is_rounded and layout["page"].dtype.kind == "u" else 1e-6
    tolerance = {"f2": 2e-3}.get(layout["page"].dtype.str[1:], 1e-6)
    assert np.abs(values - expected).max() <= max(step, tolerance * np.abs(expected).max()) + 1e-12


def noise(shape: tuple[int, ...], kind: str) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if kind[0] == "f":
        return rng.random(shape).astype(kind)
    return rng.integers(0, 256, (*shape[:-1], shape[-1] * np.dtype(kind).itemsize), dtype=np.uint8).view(kind)


@pytest.mark.parametrize(
    ("kind", "photometric", "samples", "options"),
    [
        ("u2", RGB, 3, {"planar": 2}),
        ("u2", RGB, 3, {"tile": (16, 32)}),
        ("u2", RGB, 3, {"tags": {274: (3, [6])}}),
        ("f2", BLACK_IS_ZERO, 1, {}),
        ("i1", BLACK_IS_ZERO, 1, {}),
        ("u4", BLACK_IS_ZERO, 1, {}),
        ("u2", BLACK_IS_ZERO, 2, {"tags": {338: (3, [2])}}),
        ("f4", BLACK_IS_ZERO, 1, {"compression": DEFLATE, "byte_order": ">"}),
        ("u1", BLACK_IS_ZERO, 2, {"planar": 2, "compression": PACKBITS, "tags": {338: (3, [2])}}),
        *[("u1", BLACK_IS_ZERO, 1, {"tags": {274: (3, [orientation])}}) for orientation in range(5, 9)],
    ],
)
def test_layouts_that_pillow_or_itk_take_for_others(
    kind: str, photometric: int, samples: int, options: dict[str, Any], tmp_path: Path
) -> None:
    page = noise((21, 34, samples), kind)
    path = write_tiff(tmp_path / "a.tif", page, photometric, **options)
    window = (2.0**31, 2.0**32) if kind == "u4" else None
    white = {"u1": 255, "u2": 65535, "u4": 2**32 - 1}.get(kind, 1)
    expected = page[..., : COLOR_SAMPLES[photometric]].astype(np.float64) / white
    if kind == "i1":
        expected = (page.astype(np.float64) + 128) / 255
    orientation = options.get("tags", {}).get(274, (3, [1]))[1][0]
    got = read_medical_image(path, window=window).numpy()
    assert np.abs(np.moveaxis(got, 0, -1) - upright(expected, orientation)).max() < 1e-3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_pillow_does(orientation: int) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(pixels)
    image.getexif()[274] = orientation
    assert np.array_equal(upright(pixels, orientation), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4", "jpeg", "lzma", "zstd"])
def test_pictures_of_8_bits_are_those_of_pillow(mode: str, compression: str, tmp_path: Path) -> None:
    is_fax = compression in ("tiff_ccitt", "group3", "group4")
    if (
        is_fax != (mode == "1")
        or (compression == "jpeg" and mode == "P")
        or (compression != "jpeg" and mode == "YCbCr")
    ):
        return
    coarse = Image.fromarray(noise((12, 16, 3), "u1"))
    coarse.resize((161, 122), Image.Resampling.BICUBIC).convert(mode).save(tmp_path / "a.tif", compression=compression)
    with Image.open(tmp_path / "a.tif") as image:
        expected = np.asarray(image.convert("L" if mode in ("1", "L", "LA") else "RGB"), np.float32)
    got = np.moveaxis(read_medical_image(tmp_path / "a.tif").numpy(), 0, -1)
    assert np.array_equal(255 * got, expected if expected.ndim == 3 else expected[..., None])


def test_a_palette_that_was_written_with_8_bits(tmp_path: Path) -> None:
    indices = noise((5, 6, 1), "u1")
    colors = np.random.default_rng(1).integers(0, 256, (3, 256))
    path = write_tiff(tmp_path / "a.tif", indices, PALETTE, tags={320: (3, colors.ravel().tolist())})
    assert np.array_equal(255 * read_medical_image(path).numpy(), colors[:, indices[..., 0]].astype(np.float32))


REFUSED = [
    ("two channels", BLACK_IS_ZERO, 2, "u1", {}, r"has 2 channels, and nothing tells what they show"),
    ("LAB", 8, 3, "u1", {}, r"has the PhotometricInterpretation CIELAB, which is not supported: save it as RGB"),
    ("camera", 32803, 1, "u2", {}, r"has the PhotometricInterpretation CFA, which is not supported"),
    ("YCbCr", 6, 3, "u1", {}, r"has YCbCr colors that are not compressed as JPEG"),
    ("inks", CMYK, 4, "u1", {"tags": {332: (3, [2])}}, r"has other inks than cyan"),
    ("no palette", PALETTE, 1, "u1", {}, r"has no palette of 256 colors"),
    ("float ink", CMYK, 4, "f4", {}, r"has SEPARATED samples of 32 bits with SampleFormat 3: save it as RGB"),
    ("complex", BLACK_IS_ZERO, 1, "f4", {"tags": {339: (3, [6])}}, r"has samples of 32 bits with SampleFormat 6"),
    (
        "mixed",
        RGB,
        3,
        "u1",
        {"tags": {258: (3, [8, 8, 16])}},
        r"has samples of different kinds \(BitsPerSample \(8, 8, 16\)",
    ),
    ("signed", BLACK_IS_ZERO, 2, "i2", {"tags": {338: (3, [1])}}, r"is multiplied by its transparency in a form"),
    ("too few", RGB, 2, "u1", {}, r"has 2 sample\(s\) for each pixel, too few for RGB"),
    ("layers", BLACK_IS_ZERO, 1, "u1", {"tags": {32997: (4, [2])}}, r"has pages with several layers"),
    ("planes", RGB, 3, "u1", {"tags": {284: (3, [7])}}, r"has a PlanarConfiguration other than 1 and 2"),
    ("planes of a text", RGB, 3, "u1", {"tags": {284: (4, [2, 1])}}, r"has a PlanarConfiguration other than"),
    ("zero", BLACK_IS_ZERO, 1, "u1", {"tags": {256: (4, [0])}}, r"has no pixels: its header says 21 x 0 x 1"),
    (
        "huge",
        BLACK_IS_ZERO,
        1,
        "u1",
        {"tags": {256: (4, [2**20])}, "compression": DEFLATE},
        r"is cut off: its header prom",
    ),
    ("huger", BLACK_IS_ZERO, 1, "u1", {"tags": {256: (4, [2**30])}}, r"is too large: 21 x 1073741824 x 1 values"),
    ("empty strip", BLACK_IS_ZERO, 1, "u1", {"tags": {279: (4, [0])}}, r"is cut off or damaged: it has 0 of 1 strips"),
    ("preview", RGB, 3, "u1", {"tags": {254: (4, [1]), 330: (4, [8])}}, r"holds previews, .* camera's raw data"),
]


@pytest.mark.parametrize(
    ("photometric", "samples", "kind", "options", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_what_cannot_be_read_right_is_refused_by_name(
    photometric: int, samples: int, kind: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write_tiff(tmp_path / "a.tif", noise((21, 34, samples), kind), photometric, **options)
    with pytest.raises(DataError, match=rf"a\.tif {message}"):
        read_medical_image(path)


def test_without_a_photometric_interpretation(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise((4, 5, 1), "u1"), BLACK_IS_ZERO)
    # Tag 262 becomes one that says nothing.
    path.write_bytes(path.read_bytes().replace(struct.pack("<HH", 262, 3), struct.pack("<HH", 263, 3), 1))
    with pytest.raises(DataError, match=r"has the PhotometricInterpretation none"):
        read_medical_image(path)


def test_thumbnails_and_masks_are_no_pages(tmp_path: Path) -> None:
    pixels = noise((21, 34, 3), "u1")
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels[::4, ::4], photometric="rgb", subfiletype=1)
        file.write(pixels, photometric="rgb")
        file.write(pixels[..., 0] > 99, photometric="mask", subfiletype=4)
    assert np.array_equal(
        255 * read_medical_image(tmp_path / "a.tif").numpy(), np.moveaxis(pixels, -1, 0).astype(np.float32)
    )
    with pytest.raises(DataError, match=r"a.tif has no frame=1: it has frame=0 only"):
        read_medical_image(tmp_path / "a.tif", frame=1)


def test_pages_that_are_not_listed_are_told(tmp_path: Path) -> None:
    stack = noise((3, 21, 34, 1), "u1")[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", truncate=True)
    tifffile.imwrite(tmp_path / "b.tif", stack[0], imagej=True, metadata={"axes": "YX"})
    data = (tmp_path / "b.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(data.replace(b"images=1\n", b"images=9\n"))
    for name in ("a.tif", "b.tif"):
        for dims in (2, 3):
            with pytest.raises(DataError, match=rf"{name} has more pages than it lists"):
                read_medical_image(tmp_path / name, dims)


def test_other_files_that_an_ome_tiff_names_are_not_opened(tmp_path: Path) -> None:
    stack = noise((2, 21, 34, 1), "u1")[..., 0]
    tifffile.imwrite(tmp_path / "a.ome.tif", stack[0], metadata={"axes": "YX"})
    description = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint8" SizeX="34" SizeY="21" SizeZ="2" SizeC="1" SizeT="1"><TiffData FirstZ="1" '
        'IFD="0" PlaneCount="1"><UUID FileName="secret.tif">urn:uuid:0</UUID></TiffData></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "b.ome.tif", stack[1], description=description, metadata=None)
    assert np.array_equal(255 * read_medical_image(tmp_path / "b.ome.tif").numpy()[0], stack[1].astype(np.float32))


@pytest.mark.parametrize("kind", ["u1", "i2", "f4"])
def test_stacks_are_volumes(kind: str, tmp_path: Path) -> None:
    pages = list(noise((3, 5, 6, 1), kind))
    path = write_tiff(tmp_path / "a.tif", pages, BLACK_IS_ZERO)
    volume = read_medical_image(path, 3)
    assert np.array_equal(volume.numpy()[0], np.stack(pages)[..., 0].transpose(2, 1, 0).astype(np.float32))
    assert np.array_equal(volume.affine.numpy(), np.diag([-1, -1, 1, 1]))
    if kind == "u1":
        path = write_tiff(tmp_path / "a.tif", pages, WHITE_IS_ZERO)
        assert np.array_equal(read_medical_image(path, 3).numpy(), 255 - volume.numpy())


def test_stacks_of_different_pages_are_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", [noise((5, 6, 1), "u1"), noise((5, 7, 1), "u1")], BLACK_IS_ZERO)
    with pytest.raises(DataError, match=r"pages of different kinds: frame=0 of 6 x 5 .* frame=1 of 7 x 5 pixels"):
        read_medical_image(path, 3)


def test_lists_of_pages_that_are_a_loop_or_cut_off_are_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", [noise((5, 6, 1), "u1")] * 2, BLACK_IS_ZERO)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        last = file.pages[1]
        end = last.offset + 2 + 12 * len(last.tags)
    for target in (8, last.offset, len(data) + 99):
        data[end : end + 4] = struct.pack("<I", target)
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"a.tif (has|is) "):
            read_medical_image(path)


def test_half_a_file_is_no_picture(tmp_path: Path) -> None:
    for compression in (NONE, LZW, DEFLATE, PACKBITS):
        path = write_tiff(tmp_path / "a.tif", noise((21, 34, 3), "u1"), RGB, rows_per_strip=5, compression=compression)
        whole = path.read_bytes()
        for size in range(1, len(whole) - 2, 97):
            path.write_bytes(whole[:size])
            with pytest.raises(DataError, match=r"a\.tif (is|has) "):
                read_medical_image(path)


def test_without_imagecodecs_the_remedy_is_named(tmp_path: Path) -> None:
    page = noise((5, 6, 3), "u2")
    write_tiff(tmp_path / "lzw.tif", page, RGB, compression=LZW)
    write_tiff(tmp_path / "plain.tif", page, RGB)
    code = (
        "import sys, json; sys.modules['imagecodecs'] = None\n"
        "from monai_fgssl.data import DataError, read_medical_image as read\n"
        "print(json.dumps(read(sys.argv[1]).tolist()))\n"
        "try: read(sys.argv[2])\n"
        "except DataError as error: print(error)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, tmp_path / "plain.tif", tmp_path / "lzw.tif"]
    plain, refused = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert np.allclose(json.loads(plain), np.moveaxis(page, -1, 0) / 65535)
    assert "has 3 sample(s) of 16 bits, compressed as LZW: save it without" in refused
    assert "`pip install 'monai-fgssl[tiff]'`" in refused
    assert np.allclose(read_medical_image(tmp_path / "lzw.tif").numpy(), np.moveaxis(page, -1, 0) / 65535)


@pytest.mark.parametrize("pages", [1, 3])
def test_calibrations_of_imagej_are_applied(pages: int, tmp_path: Path) -> None:
    """ImageJ stores signed 16 bits as unsigned ones with a calibration of -32768 + value."""
    stored = np.random.default_rng(0).integers(0, 2**16, (pages, 6, 7), dtype=np.uint16)
    calibration = {"axes": "ZYX", "cf": 0, "c0": -32768.0, "c1": 1.0}
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored if pages > 1 else stored[0],
        imagej=True,
        metadata=calibration if pages > 1 else calibration | {"axes": "YX"},
    )
    values = stored.astype(np.float32) - 32768
    if pages > 1:
        assert np.array_equal(read_medical_image(tmp_path / "a.tif", 3).numpy()[0], values.transpose(2, 1, 0))
    else:
        assert np.allclose(read_medical_image(tmp_path / "a.tif").numpy(), stored / 65535, atol=1e-6)
        windowed = read_medical_image(tmp_path / "a.tif", window=(40, 400)).numpy()
        assert np.allclose(windowed, np.clip((values - 39.5) / 399 + 0.5, 0, 1), atol=1e-6)
    tifffile.imwrite(tmp_path / "b.tif", stored[0], imagej=True, metadata=calibration | {"axes": "YX", "cf": 8})
    with pytest.raises(DataError, match=r"b.tif has the calibration function 8 of ImageJ, which is not supported"):
        read_medical_image(tmp_path / "b.tif")


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_predictor_that_libtiff_overlooks_is_applied(dtype: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 200, (20, 21)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, compression="packbits", predictor=True)
    assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), values)
    read = read_medical_image(tmp_path / "a.tif").numpy()[0] * np.iinfo(dtype).max
    assert np.array_equal(np.rint(read), values)


def test_pages_in_another_order_than_the_ome_header_tells_are_refused(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 255, (3, 5, 7)).astype(np.uint8)
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint8" SizeX="7" SizeY="5" SizeZ="3" SizeC="1" SizeT="1">{}'
        "</Pixels></Image></OME>"
    )
    for is_reversed in (False, True):
        pages = "".join(f'<TiffData IFD="{2 - z if is_reversed else z}" FirstZ="{z}"/>' for z in range(3))
        tifffile.imwrite(
            tmp_path / "a.tif", stack, photometric="minisblack", description=text.format(pages), metadata=None
        )
        # The independent reader puts the pages in order.
        right = tifffile.imread(tmp_path / "a.tif")
        assert np.array_equal(right, stack[::-1] if is_reversed else stack)
        if is_reversed:
            with pytest.raises(DataError, match="has pages in another order than that of its dimensions"):
                read_medical_image(tmp_path / "a.tif", 3)
        else:
            assert np.array_equal(read_medical_image(tmp_path / "a.tif", 3)[0], right.transpose(2, 1, 0))


@pytest.mark.parametrize("compression", ["lerc", "png"])
@pytest.mark.parametrize(("shape", "photometric"), [((20, 30), "minisblack"), ((20, 30, 3), "rgb")])
def test_compressions_that_pillow_does_not_know_are_decoded(
    compression: str, shape: tuple[int, ...], photometric: str, tmp_path: Path
) -> None:
    """Gray and colors of 8 bits are otherwise decoded by Pillow, which took these files for no TIFF."""
    pixels = noise(shape, "u1")
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression=compression, photometric=photometric, metadata=None)
    expected = np.moveaxis(np.atleast_3d(pixels), -1, 0) / np.float32(255)
    assert np.array_equal(read_medical_image(tmp_path / "a.tif").numpy(), expected)
