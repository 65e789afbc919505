# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Folds that real processes train at the same time, or go on with after one of them was killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_kinds_of_labels import SMALL

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.bundle.folds import ONE_OF_ALL, TAKEN
from monai_fgssl.bundle.identity import is_locked
from monai_fgssl.data import make_synthetic_lesions

HOLDER = "import sys; from monai_fgssl.bundle import lock_output; lock_output(sys.argv[1]); print(1); input()"
FRACTIONS = "{'train': 0.5, 'validation': 0.3, 'test': 0.2}"
LONGEST = 300
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_synthetic_lesions(tmp_path_factory.mktemp("data") / "lesions", num_images=140, image_size=32)


def start(
    images: Path,
    one_of_all: bool = False,
    launcher: Sequence[str] = (),
    configs: Sequence[str] = ("train.json",),
    **changes: Any,
) -> subprocess.Popen[str]:
    """Start a command of the bundle in a group of its own, so that it can be killed with its runs."""
    files = [str(shipped_bundle("fgssl") / "configs" / name) for name in configs]
    settings = SMALL | {"dataset_dir": images, "num_folds": 2, "fractions": FRACTIONS, "linear_probe": False} | changes
    words = [text for name, value in settings.items() if value is not None for text in (f"--{name}", str(value))]
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "monai.bundle", "run", "--config_file", str(files), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", **({ONE_OF_ALL: "1"} if one_of_all else {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def hold(folder: Path) -> subprocess.Popen[str]:
    """Start a process that uses a folder like a run."""
    words = [sys.executable, "-u", "-c", HOLDER, str(folder)]
    holder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "1\n"
    return holder


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LONGEST
    while not is_so():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.05)


def test_two_commands_at_the_same_second_share_the_folds(images: Path, tmp_path: Path) -> None:
    model = tmp_path / "models" / "model.pt"
    both = [start(images, fold="all", output_dir=tmp_path / "cv", model_path=model) for _ in range(2)]
    said = [process.communicate(timeout=LONGEST)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    # Each fold is trained once, and the folds are told by one of them.
    assert sum(text.count("fine-tune 3/3") for text in said) == 2
    assert sum("model of all folds, the mean of 2 models" in text for text in said) >= 1
    assert json.loads((tmp_path / "cv" / "metrics.json").read_text())["num_test_images"] == 140
    assert model.is_file()


def test_a_run_of_all_folds_leaves_a_taken_fold_and_a_run_of_one_waits_for_it(images: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fold_0"
    holder = hold(folder)
    options = {"fold": 0, "output_dir": folder, "model_path": folder / "model.pt"}
    try:
        leaving = start(images, one_of_all=True, **options)
        said = leaving.communicate(timeout=LONGEST)[0]
        assert leaving.returncode == TAKEN, said
        assert "error" not in said
        assert "images in" not in said
        waiting = start(images, **options)
        assert waiting.stdout is not None
        for line in waiting.stdout:
            if line.startswith("fold 0 is being trained by another process: waiting"):
                break
        assert waiting.poll() is None
    finally:
        # A killed process leaves its lock file, and the lock is free.
        holder.kill()
        holder.communicate()
    said = waiting.communicate(timeout=LONGEST)[0]
    assert waiting.returncode == 0, said
    assert "fine-tune 3/3" in said
    assert (folder / "predictions.npz").is_file()


def test_a_run_that_was_killed_in_its_second_fold_goes_on_there(images: Path, tmp_path: Path) -> None:
    options = {"fold": "all", "output_dir": tmp_path, "model_path": tmp_path / "model.pt", "max_epochs": 40}
    options |= {"checkpoint_minutes": 0, "val_interval": 1}
    first = start(images, **options)
    checkpoints = tmp_path / "fold_1" / "checkpoints"
    wait_until(lambda: any(checkpoints.glob("train_*.pt")), first)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert not (tmp_path / "fold_1" / "predictions.npz").exists()
    before = (tmp_path / "fold_0" / "model.pt").stat().st_mtime_ns
    second = start(images, **options)
    said = second.communicate(timeout=LONGEST)[0]
    assert second.returncode == 0, said
    assert "fold 0 of 2 is finished" in said
    assert "train continues after iteration" in said
    assert (tmp_path / "fold_0" / "model.pt").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "metrics.json").read_text())["num_test_images"] == 140


def test_two_processes_of_torchrun_share_the_folds(images: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    options = {"num_folds": 3, "fold": "all", "output_dir": tmp_path / "cv", "model_path": model}
    both = start(images, launcher=TORCHRUN, **options)
    said = both.communicate(timeout=LONGEST)[0]
    assert both.returncode == 0, said
    # Each fold is trained once, and the folds are told by one of them.
    assert said.count("fine-tune 3/3") == 3
    assert "model of all folds, the mean of 3 models" in said
    assert json.loads((tmp_path / "cv" / "metrics.json").read_text())["num_test_images"] == 140
    assert model.is_file()


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (None, "error: --fold all trains each fold in one process"),
        ("cpu", "error: --device cpu does not work with multi_gpu_train.json: leave it out"),
    ],
)
def test_torchrun_with_one_model_in_all_processes_is_told_what_to_do(
    images: Path, tmp_path: Path, device: str | None, message: str
) -> None:
    configs = ("train.json", "multi_gpu_train.json")
    refused = start(images, launcher=TORCHRUN, configs=configs, fold="all", output_dir=tmp_path / "cv", device=device)
    said = refused.communicate(timeout=LONGEST)[0]
    assert refused.returncode != 0
    assert message in said
    assert "images in" not in said
    assert not (tmp_path / "cv").exists()


def test_a_stopped_command_lets_the_run_of_its_fold_write_a_checkpoint(images: Path, tmp_path: Path) -> None:
    command = start(images, fold="all", output_dir=tmp_path, max_epochs=1000, pretrain_epochs=0, val_interval=1)
    # The training has begun.
    wait_until(lambda: (tmp_path / "fold_0" / "best.pt").is_file(), command)
    checkpoints = tmp_path / "fold_0" / "checkpoints"
    assert not list(checkpoints.glob("train_*.pt"))
    command.terminate()
    said = command.communicate(timeout=LONGEST)[0]
    assert command.returncode == 128 + signal.SIGTERM, said
    assert "stopped by SIGTERM in epoch" in said
    assert list(checkpoints.glob("train_*.pt"))
    assert not is_locked(tmp_path / "fold_0")
