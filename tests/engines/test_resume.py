# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A training that is stopped in any way at any moment, against a training that is not stopped."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.optimizers import WarmupCosineSchedule
from small_images import make_images
from torch import Tensor, nn

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines import HierarchicalEvaluator, PreTrainer, ProgressiveTrainer
from monai_fgssl.engines.handlers import (
    BackboneFreezer,
    BatchNormUpdater,
    EpochHistory,
    FeatureMonitor,
    Resumer,
    WeightAverager,
    WeightMonitor,
)
from monai_fgssl.engines.handlers.resume import _load_optimizer
from monai_fgssl.engines.handlers.saver import WeightsSaver
from monai_fgssl.losses import CrossCorrelationLoss
from monai_fgssl.metrics import epoch_metric
from monai_fgssl.networks import HierarchicalNet, StagedBackbone
from monai_fgssl.transforms import RandDistortedView, RandRegularizedView

EPOCHS, IMAGES, BATCH = 3, 56, 8
KILLS = 20


def make_network() -> HierarchicalNet:
    def stage(channels_in: int, channels_out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU()
        )

    torch.manual_seed(0)
    backbone = StagedBackbone(
        stage(3, 4), [stage(4, 4), stage(4, 8), stage(8, 8), stage(8, 8)], (4, 8, 8, 8), (4, 8, 16, 32)
    )
    return HierarchicalNet(backbone, num_classes=3, width=8, embedding_dim=8)


def noisy_view(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draws from every random stream that there is."""
    shift = random.random() + np.random.rand() + torch.rand(1).item()  # noqa: NPY002
    return RandRegularizedView().batch(images, generator) + 0.001 * shift


def make_trainer(
    kind: str,
    folder: Path,
    resume: bool,
    minutes: float = 0.0,
    epochs: int = EPOCHS,
    batch_size: int = BATCH,
    images: CachedImages | None = None,
    seed: int = 3,
    width: int | None = None,
    identity: dict[str, str] | None = None,
    hyperparameters: dict[str, str] | None = None,
    learning_rate: float = 0.01,
    weight_decay: float = 0.01,
    warmup_steps: int = 2,
) -> PreTrainer | ProgressiveTrainer:
    """All parts of the bundle's training, small."""
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    network = (
        make_network() if width is None else HierarchicalNet("resnet18", num_classes=3, width=width, embedding_dim=8)
    )
    images = make_images(IMAGES) if images is None else images
    loader = make_loader(images, batch_size, shuffle=True, seed=seed, drop_last=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    scheduler = WarmupCosineSchedule(optimizer, warmup_steps=warmup_steps, t_total=epochs * len(loader))
    best = WeightsSaver(network, folder / "best.pt")
    evaluator = HierarchicalEvaluator(
        device="cpu",
        val_data_loader=make_loader(make_images(24), 24),
        network=network,
        key_val_metric={"accuracy": epoch_metric("accuracy")},
        val_handlers=[best],
    )
    weights, history = WeightMonitor(network), EpochHistory(evaluator)
    averager = WeightAverager(network, 0.8)
    save_dict = {
        "network": network,
        "optimizer": optimizer,
        "lr_scheduler": scheduler,
        "best": best,
        "weights": weights,
        "averager": averager,
        "history": history,
    }
    settings: dict[str, Any] = {
        "device": "cpu",
        "max_epochs": epochs,
        "train_data_loader": loader,
        "network": network,
        "optimizer": optimizer,
        "grids": [8, 4, 2],
        "train_handlers": [
            Resumer(folder / "checkpoints", "phase", save_dict, minutes, resume, identity, hyperparameters),
            LrScheduleHandler(scheduler, print_lr=False, epoch_level=False),
            weights,
            averager,
            BatchNormUpdater(network, make_loader(images, 28), "cpu"),
            # Not after every epoch: what was found before must be remembered.
            ValidationHandler(interval=2, validator=evaluator),
            history,
            WeightsSaver(network, folder / "final.pt"),
            # For the first of three epochs.
            BackboneFreezer(network, 0.4 if kind == "train" else 0, stages=1, train_norms=True),
        ],
    }
    if kind == "pretrain":
        return PreTrainer(
            loss_function=CrossCorrelationLoss(),
            regularized_view=noisy_view,
            distorted_view=RandDistortedView().batch,
            **settings,
        )
    return ProgressiveTrainer(loss_function=nn.CrossEntropyLoss(), view=noisy_view, **settings)


def train(kind: str, folder: Path, resume: bool, started: Any = None) -> None:
    """Main function of a separate process."""
    torch.set_num_threads(1)
    trainer = make_trainer(kind, folder, resume)
    if started is not None:
        trainer.add_event_handler(Events.STARTED, started.set)
    trainer.run()
    torch.save(trainer.state.history, folder / "history.pt")


def assert_same_training(folder: Path, reference: Path) -> None:
    for file in ("final.pt", "best.pt"):
        expected, found = (torch.load(path / file, weights_only=True) for path in (reference, folder))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected), file
    expected, found = (torch.load(path / "history.pt", weights_only=True) for path in (reference, folder))
    assert expected == found


@pytest.fixture(scope="module", params=["pretrain", "train"])
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    train(request.param, folder, resume=False)
    return request.param, folder


@pytest.mark.slow
def test_killed_at_random_moments_ends_with_the_same_weights(uninterrupted: tuple[str, Path], tmp_path: Path) -> None:
    kind, reference = uninterrupted
    context = multiprocessing.get_context("forkserver")
    # It imports these once; each process is forked from it.
    context.set_forkserver_preload(["monai.handlers", "monai_fgssl.engines.handlers", "torch._dynamo", "pytest"])
    rng = random.Random(0)
    kills = 0
    moment = 0.2
    while True:
        started = context.Event()
        process = context.Process(target=train, args=(kind, tmp_path, True, started))
        process.start()
        assert started.wait(120)
        if kills < KILLS:
            process.join(rng.uniform(0, moment))
        else:
            process.join(300)
        if process.exitcode is not None:
            assert process.exitcode == 0
            if kills == KILLS:
                break
            # It was faster: begin again, and kill sooner.
            for file in tmp_path.rglob("*.pt"):
                file.unlink()
            kills, moment = 0, moment / 3
            continue
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
        kills += 1
    assert_same_training(tmp_path, reference)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["phase_final.pt"]


def stop_at(iteration: int, action: Callable[[], None]) -> Callable[[Any], None]:
    return lambda engine: action() if engine.state.iteration == iteration else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
# In an epoch, and at the end of one.
@pytest.mark.parametrize("iteration", [10, 14])
@pytest.mark.slow
def test_a_signal_saves_and_ends(
    number: signal.Signals,
    iteration: int,
    uninterrupted: tuple[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind, reference = uninterrupted
    before = signal.getsignal(number)
    trainer = make_trainer(kind, tmp_path, resume=False, minutes=60)
    trainer.add_event_handler(Events.ITERATION_STARTED, stop_at(iteration, lambda: signal.raise_signal(number)))
    with pytest.raises(SystemExit) as stopped:
        trainer.run()
    assert stopped.value.code == 128 + number
    assert f"stopped by {number.name} in epoch 2 of 3 (phase)" in capsys.readouterr().err
    assert signal.getsignal(number) is before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [f"phase_{iteration:09d}.pt"]

    train(kind, tmp_path, resume=True)
    assert f"phase continues after iteration {iteration} of 21" in capsys.readouterr().out
    assert_same_training(tmp_path, reference)


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    stop_in_epoch_two("train", tmp_path)
    path = max(tmp_path.rglob("phase_0*.pt"))
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["trainer"]["loss_counts"]
    torch.save(checkpoint, path)
    with pytest.raises(ValueError, match="lacks the entry 'loss_counts': another version"):
        make_trainer("train", tmp_path, resume=True).run()


@pytest.fixture(params=[signal.default_int_handler, signal.SIG_IGN], ids=["terminal", "background"])
def handler_of_sigint(request: pytest.FixtureRequest) -> Iterator[Any]:
    before = signal.signal(signal.SIGINT, request.param)
    yield request.param
    signal.signal(signal.SIGINT, before)


def test_the_second_signal_stops_at_once(
    handler_of_sigint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer("train", tmp_path, resume=False, minutes=60)

    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        # A launcher's copy of it counts for nothing.
        signal.raise_signal(signal.SIGINT)
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 2)
        signal.raise_signal(signal.SIGINT)

    trainer.add_event_handler(Events.ITERATION_STARTED, stop_at(2, twice))
    with pytest.raises(SystemExit if handler_of_sigint == signal.SIG_IGN else KeyboardInterrupt):
        trainer.run()
    assert signal.getsignal(signal.SIGINT) == handler_of_sigint
    assert not list(tmp_path.glob("*.pt"))


def stop_in_epoch_two(kind: str, folder: Path, **settings: Any) -> None:
    trainer = make_trainer(kind, folder, resume=False, **settings)
    trainer.add_event_handler(Events.ITERATION_STARTED, stop_at(10, lambda: signal.raise_signal(signal.SIGTERM)))
    with pytest.raises(SystemExit):
        trainer.run()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    # Of a tensor: between the records of the archive there are bytes that nobody reads.
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda record: record.file_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 500 + largest.file_size // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, empty])
def test_a_damaged_checkpoint_is_skipped(
    damage: Callable[[Path], None],
    uninterrupted: tuple[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind, reference = uninterrupted
    stop_in_epoch_two(kind, tmp_path)
    older, newest = sorted((tmp_path / "checkpoints").iterdir())
    damage(newest)
    capsys.readouterr()
    train(kind, tmp_path, resume=True)
    assert f"{newest} is damaged" in caplog.text
    assert "continues after iteration 9 of 21" in capsys.readouterr().out
    assert older.name == "phase_000000009.pt"
    assert_same_training(tmp_path, reference)


def reshape_weights(checkpoint: dict[str, Any]) -> None:
    name = next(name for name in checkpoint["objects"]["network"] if name.endswith("weight"))
    checkpoint["objects"]["network"][name] = torch.zeros(3, 3)


def reshape_moments(checkpoint: dict[str, Any]) -> None:
    # Parameters that are frozen have none.
    moments = next(iter(checkpoint["objects"]["optimizer"]["state"].values()))
    moments["exp_avg"] = torch.zeros(2, 2)


def lose_weights(checkpoint: dict[str, Any]) -> None:
    checkpoint["objects"]["network"].popitem()


@pytest.mark.parametrize("damage", [reshape_weights, reshape_moments, lose_weights])
def test_a_checkpoint_of_a_wrong_shape_is_skipped(
    damage: Callable[[dict[str, Any]], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mine = {"identity": {"classes": "a, b"}}
    stop_in_epoch_two("train", tmp_path, **mine)
    _, newest = sorted((tmp_path / "checkpoints").iterdir())
    checkpoint = torch.load(newest, weights_only=True)
    damage(checkpoint)
    torch.save(checkpoint, newest)
    capsys.readouterr()
    make_trainer("train", tmp_path, resume=True, **mine).run()
    assert f"{newest} does not fit its own run" in caplog.text
    assert "continues after iteration 9 of 21" in capsys.readouterr().out


def test_without_any_checkpoint_it_starts(uninterrupted: tuple[str, Path], tmp_path: Path) -> None:
    kind, reference = uninterrupted
    train(kind, tmp_path, resume=True)
    assert_same_training(tmp_path, reference)


def test_a_finished_training_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train("train", tmp_path, resume=False)
    final = tmp_path / "checkpoints" / "phase_final.pt"
    written = final.stat().st_mtime_ns
    weights = torch.load(tmp_path / "final.pt", weights_only=True)
    trainer = make_trainer("train", tmp_path, resume=True)
    trainer.add_event_handler(Events.ITERATION_STARTED, stop_at(22, lambda: pytest.fail("trained again")))
    trainer.run()
    assert "phase is finished" in capsys.readouterr().out
    assert final.stat().st_mtime_ns == written
    assert all(torch.equal(value, weights[name]) for name, value in trainer.network.state_dict().items())
    assert len(trainer.state.history["loss"]) == EPOCHS


def test_a_new_training_keeps_the_old_checkpoints_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop_in_epoch_two("train", tmp_path)
    train("train", tmp_path, resume=False)
    out = capsys.readouterr().out
    assert "phase starts anew (--resume true would continue)" in out
    previous = tmp_path / "checkpoints" / "previous"
    assert [path.name for path in sorted(previous.iterdir())] == ["phase_000000009.pt", "phase_000000010.pt"]
    # What is put aside of a finished training needs no words.
    train("train", tmp_path, resume=False)
    assert "starts anew" not in capsys.readouterr().out
    assert [path.name for path in previous.iterdir()] == ["phase_final.pt"]


def test_checkpoints_are_written_every_few_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 60))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    trainer = make_trainer("train", tmp_path, resume=False, minutes=5)
    seen: list[int] = []
    trainer.add_event_handler(
        Events.ITERATION_STARTED,
        lambda: seen.extend(int(path.stem.split("_")[1]) for path in (tmp_path / "checkpoints").glob("*.pt")),
    )
    trainer.run()
    # The clock advances by a minute whenever it is looked at: after each iteration, and after each saving.
    assert sorted(set(seen)) == [5, 10, 15, 20]


def test_another_batch_size_goes_on_after_the_same_images(tmp_path: Path) -> None:
    stop_in_epoch_two("pretrain", tmp_path)
    # 7 batches of 8 are an epoch, 3 of 8 were seen in the second: the 12 of 4 that are left begin with the 7th.
    trainer = make_trainer("pretrain", tmp_path, resume=True, batch_size=4)
    seen: list[str] = []
    trainer.add_event_handler(Events.GET_BATCH_COMPLETED, lambda engine: seen.extend(engine.state.batch["name"]))
    trainer.run()
    order = np.random.default_rng([3, 1]).permutation(IMAGES)
    assert seen[: IMAGES - 24] == [f"0_{i}" for i in order[24:]]
    assert trainer.state.iteration == 3 * 14
    assert len(seen) == IMAGES - 24 + IMAGES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": make_images(64)}, "images was 56, and is now 64"),
        ({"seed": 4}, "seed was 3, and is now 4"),
        ({"width": 16}, "belongs to a training with other settings"),
    ],
)
def test_another_training_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    stop_in_epoch_two("train", tmp_path)
    trainer = make_trainer("train", tmp_path, resume=True, **changes)
    with pytest.raises(ValueError, match=message):
        trainer.run()


def test_checkpoints_belong_to_data_and_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = {"identity": {"classes": "a, b", "seed": "0"}, "hyperparameters": {"learning_rate": "0.1"}}
    make_trainer("train", tmp_path, resume=False, epochs=1, **mine).run()
    # A finished phase too.
    other = mine | {"identity": {"classes": "a, c", "seed": "0"}}
    with pytest.raises(ValueError, match="other data or settings:\n  - classes was a, b, and is now a, c\n") as error:
        make_trainer("train", tmp_path, resume=True, epochs=1, **other).run()
    assert "seed" not in str(error.value)
    capsys.readouterr()
    changed = mine | {"hyperparameters": {"learning_rate": "0.2"}}
    make_trainer("train", tmp_path, resume=True, epochs=2, **changed).run()
    assert "phase continues with another learning_rate: 0.1 before, 0.2 now." in capsys.readouterr().out
    late = mine | {"hyperparameters": {"learning_rate": "0.3"}}
    make_trainer("train", tmp_path, resume=True, epochs=2, **late).run()
    told = capsys.readouterr().out
    assert "warning: phase was done with learning_rate 0.2; 0.3 comes too late and changes nothing." in told
    assert "continues" not in told


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0.002},
        {"weight_decay": 0.3},
        {"warmup_steps": 9},
        {"epochs": 2 * EPOCHS},
        {"batch_size": 4},
        {"learning_rate": 0.002, "weight_decay": 0.3, "warmup_steps": 9, "epochs": 4, "batch_size": 4},
    ],
)
def test_changed_settings_of_the_optimizer_and_its_schedule_hold(changes: dict[str, Any], tmp_path: Path) -> None:
    """The learning rate of each step that is left is that of a training with these settings from the start."""
    stop_in_epoch_two("train", tmp_path / "stopped")
    found = learning_rates(tmp_path / "stopped", resume=True, **changes)
    expected = learning_rates(tmp_path / "whole", resume=False, **changes)
    assert 0 < len(found) < len(expected)
    assert found == expected[-len(found) :]


def learning_rates(folder: Path, resume: bool, **changes: Any) -> list[tuple[float, float]]:
    """Learning rate and weight decay of each step."""
    trainer = make_trainer("train", folder, resume, minutes=60, **changes)
    used: list[tuple[float, float]] = []

    def remember() -> None:
        (group,) = trainer.optimizer.param_groups
        used.append((group["lr"], group["weight_decay"]))

    trainer.add_event_handler(Events.ITERATION_STARTED, remember)
    trainer.run()
    return used


def test_a_learning_rate_without_a_schedule_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    """Something else may have set it, such as a handler that lowers it."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    stored = optimizer.state_dict()
    stored["param_groups"][0] |= {"lr": 0.05, "weight_decay": 0.5}
    _load_optimizer(optimizer, stored, is_scheduled=False)
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.05, 0)


def test_a_checkpoint_of_an_earlier_release_goes_on_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_trainer("train", tmp_path, resume=False, epochs=1).run()
    make_trainer("train", tmp_path, resume=True, epochs=1, identity={"seed": "0"}).run()
    assert "data and settings can't be compared" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["pretrain", "train"])
def test_a_training_that_diverges_stops_and_writes_no_weights(kind: str, tmp_path: Path) -> None:
    trainer = make_trainer(kind, tmp_path, resume=False)
    with torch.no_grad():
        next(trainer.network.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="the loss is not finite in epoch 1"):
        trainer.run()
    assert not list(tmp_path.glob("*.pt"))


def test_weights_that_are_no_numbers_do_not_replace_good_ones(tmp_path: Path) -> None:
    network = make_network()
    saver = WeightsSaver(network, tmp_path / "best.pt")
    saver.save()
    before = (tmp_path / "best.pt").read_bytes()
    with torch.no_grad():
        network.blocks[0].head.classifier.bias[0] = float("nan")
    with pytest.raises(ValueError, match=r"best\.pt is not written: 1 of .* not finite, first .*bias"):
        saver.save()
    assert (tmp_path / "best.pt").read_bytes() == before


def test_with_another_loader_the_epoch_is_repeated(tmp_path: Path) -> None:
    stop_in_epoch_two("train", tmp_path)
    trainer = make_trainer("train", tmp_path, resume=True)
    batches = [batch for batch, _ in zip(trainer.data_loader, range(7), strict=False)]
    trainer.data_loader = batches
    counted: list[int] = []
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda engine: counted.append(engine.state.iteration))
    trainer.run()
    assert counted == list(range(8, 22))


def test_collapse_is_reported_once(tmp_path: Path) -> None:
    monitor = FeatureMonitor(make_network(), None, [], "cpu")
    monitor.load_state_dict({"reported": ["stage1"]})
    assert monitor.state_dict() == {"reported": ["stage1"]}
