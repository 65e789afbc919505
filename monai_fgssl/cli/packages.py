# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Checks of the installed packages. Imports none of them, since any may be missing."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata

from packaging.requirements import Requirement

from .doctor import Check

__all__ = ["check_packages"]

PACKAGE = "monai-fgssl"
EXTRAS = {
    "timm": "backbones of timm",
    "dicom": "compressed DICOM in, structured reports out",
    "tiff": "rare TIFF: deep samples compressed as LZW, and more",
    "onnx": "export to ONNX, inference by ONNX Runtime",
    "lora": "adapters in large transformers (--lora_rank)",
    "parquet": "features as Parquet files",
    "tracking": "TensorBoard and MLflow",
    "label": "MONAI Label (it needs older packages: in an environment of its own)",
}
"""Extras of this package, and their purpose."""


def check_packages() -> list[Check]:
    """Check the version of Python and of every package that this one names in its metadata."""
    requirements = [Requirement(text) for text in metadata.requires(PACKAGE) or []]
    always = [requirement for requirement in requirements if not requirement.marker]
    of_extras = {extra: packages_of(extra, requirements) for extra in EXTRAS}
    return [
        Check("python", platform.python_version()),
        *map(check_package, always),
        *(check_extra(extra, needed) for extra, needed in of_extras.items() if needed),
    ]


def packages_of(extra: str, requirements: Sequence[Requirement]) -> list[Requirement]:
    """The packages that an extra adds."""
    return [r for r in requirements if r.marker and r.marker.evaluate({"extra": extra}) and r.name != PACKAGE]


def find_problem(requirement: Requirement) -> tuple[str, str]:
    """Return the installed version of a required package, and its problem. Each is empty if there is none."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return "", "not installed"
    # torch and others have builds such as 2.13.0+cpu or nightly ones.
    fits = requirement.specifier.contains(version, prereleases=True)
    return version, "" if fits else f"{version}, needed {requirement.specifier}"


def check_package(requirement: Requirement) -> Check:
    """Check a package that is always needed."""
    version, problem = find_problem(requirement)
    fix = f'pip install "{requirement.name}{requirement.specifier}"' if problem else ""
    return Check(requirement.name, problem or version, fix, required=True)


def check_extra(extra: str, needed: Sequence[Requirement]) -> Check:
    """Check the packages of an extra. Most users need only some of the extras."""
    problems = [f"{r.name} {problem}" for r in needed for _, problem in [find_problem(r)] if problem]
    if not problems:
        return Check(f"[{extra}]", EXTRAS[extra])
    return Check(f"[{extra}]", ", ".join(problems), f'for {EXTRAS[extra]}: pip install "{PACKAGE}[{extra}]"')
