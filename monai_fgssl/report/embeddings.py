# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write features of images as files for other programs: NPZ, CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from monai_fgssl.engines import Embeddings
from monai_fgssl.utils.errors import DataError, SettingsError, first_lines
from monai_fgssl.utils.files import atomic_write

__all__ = ["check_formats", "raise_failures", "write_embeddings"]


def check_formats(formats: Sequence[str] | str | None) -> list[str]:
    """Check the names of formats; without names, return all formats that can be written here.

    Args:
        formats: names of formats, several as a list or with commas between; None: all.

    Raises:
        SettingsError: when a format does not exist, or its package is missing.
    """
    names = [name.strip() for name in formats.split(",")] if isinstance(formats, str) else formats
    has_parquet = find_spec("pyarrow") is not None
    if names is None:
        return [name for name in WRITERS if name != "parquet" or has_parquet]
    if unknown := [name for name in names if name not in WRITERS]:
        raise SettingsError(f"--formats: unknown format {unknown[0]!r}, choose some of {','.join(WRITERS)}.")
    if "parquet" in names and not has_parquet:
        raise SettingsError("--formats parquet needs pyarrow: pip install 'monai-fgssl[parquet]'.")
    return list(names)


def write_embeddings(
    embeddings: Embeddings, output_dir: str | Path, formats: Sequence[str] | str | None = None
) -> list[Path]:
    """Write ``embeddings.npz``, ``.csv`` and ``.parquet``. No file is ever there half-written.

    All files have the images' names (``image``), files (``path``) and the features of each stage. NPZ and Parquet have
    vectors ``stage1``, ``stage2`` ... for each image, and ``concat`` with all of them concatenated. CSV has a column
    for each feature, ``stage1_0``, ``stage1_1`` and so on, in the order of ``concat``. ``failures.csv`` names the
    images that could not be read.

    Args:
        embeddings: embeddings to write.
        output_dir: folder of the files.
        formats: see :func:`check_formats`.

    Returns:
        Files that were written.
    """
    folder = Path(output_dir)
    files = []
    for name in check_formats(formats):
        file = folder / f"embeddings.{name}"
        with atomic_write(file) as temporary:
            WRITERS[name](embeddings, temporary)
        files.append(file)
    failures = folder / "failures.csv"
    failures.unlink(missing_ok=True)
    if embeddings.failures:
        with atomic_write(failures) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("image", "reason"), *embeddings.failures])
    widths = " + ".join(map(str, embeddings.widths))
    print(
        f"{len(embeddings.names)} images, {embeddings.features.shape[1]} features of {len(embeddings.widths)} stages "
        f"({widths}): {', '.join(str(file.resolve()) for file in files)}"
    )
    return files


def raise_failures(embeddings: Embeddings, output_dir: str | Path) -> None:
    """Report the images that could not be read, after all others are written.

    Raises:
        DataError: when an image could not be read. The message has the first five and their reasons.
    """
    if embeddings.failures:
        told = [reason for _, reason in embeddings.failures]
        raise DataError(
            f"{len(told)} images have no features, since they could not be read; all are in "
            f"{Path(output_dir).resolve() / 'failures.csv'}:{first_lines(told)}"
        )


def _write_npz(embeddings: Embeddings, path: Path) -> None:
    arrays = {name: values.numpy() for name, values in embeddings.stages().items()}
    texts = {"image": np.array(embeddings.names, np.str_), "path": np.array(embeddings.paths, np.str_)}
    with open(path, "wb") as stream:
        np.savez(stream, allow_pickle=False, **texts, **arrays, concat=embeddings.features.numpy())


def _write_csv(embeddings: Embeddings, path: Path) -> None:
    columns = [f"stage{k}_{i}" for k, width in enumerate(embeddings.widths, start=1) for i in range(width)]
    with open(path, "w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["image", "path", *columns])
        for name, file, row in zip(embeddings.names, embeddings.paths, embeddings.features.numpy(), strict=True):
            # Nine digits give float32 back exactly.
            rows.writerow([name, file, *map("%.9g".__mod__, row.tolist())])


def _write_parquet(embeddings: Embeddings, path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    vectors = {
        name: pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(values.numpy().ravel()), values.shape[1])
        for name, values in (embeddings.stages() | {"concat": embeddings.features}).items()
    }
    texts = {"image": pyarrow.array(embeddings.names), "path": pyarrow.array(embeddings.paths)}
    parquet.write_table(pyarrow.table(texts | vectors), path)


WRITERS: dict[str, Callable[[Embeddings, Path], None]] = {
    "npz": _write_npz,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
