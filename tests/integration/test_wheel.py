# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""What somebody gets who installs the package without a clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_a_wheel_carries_the_bundle(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(REPOSITORY),
    ]
    subprocess.run(build, check=True, capture_output=True, text=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    assert (installed / "monai_fgssl" / "py.typed").is_file()
    assert not list(installed.rglob("model.pt"))
    result = subprocess.run(
        [sys.executable, "-m", "monai_fgssl", "bundle", "fgssl", "mine"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for name in ("train.json", "configs/train.json", "configs/metadata.json", "LICENSE", "docs/README.md"):
        assert (tmp_path / "mine" / name).read_text() == (REPOSITORY / "bundles" / "fgssl" / name).read_text()
