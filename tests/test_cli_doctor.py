# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_fgssl doctor``: what it finds in a computer and in data sets."""

from __future__ import annotations

import shutil
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from monai_fgssl.__main__ import main
from monai_fgssl.cli.data_checks import check_data, check_size
from monai_fgssl.cli.doctor import Check, print_checks
from monai_fgssl.cli.environment import check_disk, check_environment, check_gpu, check_memory
from monai_fgssl.cli.packages import check_extra, check_package, check_packages, packages_of
from monai_fgssl.data import make_synthetic_volumes


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def make_classes(lesions: Path, folder: Path, per_class: int = 10) -> Path:
    images = sorted(lesions.rglob("*.png"))
    for number, image in enumerate(images[: 2 * per_class]):
        target = folder / ("a", "b")[number % 2] / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, target)
    return folder


def test_this_environment_is_ready() -> None:
    checks = by_name(check_packages())
    assert all(check.mark != "fix" for check in checks.values())
    assert checks["torch"].finding == metadata.version("torch")
    assert {"[dicom]", "[onnx]", "[timm]", "[tracking]"} <= checks.keys()
    # No requirement is left out, and none of an extra is taken for one that all need.
    always = {Requirement(text).name for text in metadata.requires("monai-fgssl") or [] if "extra ==" not in text}
    assert always == {name for name in checks if not name.startswith("[")} - {"python"}


def test_packages_that_are_missing_or_old() -> None:
    missing = check_package(Requirement("no-such-package>=1.2"))
    assert (missing.mark, missing.finding, missing.fix) == (
        "fix",
        "not installed",
        'pip install "no-such-package>=1.2"',
    )
    old = check_package(Requirement("numpy>=99"))
    assert old.mark == "fix"
    assert old.finding == f"{metadata.version('numpy')}, needed >=99"
    assert check_package(Requirement("torch>=2.4")).mark == "ok"


def test_an_extra_that_is_missing_is_advice() -> None:
    names = ('numpy; extra == "onnx"', 'no-such-package>=2; extra == "onnx"', 'pillow; extra == "timm"', "torch")
    needed = packages_of("onnx", [Requirement(name) for name in names])
    assert [requirement.name for requirement in needed] == ["numpy", "no-such-package"]
    check = check_extra("onnx", needed)
    assert check.mark == "note"
    assert check.finding == "no-such-package not installed"
    assert 'pip install "monai-fgssl[onnx]"' in check.fix


def test_computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"gpu", "precision", "memory", "disk"} == by_name(check_environment(tmp_path)).keys()
    assert [check_memory(free).mark for free in (1.9, 2.1)] == ["note", "ok"]
    assert [check_disk(tmp_path, free).mark for free in (0.9, 1.1)] == ["fix", "ok"]
    assert check_disk(tmp_path / "none", 100).fix == "change to a folder of your own"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    assert "pytorch.org" in check_gpu().fix
    gpu = namedtuple("gpu", ("name", "total_memory"))("A100", 80e9)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: gpu)
    assert check_gpu() == Check("gpu", "2 x A100, 80 GB")


def test_a_data_set_that_is_fine(lesions: Path) -> None:
    checks = by_name(check_data(lesions))
    assert [check.mark for check in checks.values()] == ["ok"] * 5
    assert checks["layout"].finding.startswith("isic2018: ")
    # Every fourth lesion has two photos.
    assert checks["labels"].finding.startswith("140 images in 112 groups")
    assert "7 classes: NETWORK " in checks["labels"].finding
    assert checks["files"].finding == "all 140 can be read"
    assert sum(int(part.split()[1]) for part in checks["split"].finding.split(", ")) == 140


def test_a_file_that_is_broken(lesions: Path, tmp_path: Path) -> None:
    folder = make_classes(lesions, tmp_path)
    (folder / "a" / "broken.png").write_bytes(b"nothing")
    checks = by_name(check_data(folder))
    assert checks["labels"].mark == "note"
    assert "patient_id" in checks["labels"].fix
    assert checks["files"].mark == "fix"
    assert checks["files"].finding == "1 of 21 can't be read"
    assert str(folder / "a" / "broken.png") in checks["files"].fix


def test_data_sets_without_labels_or_with_too_few(lesions: Path, tmp_path: Path) -> None:
    unlabeled = by_name(check_data(next(lesions.rglob("*.png")).parent))
    assert unlabeled["labels"].mark == "note"
    assert "configs/pretrain.json" in unlabeled["labels"].fix
    assert "split" not in unlabeled
    few = by_name(check_data(make_classes(lesions, tmp_path, per_class=2)))
    assert few["split"].mark == "fix"


def test_what_a_run_would_say_later_is_said_now(lesions: Path, tmp_path: Path) -> None:
    folder = make_classes(lesions, tmp_path)
    few = by_name(check_data(folder))["split"]
    assert few.mark == "note"
    assert "14 labeled images to train on are fewer than a batch of 32" in few.fix
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    first, second = ([file for file in files if file.parts[0] == name] for name in "ab")
    rows = [f"{file};train" for file in (*first[2:], *second)] + [f"{file};val" for file in first[:2]]
    (folder / "list.csv").write_text("Image;Split;Class\n" + "".join(f"{row};{row[0]}\n" for row in rows))
    checks = by_name(check_data(folder))
    assert "validation has no image of b: figures say nothing of it there" in checks["split"].fix
    told = "list.csv (semicolons): images from column Image; classes from column Class; parts from Split"
    assert told in checks["layout"].finding


def test_volumes(tmp_path: Path) -> None:
    checks = by_name(check_data(make_synthetic_volumes(tmp_path / "volumes", 24), spatial_dims=3))
    assert checks["files"].finding == "all 24 can be read"
    assert "4 classes: " in checks["labels"].finding
    assert "size" not in checks
    # A volume is no picture.
    assert by_name(check_data(tmp_path / "volumes"))["files"].finding == "24 of 24 can't be read"


def test_images_that_do_not_fit_into_memory() -> None:
    assert check_size(10_000, free=2 * 10**9).mark == "ok"
    assert check_size(10_000, free=10**9).fix == "keep them on disk: --cache_dir FOLDER"


def test_report_and_exit_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert print_checks([Check("a", "fine"), Check("long", "so so", "advice")]) == 0
    assert capsys.readouterr().out == "ok    a     fine\nnote  long  so so\n            -> advice\n\nReady.\n"
    assert print_checks([Check("a", "bad", "do\nthis", required=True)]) == 1
    assert capsys.readouterr().out == "fix   a  bad\n         -> do\n         this\n\n1 to fix.\n"
    assert main(["doctor"]) == 0
    assert main(["doctor", "--dataset_dir", str(tmp_path / "none")]) == 1
    assert "does not exist (dataset_dir)" in " ".join(capsys.readouterr().out.split())


def test_long_texts_are_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    print_checks([Check("a", "b", " ".join(["word"] * 50) + "\n  - " + "x" * 150)])
    lines = capsys.readouterr().out.splitlines()[1:-2]
    assert [len(line.split()) for line in lines] == [21, 19, 11, 1, 1]
    assert all(line.startswith(" " * 9) for line in lines)
