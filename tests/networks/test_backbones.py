# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from monai.networks.blocks import ResidualUnit
from monai.networks.nets import DenseNet121, EfficientNetBN, ResNet, SegResNet, UNet, ViT
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn

from monai_fgssl.networks import HierarchicalNet, StagedBackbone, make_backbone
from monai_fgssl.networks.backbones.convolutional import PaddedShortcut
from monai_fgssl.report import stage_heat_maps

CHANNELS = {
    "resnet18": (64, 128, 256, 512),
    "resnet34": (64, 128, 256, 512),
    "resnet50": (256, 512, 1024, 2048),
    "efficientnet-b0": (24, 40, 112, 320),
    "efficientnet-b1": (24, 40, 112, 320),
    "efficientnet-b2": (24, 48, 120, 352),
    "efficientnet-b3": (32, 48, 136, 384),
    "efficientnet-b4": (32, 56, 160, 448),
    "efficientnet-b5": (40, 64, 176, 512),
    "efficientnet-b6": (40, 72, 200, 576),
    "efficientnet-b7": (48, 80, 224, 640),
    "densenet121": (256, 512, 1024, 1024),
    "densenet169": (256, 512, 1280, 1664),
    "densenet201": (256, 512, 1792, 1920),
}
# Parameters of torchvision's models without the classifier (He et al. 2016, as published).
RESNET_PARAMETERS = {"resnet18": 11_176_512, "resnet34": 21_284_672, "resnet50": 23_508_032}


def check_maps(backbone: StagedBackbone, x: torch.Tensor) -> None:
    """The maps have the channels and strides that the backbone claims."""
    maps = backbone(x)
    assert len(maps) == len(backbone.stages) == 4
    for feature_map, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert feature_map.shape == (x.shape[0], channels, *(size // stride for size in x.shape[2:]))


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", CHANNELS)
def test_channels_and_strides_are_those_of_the_maps(name, spatial_dims):
    # The meta device computes shapes only, which makes the largest networks as cheap as the smallest.
    with torch.device("meta"):
        backbone = make_backbone(name, spatial_dims, in_channels=2).eval()
        # EfficientNet pads for the size it was designed for; 256 is a multiple of 32 near to them all.
        check_maps(backbone, torch.empty(1, 2, *[256] * spatial_dims))
    assert backbone.channels == CHANNELS[name]
    assert backbone.strides == (4, 8, 16, 32)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_tiny_network_halves_the_map_at_each_of_its_convolutions(spatial_dims):
    backbone = make_backbone("tiny-cnn", spatial_dims, in_channels=2)
    check_maps(backbone, torch.rand(2, 2, *[32] * spatial_dims))
    assert backbone.strides == (2, 4, 8, 16)
    # Kernels of 3 without bias, and two parameters of the norm for each channel.
    widths = (2, *backbone.channels)
    expected = sum(3**spatial_dims * a * b + 2 * b for a, b in pairwise(widths))
    assert sum(parameter.numel() for parameter in backbone.parameters()) == expected


@pytest.mark.parametrize("name", RESNET_PARAMETERS)
def test_resnets_have_the_published_number_of_parameters(name):
    with torch.device("meta"):
        backbone = make_backbone(name)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == RESNET_PARAMETERS[name]


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_small_stem_keeps_the_resolution(name, spatial_dims):
    with torch.device("meta"):
        backbone = make_backbone(name, spatial_dims, stem="small")
        check_maps(backbone, torch.empty(1, 3, *[32] * spatial_dims))
    assert backbone.strides == (1, 2, 4, 8)
    assert backbone.channels == CHANNELS[name]


def test_efficientnet_computes_what_monai_does():
    torch.manual_seed(0)
    reference = EfficientNetBN("efficientnet-b0", pretrained=False).eval()
    torch.manual_seed(0)
    backbone = make_backbone("efficientnet-b0").eval()
    x = torch.rand(2, 3, 64, 96)
    expected = []
    reference._blocks.register_forward_hook(lambda module, inputs, output: expected.append(output))
    reference(x)
    torch.testing.assert_close(backbone(x)[-1], expected[0])


def test_densenet_computes_what_monai_does():
    torch.manual_seed(0)
    reference = DenseNet121(spatial_dims=2, in_channels=3, out_channels=1).eval()
    torch.manual_seed(0)
    backbone = make_backbone("densenet121").eval()
    x = torch.rand(2, 3, 64, 96)
    torch.testing.assert_close(backbone(x)[-1], reference.features(x).relu(), rtol=0, atol=0)


def test_forward_stops_after_the_stages_asked_for():
    backbone = make_backbone("resnet18", spatial_dims=3, in_channels=1).eval()
    x = torch.rand(1, 1, 32, 40, 24)
    complete = backbone(x)
    reached = []
    for index, stage in enumerate(backbone.stages):
        stage.register_forward_hook(lambda *_, index=index: reached.append(index))
    for num_stages in range(1, 5):
        reached.clear()
        maps = backbone(x, num_stages)
        assert reached == list(range(num_stages))
        assert all(torch.equal(a, b) for a, b in zip(maps, complete[:num_stages], strict=True))


def test_unknown_names_list_the_choices():
    with pytest.raises(ValueError, match=r"did you mean 'resnet18'(.|\n)*densenet121"):
        make_backbone("resnet81")
    with pytest.raises(ValueError, match=r"'tiny' is not a valid option|Unsupported option 'tiny'(.|\n)*small"):
        make_backbone("resnet18", stem="tiny")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet18", "spatial_dims": 4}, "spatial_dims must be 2 or 3, got 4"),
        ({"name": "densenet121", "stem": "small"}, "stem='small' exists for resnet10, resnet18, .* only"),
        (
            {"name": "densenet121", "spatial_dims": 3, "weights": "imagenet"},
            "this package knows no imagenet weights of",
        ),
        ({"name": "resnet50", "spatial_dims": 3, "weights": "imagenet"}, "in 3D has no ImageNet weights"),
    ],
)
def test_options_that_a_backbone_lacks(options, message):
    with pytest.raises(ValueError, match=message):
        make_backbone(**options)


def test_one_entry_per_stage():
    with pytest.raises(ValueError, match=r"got 2 stages, channels=\(4, 8\), strides=\(1,\)"):
        StagedBackbone(nn.Identity(), [nn.Identity(), nn.Identity()], (4, 8), (1,))


VOLUMES = {
    "resnet10": 32,
    "medicalnet-resnet18": 32,
    "seresnet50": 32,
    "swin-unetr-24": 32,
    "vit-tiny": 32,
    "densenet121": 32,
    "efficientnet-b0": 32,
    "unet": 32,
    "segresnet-16": 16,
}


@pytest.mark.parametrize("name", VOLUMES)
def test_monais_families_in_3d(name):
    torch.manual_seed(0)
    net = HierarchicalNet(name, 3, 1, num_classes=2, width=8, embedding_dim=6, image_size=VOLUMES[name]).eval()
    backbone, x = net.backbone, torch.rand(2, 1, *[VOLUMES[name]] * 3)
    full = backbone(x)
    for one, channels, stride in zip(full, backbone.channels, backbone.strides, strict=True):
        assert one.shape == (2, channels, *[VOLUMES[name] // stride] * 3)
    parts = backbone.parts()
    assert sorted(id(p) for part in parts for p in part) == sorted(id(p) for p in backbone.parameters())
    early = backbone(x, 2)
    used = [p for part in parts[:3] for p in part]
    weight = torch.rand_like(early[1])
    gradients = (torch.autograd.grad((m * weight).sum(), used, allow_unused=True) for m in (early[1], full[1]))
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    again = HierarchicalNet(**{k: v for k, v in net.definition().items() if k != "_target_"}).eval()
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again(x), net(x), rtol=0, atol=0)
    heat = stage_heat_maps(net, x)
    assert heat.shape == (2, 3, *x.shape[2:])
    assert heat.isfinite().all()


def test_the_encoder_of_swin_unetr_computes_what_monai_does():
    torch.manual_seed(0)
    backbone = make_backbone("swin-unetr-24", 3, 1).eval()
    torch.manual_seed(0)
    reference = SwinTransformer(1, 24, (7, 7, 7), (2, 2, 2), (2, 2, 2, 2), (3, 6, 12, 24), spatial_dims=3).eval()
    x = torch.rand(1, 1, 64, 32, 32)
    for one, other in zip(backbone(x), reference(x)[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def unet_of_the_zoo() -> UNet:
    """Network of ``spleen_ct_segmentation`` in MONAI's model zoo."""
    return UNet(3, 1, 2, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2, norm="batch")


def segresnet_of_the_zoo() -> SegResNet:
    """Network of ``brats_mri_segmentation`` in MONAI's model zoo, for one sequence instead of four."""
    return SegResNet(3, init_filters=16, in_channels=1, out_channels=3, dropout_prob=0.2, blocks_down=(1, 2, 2, 4))


@pytest.mark.parametrize(("name", "make"), [("unet", unet_of_the_zoo), ("segresnet-16", segresnet_of_the_zoo)])
def test_an_encoder_has_the_weights_of_the_model_zoo_and_computes_what_monai_does(
    name: str, make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    reference = make().eval()
    torch.save(reference.state_dict(), tmp_path / "model.pt")
    x = torch.rand(1, 1, 32, 48, 16)
    expected: list[torch.Tensor] = []
    # MONAI's networks do not return their maps on the way down, so they are taken where they arise.
    if isinstance(reference, SegResNet):
        places = list(reference.down_layers)
    else:
        places = [module for module in reference.modules() if type(module) is ResidualUnit and len(module.conv) == 2]
        assert len(places) == 5
        places = places[1:]
    for place in places:
        place.register_forward_hook(lambda _, __, output: expected.append(output.clone()))
    reference(x)
    maps = make_backbone(name, 3, 1, weights=tmp_path / "model.pt").eval()(x)
    assert len(expected) == len(maps) == 4
    expected.sort(key=lambda one: one.shape[1])
    for one, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_monais_vit_computes_what_monai_does():
    torch.manual_seed(0)
    backbone = make_backbone("vit-tiny", 3, 1, image_size=(32, 48, 32)).eval()
    torch.manual_seed(0)
    reference = ViT(1, (32, 48, 32), 16, 192, 768, 12, 3).eval()
    x = torch.rand(2, 1, 32, 48, 32)
    normalized, hidden = reference(x)
    maps = backbone(x)
    torch.testing.assert_close(maps[-1].flatten(2).transpose(1, 2), normalized)
    torch.testing.assert_close(maps[1].flatten(2).transpose(1, 2), reference.norm(hidden[5]))
    with pytest.raises(ValueError, match=r"patches of 16 do not divide.*\(32, 32, 32\) and \(48, 48, 48\)"):
        make_backbone("vit-tiny", 3, 1, image_size=40)


@pytest.mark.parametrize("dims", [2, 3])
def test_shortcuts_without_weights_equal_monais_and_pass_gradients(dims: int) -> None:
    expected = (
        ResNet("basic", [1, 1, 1, 1], [4, 8, 12, 16], spatial_dims=dims, shortcut_type="A", feed_forward=False)
        .layer2[0]
        .downsample
    )
    shortcut = PaddedShortcut(dims, 4, 2)
    x = torch.rand(2, 4, *(5, 6, 7)[:dims], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(shortcut(x), expected(x), rtol=0, atol=0)
    # MONAI's own stops the gradient.
    assert not expected(x).requires_grad
    assert torch.autograd.gradcheck(shortcut, x)
    backbone = make_backbone("medicalnet-resnet18", dims, 1)
    assert sum(isinstance(module, PaddedShortcut) for module in backbone.modules()) == 3
