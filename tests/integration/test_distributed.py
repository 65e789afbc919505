# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The bundle on several real processes, started by torchrun."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch

from monai_fgssl.bundle import make_network

REPOSITORY = Path(__file__).parents[2]
CONFIGS = "bundles/fgssl/configs"
# No run takes that long: a guard against one that never ends.
HANG = 400
# For a process other than the first one: writes down what it creates, renames or removes.
RECORDER = """
import os, sys

def record(event, args):
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        os.write(log, f"{args[0]}\\n".encode())
    elif event in ("os.rename", "os.mkdir", "os.remove"):
        os.write(log, f"{args[:2]}\\n".encode())

if os.environ.get("RANK", "0") != "0":
    log = os.open(os.environ["RECORD"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.addaudithook(record)
"""


def start(folder: Path, launcher: list[str], *overrides: str, **environment: str) -> subprocess.Popen[str]:
    settings = {
        "synthetic_images": 240,
        "label_fraction": 0.5,
        "image_size": 32,
        "width": 16,
        "embedding_dim": 16,
        "pretrain_epochs": 1,
        "max_epochs": 1,
        "batch_size": 8,
        "pretrain_batch_size": 16,
        "output_dir": folder,
        "model_path": folder / "models" / "model.pt",
    }
    options = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    files = f"['{CONFIGS}/train.json','{CONFIGS}/multi_gpu_train.json']"
    program = ["-m", "monai.bundle", "run", "--config_file", files]
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *launcher, *program, *options, *overrides],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def on_one_machine(processes: int) -> list[str]:
    return ["--standalone", f"--nproc_per_node={processes}"]


@pytest.fixture
def launch() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`start`, whose processes don't outlive the test."""
    started: list[subprocess.Popen[str]] = []

    def launch_and_remember(*args: object, **kwargs: str) -> subprocess.Popen[str]:
        started.append(start(*args, **kwargs))  # type: ignore[arg-type]
        return started[-1]

    yield launch_and_remember
    for launcher in started:
        if launcher.poll() is None:
            for process in [*psutil.Process(launcher.pid).children(recursive=True), launcher]:
                process.kill()


def workers(launcher: subprocess.Popen[str]) -> dict[int, psutil.Process]:
    """Training processes by their rank."""
    found = {}
    for process in psutil.Process(launcher.pid).children(recursive=True):
        environment = process.environ()
        if "LOCAL_RANK" in environment:
            found[int(environment["RANK"])] = process
    return found


def checkpoints(folder: Path) -> set[Path]:
    return set((folder / "checkpoints").glob("pretrain_*.pt"))


def wait_for_checkpoint(folder: Path, launcher: subprocess.Popen[str], seen: set[Path] | None = None) -> None:
    """Until the run has written one that was not seen before."""
    end = time.monotonic() + HANG
    while not checkpoints(folder) - (seen or set()):
        assert launcher.poll() is None, launcher.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)


def check_model(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics["methods"]) == ["FG-SSL"]
    assert 0 < metrics["history"]["pre-train"]["loss_concat"][0][1] < float("inf")
    (folder / "configs").symlink_to(REPOSITORY / CONFIGS)
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    make_network(folder).load_state_dict(state)


def test_two_processes_train_one_model_and_the_first_one_speaks(tmp_path: Path, launch: Callable) -> None:
    (tmp_path / "recorder").mkdir()
    (tmp_path / "recorder" / "sitecustomize.py").write_text(RECORDER)
    path = os.pathsep.join(filter(None, [str(tmp_path / "recorder"), os.environ.get("PYTHONPATH")]))
    record, logs, output = tmp_path / "record.txt", tmp_path / "logs", tmp_path / "output"
    options = [*on_one_machine(2), "--log_dir", str(logs), "--redirects", "1:3"]
    launcher = launch(output, options, "--schedule", "joint", PYTHONPATH=path, RECORD=str(record))
    stdout, stderr = launcher.communicate(timeout=HANG)
    assert launcher.returncode == 0, stderr
    assert stdout.count("pre-train 1/1") == 1
    assert stdout.count("Report: ") == 1
    (printed,) = logs.rglob("1/stdout.log")
    assert printed.read_text() == ""
    assert [line for line in record.read_text().splitlines() if str(output) in line] == []
    check_model(output)


def test_all_end_when_one_of_four_is_killed(tmp_path: Path, launch: Callable) -> None:
    launcher = launch(tmp_path, on_one_machine(4), "--pretrain_epochs", "500", "--checkpoint_minutes", "0")
    wait_for_checkpoint(tmp_path, launcher)
    ranks = workers(launcher)
    assert sorted(ranks) == [0, 1, 2, 3]
    ranks[3].send_signal(signal.SIGKILL)
    _, stderr = launcher.communicate(timeout=HANG)
    assert launcher.returncode != 0
    assert "Signal 9 (SIGKILL)" in stderr
    assert psutil.wait_procs(list(ranks.values()), timeout=HANG)[1] == []


def test_all_end_when_one_fails(tmp_path: Path, launch: Callable) -> None:
    fails = "$lambda images, generator: images if idist.get_rank() == 0 else int('no number')"
    launcher = launch(tmp_path, on_one_machine(2), f"--pretrain#trainer#regularized_view={fails}")
    _, stderr = launcher.communicate(timeout=HANG)
    assert launcher.returncode != 0
    assert "ValueError: invalid literal for int() with base 10: 'no number'" in stderr


def test_two_launchers_meet(tmp_path: Path, launch: Callable) -> None:
    """Two nodes, as far as one machine goes: one is killed, and the other one ends too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    rendezvous = ["--rdzv_id=test", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{port}"]
    options = ["--nnodes=2", "--nproc_per_node=1", *rendezvous]
    overrides = ["--pretrain_epochs", "500", "--checkpoint_minutes", "0"]
    nodes = [launch(tmp_path, options, *overrides) for _ in range(2)]
    wait_for_checkpoint(tmp_path, nodes[0])
    ranks = [workers(node) for node in nodes]
    assert sorted(rank for found in ranks for rank in found) == [0, 1]
    next(iter(ranks[1].values())).send_signal(signal.SIGKILL)
    errors = [node.communicate(timeout=HANG)[1] for node in nodes]
    assert all(node.returncode != 0 for node in nodes)
    assert "Signal 9 (SIGKILL)" in errors[1]


def test_another_number_of_processes_goes_on(tmp_path: Path, launch: Callable) -> None:
    options = ["--pretrain_epochs", "4", "--resume", "true"]
    for processes in (2, 4):
        seen = checkpoints(tmp_path)
        launcher = launch(tmp_path, on_one_machine(processes), *options, "--checkpoint_minutes", "0")
        wait_for_checkpoint(tmp_path, launcher, seen)
        launcher.send_signal(signal.SIGTERM)
        stdout, stderr = launcher.communicate(timeout=HANG)
        assert launcher.returncode != 0
        assert stderr.count("To continue, repeat the command with --resume true") == 1
        assert stdout.count("pretrain continues after iteration") == (processes == 4)
    launcher = launch(tmp_path, on_one_machine(1), *options)
    stdout, stderr = launcher.communicate(timeout=HANG)
    assert launcher.returncode == 0, stderr
    assert stdout.count("pretrain continues after iteration") == 1
    check_model(tmp_path)
