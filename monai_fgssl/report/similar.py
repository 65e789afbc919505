# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Show the images of a collection that are most like a given image, as a table and as a picture."""

from __future__ import annotations

import csv
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from monai_fgssl.data import DataError, ImageGeometry
from monai_fgssl.engines import Embeddings
from monai_fgssl.metrics import nearest_neighbors
from monai_fgssl.utils.files import atomic_write

from .pictures import draw_image
from .style import literal, save_figure, style

__all__ = ["Neighbor", "find_similar", "plot_similar", "write_similar"]

PANEL_INCHES = 1.7
PANEL_PIXELS = 256
MAX_COLUMNS = 5
NAME_WIDTH = 22


@dataclass(frozen=True)
class Neighbor:
    """An image of the collection.

    Attributes:
        name: name of the image.
        path: path of its file.
        frame: number of the frame, for a file with several; None: the file is one image.
        similarity: cosine of the angle between the standardized features, in [-1, 1].
    """

    name: str
    path: str
    frame: int | None
    similarity: float


def find_similar(query: Embeddings, collection: Embeddings, neighbors: int) -> list[Neighbor]:
    """Find the images of a collection that are nearest to an image, see :func:`~monai_fgssl.metrics.nearest_neighbors`.

    Args:
        query: embedding of one image. If the collection has its file too, that entry is left out.
        collection: embeddings of the same network; its features give mean and standard deviation.
        neighbors: k.

    Returns:
        Neighbors from the nearest on; fewer than k if the collection has fewer.

    Raises:
        DataError: when the query or the collection has no features.
    """
    if not query.names:
        raise DataError(query.failures[0][1] if query.failures else "there is no image to compare with.")
    own = Path(query.paths[0]).resolve()
    others = [index for index, path in enumerate(collection.paths) if Path(path).resolve() != own]
    if not others:
        raise DataError("there is no other image in the collection: name a folder with images.")
    similarity, indices = nearest_neighbors(collection.features, query.features[:1], len(collection.paths))
    ranked = [(int(index), float(value)) for index, value in zip(indices[0], similarity[0], strict=True)]
    allowed = set(others)
    return [
        Neighbor(collection.names[index], collection.paths[index], collection.frames[index], value)
        for index, value in ranked
        if index in allowed
    ][:neighbors]


def write_similar(
    query: Embeddings, collection: Embeddings, neighbors: int, output_dir: str | Path, geometry: ImageGeometry
) -> list[Neighbor]:
    """Print the nearest images, and write ``similar.csv`` and ``similar.png``.

    Args:
        query: embedding of one image.
        collection: embeddings to search.
        neighbors: k.
        output_dir: folder of the files.
        geometry: dimensions and window of the images.
    """
    found = find_similar(query, collection, neighbors)
    folder = Path(output_dir)
    table = Table(title=f"Most like {query.names[0]}, of {len(collection.names)} images", title_justify="left")
    table.add_column("")
    table.add_column("image", overflow="fold")
    table.add_column("similarity", justify="right")
    with atomic_write(folder / "similar.csv") as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("rank", "image", "path", "similarity"))
        for rank, one in enumerate(found, start=1):
            rows.writerow((rank, one.name, one.path, f"{one.similarity:.6f}"))
            table.add_row(str(rank), one.name, f"{one.similarity:.3f}")
    Console(width=120).print(table)
    shown = Neighbor(query.names[0], query.paths[0], query.frames[0], 1.0)
    plot_similar(shown, found, geometry, folder / "similar.png")
    print(f"Files: {folder.resolve()}")
    return found


def plot_similar(
    query: Neighbor, found: Sequence[Neighbor], geometry: ImageGeometry, path: str | Path | None = None
) -> Figure:
    """Draw an image and the images that are most like it.

    Args:
        query: image that the others are compared with.
        found: neighbors of the image.
        geometry: see :func:`write_similar`.
        path: file to save to; the suffix chooses the format.

    Returns:
        The figure.
    """
    panels = [(query, query.name)]
    panels += [(one, f"{rank}: {one.name} ({one.similarity:.3f})") for rank, one in enumerate(found, start=1)]
    columns = min(MAX_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    with style():
        figure = Figure((PANEL_INCHES * columns, (PANEL_INCHES + 0.45) * lines), layout="constrained")
        axes = figure.subplots(lines, columns, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        shown: dict[str, Any] = {"window": geometry.window, "channel": geometry.channel, "time": geometry.time}
        for axis, (one, title) in zip(axes.flat, panels, strict=False):
            frame = geometry.frame if one.frame is None and geometry.frame != "all" else one.frame
            axis.imshow(draw_image(one.path, geometry.spatial_dims, max_size=PANEL_PIXELS, frame=frame, **shown))
            axis.set_title(literal("\n".join(textwrap.wrap(title, NAME_WIDTH))), fontsize=6.5)
        if path is not None:
            save_figure(figure, path)
    return figure
