# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock

# Test processes that run at the same time share the cores. The variable must be set before torch is imported, here and
# in the programs that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from monai_fgssl.data import make_synthetic_lesions

# Folders with tests of servers, other programs and whole trainings. `pytest -m "not slow"` leaves them out.
SLOW_FOLDERS = ("docs", "integration", "tutorials")
REPOSITORY = Path(__file__).parents[1]
# Packages for tests of modules that import MONAI Label. These tests run in the environment of MONAI Label.
IN_LABEL_ENVIRONMENT = ("pytest", "pytest-timeout", "hypothesis")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow folders."""
    for item in items:
        if item.path.parent.name in SLOW_FOLDERS:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small synthetic data set. Tests must copy it before they change it."""
    return make_synthetic_lesions(tmp_path_factory.mktemp("data") / "lesions", num_images=140, image_size=32)


def real_data(name: str) -> Path:
    """Folder of a real data set; its images are not part of the repository."""
    root = Path(os.environ.get("FGSSL_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / name).is_dir():
        pytest.skip(f"needs the real images in {root / name}: set FGSSL_DATA_DIR to the folder that has {name}/")
    return root / name


@pytest.fixture(scope="session")
def isic2018() -> Path:
    """The real ISIC 2018 images."""
    return real_data("isic2018")


@pytest.fixture(scope="session")
def isic2017() -> Path:
    """The real ISIC 2017 images."""
    return real_data("isic2017")


@pytest.fixture(scope="session")
def aptos2019() -> Path:
    """The real APTOS 2019 images."""
    return real_data("aptos2019")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Function that mounts a disk of the given size in megabytes; it needs Linux and its administrator."""
    with ExitStack() as mounted:

        def mount(megabytes: int) -> Path:
            folder = tmp_path / "disk"
            folder.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
            try:
                subprocess.run(command, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError):
                pytest.skip("this user may not mount a small disk")
            mounted.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
            return folder

        yield mount


@pytest.fixture(scope="session")
def label_python() -> Path:
    """Python of an environment for MONAI Label, which needs other packages than this project's tests.

    The environment is in the folder FGSSL_LABEL_ENV if that variable is set, else in the user's cache. It is made on
    first use.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "monai-fgssl" / "label_env"
    env = Path(os.environ.get("FGSSL_LABEL_ENV", cache))
    python, marker = env / "bin" / "python", env / "fgssl_requirements.txt"
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    wanted = "\n".join((*IN_LABEL_ENVIRONMENT, str(REPOSITORY), project))
    env.parent.mkdir(parents=True, exist_ok=True)
    # Several processes run the tests, and all of them use the same environment.
    with FileLock(f"{env}.lock"):
        if not marker.is_file() or marker.read_text(encoding="utf-8") != wanted:
            if not python.is_file():
                subprocess.run([sys.executable, "-m", "venv", env], check=True)
            packages = ["--editable", f"{REPOSITORY}[label]", *IN_LABEL_ENVIRONMENT]
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
            marker.write_text(wanted, encoding="utf-8")
    return python
