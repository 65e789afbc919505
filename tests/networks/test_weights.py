# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.networks import nets

from monai_fgssl.networks import HierarchicalNet, load_imagenet_resnet, make_backbone


def torchvision_state_dict(name: str) -> dict[str, torch.Tensor]:
    """Random weights under torchvision's names: MONAI's ResNet with these options has the same names and shapes."""
    torch.manual_seed(0)
    net = getattr(nets, name)(
        spatial_dims=2, n_input_channels=3, num_classes=10, conv1_t_stride=2, bias_downsample=False, shortcut_type="B"
    )
    state = net.state_dict()
    for key, value in state.items():
        if "running" in key or (value.ndim == 1 and value.is_floating_point()):
            value.uniform_(0.5, 1.5)
    return state


def torchvision_last_map(state: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Torchvision's ResNet up to layer4, written anew with functions (stride in a bottleneck's 3x3 convolution)."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        parts = (state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, training=False)

    x = F.conv2d(x, state["conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(norm(x, "bn1").relu(), 3, stride=2, padding=1)
    for layer in range(1, 5):
        index = 0
        while f"layer{layer}.{index}.conv1.weight" in state:
            prefix = f"layer{layer}.{index}"
            stride = 2 if layer > 1 and index == 0 else 1
            y, convolutions = x, 3 if f"{prefix}.conv3.weight" in state else 2
            for i in range(1, convolutions + 1):
                weight = state[f"{prefix}.conv{i}.weight"]
                strided = i == convolutions - 1
                y = F.conv2d(y, weight, stride=stride if strided else 1, padding=weight.shape[-1] // 2)
                y = norm(y, f"{prefix}.bn{i}")
                y = y.relu() if i < convolutions else y
            if f"{prefix}.downsample.0.weight" in state:
                x = norm(F.conv2d(x, state[f"{prefix}.downsample.0.weight"], stride=stride), f"{prefix}.downsample.1")
            x = (x + y).relu()
            index += 1
    return x


@pytest.fixture
def saved(tmp_path):
    def save(content: object) -> str:
        torch.save(content, tmp_path / "resnet.pth")
        return str(tmp_path / "resnet.pth")

    return save


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_loaded_network_computes_what_torchvisions_does(name, saved):
    state = torchvision_state_dict(name)
    backbone = make_backbone(name, weights=saved(state)).eval()
    x = torch.rand(2, 3, 64, 64)
    expected = torchvision_last_map(state, x)
    assert expected.std() > 0
    torch.testing.assert_close(backbone(x)[-1], expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_every_tensor_but_the_classifier_is_loaded(saved):
    state = torchvision_state_dict("resnet18")
    loaded = make_backbone("resnet18", weights=saved(state)).state_dict()
    assert len(loaded) == len(state) - 2
    assert torch.equal(loaded["stem.bn1.running_mean"], state["bn1.running_mean"])
    assert torch.equal(loaded["stages.3.1.conv2.weight"], state["layer4.1.conv2.weight"])


def test_gray_images_see_the_sum_over_rgb(saved):
    path = saved(torchvision_state_dict("resnet18"))
    gray = torch.rand(1, 1, 64, 64)
    color = gray.expand(-1, 3, -1, -1)
    expected = make_backbone("resnet18", weights=path).eval()(color)
    actual = make_backbone("resnet18", in_channels=1, weights=path).eval()(gray)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * b.abs().max().item())


def test_files_older_than_the_batch_counter_load(saved):
    state = {key: value for key, value in torchvision_state_dict("resnet18").items() if "num_batches" not in key}
    backbone = make_backbone("resnet18", weights=saved(state))
    assert torch.equal(backbone.stem.conv1.weight, state["conv1.weight"])


def test_the_former_function_is_the_general_loader(saved):
    state = torchvision_state_dict("resnet18")
    backbone, file = make_backbone("resnet18"), saved(state)
    with pytest.warns(FutureWarning, match=r"load_imagenet_resnet is now called make_backbone\(name, weights=path\)"):
        load_imagenet_resnet(backbone, file)
    expected = make_backbone("resnet18", weights=file).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in backbone.state_dict().items())
    other = make_backbone("resnet18")
    before = {name: value.clone() for name, value in other.state_dict().items()}
    del state["layer1.0.conv1.weight"]
    broken = {name: value for name, value in state.items() if not name.startswith("layer4")}
    with (
        pytest.warns(FutureWarning),
        pytest.raises(ValueError, match=r"does not fit the network.*tensors match by name"),
    ):
        load_imagenet_resnet(other, saved(broken))
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


def test_another_network(saved):
    with pytest.raises(ValueError, match=r"100 of its 180 tensors match.*layer1\.2\.conv1\.weight.*same backbone"):
        make_backbone("resnet34", weights=saved(torchvision_state_dict("resnet18")))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"stem": "small"}, "these stay random: conv1.weight (64, 3, 7, 7) instead of (64, 3, 3, 3)"),
        ({"in_channels": 4}, None),
    ],
)
def test_another_first_convolution(options, told, saved, capsys):
    make_backbone("resnet18", **options, weights=saved(torchvision_state_dict("resnet18")))
    printed = capsys.readouterr().out
    assert (told or "100 of 100 tensors of the backbone are loaded") in printed
    assert ("these stay random:" in printed) == (told is not None)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"epoch": 1}])
def test_files_without_a_state_dict(content, saved):
    with pytest.raises(ValueError, match="holds no state dict"):
        make_backbone("resnet18", weights=saved(content))


def test_missing_file(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*none\.pth"):
        make_backbone("resnet18", weights=tmp_path / "none.pth")


def test_imagenet_weights_bring_imagenets_normalization(saved):
    path = saved(torchvision_state_dict("resnet18"))
    net = HierarchicalNet("resnet18", weights=path)
    assert net.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert net.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    gray = HierarchicalNet("resnet18", in_channels=1, weights=path)
    assert (gray.mean.item(), gray.std.item()) == pytest.approx((0.449, 0.226))
    own = HierarchicalNet("resnet18", weights=path, mean=0.1, std=(0.2, 0.3, 0.4))
    assert own.mean.flatten().tolist() == pytest.approx([0.1] * 3)
    assert own.std.flatten().tolist() == pytest.approx([0.2, 0.3, 0.4])
