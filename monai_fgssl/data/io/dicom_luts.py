# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Apply DICOM's lookup tables and windows: from stored values to values of the modality, and then to brightness.

Stored values may also say that there is no data: padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from monai_fgssl.utils.errors import DataError

from .colors import palette_depth
from .display import LookupTable, Window

try:
    from pydicom.pixels import apply_color_lut
except ImportError:
    from pydicom.pixel_data_handlers.util import apply_color_lut  # type: ignore[no-redef]

__all__ = ["apply_modality_lut", "find_padding", "palette_colors", "read_voi"]


def apply_modality_lut(stored: NDArray[Any], module: Dataset, is_signed: bool) -> tuple[NDArray[Any], int | None]:
    """Apply the Modality LUT, or else the rescale; or the scaling of doses, to grays or what Dose Units tells.

    pydicom's ``apply_modality_lut`` can't take its place: up to 3.0.2 it knows neither 8 bits that are packed into
    words nor empty sequences.

    Args:
        stored: values of any shape.
        module: result of :func:`~monai_fgssl.data.io.dicom.frame_module`.
        is_signed: True if stored values may be negative.

    Returns:
        Values in units of the modality, and the number of bits of a table's values; None if there is no table.

    Raises:
        DataError: when the slope is 0, or a table is not as long as it says.

    Source: DICOM PS3.3, C.11.1; C.8.8.3 for doses.
    """
    table = _read_table(module, "ModalityLUTSequence", is_signed)
    if table is not None:
        return table.look_up(stored), table.bits
    if "RescaleSlope" in module or "RescaleIntercept" in module:
        # Where only one of the two is there, the other changes nothing, as in GDCM and dcm4che.
        slope, intercept = float(module.get("RescaleSlope", 1)), float(module.get("RescaleIntercept", 0))
        if slope == 0:
            raise DataError(f"has a Rescale Slope (0028,1053) of 0, which makes all of its values {intercept:g}.")
        return stored.astype(np.float64) * slope + intercept, None
    if "DoseGridScaling" in module:
        scaling = float(module["DoseGridScaling"].value)
        if scaling == 0:
            raise DataError("has a Dose Grid Scaling (3004,000E) of 0, which makes all of its doses 0.")
        return stored.astype(np.float64) * scaling, None
    return stored, None


def read_voi(module: Dataset, is_signed: bool) -> Window | LookupTable | None:
    """Read the first VOI LUT, or else the first window; DICOM PS3.3, C.11.2.1 leaves the choice to the viewer.

    Args:
        module: result of :func:`~monai_fgssl.data.io.dicom.frame_module`.
        is_signed: True if values of the modality may be negative.

    Returns:
        The table or window that turns values of the modality into brightness. None when the file has neither.
    """
    table = _read_table(module, "VOILUTSequence", is_signed)
    if table is not None:
        return table
    if "WindowCenter" in module and "WindowWidth" in module:
        center, width = (float(np.ravel(module[key].value)[0]) for key in ("WindowCenter", "WindowWidth"))
        return Window(center, width, str(module.get("VOILUTFunction", "LINEAR")))
    return None


def find_padding(dataset: Dataset, stored: NDArray[Any], is_signed: bool) -> NDArray[np.bool_] | None:
    """Find the pixels that only fill the rectangle, such as those around a round field of view.

    They are the pixels with the Pixel Padding Value, or with a value from there to the Pixel Padding Range Limit.

    Args:
        dataset: data set of a gray image.
        stored: stored values of any shape.
        is_signed: True if stored values may be negative.

    Returns:
        True for padding, of the shape of ``stored``; None if there is none.

    Source: DICOM PS3.3, C.7.5.1.1.2 and C.7.6.3.1.4 (padding is not of the contrast, and stored before any rescale).
    """
    prefix = next((kind for kind in ("FloatPixel", "DoubleFloatPixel") if f"{kind}Data" in dataset), "Pixel")
    ends = [dataset.get(f"{prefix}Padding{name}") for name in ("Value", "RangeLimit")]
    if ends[0] in (None, ""):
        return None
    first, last = (ends[0] if end in (None, "") else end for end in ends)
    if prefix == "Pixel":
        # Implicit VR does not tell whether the 16 bits have a sign.
        first, last = (
            (int(end) + 0x8000 & 0xFFFF) - 0x8000 if is_signed else int(end) & 0xFFFF for end in (first, last)
        )
    padding = (stored >= min(first, last)) & (stored <= max(first, last))
    return padding if padding.any() else None


def palette_colors(dataset: Dataset, indices: NDArray[Any], is_signed: bool) -> tuple[NDArray[Any], int]:
    """Look up the colors of palette indices.

    pydicom's ``apply_color_lut`` can't take its place: up to 3.0.2 it takes indices modulo 256, refuses tables with a
    byte of padding, and swaps the bytes of big-endian ones.

    Args:
        dataset: data set with the palette.
        indices: ``(rows, columns)``.
        is_signed: True if indices may be negative.

    Returns:
        ``(rows, columns, 3)``, and the value of full intensity.

    Raises:
        DataError: when the length of a table differs from its descriptor.

    Source: DICOM PS3.3, C.7.6.3.1.5 and C.7.6.3.1.6.
    """
    names = [f"{color}PaletteColorLookupTable" for color in ("Red", "Green", "Blue")]
    if not all(dataset.get(f"{name}Data") for name in names):
        # Segmented tables.
        colors = apply_color_lut(indices, dataset)[..., :3]
        return (colors, 255) if colors.dtype == np.uint8 else palette_depth(colors)
    is_little_endian = dataset.file_meta.TransferSyntaxUID.is_little_endian
    tables = [
        _make_table(name, dataset[f"{name}Descriptor"].value, dataset[f"{name}Data"].value, is_signed, is_little_endian)
        for name in names
    ]
    colors = np.stack([table.look_up(indices) for table in tables], axis=-1)
    return (colors, 255) if max(table.bits for table in tables) <= 8 else palette_depth(colors.astype(np.uint16))


def _read_table(module: Dataset, key: str, is_signed: bool) -> LookupTable | None:
    """Read the first table of a sequence. In de-identified files it may be empty, or have an item without a table."""
    for item in module.get(key) or []:
        if item.get("LUTDescriptor") and item.get("LUTData") is not None:
            is_little_endian = module.file_meta.TransferSyntaxUID.is_little_endian
            return _make_table(key, item.LUTDescriptor, item.LUTData, is_signed, is_little_endian)
    return None


def _make_table(
    name: str, descriptor: Sequence[int], data: bytes | Sequence[int] | int, is_signed: bool, is_little_endian: bool
) -> LookupTable:
    """Make a table from the form in which DICOM stores it.

    Entries of 8 bits are stored one or two to a word. The first mapped value is read as signed if the values are
    signed, whatever its VR is: Implicit VR does not tell, and many writers store 64512 for -1024. If the depth is too
    small for the entries, it is ignored, as dcmtk does.
    """
    count, first, bits = (int(value) for value in descriptor)
    count = count & 0xFFFF or 2**16
    first = (first + 0x8000 & 0xFFFF) - 0x8000 if is_signed else first & 0xFFFF
    order = "<" if is_little_endian else ">"
    if not isinstance(data, bytes):
        data = (np.atleast_1d(np.asarray(data, dtype=np.int64)) & 0xFFFF).astype(f"{order}u2").tobytes()
    words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
    entries: NDArray[Any]
    if len(words) >= count:
        entries = words[:count].astype(np.uint16)
    elif bits <= 8 and len(data) >= count:
        # Two entries to a word, the first one in its lower half. An odd last byte is an entry of its own.
        entries = np.frombuffer(words.astype("<u2").tobytes() + data[2 * len(words) :], np.uint8)[:count]
    else:
        raise DataError(f"has a {name} with {len(data)} bytes for {count} entries of {bits} bits.")
    return LookupTable(first, entries, max(bits, int(entries.max()).bit_length()))
