# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Examples in docstrings give the results that they show, and docstrings name their subject first."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_dicom
from PIL import Image

import monai_fgssl


def modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(monai_fgssl.__path__, "monai_fgssl."):
        # The app of MONAI Label needs an environment of its own; `__main__` is the command line.
        if not module.name.startswith("monai_fgssl.label") and not module.name.endswith("__main__"):
            yield module.name


def examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in modules() for test in finder.find(importlib.import_module(name), name)]
    return [test for test in found if test.examples]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that examples read."""
    rng = np.random.default_rng(0)
    write_dicom(tmp_path / "lesion.dcm", rng.integers(0, 256, (450, 600, 3), dtype=np.uint8))
    for name in ("melanoma", "nevus"):
        (tmp_path / "my_images" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "my_images" / name / "a.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXAMPLES = examples()

ROOT = Path(__file__).parents[2]
QUESTION = re.compile(r"(How|What|When|Where|Whether|Which|Who|Why)\b")


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 30


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
@pytest.mark.usefixtures("folder")
def test_example(example: doctest.DocTest) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_ONLY_FIRST_FAILURE)
    told: list[str] = []
    result = runner.run(example, out=told.append, clear_globs=False)
    assert result.failed == 0, "".join(told)


def test_texts_of_the_code_name_their_subject_first() -> None:
    # Attributes have their text below them, as a statement by itself.
    texts = [
        (f"{file.relative_to(ROOT)}:{node.lineno}", node.value.value)
        for folder in ("monai_fgssl", "benchmarks", "docs", "tests", "tutorials")
        for file in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    assert len(texts) > 2000
    assert [place for place, text in texts if QUESTION.match(text.strip())] == []
