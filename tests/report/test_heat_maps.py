# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Heat maps against MONAI's Grad-CAM, and on a network whose heat map is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.visualize import GradCAM
from torch import Tensor

from monai_fgssl.networks import EnsembleNet, HierarchicalNet, PlainNet, PooledNet, StagedNet
from monai_fgssl.report.heat_maps import draw_heat_maps, overlay, stage_heat_maps


@pytest.fixture(
    scope="module",
    params=[(HierarchicalNet, 2), (HierarchicalNet, 3), (PooledNet, 2), (PooledNet, 3), (EnsembleNet, 2)],
)
def network_and_images(request: pytest.FixtureRequest) -> tuple[StagedNet, Tensor]:
    kind, dims = request.param
    torch.manual_seed(0)
    network = kind("resnet18", spatial_dims=dims, in_channels=1, num_classes=3, stages=3)
    return network, torch.rand(4, 1, *[32] * dims)


def layer_names(network: StagedNet) -> list[str]:
    return [name for layer in network.heat_map_layers() for name, module in network.named_modules() if module is layer]


def test_each_image_of_a_batch_is_monais_grad_cam_of_it_alone(network_and_images) -> None:
    network, images = network_and_images
    classes = [0, 2, 1, 1]
    heat = stage_heat_maps(network, images, classes)
    for k, name in enumerate(layer_names(network)):
        cam = GradCAM(network, name, postprocessing=lambda x: x / x.max().clamp_min(1e-12))
        for i, label in enumerate(classes):
            expected = cam(images[i : i + 1], class_idx=torch.tensor([label]))
            torch.testing.assert_close(heat[i, k], expected[0, 0], rtol=1e-3, atol=1e-4)


def test_a_pooled_networks_map_is_the_share_of_each_place_in_the_logit() -> None:
    """CAM: of a linear classifier on means the evidence of a place is known without gradients."""
    torch.manual_seed(0)
    network, images = PooledNet("resnet18", num_classes=3).eval(), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        network.feature_std.copy_(torch.rand(960) + 0.5)
        maps = network.backbone(network.normalize(images))
        weights = (network.classifier.weight[1] / network.feature_std).split(network.backbone.channels)
    heat = stage_heat_maps(network, images, [1, 1])
    for k in range(4):
        evidence = (maps[k] * weights[k][:, None, None]).sum(1, keepdim=True).relu()
        evidence = torch.nn.functional.interpolate(evidence, (64, 64), mode="bilinear")[:, 0]
        expected = evidence / evidence.amax((1, 2), keepdim=True).clamp_min(1e-12)
        torch.testing.assert_close(heat[:, k], expected, rtol=1e-3, atol=1e-4)


def test_a_plain_network_has_no_stages_to_show() -> None:
    assert PlainNet("resnet18").heat_map_layers() == []


def test_default_is_the_predicted_class(network_and_images) -> None:
    network, images = network_and_images
    network.eval()
    with torch.no_grad():
        predicted = network(images).argmax(1)
    torch.testing.assert_close(stage_heat_maps(network, images), stage_heat_maps(network, images, predicted))


def test_leaves_no_trace(network_and_images) -> None:
    network, images = network_and_images
    network.train()
    network.requires_grad_(False)
    hooks = [len(layer._forward_hooks) for layer in network.heat_map_layers()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        heat = stage_heat_maps(network, images)
    assert network.training
    assert not heat.requires_grad
    assert [len(layer._forward_hooks) for layer in network.heat_map_layers()] == hooks
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    network.requires_grad_(True)


def test_no_evidence_is_zero_and_not_nan(network_and_images) -> None:
    network, images = network_and_images
    heat = stage_heat_maps(network, torch.zeros_like(images))
    assert torch.isfinite(heat).all()
    assert heat.min() >= 0
    assert heat.max() <= 1


def test_overlay_shows_the_picture_where_there_is_no_heat_and_the_color_where_there_is_most() -> None:
    image = torch.full((1, 2, 2), 0.5)
    heat = torch.tensor([[0.0, 1.0], [0.0, 0.5]])
    picture = overlay(image, heat, opacity=1.0)
    assert picture.dtype == np.uint8
    assert picture.shape == (2, 2, 3)
    assert (picture[:, 0] == 128).all()
    # The last color of inferno, from matplotlib's table.
    np.testing.assert_allclose(picture[0, 1] / 255, [0.988362, 0.998364, 0.644924], atol=1 / 255)


def test_a_volume_is_drawn_by_its_middle_slice_as_radiologists_look_at_it() -> None:
    # A bright spot to the patient's right and to the front, in the middle from feet to head.
    volume, heat = torch.zeros(1, 16, 12, 6), torch.zeros(2, 16, 12, 6)
    volume[0, 14, 9, 3] = 1
    heat[1, 14, 9, 3] = 1
    heat[0, :, :, :3] = 1
    picture = draw_heat_maps(volume, heat)
    assert picture.shape == (256, 3 * round(256 * 16 / 12), 3)
    image, first, second = np.split(picture.astype(float), 3, axis=1)
    row, column = np.unravel_index(image.sum(2).argmax(), image.shape[:2])
    # The patient's right is on the left of the picture, the front above.
    assert column < image.shape[1] / 4
    assert row < image.shape[0] / 2
    assert np.array_equal(first, image)
    assert not np.array_equal(second, image)
