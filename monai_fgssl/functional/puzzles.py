# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Jigsaw puzzles: cut images into equal tiles and permute the tiles, with a separate permutation for every sample.

This is the puzzle ``J_n`` of PMG (Du et al., "Fine-Grained Visual Classification via Progressive Multi-Granularity
Training of Jigsaw Patches", ECCV 2020, section 3.3). FG-SSL cuts it from one of its two views. The code of both papers
swaps every tile with the first tile, in random order. The result is always a single cycle through all tiles
(``kind="cyclic"`` here), so no tile stays in place. The default draws all permutations with the same probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "PERMUTATION_KINDS",
    "REMAINDERS",
    "check_permutations",
    "invert_permutations",
    "jigsaw",
    "random_permutations",
    "shuffle_tiles",
    "tile_grid",
]

PERMUTATION_KINDS = ("uniform", "cyclic")
REMAINDERS = ("error", "keep")


def tile_grid(spatial_shape: Sequence[int], grid: int | Sequence[int], remainder: str = "error") -> tuple[int, ...]:
    """Number of tiles along every spatial axis, checked against the image.

    Args:
        spatial_shape: sizes of the spatial axes.
        grid: number of tiles along every axis, or one number per axis.
        remainder: behavior where the grid doesn't divide an axis: ``"error"`` refuses, ``"keep"`` leaves the trailing
            border (less than ``grid`` elements wide) where it is.

    Returns:
        One number of tiles per spatial axis.

    Raises:
        ValueError: when the grid isn't positive, doesn't fit the number or the size of the axes, or leaves a remainder.

    Example:
        >>> tile_grid((224, 224), 32)
        (32, 32)
    """
    if remainder not in REMAINDERS:
        raise ValueError(f"remainder must be one of {REMAINDERS}, got {remainder!r}.")
    shape = tuple(spatial_shape)
    if not shape:
        raise ValueError("a jigsaw puzzle needs at least one spatial axis, got an image without any.")
    counts = tuple(grid) if isinstance(grid, Sequence) else (grid,) * len(shape)
    if not all(isinstance(n, int) and n >= 1 for n in counts):
        raise ValueError(f"grid must be a positive integer or one per spatial axis, got {grid!r}.")
    if len(counts) != len(shape):
        raise ValueError(
            f"grid {counts} has {len(counts)} entries but the image has {len(shape)} spatial axes {shape}: "
            "give one integer, or one per axis."
        )
    if any(n > size for n, size in zip(counts, shape, strict=True)):
        raise ValueError(f"grid {counts} is larger than the spatial shape {shape}: use fewer tiles or larger images.")
    if remainder == "error" and any(size % n for n, size in zip(counts, shape, strict=True)):
        raise ValueError(
            f"grid {counts} does not divide the spatial shape {shape}: resize the images, choose another grid, "
            "or set remainder='keep' to leave the trailing border in place."
        )
    return counts


def random_permutations(
    batch_size: int, num_tiles: int, kind: str = "uniform", generator: torch.Generator | None = None
) -> Tensor:
    """Draw one permutation of the tiles for every sample.

    Args:
        batch_size: number of samples, B.
        num_tiles: number of tiles, T.
        kind: ``"uniform"`` draws all T! permutations with the same probability; ``"cyclic"`` draws from the (T - 1)!
            permutations that consist of a single cycle, as the code of PMG and FG-SSL does: no tile stays (if T > 1).
        generator: CPU generator to draw from; the global one of torch by default.

    Returns:
        Permutations of shape (B, T), int64, on the CPU, so that a seed gives the same puzzle on every device.

    Raises:
        ValueError: for an unknown ``kind``.
    """
    if kind not in PERMUTATION_KINDS:
        raise ValueError(f"kind of permutation must be one of {PERMUTATION_KINDS}, got {kind!r}.")
    # Every sample draws from its own range of integers, so one sort orders all samples. torch sorts many integers at
    # once by radix, twice as fast as row by row. The range is so wide that ties, which would favor one order,
    # practically never happen (float32 numbers tie in 3 % of the samples at T = 1024).
    samples = torch.arange(batch_size)[:, None]
    span = 2**62 // max(batch_size, 1)
    keys = torch.randint(span, (batch_size, num_tiles), generator=generator) + samples * span
    order = keys.flatten().argsort().view(batch_size, num_tiles) - samples * num_tiles
    if kind == "uniform":
        return order
    return torch.empty_like(order).scatter_(1, order, order.roll(-1, dims=1))


def check_permutations(permutations: Tensor) -> None:
    """Check that every row is a permutation.

    Args:
        permutations: integer tensor of shape (B, T).

    Raises:
        ValueError: when the tensor is not two-dimensional and integer, or a row is not a permutation of 0, ..., T - 1.
    """
    if permutations.ndim != 2 or permutations.is_floating_point() or permutations.dtype == torch.bool:
        raise ValueError(
            "permutations must be integers of shape (batch, tiles), "
            f"got {permutations.dtype} of shape {tuple(permutations.shape)}."
        )
    expected = torch.arange(permutations.shape[1], device=permutations.device)
    wrong = (permutations.sort(dim=1).values != expected).any(dim=1)
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"permutations must hold every number from 0 to {permutations.shape[1] - 1} once, "
            f"but row {row} is {permutations[row].tolist()}."
        )


def invert_permutations(permutations: Tensor) -> Tensor:
    """Invert every row: shuffling by the result undoes shuffling by ``permutations``.

    Args:
        permutations: int64 permutations of shape (B, T), as from :func:`random_permutations`.

    Returns:
        Inverse permutations of the same shape, type and device.
    """
    positions = torch.arange(permutations.shape[1], device=permutations.device).expand_as(permutations)
    return torch.empty_like(permutations).scatter_(1, permutations, positions)


def shuffle_tiles(
    images: Tensor,
    grid: int | Sequence[int],
    permutations: Tensor,
    remainder: str = "error",
    out: Tensor | None = None,
) -> Tensor:
    """Cut every image into tiles and put the tiles into a given order.

    Tile t of an output is tile ``permutations[b, t]`` of its input. Tiles are counted in row-major order.

    Args:
        images: batch of shape (B, C, ``*spatial``) with one or more spatial axes, any type, on any device.
        grid: number of tiles along every spatial axis, or one number per axis.
        permutations: one permutation per sample, shape (B, T) with T the number of tiles.
        remainder: see :func:`tile_grid`.
        out: contiguous tensor to write to, like ``images``. New memory from the system costs more time than the
            shuffling itself (see ``benchmarks/results/jigsaw.md``), so pass the result of the last iteration if nothing
            else needs it.

    Returns:
        Shuffled images, of the same shape, type and device as ``images``.

    Raises:
        ValueError: when the grid doesn't fit (see :func:`tile_grid`) or ``permutations`` isn't one permutation of all
            tiles per sample.

    Example:
        >>> image = torch.arange(4).reshape(1, 1, 2, 2)
        >>> shuffle_tiles(image, 2, torch.tensor([[3, 0, 1, 2]]))
        tensor([[[[3, 0],
                  [1, 2]]]])
    """
    counts = tile_grid(images.shape[2:], grid, remainder)
    expected = (images.shape[0], math.prod(counts))
    if tuple(permutations.shape) != expected:
        raise ValueError(
            f"permutations have the shape {tuple(permutations.shape)}, but {images.shape[0]} images cut by the grid "
            f"{counts} need {expected} (images, tiles)."
        )
    check_permutations(permutations)
    return _move_tiles(images, counts, permutations, out)


def jigsaw(
    images: Tensor,
    grid: int | Sequence[int],
    kind: str = "uniform",
    remainder: str = "error",
    generator: torch.Generator | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Turn every image of a batch into a jigsaw puzzle of its own.

    Args:
        images: batch of shape (B, C, ``*spatial``) with one or more spatial axes, any type, on any device.
        grid: number of tiles along every spatial axis, or one number per axis.
        kind: ``"uniform"`` or ``"cyclic"``, see :func:`random_permutations`.
        remainder: ``"error"`` or ``"keep"``, see :func:`tile_grid`.
        generator: CPU generator to draw from; the global one of torch by default. The same seed gives the same puzzles
            on every device.
        out: contiguous tensor to write to, see :func:`shuffle_tiles`.

    Returns:
        Puzzles, of the same shape, type and device as ``images``.

    Raises:
        ValueError: when the grid doesn't fit (see :func:`tile_grid`) or ``kind`` is unknown.

    Example:
        >>> images = torch.rand(8, 3, 224, 224)
        >>> puzzles = jigsaw(images, grid=32, generator=torch.Generator().manual_seed(0))
    """
    counts = tile_grid(images.shape[2:], grid, remainder)
    return _move_tiles(images, counts, random_permutations(len(images), math.prod(counts), kind, generator), out)


def _move_tiles(images: Tensor, counts: tuple[int, ...], permutations: Tensor, out: Tensor | None) -> Tensor:
    """Shuffle the part of the images that whole tiles cover, and leave the rest in place."""
    if out is not None and (out.shape, out.dtype, out.is_contiguous()) != (images.shape, images.dtype, True):
        raise ValueError(
            f"out must be contiguous, of the images' shape {tuple(images.shape)} and type {images.dtype}; got "
            f"{'a contiguous' if out.is_contiguous() else 'a non-contiguous'} {tuple(out.shape)} of {out.dtype}."
        )
    sizes = tuple(size // n for n, size in zip(counts, images.shape[2:], strict=True))
    covered = tuple(n * size for n, size in zip(counts, sizes, strict=True))
    if covered != tuple(images.shape[2:]):
        result = images.clone(memory_format=torch.contiguous_format) if out is None else out.copy_(images)
        region = (slice(None), slice(None), *(slice(length) for length in covered))
        result[region] = _move_tiles(images[region], counts, permutations, None)
        return result

    # A tile consists of rows that are contiguous in memory; one indexed copy moves the rows of all tiles at once. The
    # rows of one channel are numbered, and every axis is split in two: the tile, and the position in the tile. This
    # gives the first row of each tile, and the distance of the tile's other rows from its first row.
    row = sizes[-1]
    cuts = [length for n, size in zip(counts, (*sizes[:-1], 1), strict=True) for length in (n, size)]
    rows = torch.arange(math.prod(cuts), device=images.device).view(cuts)
    begin = rows[(slice(None), slice(1)) * len(counts)]
    within = rows[(slice(1), slice(None)) * len(counts)]
    moved = begin.flatten()[permutations.to(images.device)].view(-1, 1, *begin.shape)
    channels = torch.arange(images.shape[0] * images.shape[1], device=images.device) * rows.numel()
    index = channels.view(*images.shape[:2], *[1] * len(cuts)) + within + moved
    # Along axis 1 torch copies row by row with memcpy, along axis 0 through its slower general iterator.
    target = None if out is None else out.view(1, -1, row)
    return torch.index_select(images.reshape(1, -1, row), 1, index.flatten(), out=target).view(images.shape)
