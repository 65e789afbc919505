# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The notebooks run from top to bottom in an empty folder, and are kept with the outputs of today's code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "tutorials"
spec = importlib.util.spec_from_file_location("run_tutorials", FOLDER / "run.py")
assert spec is not None
assert spec.loader is not None
tutorials = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tutorials)

STALE = 0.2
"""Share of the words of a kept output that a new run may lack: predicted classes and packages differ by machine."""

by_name = pytest.mark.parametrize("path", tutorials.NOTEBOOKS, ids=lambda path: path.stem)


def words(notebook: nbformat.NotebookNode) -> list[set[str]]:
    """Words that each cell has printed. Numbers differ between machines, words do so rarely."""
    texts = (
        "".join(output.get("text", "") + str(output.get("data", {}).get("text/plain", "")) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    )
    return [set(re.findall(r"\b[A-Za-z_]{4,}\b", text)) for text in texts]


def stale(kept: nbformat.NotebookNode, now: nbformat.NotebookNode) -> dict[int, list[str]]:
    """Code cells whose kept output has words that today's code no longer prints, and these words."""
    return {
        number: sorted(then - today)
        for number, (then, today) in enumerate(zip(words(kept), words(now), strict=True))
        if len(then - today) > max(1, STALE * len(then))
    }


def test_stale_outputs_are_found() -> None:
    def notebook(text: str) -> nbformat.NotebookNode:
        outputs = [nbformat.v4.new_output("stream", name="stdout", text=text)]
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("run()", outputs=outputs)])

    then = notebook("pre-train 1/2: loss_stage1 38.8, loss_concat 37.2, rank_concat 15.6, update_ratio 0.005")
    same = notebook("pre-train 1/2: loss_stage1 11.8, loss_concat 12.2, rank_concat 11.6, update_ratio 0.001")
    now = notebook("pre-train 2/2: kNN accuracy 0.286, 504 images/s, took 0:04")
    assert stale(then, same) == {}
    assert stale(then, now) == {0: ["loss_concat", "rank_concat", "update_ratio"]}


def test_they_are_all_listed() -> None:
    listed = re.findall(r"\((\w+\.ipynb)\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert listed == [path.name for path in tutorials.NOTEBOOKS]
    assert len(listed) == 10
    assert sum(path.stat().st_size for path in tutorials.NOTEBOOKS) < 3e6


@by_name
def test_notebook_runs(
    path: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path.stem == "04_monai_label":
        python: Path = request.getfixturevalue("label_python")
        monkeypatch.setenv("FGSSL_LABEL_ENV", str(python.parents[1]))
    ran = tutorials.execute(path, tmp_path)
    kept = nbformat.read(path, as_version=4)
    for now, then in zip(ran.cells, kept.cells, strict=True):
        kinds = [
            {kind for output in cell.get("outputs", []) for kind in output.get("data", {})} for cell in (now, then)
        ]
        # Pictures and values are where they were.
        assert kinds[0] == kinds[1], now.source
    # Otherwise: python tutorials/run.py NAME.ipynb
    assert stale(kept, tutorials.tidy(ran, tmp_path)) == {}


@by_name
def test_outputs_are_kept_and_have_no_trace_of_a_machine(path: Path) -> None:
    kept = nbformat.read(path, as_version=4)
    nbformat.validate(kept)
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    kinds = {kind for output in outputs for kind in output.get("data", {})}
    assert kinds & {"image/png", "image/jpeg"} or path.stem == "06_own_parts"
    texts = "".join(output.get("text", "") + str(output.get("data", {}).get("text/plain", "")) for output in outputs)
    assert "Traceback" not in texts
    assert re.findall(r"/(?:root|home|Users|work|tmp)/", texts) == []
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", "".join(cell.source for cell in kept.cells)):
        assert (FOLDER / link).is_file(), link
