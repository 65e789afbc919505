# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic lesions in volumes: classes that differ in three-dimensional texture and in nothing else."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_fgssl.utils.errors import DataError

from .generated import make_generated
from .lesions import cells

__all__ = ["VOLUME_TEXTURES", "draw_volume", "make_synthetic_volumes"]

Array = NDArray[np.float32]

# Raise this number whenever the volumes change. Folders written by an older version are then made again.
VERSION = 1
SHAPE = (34, 34, 18)
"""Voxels along the patient's axes: left to right, back to front, feet to head."""
SPACING = (1.0, 1.0, 2.0)
"""Spacing in mm, the same in all files. Otherwise, interpolation would weaken some textures more than others, and
brightness alone would tell the classes apart."""
ORIENTATIONS = ("RAS", "LPS", "LAS", "RPI", "PSR")
"""Directions of the axes of the files in nibabel's letters, as scanners and converters write them."""
POINTS = 16


def _layers(p: Array, period: float, rng: np.random.Generator) -> Array:
    """Parallel sheets."""
    return np.sin((2 * math.pi / period) * p[0] + rng.uniform(0, 2 * math.pi))


def _labyrinth(p: Array, period: float, rng: np.random.Generator) -> Array:
    """Sheets at equal distances that wind and branch."""
    directions = rng.standard_normal((24, 3))
    directions *= (2 * math.pi / period) / np.linalg.norm(directions, axis=1, keepdims=True)
    phases = rng.uniform(0, 2 * math.pi, (24, 1, 1, 1))
    return np.sin(np.tensordot(directions, p, axes=1) + phases).sum(0)


def _foam(p: Array, period: float, rng: np.random.Generator) -> Array:
    """Bright cells with dark walls."""
    first, second = cells(p, 1.3 * period, 0.6, rng, POINTS)
    return np.minimum(second - first, 0.5)


def _globules(p: Array, period: float, rng: np.random.Generator) -> Array:
    """Dark balls, loosely scattered."""
    first, _ = cells(p, 1.1 * period, 0.9, rng, POINTS)
    return np.minimum(first, 0.7)


VOLUME_TEXTURES: dict[str, Callable[[Array, float, np.random.Generator], Array]] = {
    "LAYERS": _layers,
    "LABYRINTH": _labyrinth,
    "FOAM": _foam,
    "GLOBULES": _globules,
}
"""Class names and their textures: functions of coordinates ``(3, X, Y, Z)`` and the period in mm and a random state."""


def _rotation(rng: np.random.Generator) -> Array:
    """Draw a rotation in space; all are equally likely."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return (q * np.linalg.det(q)).astype(np.float32)


def draw_volume(texture: str, seed: int = 0, lesion: int = 0, scan: int = 0) -> nib.Nifti1Image:
    """Draw one scan of one lesion.

    Shape, size, place, contrast, noise and the orientation of the file come from the same distributions for every
    texture. The texture has a random period of 7 to 9 mm and a random direction. Within the lesion, values are replaced
    by their ranks, so all classes have exactly the same histogram: no statistic of single voxels tells one class from
    another.

    Args:
        texture: a key of :data:`VOLUME_TEXTURES`.
        seed: seed of the data set.
        lesion: number of the lesion, which determines all that belongs to it.
        scan: number of the scan, which determines place, rotation, noise and the orientation of the file.

    Returns:
        34 x 34 x 18 voxels of 1 x 1 x 2 mm, int16, as the Hounsfield units of a CT.
    """
    shape_rng, texture_rng = (np.random.default_rng([seed, lesion, part]) for part in range(2))
    scan_rng = np.random.default_rng([seed, lesion, 2, scan])

    axes = [(np.arange(count) - (count - 1) / 2) * step for count, step in zip(SHAPE, SPACING, strict=True)]
    positions = np.stack(np.meshgrid(*axes, indexing="ij")).astype(np.float32)
    shift = scan_rng.uniform(-2, 2, (3, 1, 1, 1)).astype(np.float32)
    p = np.tensordot(_rotation(scan_rng), positions - shift, axes=1)

    radii = shape_rng.uniform(10.5, 14.0, (3, 1, 1, 1)).astype(np.float32)
    radius = np.linalg.norm(p / radii, axis=0)
    bumps = [shape_rng.normal(0, 0.07) * np.sin(x / 4 + shape_rng.uniform(0, 2 * math.pi)) for x in p]
    mask = 1 / (1 + np.exp(np.clip((radius - 1 - sum(bumps)) * 12, -30, 30)))

    direction = _rotation(texture_rng)
    bend = np.stack([np.sin(x / 6 + texture_rng.uniform(0, 2 * math.pi)) for x in np.roll(p, 1, axis=0)])
    turned = np.tensordot(direction, p + 0.8 * bend, axes=1).astype(np.float32)
    raw = VOLUME_TEXTURES[texture](turned, texture_rng.uniform(7, 9), texture_rng)
    # Flat parts of a texture have equal values. Break these ties by an invisible amount of noise.
    raw = raw + 1e-3 * scan_rng.standard_normal(raw.shape, dtype=np.float32)
    inside = np.sort(raw[mask > 0.5])
    ranks = np.interp(raw, inside, np.linspace(-1, 1, len(inside)))

    tissue = 40 + 10 * np.sin(positions / 15 + scan_rng.uniform(0, 2 * math.pi, (3, 1, 1, 1))).sum(0)
    enhancement, contrast = shape_rng.uniform(60, 120), shape_rng.uniform(60, 100)
    values = tissue + mask * (enhancement + contrast * ranks) + scan_rng.normal(0, 15, SHAPE)

    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = scan_rng.uniform(-100, 100, 3)
    image = nib.Nifti1Image(np.round(values).astype(np.int16), affine)
    code = ORIENTATIONS[scan_rng.integers(len(ORIENTATIONS))]
    return image.as_reoriented(
        nib.orientations.ornt_transform(nib.io_orientation(affine), nib.orientations.axcodes2ornt(code))
    )


def make_synthetic_volumes(folder: str | Path, num_images: int = 280, seed: int = 0) -> Path:
    """Write a data set of synthetic volumes: NIfTI files, and a CSV file with their classes and lesions.

    Every fourth lesion has two scans. Classes are equally frequent. A folder that has these volumes already stays as it
    is. A folder with other synthetic images is replaced. The folder is written all or nothing.

    Args:
        folder: folder to write to; it must be new, empty or synthetic.
        num_images: scans in all.
        seed: seed; the same seed gives the same files.

    Returns:
        The folder, to be read with :func:`~monai_fgssl.data.read_table`.

    Raises:
        DataError: when there is something else in the folder, or ``num_images`` is not positive.
    """
    if num_images < 1:
        raise DataError(f"num_images must be at least 1, got {num_images}.")
    settings: dict[str, int | str] = {"kind": "volumes", "version": VERSION, "num_images": num_images, "seed": seed}
    return make_generated(folder, settings, lambda temporary: _write(temporary, num_images, seed))


def _write(folder: Path, num_images: int, seed: int) -> None:
    """Write volumes and the CSV file."""
    scans = [(lesion, scan) for lesion in range(num_images) for scan in range(2 if lesion % 4 == 0 else 1)]
    class_names = list(VOLUME_TEXTURES)
    # Not by the lesion's number modulo 4: one class would have all the second scans.
    rows = [
        (f"volumes/SYN_{number:04d}.nii.gz", class_names[(lesion + lesion // 4) % len(class_names)], lesion, scan)
        for number, (lesion, scan) in enumerate(scans[:num_images])
    ]
    (folder / "volumes").mkdir()

    def write_volume(name: str, texture: str, lesion: int, scan: int) -> None:
        draw_volume(texture, seed, lesion, scan).to_filename(folder / name)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for future in [pool.submit(write_volume, *row) for row in rows]:
            future.result()

    with (folder / "volumes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "lesion"])
        writer.writerows((name, texture, f"LESION_{lesion:04d}") for name, texture, lesion, _ in rows)
