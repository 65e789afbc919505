# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Families of timm's models in stages, compared with timm's own features."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from monai_fgssl.bundle import check_puzzles, load_weights, make_network, save_model
from monai_fgssl.networks import Backbone, HierarchicalNet, make_backbone
from monai_fgssl.networks.backbones import IntermediatesBackbone
from monai_fgssl.networks.backbones.timm_package import import_timm
from monai_fgssl.networks.batch_norm import SynchronizedBatchNorm, synchronize_batch_norms
from monai_fgssl.utils.errors import SettingsError

timm = import_timm("these tests")

# A small model of each family, an image size that is not that of its weights, and stages, channels and patch.
FAMILIES = {
    "test_vit": (64, 64, 16),
    "deit_tiny_distilled_patch16_224": (64, 192, 16),
    "vit_small_patch14_reg4_dinov2": (56, 384, 14),
    "vit_small_patch16_dinov3": (64, 384, 16),
    "eva02_tiny_patch14_224": (56, 192, 14),
    "xcit_nano_12_p16_224": (64, 128, 0),
    "test_vit_relpos": (64, 96, 16),
    "swin_tiny_patch4_window7_224": (64, 0, 4),
    "pvt_v2_b0": (64, 0, 0),
    "test_maxvit": (64, 0, 0),
    "test_coatnet": (64, 0, 0),
    "test_convnext": (64, 0, 0),
    "test_resnet": (64, 0, 0),
    "test_efficientnet": (64, 0, 0),
    "test_byobnet": (64, 0, 0),
    "test_nfnet": (64, 0, 0),
    "test_mambaout": (64, 0, 0),
    "mobilenetv3_small_050": (64, 0, 0),
    "regnety_002": (64, 0, 0),
}
PLAIN = [name for name, (_, channels, _) in FAMILIES.items() if channels]


def build(name: str) -> tuple[Backbone, Tensor]:
    torch.manual_seed(0)
    backbone = make_backbone(f"timm:{name}", image_size=FAMILIES[name][0]).eval()
    # Zeros would hide a module that is left out: some start as one.
    for parameter in backbone.parameters():
        if parameter.ndim == 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return backbone, torch.rand(2, 3, *[FAMILIES[name][0]] * 2)


class Calls:
    """The modules that run inside a block."""

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone

    def __enter__(self) -> list[nn.Module]:
        called: list[nn.Module] = []
        self.hooks = [
            module.register_forward_hook(lambda module, *_: called.append(module)) for module in self.backbone.modules()
        ]
        return called

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[str, Backbone, Tensor]:
    return (request.param, *build(request.param))


def test_maps_have_the_channels_strides_and_patches_that_are_told(family):
    name, backbone, x = family
    maps = backbone(x)
    assert len(maps) == backbone.num_stages == len(backbone.strides) >= 3
    for one, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert one.shape == (2, channels, *(side // stride for side in x.shape[2:]))
        assert one.isfinite().all()
    _, channels, patch = FAMILIES[name]
    assert backbone.patch_size == patch
    if channels:
        assert backbone.channels == (channels,) * 4
        assert backbone.strides == ((patch or 16),) * 4
    else:
        assert list(backbone.strides) == sorted(set(backbone.strides))
        assert backbone.strides[0] >= 4


def test_each_map_is_timms_own_feature(family):
    name, backbone, x = family
    if isinstance(backbone, IntermediatesBackbone):
        options = {"img_size": x.shape[-1]} if FAMILIES[name][1] or FAMILIES[name][2] else {}
        reference = timm.create_model(name, num_classes=0, **options).eval()
        reference.load_state_dict(backbone.net.state_dict())
        expected = reference.forward_intermediates(
            x, indices=backbone.indices, norm=backbone.norm, intermediates_only=True
        )
    else:
        options = {"img_size": x.shape[-1]} if name in ("test_maxvit", "test_coatnet") else {}
        reference = timm.create_model(name, features_only=True, **options).eval()
        reference.load_state_dict(dict(zip(reference.state_dict(), backbone.state_dict().values(), strict=True)))
        expected = reference(x)[-backbone.num_stages :]
    for one, other in zip(backbone(x), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_forward_to_a_stage_computes_nothing_deeper_and_has_the_same_gradients(family):
    _, backbone, x = family
    parts = backbone.parts()
    assert sum(map(len, parts)) == len({id(p) for part in parts for p in part}) > 0
    full = backbone(x)
    for count in range(1, backbone.num_stages + 1):
        used = [p for part in parts[: count + 1] for p in part]
        deeper = [p for part in parts[count + 1 :] for p in part]
        with Calls(backbone) as called:
            maps = backbone(x, count)
        assert len(maps) == count
        # The last norm belongs to the last stage, and is applied to each map.
        shared = {id(p) for p in backbone.net.norm.parameters()} if getattr(backbone, "norm", False) else set()
        ran = {id(p) for module in called for p in module.parameters(recurse=False)}
        assert not ran & ({id(p) for p in deeper} - shared)
        weight = torch.rand_like(maps[-1])
        early = torch.autograd.grad((maps[-1] * weight).sum(), used, allow_unused=True)
        whole = torch.autograd.grad((full[count - 1] * weight).sum(), used, retain_graph=True, allow_unused=True)
        assert any(g is not None for g in early)
        for one, other in zip(early, whole, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


def test_every_parameter_that_a_map_depends_on_is_in_one_part(family):
    _, backbone, x = family
    trained = [p for p in backbone.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(sum(one.sum() for one in backbone(x)), trained, allow_unused=True)
    reached = {id(p) for p, gradient in zip(trained, gradients, strict=True) if gradient is not None}
    assert reached == {id(p) for part in backbone.parts() for p in part}


def test_dropped_stages_leave_no_trace(family):
    name, backbone, x = family
    short = build(name)[0].truncated(2)
    assert short.num_stages == 2
    torch.testing.assert_close(short(x)[1], backbone(x)[1], rtol=0, atol=0)
    assert sum(p.numel() for p in short.parameters()) < sum(p.numel() for p in backbone.parameters())


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_other_channels_and_sizes_that_are_no_squares(name):
    backbone = make_backbone(f"timm:{name}", in_channels=1, image_size=(64, 96)).eval()
    assert backbone(torch.rand(2, 1, 64, 96))[0].shape[2:] == (64 // backbone.strides[0], 96 // backbone.strides[0])


def test_without_a_size_a_plain_transformer_takes_any():
    backbone = make_backbone("timm:test_vit").eval()
    assert [backbone(torch.rand(1, 3, side, side))[0].shape[-1] for side in (32, 48, 160)] == [2, 3, 10]


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("vit_tiny_patch16_224", 60, "of 60 px .*patches of 16 px.*Nearest sizes that it takes: 48 and 64"),
        ("vit_small_patch14_dinov2", (64, 64), "patches of 14 px.*: 56 and 70"),
        ("test_vit", (64, 40), "of 64 x 40 px"),
    ],
)
def test_sizes_that_a_model_does_not_take(name, size, message):
    with pytest.raises(ValueError, match=message):
        make_backbone(f"timm:{name}", image_size=size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "timm:vit_tinny_patch16_224"}, "timm has no model.*Did you mean vit_tiny_patch16_224"),
        ({"name": "timm:test_vit", "spatial_dims": 3}, "2D: 'timm:test_vit' can't be built with spatial_dims=3"),
        ({"name": "timm:test_vit", "stem": "small"}, "stem='small' exists for"),
        ({"name": "timm:vgg11", "drop_path": 0.1}, "'timm:vgg11' has no drop path"),
        ({"name": "resnet18", "drop_path": 0.1}, "'resnet18' has no drop path"),
    ],
)
def test_options_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        make_backbone(**options)


def test_drop_path_drops_in_training_only():
    torch.manual_seed(0)
    backbone = make_backbone("timm:test_vit", image_size=32, drop_path=0.5)
    x = torch.rand(8, 3, 32, 32)
    torch.testing.assert_close(backbone.eval()(x)[-1], backbone(x)[-1], rtol=0, atol=0)
    backbone.train()
    assert not torch.equal(backbone(x)[-1], backbone(x)[-1])


# Models that drop paths unless they are told not to, and a network of MONAI.
@pytest.mark.parametrize("name", ["timm:swin_tiny_patch4_window7_224", "timm:nextvit_small", "efficientnet-b0"])
def test_a_rate_of_0_drops_nothing_in_training(name: str) -> None:
    x = torch.rand(4, 3, 64, 64, generator=torch.manual_seed(0))
    with torch.no_grad():
        backbone = make_backbone(name, image_size=64).train()
        torch.testing.assert_close(backbone(x, 2)[-1], backbone(x, 2)[-1], rtol=0, atol=0)
        dropping = make_backbone(name, image_size=64, drop_path=0.5).train()
        assert not torch.equal(dropping(x, 2)[-1], dropping(x, 2)[-1])


def test_names_of_chains_are_those_of_earlier_releases():
    names = set(make_backbone("timm:resnet18").state_dict())
    assert {"stem.0.0.weight", "stages.0.1.0.conv1.weight", "stages.3.0.1.bn2.bias"} <= names


def test_the_last_norm_belongs_to_the_last_stage():
    backbone = make_backbone("timm:test_vit", image_size=32)
    assert "norm.weight" in backbone.part_names[-1]
    assert {"pos_embed", "patch_embed.proj.weight"} <= set(backbone.part_names[0])
    assert all(name.startswith("blocks.") for part in backbone.part_names[1:-1] for name in part)


TORCHVISIONS = {
    "missing": None,
    "made for another torch": "raise RuntimeError('operator torchvision::nms does not exist')",
    "half there": "import torchvision.extension\nraise OSError('no libcudart')",
}


@pytest.mark.parametrize("state", TORCHVISIONS)
def test_timm_without_a_torchvision_that_works(state: str, tmp_path: Path) -> None:
    content = TORCHVISIONS[state]
    if content is not None:
        (tmp_path / "torchvision").mkdir()
        (tmp_path / "torchvision" / "__init__.py").write_text(content)
        (tmp_path / "torchvision" / "extension.py").write_text("")
    block = "sys.modules['torchvision'] = None" if content is None else f"sys.path.insert(0, {str(tmp_path)!r})"
    code = f"""
import sys
{block}
from monai_fgssl.networks.backbones.timm_package import import_timm
from monai_fgssl.utils.errors import SettingsError
timm = import_timm("a test")
print(timm.create_model("test_resnet", num_classes=0).num_features)
print([name for name in sys.modules if name.startswith("torchvision")])
try:
    import torchvision
except Exception as error:
    print(type(error).__name__)
try:
    timm.data.create_transform((3, 32, 32))
except ImportError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    features, modules, error, reason = run.stdout.splitlines()
    assert int(features) > 0
    assert modules == "[]"
    assert error in ("ModuleNotFoundError", "RuntimeError", "OSError")
    assert "needs torchvision" in reason


def test_without_timm_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"'timm:resnet18' needs timm.*pip install 'monai-fgssl\[timm\]'"):
        make_backbone("timm:resnet18")


@pytest.mark.parametrize("name", PLAIN)
def test_a_network_on_token_grids(name):
    net = HierarchicalNet(f"timm:{name}", num_classes=3, width=8, embedding_dim=6, image_size=FAMILIES[name][0]).eval()
    x = torch.rand(2, 3, *[FAMILIES[name][0]] * 2)
    assert net(x).shape == (2, 3)
    groups = net.parameter_groups(1e-4, 1e-3, 0.05, stage_lr_decay=0.5)
    trained = [p for p in net.parameters() if p.requires_grad]
    assert len(trained) == sum(len(group["params"]) for group in groups)
    again = HierarchicalNet(**{k: v for k, v in net.definition().items() if k != "_target_"})
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again.eval()(x), net(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("grids", "image_size", "whole"),
    [([4, 2, 1], 64, None), ([2, 1, 1], (64, 32), None), ([8, 2, 1], 64, "1, 2, 4"), ([3, 1, 1], 48, None)],
)
def test_tiles_that_cut_patches_are_refused(grids, image_size, whole):
    network = HierarchicalNet("timm:test_vit", width=8, embedding_dim=6, image_size=image_size)
    if whole is None:
        check_puzzles(network, image_size, grids)
        return
    with pytest.raises(SettingsError, match=rf"tile of 8 px cuts the backbone's patches of 16 px.*: {whole}\."):
        check_puzzles(network, image_size, grids)


def test_networks_without_patches_take_any_grid():
    check_puzzles(HierarchicalNet("resnet18", width=8, embedding_dim=6), 64, [8, 4, 2])


def test_a_record_rebuilds_a_transformer(tmp_path):
    torch.manual_seed(0)
    net = HierarchicalNet("timm:test_vit", num_classes=2, width=8, embedding_dim=6, image_size=[32, 48]).eval()
    save_model(net, tmp_path / "model.pt", ["a", "b"], [32, 48])
    again = make_network(tmp_path, tmp_path / "model.pt").eval()
    load_weights(again, tmp_path / "model.pt")
    x = torch.rand(2, 3, 32, 48)
    torch.testing.assert_close(again(x), net(x), rtol=0, atol=0)
    record = (tmp_path / "model.json").read_text()
    for bad in ("[0, 48]", '"48"', "[true, 48]", "-3"):
        (tmp_path / "model.json").write_text(
            re.sub(r'"image_size": \[\s*32,\s*48\s*\]', f'"image_size": {bad}', record, count=1)
        )
        with pytest.raises(SettingsError, match="image_size"):
            make_network(tmp_path, tmp_path / "model.pt")


def test_synchronized_norms_keep_the_activations_of_timms():
    torch.manual_seed(0)
    backbone = make_backbone("timm:test_efficientnet", image_size=64).eval()
    x = torch.rand(2, 3, 64, 64)
    expected = [one.detach() for one in backbone(x)]
    names = list(backbone.state_dict())
    synchronized = synchronize_batch_norms(backbone)
    assert list(synchronized.state_dict()) == names
    assert any(isinstance(module, SynchronizedBatchNorm) for module in synchronized.modules())
    for one, other in zip(synchronized(x), expected, strict=True):
        torch.testing.assert_close(one, other)
