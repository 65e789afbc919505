# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The bundle on two real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from monai_fgssl.bundle import make_network

REPOSITORY = Path(__file__).parents[2]
CONFIGS = "bundles/fgssl/configs"


def test_two_processes_train_one_model(tmp_path: Path) -> None:
    settings = {
        "synthetic_images": 240,
        "label_fraction": 0.5,
        "image_size": 32,
        "width": 16,
        "features": 16,
        "pretrain_epochs": 1,
        "max_epochs": 1,
        "batch_size": 8,
        "pretrain_batch_size": 16,
        "output_dir": tmp_path,
        "model_path": tmp_path / "models" / "model.pt",
    }
    options = [text for name, value in settings.items() for text in (f"--{name}", str(value))]
    files = f"['{CONFIGS}/train.json','{CONFIGS}/multi_gpu_train.json']"
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    result = subprocess.run(
        [sys.executable, "-m", *launcher, "-m", "monai.bundle", "run", "--config_file", files, *options],
        cwd=REPOSITORY,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("pre-train 1/1") == 1
    assert result.stdout.count("test images") == 1
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert list(metrics["methods"]) == ["FG-SSL"]
    assert 0 < metrics["history"]["pre-train"]["loss_concat"][0][1] < float("inf")
    (tmp_path / "configs").symlink_to(REPOSITORY / CONFIGS)
    make_network(tmp_path).load_state_dict(torch.load(settings["model_path"], weights_only=True))
