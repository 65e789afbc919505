# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Read TIFF. Each layout is decoded by a library that decodes it right, or is refused by its name.

tifffile knows all layouts, but few compressions without its extra ``imagecodecs``. Pillow knows the compressions, but
silently decodes many layouts wrong: it swaps the bytes of big-endian floats in LZW, changes the values of half floats
and of unsigned 32 bits, and turns planes of 16 bits into noise. So Pillow decodes only the layouts of
:func:`_is_right_in_pillow`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from os import SEEK_CUR
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import TiffFile, TiffPage

from monai_fgssl.utils.errors import DataError

from .colors import cmyk_to_rgb, palette_to_rgb, without_premultiplied_alpha
from .display import StoredImage, natural_range
from .limits import (
    MAX_DEFLATE_RATIO,
    MAX_JPEG_RATIO,
    MAX_LZW_RATIO,
    MAX_PACKBITS_RATIO,
    check_size,
    check_stored_size,
)
from .orientation import ORIENTATION, upright
from .selection import Selection, choose, choose_channel
from .tiff_pages import select_pages

__all__ = ["TIFF_STARTS", "count_pages", "read_tiff", "read_tiff_stack"]

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF, in both byte orders."""

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
"""PhotometricInterpretation."""
COLOR_SAMPLES = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
"""Number of samples of a pixel, without extra samples."""
NONE, CCITT, JPEG, DEFLATE = 1, (2, 3, 4, 32771), (6, 7), (8, 32946)
"""Compression."""
LZW, PACKBITS, LZMA, ZSTD = 5, 32773, 34925, 50000
OF_PILLOW = (NONE, *CCITT, *JPEG, LZW, *DEFLATE, PACKBITS, LZMA, ZSTD)
"""Compressions that Pillow decodes in all of its builds. The others need tifffile's ``imagecodecs``."""
WITH_PREDICTOR = (LZW, *DEFLATE, LZMA, ZSTD)
"""Compressions that libtiff knows a predictor of."""
MAX_RATIOS = {
    NONE: 1,
    LZW: MAX_LZW_RATIO,
    PACKBITS: MAX_PACKBITS_RATIO,
    **dict.fromkeys(JPEG, MAX_JPEG_RATIO),
    **dict.fromkeys(DEFLATE, MAX_DEFLATE_RATIO),
}
"""Largest ratio of a compression; the others have no bound."""
UINT, INT, FLOAT, UNDEFINED = 1, 2, 3, 4
"""Values of SampleFormat; undefined is read as unsigned, as the specification says."""
REDUCED, MASK = 1, 4
"""Bits of NewSubfileType: a thumbnail, and a mask of another page."""
UNSPECIFIED, PREMULTIPLIED = 0, 1
"""ExtraSamples."""


class OpenTiff(NamedTuple):
    """A file, and those of its pages that are pictures of their own."""

    file: TiffFile
    pages: list[TiffPage]


def count_pages(path: Path) -> int:
    """Count the pages that are pictures of their own.

    Raises:
        DataError: see :func:`read_tiff`.
    """
    with _opened(path) as file:
        return len(file.pages)


def read_tiff(path: Path, selection: Selection) -> StoredImage:
    """Read a page upright, as a viewer shows it.

    Gray keeps one channel; palette, CMYK and YCbCr become RGB. Transparency is dropped, and colors that were multiplied
    by it are divided by it. All depths are kept. Linear calibrations of ImageJ are applied. Color profiles and
    resolutions are ignored.

    Args:
        path: a file.
        selection: the page, if there are several, and the channel. Thumbnails and masks are not counted.

    Returns:
        ``(1 or 3, rows, columns)`` and its range.

    Raises:
        DataError: when a page or a channel must be chosen, or its layout can't be read. The message continues a
            sentence that begins with the file's name.

    Source: TIFF Revision 6.0; BigTIFF; TIFF Technical Notes 1 to 3.
    """
    with _opened(path) as file:
        number = choose(len(file.pages), selection.frame, "frame", "pages")
        return _read_page(path, file.pages[number], number, selection.channel)


def read_tiff_stack(path: Path, selection: Selection) -> StoredImage | None:
    """Read the pages as a volume.

    TIFF has no place for directions or for the distance of slices: voxels are 1 mm wide, X runs along the columns to
    the left, Y along the rows to the back, and Z from page to page to the head, as ITK takes files without directions.

    Args:
        path: a file.
        selection: point in time and channel, if the metadata of ImageJ, OME or tifffile say that there are several.

    Returns:
        ``(C, X, Y, Z)``, or None when there is one page.

    Raises:
        DataError: see :func:`read_tiff`; also when pages differ in size or type, or a time or channel must be chosen.
    """
    with _opened(path) as file:
        if len(file.pages) == 1:
            return None
        pages, channel = select_pages(file.file, file.pages, selection)
        check_size((len(pages), pages[0].imagelength, pages[0].imagewidth))
        slices: list[NDArray[Any]] = []
        for number, page in enumerate(pages):
            image = _read_page(path, page, number, channel)
            values = image.values
            if image.inverted:
                if image.value_range is None:
                    raise DataError("has pages where white is 0 and black is unknown: save them with black as 0.")
                values = (sum(image.value_range) - values.astype(np.float64)).astype(np.float32)
            if slices and (values.shape, values.dtype) != (slices[0].shape, slices[0].dtype):
                raise DataError(
                    f"has pages of different kinds: frame=0 of {_kind(slices[0])}, frame={number} of {_kind(values)}."
                )
            slices.append(values)
    return StoredImage(np.stack(slices, axis=-1).swapaxes(1, 2), np.diag([-1.0, -1, 1, 1]), None)


def _kind(values: NDArray[Any]) -> str:
    channels, rows, columns = values.shape
    return f"{columns} x {rows} pixels with {channels} channel(s) of {values.dtype.name}"


@contextmanager
def _opened(path: Path) -> Iterator[OpenTiff]:
    """Open a file, and leave out thumbnails and masks."""
    count = _count_directories(path)
    with TiffFile(path) as file:
        pages = [page for page in file.pages if isinstance(page, TiffPage)]
        if len(pages) != count:
            raise DataError(f"is damaged: {count - len(pages)} of its {count} pages can't be read.")
        _check_hidden_pages(file, count)
        whole = [page for page in pages if not int(page.subfiletype) & (REDUCED | MASK)]
        if not whole and len(pages) == 1 and pages[0].subifds is None:
            whole = pages
        if not whole:
            raise DataError(
                "holds previews, and its picture is in a form that is not supported, such as a camera's raw data: "
                "export it as TIFF or PNG."
            )
        yield OpenTiff(file, whole)


def _count_directories(path: Path) -> int:
    """Follow the chain of directories. tifffile never ends in some loops, and skips a part that was cut off."""
    with open(path, "rb") as file:
        head = file.read(16)
        order = "<" if head.startswith(b"II") else ">"
        is_big = head[2:4] in (b"+\0", b"\0+")
        number, entry, offset = ("Q", 20, "Q") if is_big else ("H", 12, "I")
        (place,) = struct.unpack_from(order + offset, head, 8 if is_big else 4)
        places: set[int] = set()
        while place:
            if place in places:
                raise DataError("is damaged: its list of pages is a loop.")
            places.add(place)
            file.seek(place)
            (tags,) = struct.unpack(order + number, file.read(struct.calcsize(number)))
            file.seek(tags * entry, SEEK_CUR)
            (place,) = struct.unpack(order + offset, file.read(struct.calcsize(offset)))
    if not places:
        raise DataError("is a TIFF without a page.")
    return len(places)


def _check_hidden_pages(file: TiffFile, count: int) -> None:
    """Refuse stacks that list only their first page. ``file.series`` is not used, since it opens other files."""
    images = 1
    if file.is_imagej:
        images = int((file.imagej_metadata or {}).get("images", 1))
    elif file.is_stk:
        images = int((file.stk_metadata or {}).get("NumberPlanes", 1))
    if images > count or any(series.get("truncated") for series in file.shaped_metadata or ()):
        raise DataError(
            "has more pages than it lists, as ImageJ and MetaMorph store large stacks: save it as an ordinary TIFF."
        )


def _read_page(path: Path, page: TiffPage, number: int, channel: int | None) -> StoredImage:
    _check_layout(page, channel)
    _check_segments(path, page)
    samples = _decode(path, page)
    bits, photometric = int(page.bitspersample), int(page.photometric)
    white = 2**bits - 1 if samples.dtype.kind == "u" and bits <= 16 else None
    colors = samples.shape[-1] if _is_unclear(page) else COLOR_SAMPLES[photometric]
    values = samples[..., :colors]
    if PREMULTIPLIED in page.extrasamples:
        values = without_premultiplied_alpha(values, samples[..., colors], white)
    if photometric == PALETTE:
        values, white = palette_to_rgb(values[..., 0], np.asarray(page.colormap))
    elif photometric == CMYK and white is not None:
        values = cmyk_to_rgb(values, white)
    values = choose_channel(np.moveaxis(values, -1, 0), channel)
    value_range = natural_range(values) if white is None else (0, white)
    if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        values, value_range = _calibrated(page.parent, values, value_range)
    return StoredImage(
        values,
        np.eye(4),
        value_range,
        inverted=photometric == WHITE_IS_ZERO,
        frame=number,
    )


def _calibrated(
    file: TiffFile, values: NDArray[Any], value_range: tuple[float, float] | None
) -> tuple[NDArray[Any], tuple[float, float] | None]:
    """Gray values in the unit that ImageJ's calibration tells, such as HU. It stores signed 16 bits with one.

    Source: ImageJ, ``ij.io.FileInfo`` and ``ij.measure.Calibration``: function 0 is ``c0 + c1 * value``.
    """
    told = (file.imagej_metadata or {}) if file.is_imagej else {}
    function = told.get("cf")
    if function is None:
        return values, value_range
    offset, slope = float(told.get("c0", 0)), float(told.get("c1", 1))
    if function != 0 or slope == 0:
        raise DataError(f"has the calibration function {function} of ImageJ, which is not supported: remove it there.")
    if value_range is not None:
        low, high = sorted(offset + slope * end for end in value_range)
        value_range = (low, high)
    return offset + slope * values.astype(np.float64), value_range


def _is_unclear(page: TiffPage) -> bool:
    """Tell whether a page has more channels than its metadata explain."""
    is_gray = int(page.photometric) in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    return is_gray and page.samplesperpixel > 1 and page.extrasamples[:1] in ((), (UNSPECIFIED,))


def _check_layout(page: TiffPage, channel: int | None) -> None:
    """Refuse layouts that can't be decoded right, by their name."""
    check_size((page.imagelength, page.imagewidth, page.samplesperpixel))
    photometric, bits, samples = int(page.photometric), page.bitspersample, int(page.samplesperpixel)
    formats = _values(page, "SampleFormat", UINT)
    if page.planarconfig not in (1, 2):
        # tifffile reads any other value as separate planes.
        raise DataError("has a PlanarConfiguration other than 1 and 2: it is damaged.")
    if page.imagedepth != 1:
        raise DataError("has pages with several layers (ImageDepth): save it with one layer in each page.")
    if photometric not in COLOR_SAMPLES or "PhotometricInterpretation" not in page.tags:
        name = _name(page.photometric) if "PhotometricInterpretation" in page.tags else "none"
        raise DataError(f"has the PhotometricInterpretation {name}, which is not supported: save it as RGB or gray.")
    if isinstance(bits, tuple) or len(set(formats)) > 1:
        raise DataError(f"has samples of different kinds (BitsPerSample {bits}, SampleFormat {formats}).")
    kind = formats[0]
    if page.dtype is None or kind not in (UINT, INT, FLOAT, UNDEFINED):
        raise DataError(f"has samples of {bits} bits with SampleFormat {kind}, which are not supported.")
    extra = samples - COLOR_SAMPLES[photometric]
    if extra < 0:
        raise DataError(f"has {samples} sample(s) for each pixel, too few for {_name(page.photometric)}.")
    if _is_unclear(page):
        choose(samples, channel, "channel", "channels, and nothing tells what they show")
    is_odd = kind == INT or (kind != FLOAT and bits > 16) or photometric in (PALETTE, CMYK)
    if PREMULTIPLIED in page.extrasamples and (is_odd or page.extrasamples[0] != PREMULTIPLIED):
        raise DataError(
            "is multiplied by its transparency in a form that is not supported: save it without transparency."
        )
    if photometric in (PALETTE, CMYK, YCBCR) and (kind in (INT, FLOAT) or bits > 16):
        raise DataError(
            f"has {_name(page.photometric)} samples of {bits} bits with SampleFormat {kind}: save it as RGB."
        )
    if photometric == CMYK and _values(page, "InkSet", 1)[0] != 1:
        raise DataError("has other inks than cyan, magenta, yellow and black: save it as RGB.")
    if photometric == PALETTE and (page.colormap is None or page.colormap.shape != (3, 2**bits)):
        raise DataError(f"has no palette of {2**bits} colors.")
    if photometric == YCBCR and int(page.compression) not in JPEG:
        raise DataError("has YCbCr colors that are not compressed as JPEG: save it as RGB.")


def _name(value: int) -> str:
    """Return tifffile's name for a number, or else the number."""
    return getattr(value, "name", str(value))


def _values(page: TiffPage, name: str, default: int) -> tuple[int, ...]:
    tag = page.tags.get(name)
    if tag is None:
        return (default,)
    return tuple(map(int, tag.value)) if isinstance(tag.value, tuple) else (int(tag.value),)


def _check_segments(path: Path, page: TiffPage) -> None:
    """Check that strips or tiles are inside of the file. tifffile would make those of length 0 black."""
    size = path.stat().st_size
    needed = int(np.prod(page.chunked))
    segments = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    inside = [count for offset, count in segments if offset > 0 and count > 0 and offset + count <= size]
    if len(inside) < needed or len(inside) < len(segments):
        raise DataError(f"is cut off or damaged: it has {len(inside)} of {needed} strips or tiles.")
    ratio = MAX_RATIOS.get(int(page.compression))
    if ratio is not None:
        bits = page.imagelength * page.imagewidth * page.samplesperpixel * int(page.bitspersample)
        check_stored_size(bits // 8, sum(inside), ratio)


def _decode(path: Path, page: TiffPage) -> NDArray[Any]:
    """Decode the samples as they are stored, but upright: ``(rows, columns, samples)`` in the machine's byte order."""
    if _is_right_in_pillow(page) and not _is_right_in_tifffile(page):
        return _decode_by_pillow(path, page)
    try:
        values = page.asarray(squeeze=False, maxworkers=1)
    except (ValueError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
        raise DataError(
            f"has {page.samplesperpixel} sample(s) of {page.bitspersample} bits, compressed as "
            f"{_name(page.compression)}: save it without compression, or `pip install 'monai-fgssl[tiff]'`."
        ) from error
    # tifffile's axes: planes, layers, rows, columns, samples.
    values = np.moveaxis(values[:, 0, ..., 0], 0, -1) if page.planarconfig == 2 else values[0, 0]
    if values.shape != (page.imagelength, page.imagewidth, page.samplesperpixel):
        raise DataError(f"is damaged: its header and its pixels, which are {values.shape}, contradict each other.")
    values = upright(values, _values(page, "Orientation", 1)[0])
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    return values.astype(np.float32 if values.dtype == np.float16 else values.dtype.newbyteorder("="))


def _decode_by_pillow(path: Path, page: TiffPage) -> NDArray[Any]:
    # Pass an open file, not a name: Pillow maps named files into memory, and then scrambles pictures on their side.
    with open(path, "rb") as file, Image.open(file, formats=["TIFF"]) as image:
        image.seek(page.index)
        values = np.asarray(image.convert("RGB") if int(page.photometric) == YCBCR else image)
        # Pillow turns a TIFF upright while it loads it, and removes the tag.
        values = upright(values, image.getexif().get(ORIENTATION, 1))
    bits, photometric = int(page.bitspersample), int(page.photometric)
    if bits <= 8 and photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
        # Pillow spreads 1 to 8 bits over 0 to 255 (1 bit: to true), and inverts those where white is 0.
        values = values.astype(np.uint8) if bits == 1 else values // (255 // (2**bits - 1))
        values = 2**bits - 1 - values if photometric == WHITE_IS_ZERO else values
    values = values if values.ndim == 3 else values[..., None]
    return values.astype(values.dtype.newbyteorder("="))


def _is_right_in_tifffile(page: TiffPage) -> bool:
    """Tell whether tifffile decodes a layout fast and without another package."""
    compression = int(page.compression)
    is_plain = compression == NONE or compression in DEFLATE
    return is_plain and page.bitspersample in (1, 8, 16, 32, 64) and int(page.predictor) in (1, 2)


def _is_right_in_pillow(page: TiffPage) -> bool:
    """Tell whether Pillow decodes a layout right. The tests compare it with arrays of every layout.

    Before you add a layout, check which modes Pillow returns for it: see the top of this file.
    """
    photometric, bits, samples = int(page.photometric), page.bitspersample, page.samplesperpixel
    kind, is_little_endian = _values(page, "SampleFormat", UINT)[0], page.parent.byteorder == "<"
    if int(page.compression) not in OF_PILLOW:
        return False
    if page.fillorder != 1 and int(page.compression) not in CCITT:
        return False
    if page.parent.is_bigtiff and not is_little_endian:
        return False
    if int(page.predictor) != 1 and int(page.compression) not in WITH_PREDICTOR:
        # libtiff overlooks it.
        return False
    if kind == FLOAT:
        return (photometric, bits, samples) == (BLACK_IS_ZERO, 32, 1) and is_little_endian
    if kind == INT:
        return False
    if samples == 1:
        depths = {WHITE_IS_ZERO: (1, 2, 4, 8), BLACK_IS_ZERO: (1, 2, 4, 8, 16), PALETTE: (1, 2, 4, 8)}
        return bits in depths.get(photometric, ()) or ((photometric, bits) == (BLACK_IS_ZERO, 12) and is_little_endian)
    # This is gray with transparency, or color.
    return (
        bits == 8
        and page.planarconfig == 1
        and (photometric, samples) in ((BLACK_IS_ZERO, 2), (RGB, 3), (RGB, 4), (CMYK, 4), (YCBCR, 3))
        and PREMULTIPLIED not in page.extrasamples
    )
