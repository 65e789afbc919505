# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The app with the model of a linear probe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_fgssl.bundle import SettingsError, copy_bundle, save_model
from monai_fgssl.label.model import LabelModel
from monai_fgssl.networks import PlainNet, PooledNet


def test_the_model_of_a_probe_predicts_scores_and_has_heat_maps(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    torch.manual_seed(0)
    network = PooledNet("resnet18", num_classes=3).eval()
    save_model(network, root / "models" / "model.pt", ["a", "b", "c"], 32, temperature=2.0)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    model = LabelModel(root, "cpu")
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = (network(image)[0] / 2).softmax(0)
    result = model.predict(tmp_path / "image.png")
    assert list(result["probabilities"]) == ["a", "b", "c"]
    assert list(result["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert model.num_stages == 4
    # The picture and a map for each stage.
    assert model.draw_heat_maps(tmp_path / "image.png").shape == (256, 5 * 256, 3)
    scored = model.score(image)
    assert scored.stage_logits.shape == (1, 1, 3)
    assert scored.features.shape == (1, 960)


def test_a_network_without_stages_is_refused(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    save_model(PlainNet("resnet18", num_classes=3), root / "models" / "model.pt", ["a", "b", "c"], 32)
    with pytest.raises(SettingsError, match="needs a HierarchicalNet or PooledNet, the bundle has a PlainNet"):
        LabelModel(root, "cpu").load()
