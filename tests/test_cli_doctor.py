# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_fgssl doctor``: the problems that it finds in a computer and in data sets."""

from __future__ import annotations

import shutil
from collections import namedtuple
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from monai_fgssl.__main__ import main
from monai_fgssl.cli.data_checks import check_data, check_size
from monai_fgssl.cli.doctor import Check, print_checks
from monai_fgssl.cli.environment import check_disk, check_environment, check_gpu, check_memory
from monai_fgssl.cli.packages import check_extra, check_package, check_packages, packages_of
from monai_fgssl.cli.planned_run import plan_run
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
    assert list(checks) == ["layout", "labels", "split", "files", "size"]
    assert {check.mark for check in checks.values()} == {"ok"}
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
    assert "14 labeled images to train on do not fill a batch of 32" in few.fix
    files = sorted(path.relative_to(folder) for path in folder.rglob("*.png"))
    first, second = ([file for file in files if file.parts[0] == name] for name in "ab")
    rows = [f"{file};train" for file in (*first[2:], *second)] + [f"{file};val" for file in first[:2]]
    (folder / "list.csv").write_text("Image;Split;Class\n" + "".join(f"{row};{row[0]}\n" for row in rows))
    checks = by_name(check_data(folder))
    assert "validation has no image of b: the figures of that part do not cover it" in checks["split"].fix
    told = "list.csv (semicolons): images from column Image; classes from column Class; parts from Split"
    assert told in checks["layout"].finding


def test_volumes(tmp_path: Path) -> None:
    checks = by_name(check_data(make_synthetic_volumes(tmp_path / "volumes", 24), spatial_dims=3))
    assert checks["files"].finding == "all 24 can be read"
    assert "4 classes: " in checks["labels"].finding
    assert checks["size"].finding == "0.0 GB decoded at 32 x 32 x 16"
    # A volume is no picture.
    assert by_name(check_data(tmp_path / "volumes"))["files"].finding == "24 of 24 can't be read"


def test_images_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, usage = namedtuple("memory", "available"), namedtuple("usage", "free")
    run = plan_run("images", 2, {"image_size": "224", "grids": "[8,4,2]"})
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory(2 * 10**9))
    assert check_size(10_000, run) == Check("size", "1.5 GB decoded at 224 x 224")
    monkeypatch.setattr("psutil.virtual_memory", lambda: memory(10**9))
    assert check_size(10_000, run).fix == "keep them on disk: --cache_dir FOLDER"
    run = plan_run("images", 2, {"image_size": "224", "grids": "[8,4,2]", "cache_dir": str(tmp_path / "new" / "7")})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(2 * 10**9))
    assert check_size(10_000, run).mark == "ok"
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(10**9))
    assert check_size(10_000, run).mark == "fix"


def test_settings_are_those_of_the_run(lesions: Path, tmp_path: Path) -> None:
    folder = make_classes(lesions, tmp_path / "images")
    frames = [Image.fromarray(np.random.default_rng(n).integers(0, 256, (40, 40), np.uint8)) for n in range(3)]
    frames[0].save(folder / "a" / "scan.tif", save_all=True, append_images=frames[1:])
    assert "--frame" in by_name(check_data(folder))["files"].fix
    assert by_name(check_data(folder, 2, {"frame": "0"}))["files"].finding == "all 21 can be read"
    everything = by_name(check_data(folder, 2, {"frame": "all", "batch_size": "4", "num_folds": "3"}))
    assert everything["files"].finding == "all 23 can be read"
    assert "23 images in 21 groups" in everything["labels"].finding
    assert everything["split"].mark == "ok"
    assert by_name(check_data(folder, 2, {"layout": "images"}))["labels"].finding.endswith("no labels")
    unknown = check_data(folder, 2, {"frames": "0"})
    assert [(check.name, check.mark) for check in unknown] == [("settings", "fix")]
    assert "Did you mean --frame" in unknown[0].fix
    (wrong,) = check_data(folder, 2, {"image_size": "65"})
    assert "does not divide --image_size" in wrong.fix
    output = by_name(check_data(folder, 2, {"frame": "0", "output_dir": "/proc/none"}))["output"]
    assert output.mark == "fix"
    assert "--output_dir" in output.fix


def test_settings_of_the_command_line(lesions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_classes(lesions, tmp_path / "images")
    assert main(["doctor", "--dataset_dir", str(folder), "--image_size", "128", "--grids=[8,4,2]"]) == 0
    assert "decoded at 128 x 128" in capsys.readouterr().out
    assert main(["doctor", "--dataset_dir", str(folder), "--image_size"]) == 1
    assert "--image_size has no value: write --image_size VALUE." in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["demo", "--image_size", "64"])


def test_problems_of_lists_are_told(lesions: Path, tmp_path: Path) -> None:
    folder = make_classes(lesions, tmp_path / "images")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))

    def check(text: str) -> Check:
        (folder / "list.csv").write_text(text)
        return next(check for check in check_data(folder) if check.mark == "fix")

    rows = [f"{file},{'Nevus' if file[0] == 'a' else 'nevus'}" for file in files]
    assert (
        "Nevus (10 images) and nevus (10 images) are nearly the same name" in check("\n".join(["image,dx", *rows])).fix
    )
    pairs = [f"{first},{second},a" for first, second in pairwise(files)]
    assert "columns left, right name different files" in check("\n".join(["left,right,dx", *pairs])).fix
    numbers = [f"{number},{file[0]}" for number, file in enumerate(files)]
    assert "has classes (column dx) and as many rows as there are images" in check("\n".join(["no,dx", *numbers])).fix
    names = {"a": "entropy", "b": "image"}
    problem = check("\n".join(["image,dx", *(f"{file},{names[file[0]]}" for file in files)]))
    assert problem.name == "labels"
    assert "classes have the names of other columns of predictions.csv (entropy, image)" in problem.fix
    (folder / "list.csv").unlink()
    (folder / "a" / "raw.heic").touch()
    assert "1 files that are not images are left out (.heic 1)" in check_data(folder)[0].finding
    labels = [f"{file},{'NA' if number % 4 == 0 else file[0]}" for number, file in enumerate(files)]
    (folder / "list.csv").write_text("\n".join(["image,dx", *labels]))
    assert "without label 5" in by_name(check_data(folder))["labels"].finding


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
