# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Pixels of a file as the libraries read them. The rules for their brightness are implemented here a second time.

pydicom's ``pixel_array``, nibabel's ``get_fdata``, Pillow's ``convert``, imagecodecs for deep PNG, and tifffile. The
rules are those that :func:`monai_fgssl.data.read_medical_image` documents; nothing here imports the package.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import nibabel
import numpy as np
import pydicom
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

__all__ = ["Expected", "NotPromised", "expected_of"]

PHOTOS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "WEBP", "JPEG2000", "PPM")
"""Pillow's names of what is read; MPO is a JPEG with further pictures behind it."""
EXACT, ROUNDED = 2e-6, 1.01 / 255
"""Largest difference of brightness: of float32, and of colors that two decoders round differently."""


class NotPromised(Exception):
    """The library reads a format, or a kind of it, that is not promised."""


@dataclass
class Expected:
    """An image as a library reads it.

    Attributes:
        values: brightness from 0 to 1, ``(rows, columns, 1 or 3)``; of a volume its values, ``(X, Y, Z, C)``.
        options: of ``read_medical_image`` that ask for this image.
        tolerance: largest difference of brightness; of a volume, relative to its largest value.
        affine: of a volume.
    """

    values: NDArray[Any]
    options: dict[str, Any]
    tolerance: float = EXACT
    affine: NDArray[np.float64] | None = None


def expected_of(path: Path) -> Iterator[Expected]:
    """Images of a file: at most the first, the middle and the last frame or page.

    Raises:
        NotPromised: when the format is not among those that are read.
        Exception: when the library can't read the file either.
    """
    head = path.read_bytes()[:132]
    if head[128:] == b"DICM" or path.suffix.lower() == ".dcm":
        yield from _dicom(path)
    elif head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        yield from _tiff(path)
    elif path.name.lower().endswith((".nii", ".nii.gz", ".hdr", ".img", ".mgz", ".mgh", ".par", ".mnc", ".head")):
        yield from _nifti(path)
    else:
        yield from _photo(path)


def _some(count: int) -> list[int]:
    return sorted({0, count // 2, count - 1})


def _frame(number: int, count: int) -> dict[str, Any]:
    return {"frame": number} if count > 1 else {}


def _dicom(path: Path) -> Iterator[Expected]:
    dataset = pydicom.dcmread(path, force=True)
    count = int(dataset.get("NumberOfFrames") or 1)
    for number in _some(count):
        frame = pixel_array(dataset, index=number if count > 1 else None)
        yield Expected(*_brightness(dataset, number, frame, _frame(number, count)))


def _brightness(
    dataset: Any, number: int, frame: NDArray[Any], options: dict[str, Any]
) -> tuple[NDArray[Any], dict[str, Any], float]:
    """Brightness by PS3.3, C.11, of the first table or else the first window; without one, of the range."""
    photometric, bits = dataset.PhotometricInterpretation, int(dataset.get("BitsStored") or 0)
    if photometric == "PALETTE COLOR":
        colors = apply_color_lut(frame, dataset)[..., :3]
        is_wide = colors.dtype == np.uint16 and bool((colors & 255).any())
        return (colors / 65535 if is_wide else (colors >> (8 * (colors.itemsize - 1))) / 255), options, EXACT
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        # pydicom makes RGB of YBR.
        return frame.view(f"u{frame.itemsize}") / (2**bits - 1), options, ROUNDED if "YBR" in photometric else EXACT
    module = _module(dataset, number)
    values = np.asarray(apply_modality_lut(frame, module), np.float64)
    table = next((item for item in module.get("VOILUTSequence") or [] if "LUTData" in item), None)
    if table is not None:
        entries, first, depth = (int(one) for one in table.LUTDescriptor)
        data = (
            np.asarray(table.LUTData) if not isinstance(table.LUTData, bytes) else np.frombuffer(table.LUTData, "<u2")
        )
        first = first - 65536 if first >= 32768 and values.min() < 0 else first
        shown = data[np.clip(values - first, 0, len(data) - 1).astype(int)] / (2**depth - 1)
        assert len(data) == (entries or 65536)
    elif module.get("WindowCenter") not in (None, "") and module.get("WindowWidth") not in (None, ""):
        center, width = (float(np.ravel(module[key].value)[0]) for key in ("WindowCenter", "WindowWidth"))
        function = module.get("VOILUTFunction", "LINEAR")
        if function == "SIGMOID":
            shown = 1 / (1 + np.exp(-4 * (values - center) / width))
        elif function == "LINEAR_EXACT":
            shown = np.clip((values - center) / width + 0.5, 0, 1)
        elif width == 1:
            shown = (values > center - 0.5).astype(float)
        else:
            shown = np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    elif bits:
        low = -(2 ** (bits - 1)) if dataset.PixelRepresentation else 0
        ends = np.array([low, low + 2**bits - 1], frame.dtype if frame.itemsize > 1 or bits == 8 else np.int16)
        if module.get("ModalityLUTSequence"):
            low, high = 0, 2 ** int(module.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
        else:
            low, high = sorted(np.asarray(apply_modality_lut(ends, module), np.float64))
        shown = (values - low) / (high - low)
    else:
        center, width = float(values.max() + values.min()) / 2, float(np.ptp(values)) or 1.0
        options = {**options, "window": (center, width)}
        shown = _window(values, center, width)
    return (1 - shown if photometric == "MONOCHROME1" else shown)[..., None], options, EXACT


def _window(values: NDArray[Any], center: float, width: float) -> NDArray[Any]:
    """Brightness in a window that is asked for: LINEAR for whole numbers, LINEAR_EXACT for others."""
    if (values == np.rint(values)).all() and width > 1:
        return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
    return np.clip((values - center) / width + 0.5, 0, 1)


def _module(dataset: Any, number: int) -> Any:
    """The data set, with what the functional groups of a frame say laid over it."""
    whole = pydicom.Dataset()
    whole.update(dataset.group_dataset(0x0028))
    groups = [
        *(dataset.get("SharedFunctionalGroupsSequence") or [])[:1],
        *(dataset.get("PerFrameFunctionalGroupsSequence") or [])[number : number + 1],
    ]
    for group in groups:
        for key in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(key) or []:
                whole.update(item)
    return whole


def _nifti(path: Path) -> Iterator[Expected]:
    image = nibabel.load(path)
    if not isinstance(image, (nibabel.Nifti1Pair, nibabel.Nifti2Pair)):
        raise NotPromised(type(image).__name__)
    if path.suffix == ".img":
        raise NotPromised("the pixels of a pair, which its header names")
    raw = np.asarray(image.dataobj)
    if raw.dtype.names:
        values = np.stack([raw[name] for name in raw.dtype.names], -1)
    else:
        values = image.get_fdata()
        if values.ndim >= 5 and values.shape[3] == 1:
            values = values[:, :, :, 0]
    values = values.reshape(values.shape + (1,) * (4 - values.ndim))
    yield Expected(values, {"spatial_dims": 3}, 1e-6, np.asarray(image.affine))


def _photo(path: Path) -> Iterator[Expected]:
    with Image.open(path) as image:
        if image.format not in PHOTOS:
            image.load()
            raise NotPromised(str(image.format))
        # Further pictures of a phone's JPEG are previews.
        count = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        raw = str(image.tile[0][3]) if image.tile else ""
        is_deep_color = image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA") and "16" in raw
        data = path.read_bytes() if image.format == "JPEG2000" else b""
    # Pillow rounds most JPEG 2000 of more than 8 bits. The depth is in the codestream: ITU-T T.800, A.5.1.
    if data and (bits := data[data.index(b"\xff\x4f\xff\x51") + 42] % 128 + 1) > 8:
        samples = np.atleast_3d(imagecodecs.jpeg2k_decode(data))
        yield Expected(samples[..., : 3 if samples.shape[2] > 2 else 1] / (2**bits - 1), {})
        return
    for number in _some(count):
        options = _frame(number, count)
        if is_deep_color and number == 0:
            samples = imagecodecs.png_decode(path.read_bytes())
            with Image.open(path) as image:
                samples = _exif_transposed(samples, image)
            yield Expected(samples[..., : 3 if samples.shape[2] > 2 else 1] / 65535, options)
            continue
        with Image.open(path) as image:
            image.seek(number)
            turned = ImageOps.exif_transpose(image)
            if turned.mode == "F":
                # Portable float maps.
                values = np.asarray(turned, np.float64)
                center, width = float(values.max() + values.min()) / 2, float(np.ptp(values)) or 1.0
                yield Expected(_window(values, center, width)[..., None], {**options, "window": (center, width)})
                continue
            if turned.mode.startswith("I"):
                shown = np.asarray(turned).astype(np.float64)[..., None] / 65535
            elif turned.mode in ("1", "L", "LA", "La"):
                shown = np.asarray(turned.convert("L"))[..., None] / 255
            else:
                shown = np.asarray(turned.convert("RGB")) / 255
        yield Expected(shown, options)


def _exif_transposed(samples: NDArray[Any], image: Image.Image) -> NDArray[Any]:
    planes = []
    for channel in range(samples.shape[2]):
        plane = Image.fromarray(samples[..., channel].astype(np.int32))
        plane.getexif()[274] = image.getexif().get(274, 1)
        planes.append(np.asarray(ImageOps.exif_transpose(plane)))
    return np.stack(planes, -1)


def _tiff(path: Path) -> Iterator[Expected]:
    with tifffile.TiffFile(path) as file:
        pages = [page for page in file.pages if not int(page.subfiletype) & 5]
        for number in _some(len(pages)):
            options = _frame(number, len(pages))
            try:
                yield _page(pages[number], options)
            except NotPromised:
                raise
            except Exception:
                yield from _tiff_of_pillow(path, pages[number].index, options)


def _page(page: Any, options: dict[str, Any]) -> Expected:
    values = page.asarray()
    photometric, bits = page.photometric.name, page.bitspersample
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        values = np.moveaxis(values, 0, -1)
    values = values if page.samplesperpixel > 1 else values[..., None]
    orientation = page.tags["Orientation"].value if "Orientation" in page.tags else 1
    planes = []
    for channel in range(values.shape[-1]):
        plane = Image.fromarray(np.arange(values[..., channel].size, dtype=np.int32).reshape(values.shape[:2]))
        plane.getexif()[274] = orientation
        planes.append(values[..., channel].ravel()[np.asarray(ImageOps.exif_transpose(plane))])
    values = np.stack(planes, -1)
    white = 1 if values.dtype.kind == "b" else 2**bits - 1 if values.dtype.kind == "u" and bits <= 16 else None
    if photometric == "PALETTE":
        table = page.colormap
        is_wide = (table > 255).any() and bool((table & 255).any())
        shown = np.moveaxis(table[:, values[..., 0]], 0, -1) / (
            65535 if is_wide else 255 * (256 if table.max() > 255 else 1)
        )
        return Expected(shown, options)
    if photometric == "SEPARATED":
        ink = values[..., :4] / white
        return Expected((1 - ink[..., :3]) * (1 - ink[..., 3:]), options, ROUNDED)
    if photometric not in ("MINISWHITE", "MINISBLACK", "RGB", "YCBCR"):
        raise NotPromised(photometric)
    colors = values[..., : 3 if photometric in ("RGB", "YCBCR") else 1].astype(np.float64)
    tolerance = ROUNDED if photometric == "YCBCR" else EXACT
    if 1 in page.extrasamples and white:
        # Multiplied by its transparency.
        alpha = values[..., colors.shape[-1] :][..., :1].astype(np.float64)
        colors = np.where(alpha > 0, np.minimum(colors * white / np.where(alpha > 0, alpha, 1), white), 0)
        tolerance = 1.01 / white
    if white:
        shown = colors / white
    elif colors.shape[-1] == 3 and values.dtype.kind == "f" and colors.min() >= 0 and colors.max() <= 1:
        # Color has no window.
        shown = colors
    elif values.dtype.kind == "i" and values.itemsize <= 2:
        shown = (colors + 2 ** (bits - 1)) / (2**bits - 1)
    else:
        center, width = float(colors.max() + colors.min()) / 2, float(np.ptp(colors)) or 1.0
        shown, options = _window(colors, center, width), {**options, "window": (center, width)}
    return Expected(1 - shown if photometric == "MINISWHITE" else shown, options, tolerance)


def _tiff_of_pillow(path: Path, index: int, options: dict[str, Any]) -> Iterator[Expected]:
    """Page that tifffile can't decode."""
    with Image.open(path) as image:
        image.seek(index)
        image.load()
        if image.mode in ("1", "L", "LA"):
            yield Expected(np.asarray(image.convert("L"))[..., None] / 255, options)
        elif image.mode.startswith("I;16"):
            yield Expected(np.asarray(image)[..., None] / 65535, options)
        elif image.mode in ("I", "F"):
            raise NotPromised(f"mode {image.mode}")
        else:
            yield Expected(np.asarray(image.convert("RGB")) / 255, options, ROUNDED)
