# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of strangers in a folder for inference: a harmful file does not affect the results of other files."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_fgssl.bundle import copy_bundle, save_model
from monai_fgssl.networks import HierarchicalNet

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="limits of memory are set as Linux has them"
)


def test_a_file_that_takes_too_much_stops_nothing(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    save_model(
        HierarchicalNet("resnet18", num_classes=2, stages=[0], width=8, embedding_dim=4),
        root / "models" / "model.safetensors",
        ["a", "b"],
        32,
    )
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(images / f"good{number}.png")
    # 0.4 GB as they are stored, and several times as much on the way.
    Image.new("RGB", (12_000, 12_000)).save(images / "large.png")
    os.mkfifo(images / "pipe.png")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(root / "configs" / "inference.json")]
    command += ["--dataset_dir", str(images), "--decode_gb", "0.5", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    output = root / "output" / "inference"
    with open(output / "predictions.csv", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [f"good{number}" for number in range(4)]
    with open(output / "failures.csv", newline="") as file:
        failures = {row["image"]: row["reason"] for row in csv.DictReader(file)}
    assert "takes more than 0.5 GB of memory to decode" in failures["large"]
    assert "is not a file, but a folder, a pipe or a device" in failures["pipe"]
