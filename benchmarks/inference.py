# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Compare the time of inference, from files to results, with the time of the bare network on the same batch.

Files are decoded in threads (``--untrusted false``) or in processes with limits of time and memory (the default).

Prints Markdown: ``python -m benchmarks.inference > benchmarks/results/inference.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, VLPhotographicImageStorage, generate_uid
from torch import Tensor, nn

from monai_fgssl.data import DecoderPool, ImageStream, ReadImaged
from monai_fgssl.engines import HierarchicalEvaluator
from monai_fgssl.networks import HierarchicalNet, OnnxNet, export_onnx
from monai_fgssl.networks.precision import move
from monai_fgssl.report import ResultWriter

from .timing import command, processor

CLASSES = ["MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC"]
ROWS, COLUMNS = 450, 600
"""Size of the images of ISIC 2018, in pixels."""


def write_images(folder: Path, kind: str, count: int) -> list[dict[str, str]]:
    """Write smooth random pictures as JPEG or as uncompressed DICOM."""
    rng = np.random.default_rng(0)
    items = []
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (45, 60, 3), np.uint8))
        picture = coarse.resize((COLUMNS, ROWS), Image.Resampling.BICUBIC)
        path = folder / f"image{i}.{'jpg' if kind == 'JPEG' else 'dcm'}"
        if kind == "JPEG":
            picture.save(path, quality=92)
        else:
            write_dicom(path, np.asarray(picture))
        items.append({"image": str(path), "name": path.stem})
    return items


def write_dicom(path: Path, pixels: np.ndarray) -> None:
    """Write a photograph as DICOM."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = VLPhotographicImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(str(path), {}, preamble=b"\0" * 128, file_meta=meta)
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.Modality = generate_uid(), generate_uid(), "XC"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape[:2], 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration, dataset.PixelRepresentation = "RGB", 0, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path)


def time_bare(network: Any, images: Tensor, batch_size: int) -> float:
    """Measure the seconds for all batches of images that are in memory already."""
    start = time.perf_counter()
    with torch.no_grad():
        for batch in images.split(batch_size):
            network.stage_logits(batch)
    return time.perf_counter() - start


def time_complete(
    network: nn.Module,
    items: list[dict[str, str]],
    size: int,
    batch_size: int,
    folder: Path,
    pool: DecoderPool | None = None,
) -> float:
    """Measure the seconds from files to the written results, which are decoded in threads or by ``pool``."""
    start = time.perf_counter()
    stream = ImageStream(Dataset(items, ReadImaged("image", size, pool=pool)), batch_size)
    # Messages of the inference must not get into the page that this script prints.
    with contextlib.redirect_stdout(sys.stderr):
        HierarchicalEvaluator("cpu", stream, network, val_handlers=[ResultWriter(folder, CLASSES, stream)]).run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    network = HierarchicalNet(args.backbone, num_classes=len(CLASSES)).eval()
    move(network, "cpu", torch.channels_last)
    images = torch.rand(args.images, 3, args.image_size, args.image_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_onnx(network, folder / "model.onnx", tuple(images.shape[1:]))
        networks = {"PyTorch": network, "ONNX Runtime": OnnxNet(folder / "model.onnx", args.threads)}
        files = {}
        for kind in ("JPEG", "DICOM"):
            (folder / kind).mkdir()
            files[kind] = write_images(folder / kind, kind, args.images)
        rows = []
        with DecoderPool() as pool:
            for engine, net in networks.items():
                for kind, items in files.items():
                    complete = (net, items, args.image_size, args.batch_size, folder / "out")
                    # Not measured: the start of the processes, and the first run of the network.
                    time_complete(*complete, pool)
                    # All take turns, so that other work of the machine slows them equally.
                    turns = [
                        (
                            time_bare(net, images, args.batch_size),
                            time_complete(*complete),
                            time_complete(*complete, pool),
                        )
                        for _ in range(args.repeats)
                    ]
                    times = [1e3 * median(of_one) / args.images for of_one in zip(*turns, strict=True)]
                    ratios = [
                        [threads / bare for bare, threads, _ in turns],
                        [fenced / threads for _, threads, fenced in turns],
                    ]
                    rows.append((engine, kind, times, ratios))

    print("# Inference: from file to result\n")
    print(f"Command: `{command()}`  ")
    print(f"Machine: {processor()}; torch {torch.__version__}  ")
    print(f"Date: {datetime.date.today()}\n")
    print(f"{args.images} pictures of {COLUMNS} x {ROWS} px, {args.backbone} at {args.image_size} px, float32, batches")
    print(f"of {args.batch_size}, {args.threads} threads. Complete: reading, scaling, network, CSV and JSON; files are")
    print("decoded while the network computes, in threads (`--untrusted false`) or in processes with limits (default).")
    print(f"Milliseconds per image, medians of {args.repeats} runs of all in turns; the ratios are the medians of")
    print("theirs, with the lowest and the highest.\n")
    print("| network | files | bare network | threads | processes | threads / bare | processes / threads |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for engine, kind, times, ratios in rows:
        cells = [f"{time_of_one:.1f}" for time_of_one in times]
        cells += [f"{median(found):.2f} [{min(found):.2f}, {max(found):.2f}]" for found in ratios]
        print(f"| {engine} | {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
