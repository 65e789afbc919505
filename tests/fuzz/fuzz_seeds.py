# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Small valid files of every container that is read. The fuzzer changes these files."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import itk
import jpeg_ls
import nibabel
import numpy as np
import onnx
import pydicom
import torch
from dicom_files import CT, run_length_encoded, sequence_item, write_dicom
from numpy.typing import NDArray
from picture_files import encoded
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)
from tiff_files import BLACK_IS_ZERO, CMYK, DEFLATE, LZW, PACKBITS, PALETTE, RGB, write_tiff

from monai_fgssl.networks import HierarchicalNet

__all__ = ["SMALL_NET", "Seed", "make_seeds"]

LARGEST = 40_000
"""Bytes of the largest of other people's files that become seeds: each change must be read in milliseconds."""
SMALL_NET: dict[str, Any] = {"backbone": "resnet18", "num_classes": 2, "width": 8, "embedding_dim": 8}
"""Arguments of the network whose record and weights are seeds."""


@dataclass(frozen=True)
class Seed:
    """A valid file.

    Attributes:
        container: what it is counted as.
        name: of the file; its suffix matters for some readers.
        data: what it holds.
        target: what reads it, a key of ``fuzz_targets.TARGETS``.
    """

    container: str
    name: str
    data: bytes
    target: str


def make_seeds() -> list[Seed]:
    """Make all seeds, the same ones each time but for DICOM's unique identifiers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [
            *_pictures(),
            *_tiffs(folder),
            *_dicoms(folder),
            *_grids(folder),
            *_lists(),
            *_models(folder),
            *_files_of_pydicom(),
            *_files_of_nibabel(),
        ]


def _noise(shape: tuple[int, ...], kind: str = "u1") -> NDArray[Any]:
    rng = np.random.default_rng(0)
    return rng.random(shape).astype(kind) if kind[0] == "f" else rng.integers(0, 200, shape).astype(kind)


def _pictures() -> Iterator[Seed]:
    color, gray, deep = _noise((9, 11, 3)), _noise((9, 11)), _noise((9, 11), "u2")
    exif = Image.Exif()
    exif[274] = 6
    kinds: list[tuple[str, str, NDArray[Any], dict[str, Any]]] = [
        ("PNG", ".png", color, {}),
        ("PNG", ".png", deep, {}),
        ("PNG", ".png", gray, {"bits": 4}),
        ("JPEG", ".jpg", color, {"exif": exif}),
        ("JPEG", ".jpg", gray, {"progressive": True}),
        ("JPEG2000", ".jp2", color, {}),
        ("JPEG2000", ".j2k", gray, {"no_jp2": True}),
        ("WEBP", ".webp", color, {"lossless": True}),
        ("WEBP", ".webp", color, {"quality": 50, "exif": exif}),
        ("BMP", ".bmp", color, {}),
        ("BMP", ".bmp", gray, {}),
        ("GIF", ".gif", gray, {}),
        ("PPM", ".ppm", color, {}),
        ("PPM", ".pgm", deep.astype("i4"), {}),
    ]
    names = {"JPEG2000": "JPEG 2000", "WEBP": "WebP", "PPM": "PNM"}
    for kind, suffix, pixels, options in kinds:
        yield Seed(names.get(kind, kind), f"a{suffix}", encoded(pixels, kind, **options), "picture")
    palette = io.BytesIO()
    Image.fromarray(gray).convert("P").save(palette, "PNG", transparency=3)
    yield Seed("PNG", "a.png", palette.getvalue(), "picture")
    frames = io.BytesIO()
    Image.fromarray(gray).save(frames, "GIF", save_all=True, append_images=[Image.fromarray(gray[::-1])])
    yield Seed("GIF", "a.gif", frames.getvalue(), "picture")
    yield Seed("PNM", "a.ppm", b"P3\n2 2\n255\n1 2 3 4 5 6\n7 8 9 10 11 12\n", "picture")
    yield Seed("PNM", "a.pbm", b"P4\n9 2\n\x12\x80\x34\x00", "picture")


def _tiffs(folder: Path) -> Iterator[Seed]:
    color, gray = _noise((12, 10, 3)), _noise((12, 10, 1))
    colors = list(range(0, 3 * 256 * 85, 85))
    layouts: list[tuple[NDArray[Any] | list[NDArray[Any]], int, dict[str, Any]]] = [
        (color, RGB, {}),
        (color, RGB, {"tile": (16, 16), "compression": DEFLATE, "predictor": 2}),
        (color.astype("u2"), RGB, {"planar": 2, "byte_order": ">", "rows_per_strip": 5}),
        (gray, BLACK_IS_ZERO, {"compression": LZW}),
        (gray, BLACK_IS_ZERO, {"compression": PACKBITS, "big": True}),
        (_noise((12, 10, 1), "f4"), BLACK_IS_ZERO, {"compression": DEFLATE, "predictor": 3}),
        (gray, PALETTE, {"tags": {320: (3, colors)}}),
        (_noise((12, 10, 4)), CMYK, {"rows_per_strip": 4}),
        (_noise((12, 10, 2)), BLACK_IS_ZERO, {"tags": {338: (3, [1]), 274: (3, [6])}}),
        (gray % 2, BLACK_IS_ZERO, {"bits": 1}),
    ]
    for pages, photometric, options in layouts:
        data = write_tiff(folder / "a.tif", pages, photometric, **options).read_bytes()
        yield Seed("TIFF", "a.tif", data, "picture")
    stack = write_tiff(folder / "a.tif", [gray, gray, gray], BLACK_IS_ZERO).read_bytes()
    yield Seed("TIFF", "a.tif", stack, "volume")
    for mode, options in (("RGB", {"compression": "jpeg"}), ("1", {"compression": "group4"})):
        buffer = io.BytesIO()
        Image.fromarray(color).convert(mode).save(buffer, "TIFF", **options)
        yield Seed("TIFF", "a.tif", buffer.getvalue(), "picture")


def _dicoms(folder: Path) -> Iterator[Seed]:
    color, deep = _noise((12, 10, 3)), (_noise((12, 10), "u2") * 19).astype("u2")
    lut = sequence_item(LUTDescriptor=[16, 0, 16], LUTData=list(range(0, 65536, 4096)))
    lut[0]["LUTDescriptor"].VR = lut[0]["LUTData"].VR = "US"
    names = [f"{one}PaletteColorLookupTable" for one in ("Red", "Green", "Blue")]
    palette = {f"{name}Descriptor": [200, 0, 8] for name in names} | {f"{name}Data": bytes(200) for name in names}
    place = {
        "ImagePositionPatient": [0, 0, 0],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1, 1],
        "sop_class": CT,
    }
    window = {"WindowCenter": "400", "WindowWidth": "900", "RescaleSlope": "1", "RescaleIntercept": "-1024"}
    layouts: list[tuple[NDArray[Any], dict[str, Any]]] = [
        (color, {}),
        (color, {"PlanarConfiguration": 1, "syntax": ImplicitVRLittleEndian}),
        (deep, {"BitsStored": 12, "syntax": ExplicitVRBigEndian, **window}),
        (deep, {"BitsStored": 12, "syntax": DeflatedExplicitVRLittleEndian, "VOILUTSequence": lut}),
        (_noise((12, 10)), {"PhotometricInterpretation": "PALETTE COLOR", **palette}),
        (np.stack([deep, deep]), {"NumberOfFrames": 2, "BitsStored": 12}),
        (_noise((12, 10), "f4"), {"BitsStored": None, "HighBit": None, "PixelRepresentation": None}),
        (color, {"syntax": RLELossless, "codestreams": [run_length_encoded(color)]}),
        (deep, {"syntax": JPEGLSLossless, "codestreams": [bytes(jpeg_ls.encode_array(deep))]}),
        (color, {"syntax": JPEGBaseline8Bit, "codestreams": [encoded(color, "JPEG")]}),
        (color[..., 0], {"syntax": JPEGBaseline8Bit, "codestreams": [encoded(color[..., 0].copy(), "JPEG")]}),
        (
            color,
            {
                "syntax": JPEG2000Lossless,
                "codestreams": [encoded(color, "JPEG2000", irreversible=False, mct=1, no_jp2=True)],
                "PhotometricInterpretation": "YBR_RCT",
            },
        ),
    ]
    for pixels, attributes in layouts:
        yield Seed("DICOM", "a.dcm", write_dicom(folder / "a.dcm", pixels, **attributes).read_bytes(), "picture")
    volume = write_dicom(folder / "a.dcm", deep, ExplicitVRLittleEndian, **window, **place)
    yield Seed("DICOM", "a.dcm", volume.read_bytes(), "volume")


def _grids(folder: Path) -> Iterator[Seed]:
    volume, picture = _noise((6, 5, 4), "i2"), _noise((6, 5, 1, 1, 3))
    for image, name in (
        (nibabel.Nifti1Image(volume, np.diag([1, 2, 3, 1])), "a.nii"),
        (nibabel.Nifti2Image(volume.astype("f4"), np.eye(4)), "a.nii"),
        (nibabel.Nifti1Image(volume.astype("u1"), np.eye(4)), "a.nii.gz"),
    ):
        image.to_filename(folder / name)
        yield Seed("NIfTI", name, (folder / name).read_bytes(), "volume")
    nibabel.Nifti1Image(picture, np.eye(4)).to_filename(folder / "a.nii")
    yield Seed("NIfTI", "a.nii", (folder / "a.nii").read_bytes(), "picture")
    for suffix, container in ((".mha", "MetaImage"), (".nrrd", "NRRD")):
        for compressed in (False, True):
            for grid, target in ((volume, "volume"), (volume[..., 0].astype("u1"), "picture")):
                itk.imwrite(itk.image_from_array(np.ascontiguousarray(grid.T)), str(folder / f"a{suffix}"), compressed)
                yield Seed(container, f"a{suffix}", (folder / f"a{suffix}").read_bytes(), target)


def _lists() -> Iterator[Seed]:
    """Lists of the images that lie beside them: a.png to f.png."""
    rows = [f"{name}.png,{label},{patient}" for name, label, patient in zip("abcdef", "xyxyxy", "112233", strict=True)]
    tables = {
        "list.csv": "image,label,patient\n" + "\n".join(rows) + "\n",
        "list.tsv": "\n".join(["img_id\tdiagnostic", *(f"{name}\t{'xy'[i % 2]}" for i, name in enumerate("abcdef"))]),
        "list.txt": ";image;dx\n" + "\n".join(f"{i};{name};{i % 2}" for i, name in enumerate("abcdef")) + "\n",
    }
    for name, text in tables.items():
        yield Seed("CSV lists", name, text.encode(), "list")
    yield Seed("CSV lists", "list.csv", tables["list.csv"].encode("utf-16"), "list")
    yield Seed("CSV lists", "list.csv", "\ufeffimage,MEL,NV\r\na.png,1.0,0.0\r\nb.png,0.0,1.0\r\n".encode(), "list")
    parts = {
        "training": [{"image": f"{name}.png", "label": i % 2, "patient": i} for i, name in enumerate("abcd")],
        "validation": [{"image": "./e.png", "label": 0}],
        "test": ["f.png"],
        "labels": {"0": "nevus", "1": "melanoma"},
    }
    yield Seed("JSON lists", "list.json", json.dumps(parts, indent=1).encode(), "list")


def _models(folder: Path) -> Iterator[Seed]:
    torch.manual_seed(0)
    network = HierarchicalNet(**SMALL_NET)
    record = {
        "network_def": network.definition(),
        "class_names": ["nevus", "melanoma"],
        "image_size": 32,
        "spacing": None,
        "window": [40, 400],
        "temperature": 1.5,
    }
    yield Seed("model.json", "model.json", json.dumps(record).encode(), "record")
    # A small part of the weights: what is missing or too much is told, and the file is read in a millisecond.
    state = dict(list(network.state_dict().items())[:6])
    for legacy in (False, True):
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=not legacy)
        yield Seed(".pt", "model.pt", buffer.getvalue(), "weights")
    helper, types = onnx.helper, onnx.TensorProto
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
            helper.make_node("Reshape", ["pooled", "shape"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight"], ["logits"]),
            helper.make_node("Reshape", ["logits", "steps"], ["stage_logits"]),
        ],
        "network",
        [helper.make_tensor_value_info("image", types.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("stage_logits", types.FLOAT, ["batch", 2, 2])],
        [
            helper.make_tensor("shape", types.INT64, [2], [-1, 3]),
            helper.make_tensor("weight", types.FLOAT, [3, 4], [0.5] * 12),
            helper.make_tensor("steps", types.INT64, [3], [-1, 2, 2]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    yield Seed("ONNX", "model.onnx", model.SerializeToString(), "onnx")


def _files_of_pydicom() -> Iterator[Seed]:
    """Those that are small enough, some of them damaged already."""
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    for path in sorted(folder.rglob("*.dcm")):
        if path.stat().st_size <= LARGEST:
            yield Seed("DICOM", "a.dcm", path.read_bytes(), "picture")


def _files_of_nibabel() -> Iterator[Seed]:
    folder = Path(nibabel.__file__).parent / "tests" / "data"
    for path in sorted([*folder.glob("*.nii"), *folder.glob("*.nii.gz")]):
        data = path.read_bytes()
        if len(data) <= LARGEST and (path.suffix != ".gz" or len(gzip.decompress(data)) <= 10 * LARGEST):
            yield Seed("NIfTI", "a.nii.gz" if path.suffix == ".gz" else "a.nii", data, "volume")
