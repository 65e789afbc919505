# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Test modules that import MONAI Label pass in an environment that has it. In others, pytest leaves them out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FIRST_LINE = 'pytest.importorskip("monailabel"'
MODULES = sorted(
    file.relative_to(TESTS).as_posix()
    for file in TESTS.rglob("test_*.py")
    if any(line.startswith(FIRST_LINE) for line in file.read_text(encoding="utf-8").splitlines())
)


def test_modules_are_found() -> None:
    assert "label/test_label_datastore.py" in MODULES


@pytest.mark.parametrize("module", MODULES)
def test_module_passes_in_the_environment_of_monai_label(label_python: Path, module: str, tmp_path: Path) -> None:
    # Options for this pytest may be of plugins that the other has not.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [label_python, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "--basetemp", tmp_path / "tests"]
    result = subprocess.run(
        [*command, TESTS / module],
        cwd=TESTS.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    # A module that is left out as a whole gives status 5.
    assert result.returncode == 0, result.stdout[-10_000:] + result.stderr[-10_000:]
