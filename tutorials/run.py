# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Run the notebooks from top to bottom and keep their outputs: ``python tutorials/run.py [NAME ...]``.

The one about MONAI Label needs an environment with ``monai-fgssl[label]``, whose folder FGSSL_LABEL_ENV names.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

__all__ = ["NOTEBOOKS", "execute", "tidy"]

FOLDER = Path(__file__).parent
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
# In seconds; on two busy cores a notebook takes less than 180.
TIMEOUT = 600
# What MONAI logs of its own command, progress bars, and colors.
NOISE = re.compile(r" - INFO - |^parsing config_file |IProgress not found|\r")
COLOR = re.compile(r"\x1b\[[0-9;]*m")


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook in an empty folder, and return it with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: when a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    # `python` in its commands must be this one.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    client = NotebookClient(
        notebook, timeout=TIMEOUT, record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    return client.execute()


def tidy(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Make one text of what each cell printed, without noise and without the name of the folder that it ran in."""
    for cell in notebook.cells:
        printed = "".join(output.text for output in cell.get("outputs", []) if output.output_type == "stream")
        printed = COLOR.sub("", printed).replace(f"{folder.resolve()}/", "").replace(str(folder.resolve()), ".")
        lines = [line for line in printed.splitlines() if not NOISE.search(line)]
        text = "\n".join(lines).strip("\n")
        others = [output for output in cell.get("outputs", []) if output.output_type != "stream"]
        if cell.cell_type == "code":
            stream = [nbformat.v4.new_output("stream", name="stdout", text=f"{text}\n")] if text else []
            cell.outputs = stream + others
    return notebook


if __name__ == "__main__":
    for path in [FOLDER / name for name in sys.argv[1:]] or NOTEBOOKS:
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(tidy(execute(path, Path(folder)), Path(folder)), path)
        print(path.name, flush=True)
