# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The trainers against the same iteration written out by hand, and what stock MONAI components see of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines.utils import IterationEvents
from monai.handlers import CheckpointSaver, StatsHandler, TensorBoardStatsHandler, from_engine
from monai.transforms import Activationsd
from torch import Tensor, nn

from monai_fgssl.engines import HierarchicalEvaluator, PreTrainer, ProgressiveTrainer
from monai_fgssl.engines.handlers import BackboneFreezer
from monai_fgssl.functional import jigsaw
from monai_fgssl.losses import CrossCorrelationLoss
from monai_fgssl.networks import HierarchicalNet, PlainNet
from monai_fgssl.transforms import RandDistortedView, RandRegularizedView
from monai_fgssl.utils.errors import SettingsError

GRIDS = [8, 4, 2]


def make_network() -> HierarchicalNet:
    torch.manual_seed(0)
    return HierarchicalNet("resnet18", num_classes=3, width=16, embedding_dim=8)


def make_batches(count: int = 2, size: int = 8) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    return [
        {
            "image": torch.randint(0, 256, (size, 3, 32, 32), generator=generator, dtype=torch.uint8),
            "label": torch.randint(0, 3, (size,), generator=generator),
            "name": [f"image{i}" for i in range(size)],
            "group": [f"lesion{i}" for i in range(size)],
        }
        for _ in range(count)
    ]


def make_trainer(kind: str, network: nn.Module, **kwargs: Any) -> PreTrainer | ProgressiveTrainer:
    settings: dict[str, Any] = {
        "device": "cpu",
        "max_epochs": 1,
        "train_data_loader": make_batches(),
        "network": network,
        "optimizer": torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01),
        "grids": GRIDS,
        "seed": 5,
        # So that the tests see the batch; the default is MONAI's.
        "decollate": False,
    } | kwargs
    if kind == "pretrain":
        views = {"regularized_view": RandRegularizedView().batch, "distorted_view": RandDistortedView().batch}
        return PreTrainer(**{"loss_function": CrossCorrelationLoss(), **views, **settings})
    view = RandRegularizedView().batch
    return ProgressiveTrainer(**{"loss_function": nn.CrossEntropyLoss(), "view": view, **settings})


def step_by_hand(
    kind: str,
    network: nn.Module,
    step: int,
    images: list[Tensor],
    labels: Tensor,
    generator: torch.Generator,
    grids: Sequence[int] = GRIDS,
) -> Tensor:
    first = images[0] if step == 4 or grids[step - 1] == 1 else jigsaw(images[0], grids[step - 1], generator=generator)
    weight = 2.0 if step == 4 else 1.0
    if kind == "train":
        return weight * nn.functional.cross_entropy(network.logits_at_step(first, step), labels)
    vectors = [network.vectors_at_step(view, step) for view in (first, images[1])]
    return weight * CrossCorrelationLoss()(*vectors)


def in_double_precision(batch: dict[str, Any], device: torch.device, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
    """So that the order of sums, which differs, does not matter."""
    return batch["image"].double() / 255, batch["label"]


def train_by_hand(
    kind: str, schedule: str, grids: Sequence[int] = GRIDS, count: int = 2
) -> tuple[nn.Module, list[list[float]]]:
    """The iteration of FG-SSL sec. 3 and PMG eq. 4-5, with plain PyTorch."""
    network = make_network().double().train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.01)
    generator = torch.Generator().manual_seed(5)
    regularized, distorted = RandRegularizedView(), RandDistortedView()
    losses = []
    for i, batch in enumerate(make_batches(count)):
        pixels = batch["image"].double() / 255
        images = [regularized.batch(pixels, generator)]
        if kind == "pretrain":
            images.append(distorted.batch(pixels, generator))
        losses.append([])
        total = torch.zeros(())
        for step in [i % 4 + 1] if schedule == "alternating" else [1, 2, 3, 4]:
            if schedule != "joint":
                optimizer.zero_grad()
            loss = step_by_hand(kind, network, step, images, batch["label"], generator, grids)
            losses[-1].append(loss.item())
            total = total + loss
            if schedule != "joint":
                loss.backward()
                optimizer.step()
        if schedule == "joint":
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
    return network, losses


@pytest.mark.parametrize("schedule", ["progressive", "joint"])
def test_mixed_images_have_two_labels(schedule: str) -> None:
    trainer = make_trainer("train", make_network(), schedule=schedule, grids=[1, 1, 1], mixup=1.0)
    batch = make_batches()[0]
    pixels, labels = batch["image"].float() / 255, batch["label"]
    inputs = trainer.make_step_inputs(pixels)
    logits, loss = trainer.step_loss(4, inputs, labels)
    partners, weight = inputs.mixture.partners, inputs.mixture.weight
    soft = torch.lerp(*(nn.functional.one_hot(x, 3).float() for x in (labels[partners], labels)), weight)
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, soft))
    view = RandRegularizedView().batch(pixels, torch.Generator().manual_seed(5))
    torch.testing.assert_close(inputs.images, torch.lerp(view[partners], view, weight))


@pytest.mark.parametrize("schedule", ["progressive", "joint"])
@pytest.mark.parametrize("kind", ["pretrain", "train"])
def test_equals_the_iteration_written_by_hand(kind: str, schedule: str) -> None:
    expected, expected_losses = train_by_hand(kind, schedule)
    network = make_network().double()
    seen: list[dict[str, Any]] = []
    trainer = make_trainer(kind, network, schedule=schedule, prepare_batch=in_double_precision)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(dict(engine.state.output)))
    trainer.run()
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(network.get_parameter(name), parameter, rtol=1e-9, atol=1e-12, msg=name)
    for output, losses in zip(seen, expected_losses, strict=True):
        assert float(output["loss"]) == pytest.approx(sum(losses), rel=1e-5)
        assert float(output["loss_stage2"]) == pytest.approx(losses[1], rel=1e-5)
        assert float(output["loss_concat"]) == pytest.approx(losses[3] / 2, rel=1e-5)
    mean = sum(sum(losses) for losses in expected_losses) / len(expected_losses)
    assert trainer.state.metrics["loss"] == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize("kind", ["pretrain", "train"])
def test_alternating_makes_one_step_with_each_batch(kind: str) -> None:
    expected, expected_losses = train_by_hand(kind, "alternating", count=6)
    network = make_network().double()
    seen: list[dict[str, Any]] = []
    settings = {"train_data_loader": make_batches(6), "prepare_batch": in_double_precision}
    trainer = make_trainer(kind, network, schedule="alternating", **settings)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: seen.append(dict(engine.state.output)))
    trainer.run()
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(network.get_parameter(name), parameter, rtol=1e-9, atol=1e-12, msg=name)
    names = ["loss_stage1", "loss_stage2", "loss_stage3", "loss_concat"]
    for i, (output, losses) in enumerate(zip(seen, expected_losses, strict=True)):
        assert [name for name in names if name in output] == [names[i % 4]]
        assert float(output["loss"]) == pytest.approx(losses[0], rel=1e-5)
    flat = [losses[0] for losses in expected_losses]
    means = [(flat[0] + flat[4]) / 2, (flat[1] + flat[5]) / 2, flat[2], flat[3] / 2]
    assert [trainer.state.metrics[name] for name in names] == pytest.approx(means, rel=1e-5)
    assert trainer.state.metrics["loss"] == pytest.approx(sum(means) + means[3], rel=1e-5)


def test_an_epoch_without_a_step_keeps_its_last_loss() -> None:
    trainer = make_trainer(
        "train", make_network(), schedule="alternating", max_epochs=2, train_data_loader=make_batches(3)
    )
    seen: list[dict[str, float]] = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: seen.append(dict(engine.state.metrics)))
    trainer.run()
    # Batches 1 to 3, and 4 to 6.
    assert set(seen[0]) == {"loss_stage1", "loss_stage2", "loss_stage3"}
    assert set(seen[1]) == {"loss_stage1", "loss_stage2", "loss_stage3", "loss_concat", "loss"}
    assert seen[1]["loss_stage3"] == seen[0]["loss_stage3"]
    assert seen[1]["loss_stage1"] != seen[0]["loss_stage1"]
    total = sum(seen[1][f"loss_stage{k}"] for k in (1, 2, 3)) + 2 * seen[1]["loss_concat"]
    assert seen[1]["loss"] == pytest.approx(total)


def test_one_pass_serves_all_classifiers_when_no_puzzle_is_cut() -> None:
    expected, _ = train_by_hand("train", "joint", grids=[1, 1, 1])
    network = make_network().double()
    passes: list[int] = []
    network.backbone.register_forward_pre_hook(lambda _module, args: passes.append(len(args[0])))
    make_trainer("train", network, schedule="joint", grids=[1, (1, 1), 1], prepare_batch=in_double_precision).run()
    assert passes == [8, 8]
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(network.get_parameter(name), parameter, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("schedule", ["progressive", "joint"])
def test_a_backbone_at_rest_is_as_one_that_the_optimizer_does_not_have(schedule: str) -> None:
    expected = make_network().double()
    heads = [p for name, p in expected.named_parameters() if not name.startswith("backbone.")]
    settings: dict[str, Any] = {"schedule": schedule, "prepare_batch": in_double_precision}
    make_trainer(
        "train", expected, optimizer=torch.optim.SGD(heads, lr=0.01, momentum=0.9, weight_decay=0.01), **settings
    ).run()

    network = make_network().double()
    trainer = make_trainer("train", network, max_epochs=3, **settings)
    BackboneFreezer(network, 0.5).attach(trainer)
    seen: list[dict[str, Tensor]] = []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda _: seen.append({name: v.clone() for name, v in network.state_dict().items()})
    )
    trainer.run()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(seen[0][name], value, rtol=1e-9, atol=1e-12, msg=name)
    start = make_network().double().state_dict()
    weight, mean = "backbone.stages.0.0.conv1.weight", "backbone.stages.0.0.bn1.running_mean"
    assert torch.equal(seen[0][weight], start[weight])
    assert not torch.equal(seen[0][mean], start[mean])
    assert not torch.equal(seen[1][weight], start[weight])
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("kind", ["pretrain", "train"])
@pytest.mark.parametrize("train_norms", [False, True])
def test_frozen_stages_are_as_parameters_that_the_optimizer_does_not_have(kind: str, train_norms: bool) -> None:
    def learns(name: str) -> bool:
        frozen = name.startswith(("backbone.stem", "backbone.stages.0.", "backbone.stages.1."))
        return not frozen or (train_norms and (".bn" in name or "downsample.1" in name))

    expected = make_network().double()
    settings: dict[str, Any] = {"schedule": "progressive", "prepare_batch": in_double_precision}
    learning = [parameter for name, parameter in expected.named_parameters() if learns(name)]
    make_trainer(kind, expected, optimizer=torch.optim.SGD(learning, lr=0.01, weight_decay=0.01), **settings).run()

    network = make_network().double()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, weight_decay=0.01)
    trainer = make_trainer(kind, network, optimizer=optimizer, **settings)
    BackboneFreezer(network, stages=2, train_norms=train_norms).attach(trainer)
    trainer.run()
    for name, value in expected.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=1e-9, atol=1e-12, msg=name)
    start = make_network().double()
    changed = {name for name, p in network.named_parameters() if not torch.equal(p, start.get_parameter(name))}
    assert all(learns(name) for name in changed)
    assert any(name.startswith("backbone.stages.2.") for name in changed)
    assert any(name.startswith("backbone.stages.0.") for name in changed) == train_norms
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_weights_that_were_frozen_before_stay_so() -> None:
    network = make_network()
    network.backbone.stem.conv1.weight.requires_grad_(False)
    trainer = make_trainer("train", network)
    BackboneFreezer(network, 0.5).attach(trainer)
    trainer.run()
    assert not network.backbone.stem.conv1.weight.requires_grad
    assert network.backbone.stem.bn1.weight.requires_grad


def test_more_stages_than_there_are_can_not_rest() -> None:
    with pytest.raises(SettingsError, match="--freeze_stages 5: the backbone has 4 stages in use"):
        BackboneFreezer(make_network(), stages=5)


@pytest.mark.parametrize("share", [-0.1, 1, 1.5])
def test_a_backbone_can_not_rest_for_ever(share: float) -> None:
    with pytest.raises(ValueError, match="share must be from 0 to less than 1"):
        BackboneFreezer(make_network(), share)


@pytest.mark.parametrize("kind", ["pretrain", "train"])
def test_running_statistics_are_those_of_whole_undistorted_images(kind: str) -> None:
    network = make_network()
    batch = make_batches(1)
    # A learning rate of 0: what the first norm sees is then the same at every step.
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    make_trainer(kind, network, optimizer=optimizer, train_data_loader=batch).run()
    generator = torch.Generator().manual_seed(5)
    images = RandRegularizedView().batch(batch[0]["image"].float() / 255, generator)
    reference = make_network().train()
    inputs: dict[str, Tensor] = {}
    norm_name, norm = next((n, m) for n, m in reference.named_modules() if isinstance(m, nn.BatchNorm2d))
    norm.register_forward_hook(lambda _module, args, _output: inputs.update(x=args[0]))
    reference.vectors_at_step(images, 4)
    expected = norm.momentum * inputs["x"].mean((0, 2, 3))
    torch.testing.assert_close(network.get_submodule(norm_name).running_mean, expected, rtol=1e-4, atol=1e-6)
    assert network.get_submodule(norm_name).momentum == norm.momentum


@pytest.mark.parametrize("kind", ["pretrain", "train"])
def test_same_seed_same_weights(kind: str) -> None:
    networks = []
    for seed in (3, 3, 4):
        networks.append(make_network())
        make_trainer(kind, networks[-1], seed=seed).run()
    same, again, other = (nn.utils.parameters_to_vector(network.parameters()) for network in networks)
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_fires_every_event_once_per_step() -> None:
    trainer = make_trainer("train", make_network())
    fired: list[str] = []
    names = ("FORWARD_COMPLETED", "LOSS_COMPLETED", "BACKWARD_COMPLETED", "MODEL_COMPLETED")
    for event in (getattr(IterationEvents, name) for name in names):
        trainer.add_event_handler(event, lambda engine, name=event.name: fired.append(name))
    trainer.run()
    assert fired == ([*names[:3]] * 4 + [names[3]]) * 2


def test_stock_handlers_and_postprocessing_work(tmp_path: Any) -> None:
    network = make_network()
    softmaxed: list[float] = []
    trainer = make_trainer(
        "train",
        network,
        decollate=True,
        postprocessing=Activationsd(keys="pred", softmax=True),
        train_handlers=[
            StatsHandler(output_transform=from_engine(["loss"], first=True)),
            TensorBoardStatsHandler(
                log_dir=str(tmp_path / "board"), output_transform=from_engine(["loss"], first=True)
            ),
            CheckpointSaver(str(tmp_path), {"network": network}, save_final=True),
        ],
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda engine: softmaxed.extend(float(item["pred"].sum()) for item in engine.state.output),
    )
    trainer.run()
    assert softmaxed == pytest.approx([1.0] * 16)
    (checkpoint,) = tmp_path.glob("*.pt")
    torch.testing.assert_close(torch.load(checkpoint, weights_only=True), dict(network.state_dict()))
    assert any((tmp_path / "board").iterdir())


@pytest.mark.parametrize("kind", ["pretrain", "train"])
def test_bfloat16_stays_close_to_float32(kind: str) -> None:
    losses = []
    for amp in (False, True):
        batches = make_batches(1)
        trainer = make_trainer(
            kind, make_network(), amp=amp, amp_kwargs={"dtype": torch.bfloat16}, train_data_loader=batches
        )
        trainer.run()
        assert trainer.scaler is None
        # Of the first step: after an update of so small a network, roundings have grown beyond any bound.
        losses.append(trainer.state.metrics["loss_stage1"])
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


def test_clipping_bounds_every_update() -> None:
    network = make_network()
    before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    make_trainer("pretrain", network, optimizer=optimizer, max_grad_norm=1e-3, train_data_loader=make_batches(1)).run()
    change = (nn.utils.parameters_to_vector(network.parameters()) - before).norm()
    assert 0 < change <= 4 * 1e-3 * 1.001


def test_a_plain_network_has_the_whole_image_step_only() -> None:
    torch.manual_seed(0)
    network = PlainNet("resnet18", num_classes=3, embedding_dim=8)
    trainer = make_trainer("train", network, grids=[])
    trainer.run()
    assert set(trainer.state.metrics) == {"loss", "loss_concat"}


def test_wrong_number_of_grids() -> None:
    with pytest.raises(ValueError, match=r"3 stage\(s\), got grids \[4, 2\]"):
        make_trainer("train", make_network(), grids=[4, 2])
    with pytest.raises(ValueError, match="Unsupported option 'simultaneous'"):
        make_trainer("train", make_network(), schedule="simultaneous")


def test_evaluator_sums_the_stages() -> None:
    network = make_network().eval()
    batches = make_batches(1)
    evaluator = HierarchicalEvaluator(device="cpu", val_data_loader=batches, network=network, decollate=False)
    evaluator.run()
    with torch.no_grad():
        images = batches[0]["image"].float() / 255
        stage_logits = torch.stack([network.logits_at_step(images, step) for step in (1, 2, 3, 4)], 1)
    output = evaluator.state.output
    torch.testing.assert_close(output["stage_logits"], stage_logits)
    torch.testing.assert_close(output["pred"], stage_logits.sum(1))
    assert torch.equal(output["label"], batches[0]["label"])


def test_a_network_that_gives_no_numbers_is_told() -> None:
    """Weights may all be finite, and overflow in the network; argmax would then name the first class."""
    network = make_network().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(3e38)
    evaluator = HierarchicalEvaluator(device="cpu", val_data_loader=make_batches(1), network=network, decollate=False)
    with pytest.raises(ValueError, match=r"the network gives no numbers .* the model is damaged, or its training has"):
        evaluator.run()


def test_evaluator_averages_over_orientations() -> None:
    network = make_network().eval()
    batches = make_batches(1)
    evaluator = HierarchicalEvaluator("cpu", batches, network, orientations=True, decollate=False)
    evaluator.run()
    images = batches[0]["image"].float() / 255
    with torch.no_grad():
        turned = [torch.rot90(x, k, (2, 3)) for x in (images, images.flip(3)) for k in range(4)]
        expected = torch.stack([network.stage_logits(x) for x in turned]).mean(0)
    output = evaluator.state.output
    torch.testing.assert_close(output["stage_logits"], expected)
    torch.testing.assert_close(output["pred"], expected.sum(1))
    assert output["orientation_logits"].shape == (len(images), 8, expected.shape[-1])
    torch.testing.assert_close(output["orientation_logits"].mean(1), expected.sum(1))


def test_fine_tuning_needs_labels() -> None:
    batches = [{"image": batch["image"]} for batch in make_batches()]
    with pytest.raises(ValueError, match="fine-tuning needs labels: the batches have no entry 'label'"):
        make_trainer("train", make_network(), train_data_loader=batches).run()
