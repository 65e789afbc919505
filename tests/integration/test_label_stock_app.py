# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's own app for bundles runs the bundle's folder without changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest
import torch
from test_label_server import Client, free_port, wait_for

from monai_fgssl.bundle import copy_bundle, save_model
from monai_fgssl.data import read_isic2018
from monai_fgssl.label.model import LabelModel
from monai_fgssl.networks import HierarchicalNet


def test_the_stock_app_gives_the_same_probabilities(
    label_python: Path,
    lesions: Path,
    tmp_path: Path,
) -> None:
    app = tmp_path / "app"
    shutil.copytree(label_python.parents[1] / "monailabel" / "sample-apps" / "monaibundle", app)
    root = copy_bundle("fgssl", app / "model" / "fgssl_classification")
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    names = list(metadata["network_data_format"]["outputs"]["pred"]["channel_def"].values())
    torch.manual_seed(0)
    network = HierarchicalNet("resnet18", num_classes=len(names), width=8, embedding_dim=8).eval()
    save_model(network, root / "models" / "model.pt", names, 32)
    (tmp_path / "studies").mkdir()
    image = read_isic2018(lesions).items[0]["image"]
    shutil.copy(image, tmp_path / "studies" / "image.png")
    port, log = free_port(), tmp_path / "log"
    command = [label_python, "-m", "monailabel.main", "start_server", "--app", app, "--studies", tmp_path / "studies"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--conf", "models", root.name]
    command += ["--conf", "zoo_source", "github", "--conf", "sam2", "false"]
    with open(log, "wb") as out:
        process = psutil.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, cwd=tmp_path, env={**os.environ, "HOME": str(tmp_path)}
        )
    try:
        client = Client(f"http://127.0.0.1:{port}")
        wait_for(lambda: client.ask("GET", "/info/"), process, log)
        answer = client.ask("POST", f"/infer/{root.name}?image=image")
    finally:
        process.terminate()
        process.wait(30)
    expected = LabelModel(root).predict(image)["probabilities"]
    scores = {row["label"]: row["score"] for row in answer["prediction"]}
    assert scores == pytest.approx({name.lower(): value for name, value in expected.items()}, abs=1e-5)
