# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The notebooks run from top to bottom in an empty folder, and are kept with their outputs."""

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

by_name = pytest.mark.parametrize("path", tutorials.NOTEBOOKS, ids=lambda path: path.stem)


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
