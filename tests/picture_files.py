# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""One picture in every kind of file."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np
from dicom_files import write_dicom
from monai.transforms import LoadImage, SaveImage
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless


def encoded(pixels: NDArray[Any], kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


def pillow(suffix: str, mode: str = "RGB", **options: Any) -> Callable[[NDArray[Any], Path], Path]:
    def write(pixels: NDArray[Any], folder: Path) -> Path:
        Image.fromarray(pixels).convert(mode).save(folder / f"image{suffix}", **options)
        return folder / f"image{suffix}"

    return write


def write_palette_png(pixels: NDArray[Any], folder: Path) -> Path:
    colors, indices = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    image = Image.fromarray(indices.reshape(pixels.shape[:2]).astype(np.uint8), "P")
    image.putpalette(colors.tobytes())
    image.save(folder / "image.png", transparency=3)
    return folder / "image.png"


def dicom(**attributes: Any) -> Callable[[NDArray[Any], Path], Path]:
    def write(pixels: NDArray[Any], folder: Path) -> Path:
        return write_dicom(folder / "image.dcm", pixels, **attributes)

    return write


def dcmtk(*command: str) -> Callable[[NDArray[Any], Path], Path]:
    def write(pixels: NDArray[Any], folder: Path) -> Path:
        run(*command, write_dicom(folder / "plain.dcm", pixels), folder / "image.dcm")
        return folder / "image.dcm"

    return write


def write_jpeg2000_dicom(pixels: NDArray[Any], folder: Path) -> Path:
    codestream = encoded(pixels, "JPEG2000", irreversible=False, mct=1, no_jp2=True)
    return write_dicom(
        folder / "image.dcm",
        pixels,
        syntax=JPEG2000Lossless,
        codestreams=[codestream],
        PhotometricInterpretation="YBR_RCT" if pixels.ndim == 3 else "MONOCHROME2",
    )


def write_palette_dicom(depth: int, scale: int = 1) -> Callable[[NDArray[Any], Path], Path]:
    """Palette of 8 or 16 bits; ``scale`` brings 8 bits to 16, 257 by repeating them and 256 in the upper half."""

    def write(pixels: NDArray[Any], folder: Path) -> Path:
        colors, indices = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
        tables = (colors.T.astype(f"<u{depth // 8}") * scale).astype(f"<u{depth // 8}")
        names = ("Red", "Green", "Blue")
        return write_dicom(
            folder / "image.dcm",
            indices.reshape(pixels.shape[:2]).astype(np.uint8),
            PhotometricInterpretation="PALETTE COLOR",
            **{f"{name}PaletteColorLookupTableDescriptor": [len(colors), 0, depth] for name in names},
            **{f"{n}PaletteColorLookupTableData": t.tobytes() for n, t in zip(names, tables, strict=True)},
        )

    return write


def itk_writer(suffix: str) -> Callable[[NDArray[Any], Path], Path]:
    """ITK's copy of a PNG."""

    def write(pixels: NDArray[Any], folder: Path) -> Path:
        Image.fromarray(pixels).save(folder / "original.png")
        itk.imwrite(itk.imread(str(folder / "original.png")), str(folder / f"image{suffix}"))
        return folder / f"image{suffix}"

    return write


def monai_writer(suffix: str, writer: str) -> Callable[[NDArray[Any], Path], Path]:
    """MONAI's copy of a PNG, in float32."""

    def write(pixels: NDArray[Any], folder: Path) -> Path:
        Image.fromarray(pixels).save(folder / "image.png")
        image = LoadImage(reader="PILReader", image_only=True, ensure_channel_first=True)(folder / "image.png")
        SaveImage(folder, "", suffix, writer=writer, separate_folder=False, print_log=False)(image)
        return folder / f"image{suffix}"

    return write


def write_vector_nifti(pixels: NDArray[Any], folder: Path) -> Path:
    grid = pixels.swapaxes(0, 1)[:, :, None, None]
    nibabel.Nifti1Image(grid, np.diag([0.1, -0.2, 1, 1])).to_filename(folder / "image.nii")
    return folder / "image.nii"


def write_rgb24_nifti(pixels: NDArray[Any], folder: Path) -> Path:
    grid = np.ascontiguousarray(pixels.swapaxes(0, 1)[:, :, None]).view([("R", "u1"), ("G", "u1"), ("B", "u1")])
    nibabel.Nifti1Image(grid[..., 0], np.eye(4)).to_filename(folder / "image.nii.gz")
    return folder / "image.nii.gz"


def write_nifti_pair(pixels: NDArray[Any], folder: Path) -> Path:
    nibabel.Nifti1Pair(pixels.T[:, :, None], np.eye(4)).to_filename(folder / "image.hdr")
    return folder / "image.hdr"


def write_suffix_lie(pixels: NDArray[Any], folder: Path) -> Path:
    return pillow(".png")(pixels, folder).rename(folder / "image.dcm")


LOSSLESS_COLOR = {
    "PNG": pillow(".png"),
    "PNG with transparency": pillow(".png", "RGBA"),
    "PNG with a palette": write_palette_png,
    "PNG named .dcm": write_suffix_lie,
    "TIFF": pillow(".tif"),
    "TIFF, LZW": pillow(".tiff", compression="tiff_lzw"),
    "BMP": pillow(".bmp"),
    "WebP": pillow(".webp", lossless=True),
    "JPEG 2000": pillow(".jp2"),
    "DICOM": dicom(),
    "DICOM, planar": dicom(PlanarConfiguration=1),
    "DICOM, implicit VR": dicom(syntax=ImplicitVRLittleEndian),
    "DICOM, big endian": dicom(syntax=ExplicitVRBigEndian),
    "DICOM, deflated": dicom(syntax=DeflatedExplicitVRLittleEndian),
    "DICOM, RLE": dcmtk("dcmcrle"),
    "DICOM, JPEG lossless": dcmtk("dcmcjpeg", "+e1"),
    "DICOM, JPEG lossless P14": dcmtk("dcmcjpeg", "+el"),
    "DICOM, JPEG-LS": dcmtk("dcmcjpls"),
    "DICOM, JPEG 2000": write_jpeg2000_dicom,
    "DICOM, palette": write_palette_dicom(8),
    "DICOM, palette of 16 bits": write_palette_dicom(16, 257),
    "DICOM, palette of 8 in 16 bits": write_palette_dicom(16, 256),
    "NIfTI, vector": write_vector_nifti,
    "NIfTI, RGB24": write_rgb24_nifti,
    "NIfTI by ITK": itk_writer(".nii.gz"),
    "NIfTI by MONAI": monai_writer(".nii.gz", "NibabelWriter"),
    "NRRD": itk_writer(".nrrd"),
    "NRRD by MONAI": monai_writer(".nrrd", "ITKWriter"),
    "MetaImage": itk_writer(".mha"),
    "MetaImage, two files": itk_writer(".mhd"),
}

LOSSLESS_GRAY = {
    "PNG": pillow(".png", "L"),
    "PNG with transparency": pillow(".png", "LA"),
    "TIFF": pillow(".tif", "L"),
    "PGM": pillow(".pgm", "L"),
    "DICOM": dicom(),
    "DICOM, big endian": dicom(syntax=ExplicitVRBigEndian),
    "DICOM, RLE": dcmtk("dcmcrle"),
    "DICOM, JPEG lossless": dcmtk("dcmcjpeg", "+e1"),
    "DICOM, JPEG-LS": dcmtk("dcmcjpls"),
    "DICOM, JPEG 2000": write_jpeg2000_dicom,
    "NIfTI, two files": write_nifti_pair,
    "NIfTI by ITK": itk_writer(".nii"),
    "NIfTI by MONAI": monai_writer(".nii.gz", "NibabelWriter"),
    "NRRD": itk_writer(".nrrd"),
    "MetaImage": itk_writer(".mha"),
}
