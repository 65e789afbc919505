# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A small network of every family works with all functions of this package: steps, TorchScript, heat maps, resume.

``test_backbones`` and ``test_timm_backbones`` test the feature maps of each family.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from torch import Tensor, nn

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines import ProgressiveTrainer
from monai_fgssl.engines.handlers import Resumer
from monai_fgssl.networks import HierarchicalNet, OnnxNet, export_onnx
from monai_fgssl.networks.backbones import IntermediatesBackbone
from monai_fgssl.report import stage_heat_maps

# Spatial axes and size of the image. Of timm there is a model of each kind that is cut in another way, and of each kind
# of block; MONAI's networks are there in 2D or 3D.
FAMILIES = {
    "resnet10": (3, 32),
    "medicalnet-resnet18": (2, 32),
    "densenet121": (2, 32),
    "efficientnet-b0": (2, 32),
    "seresnet50": (2, 32),
    "swin-unetr-24": (3, 32),
    "vit-tiny": (3, 32),
    "unet": (3, 32),
    "segresnet-16": (3, 16),
    "timm:test_resnet": (2, 64),
    "timm:test_efficientnet": (2, 64),
    "timm:test_byobnet": (2, 64),
    "timm:test_nfnet": (2, 64),
    "timm:test_mambaout": (2, 64),
    "timm:test_convnext": (2, 64),
    "timm:test_maxvit": (2, 64),
    "timm:test_coatnet": (2, 64),
    "timm:test_vit": (2, 32),
    "timm:deit_tiny_distilled_patch16_224": (2, 32),
    "timm:eva02_tiny_patch14_224": (2, 28),
    "timm:vit_small_patch16_dinov3": (2, 32),
    "timm:xcit_nano_12_p16_224": (2, 32),
    "timm:swin_tiny_patch4_window7_224": (2, 64),
    "timm:pvt_v2_b0": (2, 64),
}
MAY_BE_UNSCRIPTABLE = ("swin-unetr-24", "timm:test_coatnet", "timm:pvt_v2_b0")
"""Backbones that TorchScript refuses with some versions of timm and MONAI, and some of timm's global switches."""
REFUSAL = r"can't be scripted.*: export it to ONNX, or trace it"
BATCH = 4


def make_network(name: str) -> HierarchicalNet:
    torch.manual_seed(0)
    dims, size = FAMILIES[name]
    net = HierarchicalNet(name, dims, 1, num_classes=3, width=8, embedding_dim=6, image_size=size)
    # Families start some scales as zero or nearly so, which would hide everything behind them.
    for parameter in net.backbone.parameters():
        if parameter.ndim == 1 and parameter.abs().max() < 1e-3:
            nn.init.constant_(parameter, 0.5)
    return net


def make_images(name: str) -> Tensor:
    dims, size = FAMILIES[name]
    return torch.randint(0, 256, (2 * BATCH, 1, *[size] * dims), dtype=torch.uint8, generator=torch.manual_seed(1))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[str, HierarchicalNet, Tensor]:
    net = make_network(request.param).eval()
    return request.param, net, make_images(request.param)[:2] / 255


def test_a_step_is_the_same_alone_and_so_are_its_gradients(family: tuple[str, HierarchicalNet, Tensor]) -> None:
    _, net, x = family
    together = net.stage_logits(x)
    torch.testing.assert_close(net(x), together.sum(1))
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for step in range(1, net.num_steps + 1):
        alone = net.logits_at_step(x, step)
        torch.testing.assert_close(alone, together[:, step - 1], rtol=1e-4, atol=1e-5)
        assert alone.std() > 0
        weight = torch.rand_like(alone)
        one = torch.autograd.grad((alone * weight).sum(), parameters, allow_unused=True)
        other = torch.autograd.grad(
            (together[:, step - 1] * weight).sum(), parameters, allow_unused=True, retain_graph=True
        )
        zero = torch.zeros(())
        largest = max(g.abs().max().item() for g in other if g is not None)
        assert largest > 0
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(
                *torch.broadcast_tensors(zero if a is None else a, zero if b is None else b),
                rtol=1e-3,
                atol=1e-4 * largest,
            )


def test_torchscript_equals_eager_or_is_refused(family: tuple[str, HierarchicalNet, Tensor]) -> None:
    name, net, x = family
    if isinstance(net.backbone, IntermediatesBackbone):
        with pytest.raises(NotImplementedError, match=REFUSAL):
            torch.jit.script(net)
        return
    if name in MAY_BE_UNSCRIPTABLE:
        refusal = None
        try:
            torch.jit.script(net)
        except NotImplementedError as error:
            refusal = str(error)
        if refusal is not None:
            assert re.search(REFUSAL, refusal)
            return
    with torch.no_grad(), torch.jit.optimized_execution(False):
        torch.testing.assert_close(torch.jit.script(net).stage_logits(x), net.stage_logits(x), rtol=1e-4, atol=1e-5)


def test_onnx_equals_eager_for_other_batch_sizes(family: tuple[str, HierarchicalNet, Tensor], tmp_path: Path) -> None:
    _, net, x = family
    export_onnx(net, tmp_path / "model.onnx", tuple(x.shape[1:]))
    exported = OnnxNet(tmp_path / "model.onnx", num_threads=1)
    assert exported.num_steps == net.num_steps
    for images in (x[:1], torch.cat([x, x.flip(-1)])[:3]):
        with torch.no_grad():
            expected = net.stage_logits(images)
        # Relative to the largest logit, because logits near zero are differences of large numbers.
        torch.testing.assert_close(
            exported.stage_logits(images), expected, rtol=0, atol=1e-4 * max(1, expected.abs().max().item())
        )


def test_heat_maps_of_each_step(family: tuple[str, HierarchicalNet, Tensor]) -> None:
    _, net, x = family
    heat = stage_heat_maps(net, x)
    assert heat.shape == (len(x), net.num_steps - 1, *x.shape[2:])
    assert heat.isfinite().all()
    assert heat.min() >= 0
    assert heat.max() <= 1


def unchanged(images: Tensor, _: torch.Generator) -> Tensor:
    return images


def interrupt() -> None:
    raise KeyboardInterrupt


def make_trainer(name: str) -> ProgressiveTrainer:
    """One epoch of two steps."""
    net, pixels, names = make_network(name), make_images(name), [str(number) for number in range(2 * BATCH)]
    images = CachedImages(pixels, torch.arange(2 * BATCH) % 3, names, names)
    return ProgressiveTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=make_loader(images, BATCH),
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9),
        loss_function=nn.CrossEntropyLoss(),
        grids=[1, 1, 1],
        schedule="joint",
        view=unchanged,
    )


def trained(trainer: ProgressiveTrainer) -> dict[str, Tensor]:
    torch.manual_seed(4)
    trainer.run()
    return {name: value.clone() for name, value in trainer.network.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_training_that_was_interrupted_ends_with_the_same_weights(name: str, tmp_path: Path) -> None:
    def with_checkpoints(resume: bool) -> ProgressiveTrainer:
        trainer = make_trainer(name)
        saved = {"network": trainer.network, "optimizer": trainer.optimizer}
        Resumer(tmp_path, "train", saved, minutes=0, resume=resume).attach(trainer)
        return trainer

    expected = trained(make_trainer(name))
    start = make_network(name).state_dict()
    assert any(not torch.equal(value, start[key]) for key, value in expected.items())
    stopped = with_checkpoints(resume=False)
    stopped.add_event_handler(Events.ITERATION_STARTED(once=2), interrupt)
    torch.manual_seed(4)
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    resumed = trained(with_checkpoints(resume=True))
    for key, value in expected.items():
        assert torch.equal(resumed[key], value), key
