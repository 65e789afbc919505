# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write predictions as a CSV file, in the submission format of the ISIC challenge."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from monai_fgssl.utils.files import atomic_write

from .results import class_texts

__all__ = ["write_predictions"]


def write_predictions(
    path: str | Path,
    names: Sequence[str],
    probabilities: ArrayLike,
    class_names: Sequence[str],
    predicted: ArrayLike | None = None,
) -> None:
    """Write one row per image: the column ``image``, one probability per class, and maybe ``prediction``.

    Args:
        path: file to write; it is never there half-written. Missing folders are made.
        names: names of the ``N`` images.
        probabilities: probabilities ``(N, num_classes)``.
        class_names: names of the classes, which become the columns.
        predicted: what is decided for each image, see :func:`~monai_fgssl.report.results.class_texts`; None: no column
            ``prediction``.

    Raises:
        ValueError: when the numbers of names, probabilities and classes do not fit.
    """
    rows = np.asarray(probabilities)
    if rows.shape != (len(names), len(class_names)):
        raise ValueError(
            f"{len(names)} names and {len(class_names)} classes need probabilities of shape "
            f"{(len(names), len(class_names))}, got {rows.shape}."
        )
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *class_names, *([] if predicted is None else ["prediction"])])
        decided = [None] * len(rows) if predicted is None else class_texts(np.asarray(predicted), class_names)
        for name, row, chosen in zip(names, rows, decided, strict=True):
            writer.writerow([name, *(f"{value:.7f}" for value in row), *([] if chosen is None else [chosen])])
