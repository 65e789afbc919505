# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Checks of the computer: processor, memory, disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import torch

from monai_fgssl.networks.precision import sensible_precisions

from .doctor import Check

__all__ = ["check_environment"]

MIN_MEMORY = 2.0
MIN_DISK = 1.0
"""Free memory in GB below which even the default run may fail."""


def check_environment(folder: Path) -> list[Check]:
    """Check processor, memory, and the disk that a folder is on."""
    return [
        check_gpu(),
        check_precision("cuda" if torch.cuda.is_available() else "cpu"),
        check_memory(psutil.virtual_memory().available / 1e9),
        check_disk(folder, shutil.disk_usage(folder).free / 1e9),
    ]


def check_gpu() -> Check:
    """Check whether torch can use a GPU, and whether there is a GPU that it can't use."""
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Check("gpu", f"{torch.cuda.device_count()} x {properties.name}, {properties.total_memory / 1e9:.0f} GB")
    if shutil.which("nvidia-smi"):
        return Check(
            "gpu",
            f"there is an NVIDIA driver, but torch {torch.__version__} sees no GPU",
            "install the build of torch for your CUDA version: https://pytorch.org/get-started/locally/",
        )
    return Check("gpu", f"none, {os.cpu_count()} processor cores: small images and small networks only")


def check_precision(device: str) -> Check:
    """Name the precisions that ``--amp auto`` chooses among."""
    names = [precision.name for precision in sensible_precisions(device)]
    return Check("precision", f"the fastest of {', '.join(names)} is taken (--amp)")


def check_memory(free: float) -> Check:
    """Check the free memory, in GB."""
    fix = "close other programs, or keep decoded images on disk with --cache_dir" if free < MIN_MEMORY else ""
    return Check("memory", f"{free:.1f} GB free", fix)


def check_disk(folder: Path, free: float) -> Check:
    """Check the free space where results will be written, in GB."""
    if not os.access(folder, os.W_OK):
        return Check("disk", f"{folder} can't be written to", "change to a folder of your own", required=True)
    fix = "free some space, or work on another disk" if free < MIN_DISK else ""
    return Check("disk", f"{free:.1f} GB free in {folder}", fix, required=True)
