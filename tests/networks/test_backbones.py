# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from monai.networks.nets import DenseNet121, EfficientNetBN
from monai.utils import optional_import
from torch import nn

from monai_fgssl.networks import StagedBackbone, make_backbone

timm, has_timm = optional_import("timm")

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
        ({"name": "densenet121", "stem": "small"}, "stem='small' exists for resnet18, resnet34, resnet50 only"),
        ({"name": "densenet121", "weights": "w.pth"}, "ImageNet weights load into 2D resnet18.*not into 'densenet121'"),
        ({"name": "resnet18", "spatial_dims": 3, "weights": "w.pth"}, "not into 'resnet18' with spatial_dims=3"),
    ],
)
def test_options_that_a_backbone_lacks(options, message):
    with pytest.raises(ValueError, match=message):
        make_backbone(**options)


def test_one_entry_per_stage():
    with pytest.raises(ValueError, match=r"got 2 stages, channels=\(4, 8\), strides=\(1,\)"):
        StagedBackbone(nn.Identity(), [nn.Identity(), nn.Identity()], (4, 8), (1,))


class FakeFeatureList(nn.ModuleDict):
    """Stand-in for timm's FeatureListNet: modules in order, and the names of those whose output is a feature."""

    def __init__(self, in_chans: int, output_fmt: str) -> None:
        super().__init__(
            {
                "stem_conv": nn.Conv2d(in_chans, 4, 3, stride=2, padding=1),
                "stem_act": nn.ReLU(),
                "down": nn.MaxPool2d(2),
                "stage1": nn.Conv2d(4, 6, 3, padding=1),
                "stage2": nn.Conv2d(6, 8, 3, stride=2, padding=1),
            }
        )
        self.output_fmt = output_fmt
        self.return_layers = {"stem_act": "0", "stage1": "1", "stage2": "2"}
        self.feature_info = SimpleNamespace(channels=lambda: [4, 6, 8], reduction=lambda: [2, 4, 8])


@pytest.fixture
def fake_timm(monkeypatch):
    def create_model(name: str, pretrained: bool, features_only: bool, in_chans: int) -> nn.Module:
        assert not pretrained
        assert features_only
        if name == "transformer":
            return nn.Linear(1, 1)
        return FakeFeatureList(in_chans, output_fmt="NHWC" if name == "channels_last" else "NCHW")

    is_model = ["conv", "channels_last", "transformer"].__contains__
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model, is_model=is_model))


def test_timm_features_become_stages(fake_timm):
    backbone = make_backbone("timm:conv", in_channels=1)
    assert backbone.channels == (6, 8)
    assert backbone.strides == (4, 8)
    x = torch.rand(1, 1, 32, 32)
    first, second = backbone(x)
    down, stage1 = backbone.stages[0]
    expected = stage1(down(backbone.stem(x)))
    assert torch.equal(first, expected)
    assert torch.equal(second, backbone.stages[1](expected))
    assert backbone.stem(x).shape == (1, 4, 16, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "timm:nothing"}, "timm has no model 'nothing'"),
        ({"name": "timm:transformer"}, r"'timm:transformer' is no chain of stages.*wraps it in Linear"),
        ({"name": "timm:channels_last"}, "channel-first"),
        ({"name": "timm:conv", "spatial_dims": 3}, "2D: 'timm:conv' can't be built with spatial_dims=3"),
        ({"name": "timm:conv", "stem": "small"}, "stem='small' exists for"),
        ({"name": "timm:conv", "weights": "w.pth"}, "not into 'timm:conv'"),
    ],
)
def test_timm_models_that_do_not_fit(fake_timm, options, message):
    with pytest.raises(ValueError, match=message):
        make_backbone(**options)


def test_without_timm_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'monai-fgssl\[timm\]'"):
        make_backbone("timm:resnet18")


# timm itself does not import everywhere (it needs a torchvision that matches torch); the tests above always run.
if has_timm:

    @pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
    def test_real_timm_features_become_stages(name):
        torch.manual_seed(0)
        reference = timm.create_model(name, features_only=True).eval()
        torch.manual_seed(0)
        backbone = make_backbone(f"timm:{name}").eval()
        x = torch.rand(1, 3, 64, 64)
        assert all(torch.equal(a, b) for a, b in zip(backbone(x), reference(x)[-4:], strict=True))
        assert backbone.strides == (4, 8, 16, 32)
