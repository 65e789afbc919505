# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The package as it is installed without a clone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from monai_fgssl.bundle import BUNDLES

REPOSITORY = Path(__file__).parents[2]


def test_a_wheel_carries_the_bundles(tmp_path: Path) -> None:
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
    for bundle in BUNDLES:
        result = subprocess.run(
            [sys.executable, "-m", "monai_fgssl", "bundle", bundle, f"my_{bundle}"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        copy, source = tmp_path / f"my_{bundle}", REPOSITORY / "bundles" / bundle
        files = [path.relative_to(source) for path in (source / "configs").iterdir()]
        for name in ("train.json", "LICENSE", "docs/README.md", *files):
            assert (copy / name).read_bytes() == (source / name).read_bytes()
            assert not (copy / name).is_symlink()
