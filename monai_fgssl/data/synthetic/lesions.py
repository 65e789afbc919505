# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Synthetic fine-grained lesions: classes that differ in local texture and in nothing else."""

from __future__ import annotations

import csv
import itertools
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_fgssl.utils.deprecation import renamed_argument
from monai_fgssl.utils.errors import DataError

from .generated import make_generated

__all__ = ["TEXTURES", "draw_lesion", "make_synthetic_lesions"]

Array = NDArray[np.float32]

# Raise this number whenever the images change. Folders written by an older version are then made again.
VERSION = 4
PREFIX = "ISIC2018_Task3_Training"


def _wave(x: Array, y: Array, period: float, angle: float, phase: float) -> Array:
    k = 2 * math.pi / period
    return np.sin((k * math.cos(angle)) * x + (k * math.sin(angle)) * y + phase)


def _smooth(x: Array, y: Array, period: float, rng: np.random.Generator) -> Array:
    """Smooth random field with standard deviation 1."""
    waves = [
        _wave(x, y, period * rng.uniform(0.7, 1.5), rng.uniform(0, math.pi), rng.uniform(0, 2 * math.pi))
        for _ in range(5)
    ]
    return math.sqrt(2 / 5) * np.sum(waves, axis=0)


def cells(
    coordinates: Iterable[Array], period: float, jitter: float, rng: np.random.Generator, count: int = 64
) -> tuple[Array, Array]:
    """Compute distances to the nearest and second nearest of points that are scattered about a grid, in periods.

    Args:
        coordinates: coordinates, one array for each axis, in the unit of ``period``.
        period: distance of the grid's points.
        jitter: width of the range, in periods, in which a point lies about its place along each axis.
        rng: random generator that draws the points.
        count: number of points along each axis; after these, the same points repeat.
    """
    scaled = [x / period for x in coordinates]
    dims = len(scaled)
    table = (0.5 + rng.uniform(-jitter / 2, jitter / 2, (dims, *[count] * dims))).astype(np.float32)
    cell = [np.floor(x).astype(int) for x in scaled]
    place = [x - number.astype(np.float32) for x, number in zip(scaled, cell, strict=True)]
    first = second = np.full_like(place[0], np.inf)
    for offset in itertools.product((-1, 0, 1), repeat=dims):
        numbers = tuple((number + i) % count for number, i in zip(cell, offset, strict=True))
        points = [coordinate[numbers] for coordinate in table]
        squared = sum((point + i - x) ** 2 for point, i, x in zip(points, offset, place, strict=True))
        first, second = np.minimum(first, squared), np.minimum(second, np.maximum(first, squared))
    return np.sqrt(first), np.sqrt(second)


def _network(x: Array, y: Array, period: float, rng: np.random.Generator) -> Array:
    """Dark lines that meet in a mesh."""
    first, second = cells((x, y), period, 0.7, rng)
    return np.minimum(second - first, 0.45)


def _cobblestone(x: Array, y: Array, period: float, rng: np.random.Generator) -> Array:
    """Dark, closely packed, angular clods."""
    first, second = cells((x, y), period, 0.5, rng)
    return -np.minimum(second - first, 0.45)


def _globules(x: Array, y: Array, period: float, rng: np.random.Generator) -> Array:
    """Dark round spots, loosely scattered."""
    first, _ = cells((x, y), period, 1.0, rng)
    return np.minimum(first, 0.6)


def _dots(x: Array, y: Array, period: float, rng: np.random.Generator) -> Array:
    """Dark round spots, small and dense."""
    first, _ = cells((x, y), 0.6 * period, 0.6, rng)
    return np.minimum(first, 0.5)


def _streaks(x: Array, y: Array, period: float, rng: np.random.Generator) -> Array:
    """Straight parallel lines."""
    return _wave(x, y, period, 0, rng.uniform(0, 2 * math.pi))


def _fingerprint(x: Array, y: Array, period: float, rng: np.random.Generator) -> Array:
    """Parallel lines that wind and branch."""
    waves = [_wave(x, y, period, k * math.pi / 10, rng.uniform(0, 2 * math.pi)) for k in range(10)]
    return np.sum(waves, axis=0)


def _crystalline(x: Array, y: Array, period: float, rng: np.random.Generator) -> Array:
    """Short parallel lines in patches at right angles to each other."""
    phases = rng.uniform(0, 2 * math.pi, 2).tolist()
    patches = _smooth(x, y, 3.5 * period, rng) > 0
    return np.where(patches, _wave(x, y, period, 0, phases[0]), _wave(x, y, period, math.pi / 2, phases[1]))


TEXTURES: dict[str, Callable[[Array, Array, float, np.random.Generator], Array]] = {
    "NETWORK": _network,
    "COBBLESTONE": _cobblestone,
    "GLOBULES": _globules,
    "DOTS": _dots,
    "STREAKS": _streaks,
    "FINGERPRINT": _fingerprint,
    "CRYSTALLINE": _crystalline,
}
"""Class names and their textures: functions of coordinates in pixels, the period in pixels and a random state."""


def draw_lesion(
    texture: str, image_size: int = 64, seed: int = 0, lesion: int = 0, photo: int = 0, variation: float = 1.0
) -> NDArray[np.uint8]:
    """Draw one photo of one lesion.

    Shape, size, place, colors, light, hairs and noise come from the same distributions for every texture. The texture
    has a random period (8 to 13 px at 64 px), orientation, phase and bending. Within the lesion, values are replaced by
    their ranks, so all classes have exactly the same histogram: no statistic of single pixels, color included, tells
    one class from another.

    Args:
        texture: a key of :data:`TEXTURES`.
        image_size: height and width in pixels; everything scales with it.
        seed: seed of the data set.
        lesion: number of the lesion, which determines all that belongs to it.
        photo: number of the photo, which determines place, rotation, light, hairs and noise.
        variation: how much lesions differ in size, skin, pigment and contrast, from 0 (all have the mean) to 1.

    Returns:
        ``(image_size, image_size, 3)``, RGB.
    """
    skin_rng, shape_rng, texture_rng = (np.random.default_rng([seed, lesion, part]) for part in range(3))
    photo_rng = np.random.default_rng([seed, lesion, 3, photo])

    def around(mean: float, drawn: float) -> float:
        return variation * drawn + (1 - variation) * mean

    # Coordinates in pixels of a 64 px image. The lesion's are shifted and rotated against the photo's.
    axis = ((np.arange(image_size) + 0.5) * (64 / image_size) - 32).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    shift_x, shift_y = photo_rng.uniform(-6, 6, 2).tolist()
    turn = photo_rng.uniform(0, 2 * math.pi)
    u = (x - shift_x) * math.cos(turn) + (y - shift_y) * math.sin(turn)
    v = (y - shift_y) * math.cos(turn) - (x - shift_x) * math.sin(turn)

    radius = np.hypot(u, v)
    angle = np.arctan2(v, u)
    outline = np.ones_like(angle)
    for order, amplitude in enumerate((0.13, 0.07, 0.05, 0.035, 0.025), start=2):
        outline += shape_rng.normal(0, amplitude) * np.cos(order * angle + shape_rng.uniform(0, 2 * math.pi))
    outline *= around(25.5, shape_rng.uniform(22, 29))
    softness = shape_rng.uniform(0.6, 1.8)
    mask = 1 / (1 + np.exp(np.clip((radius - outline) / softness, -30, 30)))

    period = texture_rng.uniform(8, 13)
    bend_x, bend_y = (_smooth(u, v, 40, texture_rng) for _ in range(2))
    raw = TEXTURES[texture](u + 0.9 * bend_x, v + 0.9 * bend_y, period, texture_rng)
    # Flat parts of a texture have equal values. Break these ties by an invisible amount of noise.
    raw = raw + 1e-3 * photo_rng.standard_normal(raw.shape, dtype=np.float32)
    inside = np.sort(raw[mask > 0.5])
    ranks = np.interp(raw, inside, np.linspace(-1, 1, len(inside)))

    skin = np.array([0.86, 0.68, 0.59]) + variation * skin_rng.normal(0, 0.025, 3)
    skin += variation * skin_rng.normal(0, 0.03)
    pigment = np.array([0.42, 0.57, 0.65]) * around(1.0, skin_rng.uniform(0.75, 1.25))
    pigment += variation * skin_rng.normal(0, 0.03, 3)
    contrast = around(0.85, skin_rng.uniform(0.7, 1.0))
    blotches = 0.12 * _smooth(u, v, 28, shape_rng)
    darkness = mask * (1 + blotches - contrast * ranks * (1 + 0.25 * _smooth(u, v, 30, shape_rng)))

    light_angle = photo_rng.uniform(0, 2 * math.pi)
    light = 1 + photo_rng.uniform(0, 0.12) * (x * math.cos(light_angle) + y * math.sin(light_angle)) / 32
    light -= photo_rng.uniform(0, 0.14) * (x**2 + y**2) / 32**2
    skin_grain = 0.02 * _smooth(x, y, 9, photo_rng)

    image = skin * (light + skin_grain)[..., None] * (1 - np.clip(darkness, 0, 1.6)[..., None] * pigment)
    image *= 1 - 0.55 * _hairs(x, y, photo_rng)[..., None]
    image += photo_rng.uniform(0.015, 0.04) * photo_rng.standard_normal(image.shape)
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)


def _hairs(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Draw the opacity of 0 to 4 thin arcs."""
    opacity = np.zeros_like(x)
    for _ in range(rng.choice(5, p=[0.6, 0.15, 0.1, 0.1, 0.05])):
        angle, offset, bend = rng.uniform(0, 2 * math.pi), rng.uniform(-28, 28), rng.normal(0, 0.006)
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle) - offset - bend * along**2
        opacity = np.maximum(opacity, np.exp(-((across / 0.55) ** 2)))
    return opacity


@renamed_argument("num_labelled", "num_labeled")
def make_synthetic_lesions(
    folder: str | Path,
    num_images: int = 1600,
    image_size: int = 64,
    num_labeled: int | None = None,
    seed: int = 0,
    variation: float = 1.0,
) -> Path:
    """Write a data set of synthetic lesions in the layout of ISIC 2018 Task 3.

    Every fourth lesion has two photos. Classes are equally frequent. A folder that has these images already stays as it
    is. A folder with other synthetic images is replaced. The folder is written all or nothing.

    Args:
        folder: folder to write to; it must be new, empty or synthetic.
        num_images: photos in all.
        image_size: height and width in pixels.
        num_labeled: photos with a label, by default all; the others have no row in the ground truth.
        seed: seed; the same seed gives the same files.
        variation: see :func:`draw_lesion`.

    Returns:
        The folder, to be read with :func:`~monai_fgssl.data.read_isic2018`.

    Raises:
        DataError: when there is something else in the folder, or ``num_labeled`` or ``variation`` is out of range.
    """
    num_labeled = num_images if num_labeled is None else num_labeled
    if not 0 < num_labeled <= num_images:
        raise DataError(f"num_labeled must be in 1...{num_images} (num_images), got {num_labeled}.")
    if not 0 <= variation <= 1:
        raise DataError(f"variation must be in [0, 1], got {variation}.")
    settings = {
        "version": VERSION,
        "num_images": num_images,
        "image_size": image_size,
        "num_labeled": num_labeled,
        "seed": seed,
    }
    # The default is left out of the record, so that folders made before this setting existed are still used.
    record = settings if variation == 1 else settings | {"variation": str(variation)}
    return make_generated(folder, record, lambda temporary: _write(temporary, settings, variation))


def _write(folder: Path, settings: dict[str, int], variation: float) -> None:
    """Write images and CSV files."""
    photos: list[tuple[str, int, int]] = []
    lesion = 0
    while len(photos) < settings["num_images"]:
        photos += [(f"SYN_{len(photos) + photo:06d}", lesion, photo) for photo in range(2 if lesion % 4 == 0 else 1)]
        lesion += 1
    photos = photos[: settings["num_images"]]
    class_names = list(TEXTURES)

    input_dir = folder / f"{PREFIX}_Input"
    input_dir.mkdir()

    def write_photo(name: str, lesion: int, photo: int) -> None:
        texture = class_names[lesion % len(class_names)]
        pixels = draw_lesion(texture, settings["image_size"], settings["seed"], lesion, photo, variation)
        Image.fromarray(pixels).save(input_dir / f"{name}.png", compress_level=1)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for future in [pool.submit(write_photo, *photo) for photo in photos]:
            future.result()

    with (folder / f"{PREFIX}_GroundTruth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *class_names])
        for name, lesion, _ in photos[: settings["num_labeled"]]:
            writer.writerow([name, *(float(lesion % len(class_names) == label) for label in range(len(class_names)))])
    with (folder / f"{PREFIX}_LesionGroupings.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "lesion_id"])
        writer.writerows((name, f"LESION_{lesion:06d}") for name, lesion, _ in photos)
