# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Finished runs on disk. Each new run is a file, and :func:`collect` moves such files into the table.

The table is two files. ``runs.csv.xz`` has a row for each run: the fields of the run, all settings, metrics of both
parts, history, seconds, machine, versions and commit. ``predictions.npz`` has the probabilities of each run on the test
part: an array ``(N, num_classes)`` in units of 1/10000, with the images in the order of the split file.
``pandas.read_csv`` and ``numpy.load`` read these files.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import re
import shutil
import zipfile
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from monai_fgssl.data import DataError
from monai_fgssl.utils.files import atomic_write

from . import PACKAGE
from .claims import claim
from .methods import FIRST_NAMES

__all__ = [
    "NEW_RUNS",
    "PROBABILITIES",
    "TABLE",
    "RunTable",
    "collect",
    "load_table",
    "read_run",
    "run_text",
    "write_run",
]

TABLE = Path(__file__).resolve().parent
"""Folder of the table that the pages of this benchmark are made from."""
NEW_RUNS = TABLE / "new_runs"
"""Folder of runs that are not in the table yet; git ignores it."""
ROWS, PREDICTIONS, LOCK = "runs.csv.xz", "predictions.npz", "collect.lock"
PROBABILITIES = "test_prob_times_10000"
"""Entry of a run's file that the table stores separately, in ``predictions.npz``."""

DEPTHS = {
    **dict.fromkeys(("name", "commit", "date", "machine", "temperature"), 0),
    **dict.fromkeys(("run", "settings", "versions", "seconds", "images", "details", "history"), 1),
    "metrics": 2,
}
"""Entries of a run, and the number of levels of each that become columns. Deeper levels are JSON in a cell."""
TEXTS = frozenset(("name", "commit", "date", "machine", "versions.torch", "versions.monai")) | {
    f"run.{name}"
    for name in ("data_set", "pretraining", "fine_tuning", "transfer", "pretrain_on", "split", "select_on")
}
"""Columns of plain text. All other columns have JSON. A cell is empty if the run does not have the entry."""

TODAYS_NAMES = {first: today for today, first in FIRST_NAMES.items()}


@dataclass
class RunTable:
    """All finished runs.

    Attributes:
        folder: folder with both files of the table; each may be missing.
        runs: record of each run by its name, with all entries except the probabilities.
    """

    folder: Path
    runs: dict[str, dict[str, Any]]

    def probabilities(self, name: str) -> NDArray[np.float64]:
        """Probabilities of a run on the test part, ``(N, num_classes)``, rounded to 1/10000.

        Raises:
            DataError: when the table has no probabilities of the run.
        """
        if name not in self._predictions:
            raise DataError(
                f"{self.folder / PREDICTIONS} has no probabilities of run {name}. Make the run again, and collect it."
            )
        return self._predictions[name].astype(np.float64) / 1e4

    @cached_property
    def _predictions(self) -> NpzFile | dict[str, NDArray[np.uint16]]:
        file = self.folder / PREDICTIONS
        return np.load(file) if file.is_file() else {}


def load_table(folder: Path) -> RunTable:
    """Load the table of a folder; the table is empty if it does not exist yet."""
    file = folder / ROWS
    if not file.is_file():
        return RunTable(folder, {})
    with lzma.open(file, "rt", encoding="utf-8", newline="") as rows:
        # A history is longer than the 128 kB that the module allows a cell.
        csv.field_size_limit(2**24)
        contents = [_from_cells(row) for row in csv.DictReader(rows)]
    return RunTable(folder, {content["name"]: content for content in contents})


def write_run(content: Mapping[str, Any], folder: Path) -> None:
    """Write the file of a new run."""
    with atomic_write(folder / f"{content['name']}.json") as temporary:
        temporary.write_text(run_text(content), encoding="utf-8")


def run_text(content: Mapping[str, Any]) -> str:
    """JSON text with a line for each entry, so that people can read it."""
    lines = ",\n".join(f" {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in content.items())
    return "{\n" + lines + "\n}\n"


def read_run(file: Path) -> tuple[dict[str, Any], NDArray[np.uint16]]:
    """Read the file of a run: its description, and its probabilities on the test part in units of 1/10000.

    Older files are read too. They have a command, and earlier names of modules and settings.

    Raises:
        DataError: when the file is not the file of a run.
    """
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(re.sub(r'"(fine_tunings|imagenet|objectives)\.', rf'"{PACKAGE}.\1.', text))
        prob = np.array(content.pop(PROBABILITIES))
        # The command follows from the fields of the run.
        content.pop("command", None)
        settings = content["run"]["settings"]
        content["run"]["settings"] = {TODAYS_NAMES.get(name, name): value for name, value in settings.items()}
        kept = _from_cells(_to_cells(content))
    except KeyError as error:
        raise DataError(f"{file} is not the file of a run: it lacks {error}.") from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{file} is not the file of a run ({type(error).__name__}: {error}).") from error
    if lost := [name for name in content if kept.get(name) != content[name]]:
        raise DataError(f"{file} is not the file of a run: the table can't keep its {', '.join(lost)}.")
    if content["name"] != file.stem:
        raise DataError(f"{file} has the run {content['name']}: give the file its name.")
    if prob.ndim != 2 or prob.dtype.kind != "i" or (np.abs(prob.sum(1) - 10_000) > prob.shape[1]).any():
        raise DataError(f"{file}: {PROBABILITIES} must have a row for each image that adds up to 10000.")
    return content, prob.astype(np.uint16)


def collect(files: Iterable[Path], folder: Path) -> tuple[list[str], list[str]]:
    """Add files of runs to the table. Runs that the table has already do not change, and no file of a run is changed.

    Args:
        files: files of :func:`write_run`.
        folder: folder of the table.

    Returns:
        Names of the new runs, and a message for each file that could not be added.

    Raises:
        DataError: when another process is adding runs to the same table.
    """
    with claim(folder / LOCK) as mine:
        if not mine:
            raise DataError(f"another process is folding runs into {folder / ROWS}: wait until it has ended.")
        table = load_table(folder)
        new: dict[str, NDArray[np.uint16]] = {}
        problems: list[str] = []
        for file in files:
            try:
                content, prob = read_run(file)
            except DataError as error:
                problems.append(str(error))
                continue
            known = table.runs.get(content["name"])
            if known is None:
                table.runs[content["name"]] = content
                new[content["name"]] = prob
            elif known != content:
                problems.append(
                    f"{file} differs from the run of this name in {folder / ROWS}, made on {known['date']} with "
                    f"{known['machine']}. Each run is kept once: remove the file."
                )
        if new:
            # Write the predictions first, so that no row is ever without its probabilities.
            _add_predictions(new, folder / PREDICTIONS)
            _write_rows(table.runs, folder / ROWS)
    return sorted(new), problems


def _add_predictions(predictions: Mapping[str, NDArray[np.uint16]], file: Path) -> None:
    """Append arrays. Existing arrays keep their bytes, so that git stores only the difference."""
    with atomic_write(file) as temporary:
        if file.is_file():
            _copy_without(predictions, file, temporary)
        with zipfile.ZipFile(temporary, "a") as archive:
            for name, prob in sorted(predictions.items()):
                _write_member(archive, name, prob)


def _copy_without(names: Container[str], source: Path, target: Path) -> None:
    """Copy an archive without some arrays: a process that was killed before it wrote their rows has left them."""
    with np.load(source) as there:
        kept = [name for name in there.files if name not in names]
        if len(kept) == len(there.files):
            shutil.copyfile(source, target)
            return
        with zipfile.ZipFile(target, "w") as archive:
            for name in kept:
                _write_member(archive, name, there[name])


def _write_member(archive: zipfile.ZipFile, name: str, prob: NDArray[np.uint16]) -> None:
    member = io.BytesIO()
    # Values ordered by class compress better than values ordered by image.
    np.save(member, np.asfortranarray(prob))
    # The entry has no date, so that equal runs make equal files.
    archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), zipfile.ZIP_LZMA)


def _write_rows(runs: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    rows = [_to_cells(runs[name]) for name in sorted(runs)]
    found = dict.fromkeys(column for row in rows for column in row)
    order = list(DEPTHS)
    columns = sorted(found, key=lambda column: order.index(column.split(".")[0]))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(file) as temporary:
        temporary.write_bytes(lzma.compress(text.getvalue().encode(), preset=9))


def _to_cells(content: Mapping[str, Any]) -> dict[str, str]:
    """Cells of a row by column. In the name of a column, ``.`` separates the levels of an entry."""
    cells: dict[str, str] = {}

    def add(column: str, value: Any, depth: int) -> None:
        if depth:
            for key, inner in value.items():
                add(f"{column}.{key}", inner, depth - 1)
        else:
            if column in TEXTS and not isinstance(value, str):
                raise TypeError(f"{column} must be text, got {value!r}")
            cells[column] = value if column in TEXTS else json.dumps(value, separators=(",", ":"))

    for name, depth in DEPTHS.items():
        add(name, content[name], depth)
    return cells


def _from_cells(row: Mapping[str, str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for column, cell in row.items():
        if cell or column in TEXTS:
            name, _, rest = column.partition(".")
            *levels, last = [name, *(rest.split(".", DEPTHS[name] - 1) if rest else [])]
            inner = content
            for level in levels:
                inner = inner.setdefault(level, {})
            inner[last] = cell if column in TEXTS else json.loads(cell)
    return content
