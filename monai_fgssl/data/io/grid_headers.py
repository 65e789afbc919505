# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Check MetaImage and NRRD headers before ITK reads the file: ITK checks neither their numbers nor a checksum."""

from __future__ import annotations

import logging
import math
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

from monai_fgssl.utils.errors import DataError, printable

from .detached import HEADER_BYTES
from .limits import MAX_DEFLATE_RATIO, check_size, check_stored_size

__all__ = ["check_grid_header", "length_unit"]

logger = logging.getLogger(__name__)

LONGEST_NUMBER = 64
"""Largest number of digits of a number in a header. ITK's NRRD reader dies of a number with hundreds of them."""
LONGEST_FIELD = 800
"""Largest number of characters of a field of an NRRD header. ITK's reader writes beyond its memory for long ones: it
ends the process with 1,500 characters, and does not with 900."""
OBLIQUE = 0.75
"""Smallest cosine of an axis with the patient's axis that it is named after."""
LARGEST_LENGTH = 1e30
"""Largest number of a direction, distance or position, in either sign. No anatomy needs more. ITK reads a MetaImage
with 1e160, and never ends to read one with 1e308."""
GEOMETRY = (
    "TransformMatrix|Rotation|Orientation|Offset|Position|Origin|CenterOfRotation|ElementSpacing|ElementSize|"
    "space directions|space origin|spacings|thicknesses|axis ?mins|axis ?maxs|measurement frame"
)
"""Entries of a header with directions, distances and positions."""
MAX_AXES = 10
"""Largest number of axes in ITK's MetaImage reader."""
METAIMAGE_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
"""Bytes of an element type, by its name without ``MET_`` and without the ``U`` of unsigned types; LONG may have 8."""
NOT_SUPPORTED_KINDS = frozenset(("hsv-color", "xyz-color", "3d-masked-symmetric-matrix"))
"""Kinds of NRRD axes, in lower case: colors that are not red, green and blue, and a matrix whose first number, a mask,
ITK leaves out, so that the channels get other numbers."""
VALUE_KINDS = re.compile(r"(?i)\w*-?(color|vector|matrix|normal|gradient|point)|scalar|complex|quaternion|list|stub")
"""Kinds of NRRD axes that do not run through space."""
NRRD_BYTES = (
    (r"(un)?signed char|u?char|u?int8(_t)?", 1),
    (r"(un)?signed short( int)?|u?short( int)?|u?int16(_t)?", 2),
    (r"(un)?signed int|u?int|u?int32(_t)?|float", 4),
    (r"(un)?signed long long( int)?|u?longlong|u?long long( int)?|u?int64(_t)?|double", 8),
)
"""Names of types, and their size in bytes."""


def check_grid_header(path: Path) -> None:
    """Check that the file is as large as its header promises, and verify the checksum of compressed pixels.

    Args:
        path: a MetaImage or NRRD file.

    Raises:
        DataError: when sizes are missing, invalid or larger than the file, or when compressed pixels are damaged.
    """
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    if head.startswith(b"NRRD"):
        _check_nrrd(path, head)
    else:
        _check_metaimage(path, head)


def _check_metaimage(path: Path, head: bytes) -> None:
    text = re.split(rb"(?m)^[ \t]*ElementDataFile", head)[0].decode("latin-1")
    axes, sizes = _integers(text, "NDims"), _integers(text, "DimSize")
    channels = _integers(text, "ElementNumberOfChannels") or [1]
    if len(axes) != 1 or not 1 <= axes[0] <= MAX_AXES or len(sizes) != axes[0] or len(channels) != 1:
        raise DataError(f"has a DimSize of {len(sizes)} numbers, and NDims is {' '.join(map(str, axes)) or 'missing'}.")
    check_size((*sizes, *channels))
    _check_numbers(text)
    slope, offset = (_number(text, f"ElementToIntensityFunction{name}") for name in ("Slope", "Offset"))
    if slope not in (None, 1) or offset not in (None, 0):
        # ITK reads the stored values, and says nothing.
        raise DataError(
            f"has an ElementToIntensityFunction ({1 if slope is None else slope:g} * value + {offset or 0:g}), "
            "which is not supported: save the values themselves."
        )

    kind = (_value(text, "ElementType") or "").upper()
    # ITK reads several channels of an array as it reads several numbers of the plain type.
    plain = kind.removeprefix("MET_").removesuffix("_ARRAY" if channels[0] > 1 else "").removeprefix("U")
    if plain not in METAIMAGE_BYTES:
        raise DataError(f"has the ElementType {kind or 'none'}, which is not supported: save it as MET_SHORT or so.")
    if not _is_true(text, "BinaryData", "True"):
        raise DataError("holds its pixels as text (BinaryData = False), which is not supported: save it as binary.")
    if _is_volume(sizes):
        if not (_value(text, "ElementSpacing") or _value(text, "ElementSize")):
            _tell_no_distances(path)
        _tell_two_orientations(path, text)

    found = re.search(rb"(?m)^[ \t]*ElementDataFile[ \t]*[=:]?[ \t]*([^\r\n]*)\r?\n?", head)
    name = found[1].decode("latin-1").strip() if found else ""
    is_local = name.upper() == "LOCAL"
    pixels, start = (path, found.end()) if found and is_local else (path.parent / name, 0)
    needed = math.prod(sizes) * channels[0] * METAIMAGE_BYTES[plain]
    if pixels.is_file():
        _check_pixels(pixels, start, needed, text, is_local)
        return
    words = name.split()
    if found and words and words[0].upper() == "LIST":
        axes_of_file = int(words[1][0]) if len(words) > 1 and words[1][0].isdigit() else axes[0] - 1
        files = _listed_files(head[found.end() :], path.parent)
    elif len(words) == 4 and "%" in words[0] and all(word.isdigit() and int(word) for word in words[2:]):
        axes_of_file = axes[0] - 1
        files = [path.parent / words[0]] * len(range(int(words[1]), int(words[2]) + 1, int(words[3])))
    else:
        # Without a file for compressed pixels, ITK divides by zero.
        raise DataError(f"names the file {name!r} for its pixels (ElementDataFile), which does not exist.")
    count = math.prod(sizes[axes_of_file:])
    if len(files) != count:
        # ITK leaves the memory of the others as it was.
        raise DataError(f"names {len(files)} files for its pixels, and its DimSize needs {count}: correct the list.")
    for file in files:
        if file.is_file():
            _check_pixels(file, 0, needed // count, text, False)


def _is_volume(sizes: Sequence[int]) -> bool:
    return len(sizes) > 2 and sizes[2] > 1


def _tell_no_distances(path: Path) -> None:
    logger.warning(f"{printable(str(path))} tells no distances of its voxels; they are taken for 1 mm.")


def _tell_two_orientations(path: Path, text: str) -> None:
    """Warn if a MetaImage tells its directions twice, and differently. ITK overlooks AnatomicalOrientation.

    Its letters tell where each axis comes from: RAI is from the right, the front and the feet, as in ITK.
    """
    told = (_value(text, "AnatomicalOrientation") or "").upper()
    matrix = next(filter(None, (_value(text, key) for key in ("TransformMatrix", "Rotation", "Orientation"))), "")
    try:
        axes = [float(word) for word in (matrix or "1 0 0 0 1 0 0 0 1").split()]
    except ValueError:
        return
    if len(axes) != 9 or not re.fullmatch("[RLAPIS]{3}", told):
        return
    taken = ""
    for axis in (axes[:3], axes[3:6], axes[6:]):
        largest = max(range(3), key=lambda number: abs(axis[number]))
        if abs(axis[largest]) < OBLIQUE * math.hypot(*axis):
            # Which letter it has is a matter of rounding.
            return
        taken += ("RL", "AP", "IS")[largest][axis[largest] < 0]
    if taken != told:
        logger.warning(
            f"{printable(str(path))} tells that its axes come from {told} (AnatomicalOrientation) and from {taken} "
            "(TransformMatrix); the latter is taken. If it is wrong, left and right may be exchanged: correct the "
            "header."
        )


def _listed_files(lines: bytes, folder: Path) -> list[Path]:
    """Files in the lines after ``ElementDataFile = LIST``."""
    if not lines.endswith(b"\n"):
        # ITK overlooks it, and leaves the memory of its pixels as it was.
        raise DataError("has a last line without an end: end the list of its files with a line break.")
    return [folder / line.strip() for line in lines.decode("latin-1").splitlines() if line.strip()]


def _check_pixels(pixels: Path, start: int, needed: int, text: str, is_local: bool) -> None:
    """Check a file with pixels of a MetaImage. ITK fills what it can't unpack with anything."""
    skipped = _integers(text, "HeaderSize")
    stored = pixels.stat().st_size - start - (skipped[0] if skipped and skipped[0] > 0 else 0)
    if not _is_true(text, "CompressedData", "False"):
        check_stored_size(needed, stored)
        if stored > needed and not (skipped and skipped[0] < 0):
            logger.warning(
                f"{printable(str(pixels))} has {stored - needed} bytes more than its header tells; the first ones are "
                "read. If it has a header of its own, its length is the HeaderSize."
            )
        return
    if skipped and skipped[0]:
        raise DataError("has compressed pixels and a HeaderSize, which is not supported: save it without.")
    check_stored_size(needed, stored, MAX_DEFLATE_RATIO)
    taken, told = _check_compressed(pixels, start, needed), _integers(text, "CompressedDataSize")
    if (told and not taken <= told[0] <= stored) or (is_local and not told):
        raise DataError(
            f"has the CompressedDataSize {told[0] if told else 'none'}, and its pixels take {taken} bytes: correct it."
        )


def _check_nrrd(path: Path, head: bytes) -> None:
    header = re.match(rb".*?\r?\n\r?\n", head, re.DOTALL)
    text = (header[0] if header else head).decode("latin-1")
    axes, sizes = _integers(text, "dimension"), _integers(text, "sizes")
    if len(axes) != 1 or not 1 <= axes[0] <= MAX_AXES or len(sizes) != axes[0]:
        raise DataError(f"has {len(sizes)} sizes, and its dimension is {' '.join(map(str, axes)) or 'missing'}.")
    check_size(sizes)
    _check_numbers(text)
    # Not comments, and not the key/value pairs with ":=".
    if long := re.search(rf"(?m)^([^:#\r\n]{{1,40}}):[^=\r\n][^\r\n]{{{LONGEST_FIELD},}}", text):
        raise DataError(f"has a field {long[1]!r} of more than {LONGEST_FIELD} characters in its header.")
    if _value(text, "axis ?maxs") and not _value(text, "(spacings|space directions)"):
        # ITK takes every distance for 1 mm then.
        raise DataError("tells distances by axis mins and maxs, which are not supported: save it with spacings.")
    kinds = (_value(text, "kinds") or "").split()
    if found := [kind for kind in kinds if kind.lower() in NOT_SUPPORTED_KINDS]:
        raise DataError(f"has the kind {found[0]}, which is not supported: save it with RGB-color or vector.")
    in_space = [size for size, kind in zip(sizes, kinds, strict=False) if not VALUE_KINDS.fullmatch(kind)]
    if _is_volume(in_space if len(kinds) == len(sizes) else sizes):
        space = _value(text, "space") or ""
        if not space or re.match(r"(?i)scanner-xyz|3d-(right|left)-handed", space):
            told = f"the space {space}, which does not tell" if space else "no space, so nothing tells"
            logger.warning(
                f"{printable(str(path))} has {told} left from right in the patient; it is read as "
                "left-posterior-superior."
            )
        if not re.search(r"\d", _value(text, "spacings") or _value(text, "space directions") or ""):
            _tell_no_distances(path)
    if _value(text, "thicknesses") and not _value(text, "(spacings|space directions)"):
        raise DataError("tells thicknesses of its slices and no distances: save it with spacings.")
    if _value(text, "old ?max"):
        logger.warning(
            f"{printable(str(path))} holds values that were scaled from {_value(text, 'old ?min')} to "
            f"{_value(text, 'old ?max')} (old min, old max); they are read as they are stored."
        )
    encoding = (_value(text, "encoding") or "").lower()
    if encoding in ("bz2", "bzip2", "zrl"):
        raise DataError(f"has the encoding {encoding}, which is not supported: save it with raw or gzip.")
    kind = (_value(text, "type") or "").lower()
    if kind == "block":
        raise DataError("has the type block, which is not supported: save it as numbers.")
    width = next((size for names, size in NRRD_BYTES if re.fullmatch(names, kind)), None)
    is_elsewhere = re.search(r"(?im)^(data[ \t]?file|line[ \t]?skip|byte[ \t]?skip)[ \t]*:", text)
    if header is None or width is None or is_elsewhere:
        return
    needed, stored = math.prod(sizes) * width, path.stat().st_size - header.end()
    if encoding == "raw":
        check_stored_size(needed, stored)
    elif encoding in ("gzip", "gz"):
        check_stored_size(needed, stored, MAX_DEFLATE_RATIO)
        _check_compressed(path, header.end(), needed)


def _check_numbers(text: str) -> None:
    """Refuse numbers that end ITK's process, or keep it busy for ever."""
    if re.search(rf"\d{{{LONGEST_NUMBER + 1}}}", text):
        raise DataError(f"has a number of more than {LONGEST_NUMBER} digits in its header.")
    for key, value in re.findall(rf"(?im)^[ \t]*({GEOMETRY})[ \t]*[=:][ \t]*([^\r\n]*)", text):
        for word in re.findall(r"\d+\.?\d*e[-+]?\d+", value, re.IGNORECASE):
            if float(word) > LARGEST_LENGTH:
                raise DataError(f"has the number {word} in its {key}: correct the header.")


def _value(text: str, key: str) -> str | None:
    found = re.search(rf"(?im)^[ \t]*{key}[ \t]*[=:][ \t]*([^\r\n]*)", text)
    return found[1].strip() if found else None


def _is_true(text: str, key: str, default: str) -> bool:
    return (_value(text, key) or default)[0] in "Tt1"


def _number(text: str, key: str) -> float | None:
    """Number of an entry; None if it is missing, NaN if it is none."""
    value = _value(text, key)
    if value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return math.nan


def length_unit(path: Path) -> str:
    """Unit of the lengths in a MetaImage or NRRD header; mm if none is told. ITK reads the numbers only.

    Raises:
        DataError: when the axes have different units.
    """
    with open(path, "rb") as file:
        head = file.read(HEADER_BYTES)
    if not head.startswith(b"NRRD"):
        unit = _value(re.split(rb"(?m)^[ \t]*ElementDataFile", head)[0].decode("latin-1"), "DistanceUnits") or ""
        return unit if unit.strip("?") else "mm"
    text = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0].decode("utf-8", "replace")
    told = _value(text, "space units") or (None if _value(text, "space directions") else _value(text, "units")) or ""
    # Axes of other kinds have an empty unit, or none.
    units = {unit for unit in re.findall(r'"([^"]*)"', told) if unit.strip()}
    if len(units) > 1:
        raise DataError(f"has axes in different units ({', '.join(sorted(units))}): save it in mm.")
    return next(iter(units), "mm")


def _integers(text: str, key: str) -> list[int]:
    """Read the numbers of an entry; empty if it is missing, is there twice, or holds anything else."""
    found = re.findall(rf"(?im)^[ \t]*{key}[ \t]*[=:][ \t]*([^\r\n]*)", text)
    if len(found) != 1 or not re.fullmatch(r"-?\d{1,18}([ \t]+-?\d{1,18})*[ \t]*", found[0]):
        return []
    return [int(word) for word in found[0].split()]


def _check_compressed(path: Path, start: int, needed: int) -> int:
    """Unpack zlib or gzip up to the checksum at its end, without keeping the result. Returns its length in the file."""
    unpacker, size = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read(1 << 20)
        try:
            while data and not unpacker.eof and size <= needed:
                size += len(unpacker.decompress(data, 1 << 24))
                data = unpacker.unconsumed_tail or (b"" if unpacker.eof else file.read(1 << 20))
            end = file.tell()
        except zlib.error as error:
            raise DataError(f"is damaged: its compressed pixels can't be unpacked ({error}).") from None
    if not unpacker.eof or size != needed:
        raise DataError(f"is damaged: its compressed pixels are {size} bytes, and its header promises {needed}.")
    return end - len(unpacker.unused_data) - start
