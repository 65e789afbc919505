# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
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


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 30


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
@pytest.mark.usefixtures("folder")
def test_example(example: doctest.DocTest) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.REPORT_ONLY_FIRST_FAILURE)
    told: list[str] = []
    result = runner.run(example, out=told.append, clear_globs=False)
    assert result.failed == 0, "".join(told)
