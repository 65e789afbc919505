# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from monai_fgssl.networks import HierarchicalNet, PlainNet, StagedBackbone, make_backbone


def tiny_backbone(spatial_dims: int = 2, in_channels: int = 3) -> StagedBackbone:
    """Four stages with norms and in-place activations, small enough for every property."""
    convolution = getattr(nn, f"Conv{spatial_dims}d")
    norm = getattr(nn, f"BatchNorm{spatial_dims}d")

    def stage(channels_in: int, channels_out: int) -> nn.Module:
        return nn.Sequential(
            convolution(channels_in, channels_out, 3, stride=2, padding=1), norm(channels_out), nn.ReLU(inplace=True)
        )

    channels = (4, 6, 8, 10)
    stages = [stage(a, b) for a, b in zip((4, *channels), channels, strict=False)]
    return StagedBackbone(stage(in_channels, 4), stages, channels, (4, 8, 16, 32))


def tiny_net(spatial_dims: int = 2, in_channels: int = 3, stages: int | tuple[int, ...] = 3) -> HierarchicalNet:
    torch.manual_seed(0)
    return HierarchicalNet(
        tiny_backbone(spatial_dims, in_channels), spatial_dims, in_channels, 5, stages, width=8, embedding_dim=7
    )


class Exploding(nn.Module):
    def forward(self, *args: object) -> torch.Tensor:
        raise AssertionError("this module was not needed")


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("train", [True, False])
def test_every_step_agrees_with_the_complete_forward(spatial_dims, train):
    net = tiny_net(spatial_dims).train(train)
    x = torch.rand(3, 3, *[32] * spatial_dims)
    logits, vectors = net.stage_logits(x), net.stage_vectors(x)
    assert logits.shape == (3, 4, 5)
    assert vectors.shape == (3, 4, 7)
    assert net.num_steps == 4
    for step in range(1, 5):
        assert torch.equal(net.logits_at_step(x, step), logits[:, step - 1])
        assert torch.equal(net.vectors_at_step(x, step), vectors[:, step - 1])
    assert torch.equal(net(x), logits.sum(1))


def test_logits_are_the_classifier_of_the_vector():
    net = tiny_net().eval()
    x = torch.rand(3, 3, 64, 64)
    heads = [block.head for block in net.blocks] + [net.concat_head]
    for step, head in enumerate(heads, start=1):
        assert torch.equal(net.logits_at_step(x, step), head.classifier(net.vectors_at_step(x, step)))


def test_concat_head_reads_the_pooled_vectors_of_all_blocks():
    net = tiny_net().eval()
    x = torch.rand(3, 3, 64, 64)
    maps = net.backbone((x - 0.5) / 0.5)
    pooled = torch.cat([block.pool(maps[k]) for block, k in zip(net.blocks, (1, 2, 3), strict=True)], dim=1)
    assert torch.equal(net.logits_at_step(x, 4), net.concat_head(pooled))


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "densenet121"])
@pytest.mark.parametrize("project", [True, False])
def test_gradients_of_a_step_equal_those_of_the_complete_forward(backbone, project):
    torch.manual_seed(0)
    net = (tiny_net() if backbone == "tiny" else HierarchicalNet(backbone, width=8, embedding_dim=7)).double()
    x = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    for step in range(1, net.num_steps + 1):
        net.zero_grad()
        output = (net.stage_vectors if project else net.stage_logits)(x)[:, step - 1]
        weight = torch.randn_like(output)
        (output * weight).sum().backward()
        complete = {name: p.grad for name, p in net.named_parameters()}
        # Sums are in the order that the machine likes, and gradients that are 0 in theory come out as rounding errors.
        rounding = 1e-12 * max(float(grad.abs().max()) for grad in complete.values() if grad is not None)
        net.zero_grad()
        ((net.vectors_at_step if project else net.logits_at_step)(x, step) * weight).sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.backbone.parameters())
        for name, parameter in net.named_parameters():
            if parameter.grad is None:
                assert complete[name] is None or not complete[name].any(), name
            else:
                torch.testing.assert_close(parameter.grad, complete[name], rtol=1e-9, atol=rounding, msg=name)


@pytest.mark.parametrize("stages", [3, (0, 2), (1,)])
def test_a_step_touches_nothing_deeper(stages):
    net = tiny_net(stages=stages)
    x = torch.rand(2, 3, 64, 64)
    net.concat_head = Exploding()
    for k in reversed(range(len(net.blocks))):
        assert net.logits_at_step(x, k + 1).shape == (2, 5)
        assert net.vectors_at_step(x, k + 1).shape == (2, 7)
        with pytest.raises(AssertionError, match="not needed"):
            net.logits_at_step(x, k + 2)
        net.blocks[k] = Exploding()
        net.backbone.stages[net.stage_indices[k]] = Exploding()


def test_all_steps_at_once():
    net = tiny_net()
    x = torch.rand(3, 3, 64, 64)
    for at_step, all_steps in ((net.logits_at_step, net.stage_logits), (net.vectors_at_step, net.stage_vectors)):
        torch.testing.assert_close(all_steps(x), torch.stack([at_step(x, step) for step in range(1, 5)], 1))


def test_a_step_leaves_the_other_blocks_alone():
    net = tiny_net()
    net.blocks[0], net.blocks[2] = Exploding(), Exploding()
    assert net.logits_at_step(torch.rand(2, 3, 64, 64), 2).shape == (2, 5)


def test_stages_that_no_step_needs_are_dropped():
    net = tiny_net(stages=(0, 2))
    assert net.num_steps == 3
    assert len(net.backbone.stages) == 3
    assert [block.convolutions[0].conv.in_channels for block in net.blocks] == [4, 8]
    net(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_an_int_means_the_last_stages():
    assert tiny_net(stages=4).stage_indices == [0, 1, 2, 3]
    assert tiny_net(stages=1).stage_indices == [3]
    assert tiny_net(stages=3).stage_indices == [1, 2, 3]


@pytest.mark.parametrize("stages", [0, 5, -1, (), (4,), (-1,), (2, 1), (1, 1)])
def test_stages_that_do_not_exist(stages):
    with pytest.raises(ValueError, match=r"from 1 to 4 or increasing indices from 0 to 3 .* got"):
        tiny_net(stages=stages)


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 70), min_size=2, max_size=2), st.integers(1, 3), st.integers(1, 4))
def test_any_image_size_batch_and_channels(size, batch, channels):
    net = tiny_net(in_channels=channels).eval()
    x = torch.rand(batch, channels, *size)
    assert net.stage_logits(x).shape == (batch, 4, 5)
    # No sample sees another one in eval mode.
    torch.testing.assert_close(net(x[:1]), net(x)[:1])


@pytest.mark.parametrize("net_class", [HierarchicalNet, PlainNet])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 32, 32), r"\(batch, 3, ...\) with 2 spatial axes, got \[3, 32, 32\]"),
        ((1, 3, 8, 32, 32), r"with 2 spatial axes, got \[1, 3, 8, 32, 32\]"),
        ((1, 1, 32, 32), r"\(batch, 3, ...\) with 2 spatial axes, got \[1, 1, 32, 32\]"),
    ],
)
def test_images_of_another_shape(net_class, shape, message):
    with pytest.raises(ValueError, match=message):
        net_class(tiny_backbone())(torch.rand(shape))


def test_wrong_arguments():
    net = tiny_net()
    with pytest.raises(ValueError, match=r"\[0, 1\], got torch.uint8"):
        net(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    for step in (-1, 0, 5):
        for method in (net.logits_at_step, net.vectors_at_step):
            with pytest.raises(ValueError, match=f"step must be from 1 to 4, got {step}"):
                method(torch.rand(1, 3, 32, 32), step)
    with pytest.raises(ValueError, match="did you mean 'resnet18'"):
        HierarchicalNet("rsnet18")
    with pytest.raises(TypeError, match="backbone Conv2d lacks stem, stages, channels, strides"):
        HierarchicalNet(nn.Conv2d(3, 3, 1))
    for wrong in ({"mean": (0.5, 0.5)}, {"std": (0.5,)}):
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))} needs one number or 3, one per channel, got \(0.5"):
            HierarchicalNet(tiny_backbone(), **wrong)
    with pytest.raises(ValueError, match="stem and weights are for backbones given by name"):
        HierarchicalNet(tiny_backbone(), stem="small")


def test_any_module_with_the_four_attributes_is_a_backbone():
    class Foreign(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Identity()
            self.stages = nn.ModuleList([nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 5, 3, stride=2)])
            self.channels = [4, 5]
            self.strides = [2, 4]

    net = HierarchicalNet(Foreign(), stages=2, width=4, embedding_dim=3).eval()
    assert net(torch.rand(1, 3, 20, 20)).shape == (1, 7)


def test_images_are_normalized_with_mean_and_std_of_the_checkpoint():
    torch.manual_seed(0)
    net = HierarchicalNet(tiny_backbone(), width=4, embedding_dim=3, mean=(0.1, 0.2, 0.3), std=2.0).eval()
    x = torch.rand(2, 3, 40, 40)
    plain = HierarchicalNet(tiny_backbone(), width=4, embedding_dim=3, mean=0.0, std=1.0).eval()
    plain.load_state_dict({**net.state_dict(), "mean": plain.mean, "std": plain.std})
    mean = torch.tensor([0.1, 0.2, 0.3]).view(1, 3, 1, 1)
    torch.testing.assert_close(net(x), plain((x - mean) / 2))
    assert not torch.allclose(net(x), plain(x))

    plain.load_state_dict(net.state_dict())
    assert torch.equal(plain(x), net(x))


def test_parameter_groups_cover_each_parameter_once_and_decay_no_norms_or_biases():
    net = HierarchicalNet("resnet18", width=8, embedding_dim=7)
    groups = net.parameter_groups(backbone_lr=0.1, head_lr=1.0, weight_decay=0.01)
    torch.optim.SGD(groups, lr=123.0)
    settings_of = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert sum(len(group["params"]) for group in groups) == len(settings_of) == len(list(net.parameters()))
    for name, module in net.named_modules():
        for kind, parameter in module.named_parameters(recurse=False):
            decayed = kind == "weight" and isinstance(module, nn.Conv2d | nn.Linear)
            lr = 0.1 if name.startswith("backbone") else 1.0
            assert settings_of[id(parameter)] == (lr, 0.01 if decayed else 0.0), f"{name}.{kind}"


def test_stage_lr_decay_multiplies_from_the_deepest_stage_to_the_stem():
    net = HierarchicalNet("resnet18", width=8, embedding_dim=7)
    groups = net.parameter_groups(backbone_lr=0.1, head_lr=1.0, weight_decay=0.01, stage_lr_decay=0.5)
    lr_of = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert sum(len(group["params"]) for group in groups) == len(lr_of) == len(list(net.parameters()))
    expected = {"stem": 0.1 / 32, "stages.0": 0.1 / 16, "stages.1": 0.1 / 8, "stages.2": 0.1 / 4, "stages.3": 0.1 / 2}
    for name, parameter in net.named_parameters():
        part = next((part for part in expected if name.startswith(f"backbone.{part}.")), None)
        assert lr_of[id(parameter)] == pytest.approx(expected[part] if part else 1.0), name


@pytest.mark.parametrize("decay", [0, -0.5, 1.01])
def test_a_stage_lr_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match="stage_lr_decay must be more than 0 and at most 1"):
        HierarchicalNet("resnet18", width=8, embedding_dim=7).parameter_groups(0.1, 1.0, 0.01, decay)


def test_state_dict_round_trip(tmp_path):
    net = tiny_net()
    net(torch.rand(4, 3, 64, 64)).sum().backward()
    torch.save(net.state_dict(), tmp_path / "model.pt")
    torch.manual_seed(1)
    other = HierarchicalNet(tiny_backbone(), num_classes=5, width=8, embedding_dim=7)
    x = torch.rand(2, 3, 64, 64)
    assert not torch.equal(net.eval()(x), other.eval()(x))
    assert other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True)).missing_keys == []
    assert torch.equal(net(x), other(x))


def test_a_pretrained_backbone_moves_to_another_network():
    torch.manual_seed(0)
    source = PlainNet("resnet18")
    target = HierarchicalNet(make_backbone("resnet18"), width=4, embedding_dim=3)
    target.backbone.load_state_dict(source.backbone.state_dict())
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(source.eval().backbone(x)[-1], target.eval().backbone(x)[-1])


def test_the_seed_determines_weights_output_and_gradients():
    def run() -> list[torch.Tensor]:
        net = tiny_net()
        loss = net(torch.rand(4, 3, 64, 64)).square().sum()
        loss.backward()
        return [loss, *(parameter.grad for parameter in net.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


def test_bfloat16_autocast():
    net = tiny_net()
    x = torch.rand(4, 3, 64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = net.vectors_at_step(x, 4)
    assert low.isfinite().all()
    assert torch.nn.functional.cosine_similarity(low.float(), net.vectors_at_step(x, 4)).min() > 0.95


@pytest.mark.parametrize("network", [HierarchicalNet, PlainNet])
def test_the_former_name_of_an_argument_works_with_a_warning(network: type) -> None:
    with pytest.warns(FutureWarning, match="embedding_dim"):
        former = network("resnet18", num_classes=2, features=4)
    assert former.definition()["embedding_dim"] == 4
