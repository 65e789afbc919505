# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Origin of a result: the command, and the versions of the programs that computed it."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

import monai_fgssl

__all__ = ["command_line", "versions"]

PACKAGES = ("torch", "monai", "pytorch-ignite", "numpy", "scikit-learn", "scipy", "pydicom", "nibabel", "itk", "pillow")


def command_line() -> str:
    """Command that started this process, ready to be typed again."""
    return shlex.join(["python", *sys.orig_argv[1:]])


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries in use, and the names of system and device."""
    found = {"monai-fgssl": monai_fgssl.__version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    return found | {"system": f"{platform.system()} {platform.machine()}", "device": device}
