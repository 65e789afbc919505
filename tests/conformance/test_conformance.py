# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A sample of other people's files. ``python -m benchmarks.conformance`` reads all of them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from picture_files import encoded

pytest.importorskip("pydicom.pixels", reason="what is compared with is pydicom 3")

import conformance_check
from conformance_check import check_file, check_files

from monai_fgssl.utils.errors import DataError

DICOM = Path(pydicom.__file__).parent / "data" / "test_files"
NIFTI = Path(nibabel.__file__).parent / "tests" / "data"


def test_small_files_of_pydicom_and_nibabel() -> None:
    files = sorted([*DICOM.glob("*.dcm"), *NIFTI.glob("*.nii"), *NIFTI.glob("*.nii.gz"), *NIFTI.glob("*.hdr")])
    sample = [path for path in files if path.stat().st_size < 150_000]
    assert len(sample) > 60
    outcomes = dict(check_files(sample))
    assert {path.name: one for path, one in outcomes.items() if one.kind not in ("right", "refused")} == {}
    counts = Counter(one.kind for one in outcomes.values() if one.by_library)
    assert counts["right"] > 50
    assert counts["refused"] <= 3


def write_png(folder: Path) -> Path:
    path = folder / "a.png"
    path.write_bytes(encoded(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8), "PNG"))
    return path


def test_faults_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_png(tmp_path)
    assert check_file(path).kind == "right"
    right = conformance_check.read_medical_image

    def brighter(*arguments: Any, **options: Any) -> Any:
        return right(*arguments, **options) + 1e-3

    def turned(*arguments: Any, **options: Any) -> Any:
        return right(*arguments, **options).flip(1)

    def transposed(*arguments: Any, **options: Any) -> Any:
        return right(*arguments, **options).transpose(1, 2)

    def not_a_number(*arguments: Any, **options: Any) -> Any:
        return right(*arguments, **options) * float("nan")

    def foreign(*arguments: Any, **options: Any) -> Any:
        raise KeyError("a")

    def nameless(*arguments: Any, **options: Any) -> Any:
        raise DataError("is damaged")

    def refusing(*arguments: Any, **options: Any) -> Any:
        raise DataError(f"{path} is damaged")

    def aborting(*arguments: Any, **options: Any) -> Any:
        os.abort()

    def hanging(*arguments: Any, **options: Any) -> Any:
        while True:
            pass

    expected = {
        brighter: "wrong",
        turned: "wrong",
        transposed: "wrong",
        not_a_number: "wrong",
        foreign: "crash",
        nameless: "crash",
        refusing: "refused",
        aborting: "crash",
        hanging: "hang",
    }
    for reader, kind in expected.items():
        monkeypatch.setattr(conformance_check, "read_medical_image", reader)
        ((_, outcome),) = check_files([path], limit=1)
        assert (reader.__name__, outcome.kind) == (reader.__name__, kind)


def test_what_no_library_reads_must_be_refused(tmp_path: Path) -> None:
    path = write_png(tmp_path)
    path.write_bytes(path.read_bytes()[:40])
    outcome = check_file(path)
    assert (outcome.kind, outcome.by_library) == ("refused", False)
    (tmp_path / "a.tga").write_bytes(encoded(np.zeros((5, 7, 3), np.uint8), "TGA"))
    outcome = check_file(tmp_path / "a.tga")
    assert (outcome.kind, outcome.by_library) == ("refused", True)
