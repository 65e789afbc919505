# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The trial of precisions, with a simulated clock that determines the fastest precision."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from small_images import make_images
from torch import Tensor, nn

from monai_fgssl.data import make_loader
from monai_fgssl.engines import HierarchicalEvaluator, PreTrainer, ProgressiveTrainer
from monai_fgssl.engines.handlers import BatchNormUpdater, FastestPrecision, Resumer
from monai_fgssl.engines.handlers.precision import shortest_times
from monai_fgssl.losses import CrossCorrelationLoss
from monai_fgssl.networks import HierarchicalNet, PrecisionChoice, StagedBackbone, precision
from monai_fgssl.transforms import RandDistortedView, RandRegularizedView
from monai_fgssl.utils.processors import CoreUse

SECONDS = {"float32": 1.0, "float32_channels_last": 1.0, "bfloat16_channels_last": 1.0}
EPOCHS, IMAGES, BATCH = 9, 48, 8


@pytest.fixture(autouse=True)
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this machine for one with bfloat16: it computes in it, however slowly."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda *_: True)


class Clock:
    """Each reading is later than the last by half the seconds of the precision that is being timed."""

    def __init__(self, choice: PrecisionChoice, **seconds: float) -> None:
        self.choice = choice
        self.seconds = SECONDS | seconds
        self.now = 0.0
        self.readings: Counter[str] = Counter()

    def __call__(self) -> float:
        name = self.choice.current.name
        self.readings[name] += 1
        # Only between the two readings of a step.
        self.now += self.seconds[name] if self.readings[name] % 2 == 0 else 0
        return self.now


def no_clock() -> float:
    raise AssertionError("nothing is to be timed")


def make_network() -> HierarchicalNet:
    def stage(channels_in: int, channels_out: int) -> nn.Module:
        convolution = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(channels_out), nn.ReLU())

    torch.manual_seed(0)
    backbone = StagedBackbone(stage(3, 4), [stage(4, 8), stage(8, 8)], (8, 8), (4, 8))
    return HierarchicalNet(backbone, num_classes=3, stages=2, width=8, embedding_dim=8)


def make_trainer(
    kind: str, choice: PrecisionChoice, handlers: list[Any], schedule: str = "progressive", epochs: int = EPOCHS
) -> PreTrainer | ProgressiveTrainer:
    network = choice.place(make_network())
    settings: dict[str, Any] = {
        "device": "cpu",
        "max_epochs": epochs,
        "train_data_loader": make_loader(make_images(IMAGES, size=16), BATCH, shuffle=True, seed=1, drop_last=True),
        "network": network,
        "optimizer": torch.optim.AdamW(network.parameters(), lr=0.01, fused=True),
        "grids": [4, 2],
        "schedule": schedule,
        "precision": choice,
        "train_handlers": [
            *handlers,
            BatchNormUpdater(network, make_loader(make_images(IMAGES, size=16), 16), "cpu", precision=choice),
        ],
    }
    if kind == "pretrain":
        views = {"regularized_view": RandRegularizedView().batch, "distorted_view": RandDistortedView().batch}
        return PreTrainer(loss_function=CrossCorrelationLoss(), **views, **settings)
    return ProgressiveTrainer(loss_function=nn.CrossEntropyLoss(), view=RandRegularizedView().batch, **settings)


def trained(trainer: PreTrainer | ProgressiveTrainer) -> dict[str, Tensor]:
    trainer.run()
    return trainer.module.state_dict()


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("kind", ["pretrain", "train"])
@pytest.mark.parametrize("schedule", ["alternating", "joint", "progressive"])
@pytest.mark.parametrize("fastest", list(SECONDS))
def test_the_fastest_is_taken_and_the_trial_leaves_no_trace(
    kind: str, schedule: str, fastest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = PrecisionChoice()
    clock = Clock(choice, **{fastest: 0.5})
    handler = FastestPrecision(choice, clock=clock)
    found = trained(make_trainer(kind, choice, [handler], schedule))
    assert str(choice) == fastest
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "precision" in line)
    rates = ", ".join(f"{name} {16 if name == fastest else 8}" for name in SECONDS)
    assert line == f"precision: {fastest} is the fastest here (images/s: {rates}); --amp {fastest} repeats this run"
    # The same weights, bit for bit, as when it is asked for.
    explicit = PrecisionChoice(fastest)
    assert_equal(found, trained(make_trainer(kind, explicit, [FastestPrecision(explicit, clock=no_clock)], schedule)))


def test_other_programs_that_slow_the_trial_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(CoreUse, "of_others", lambda _: 1e6)
    choice = PrecisionChoice()
    make_trainer("train", choice, [FastestPrecision(choice, clock=Clock(choice))]).run()
    assert "note: other programs use 1000000.0 of" in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "name"), [(0.97, "float32"), (0.9, "bfloat16_channels_last")])
def test_less_exact_numbers_must_be_worth_it(seconds: float, name: str) -> None:
    choice = PrecisionChoice()
    handler = FastestPrecision(choice, clock=Clock(choice, bfloat16_channels_last=seconds))
    make_trainer("train", choice, [handler]).run()
    assert str(choice) == name


def test_a_short_training_is_not_worth_a_trial(capsys: pytest.CaptureFixture[str]) -> None:
    choice = PrecisionChoice()
    make_trainer("train", choice, [FastestPrecision(choice, clock=no_clock)], epochs=2).run()
    assert str(choice) == "bfloat16_channels_last"
    assert "precision" not in capsys.readouterr().out


def test_the_second_phase_takes_the_choice_of_the_first() -> None:
    choice = PrecisionChoice()
    make_trainer("pretrain", choice, [FastestPrecision(choice, clock=Clock(choice, float32=0.1))]).run()
    make_trainer("train", choice, [FastestPrecision(choice, clock=no_clock)]).run()
    assert str(choice) == "float32"


class Stopped(Exception):
    """Ends a training."""


def test_a_resumed_training_takes_the_recorded_choice(tmp_path: Path) -> None:
    def make(choice: PrecisionChoice, clock: Any, resume: bool) -> ProgressiveTrainer:
        resumer = Resumer(tmp_path, "train", {}, minutes=0, resume=resume)
        trainer = make_trainer("train", choice, [resumer, FastestPrecision(choice, clock=clock)])
        resumer.save_dict = {"network": trainer.network, "optimizer": trainer.optimizer}
        return trainer

    def stop(engine: Any) -> None:
        if engine.state.iteration == 21:
            raise Stopped

    choice = PrecisionChoice()
    trainer = make(choice, Clock(choice, float32=0.1), resume=False)
    trainer.add_event_handler(Events.ITERATION_STARTED, stop)
    with pytest.raises(Stopped):
        trainer.run()
    choice = PrecisionChoice()
    found = trained(make(choice, no_clock, resume=True))
    assert str(choice) == "float32"
    assert_equal(found, trained(make_trainer("train", PrecisionChoice("float32"), [])))


def test_an_evaluation_times_its_first_batch(capsys: pytest.CaptureFixture[str]) -> None:
    def evaluate(amp: str, num_steps: int, fastest: str = "float32") -> tuple[str, Tensor]:
        choice = PrecisionChoice(amp, exact=True)
        clock = Clock(choice, **{fastest: 0.1}) if num_steps >= 50 and amp == "auto" else no_clock
        logits = []
        evaluator = HierarchicalEvaluator(
            "cpu",
            make_loader(make_images(IMAGES, size=16), BATCH),
            choice.place(make_network()),
            precision=choice,
            decollate=False,
            val_handlers=[FastestPrecision(choice, num_steps, clock=clock)],
        )
        evaluator.add_event_handler("MODEL_COMPLETED", lambda engine: logits.append(engine.state.output["pred"]))
        evaluator.run()
        return str(choice), torch.cat(logits)

    name, expected = evaluate("auto", 6)
    assert name == "float32_channels_last"
    assert "precision" not in capsys.readouterr().out
    for fastest in ("float32", "float32_channels_last"):
        name, found = evaluate("auto", 60, fastest)
        assert name == fastest
        assert f"precision: {fastest} is the fastest here" in capsys.readouterr().out
        torch.testing.assert_close(found, expected)
    name, rounded = evaluate("bfloat16_channels_last", 60)
    assert name == "bfloat16_channels_last"
    assert not torch.equal(rounded, expected)


def measured(times: dict[str, list[float]], seconds: float = 1.0) -> tuple[dict[str, float], list[str]]:
    """Shortest times, and the steps that were made, when each candidate's steps take these times."""
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        taken = times[name]
        return taken.pop(0) if len(taken) > 1 else taken[0]

    return shortest_times(list(times), measure, seconds), order


def test_first_steps_do_not_count_and_candidates_take_turns() -> None:
    found, order = measured({"a": [0.5, 0.3], "b": [0.6, 0.2]})
    assert found == {"a": 0.3, "b": 0.2}
    assert order == ["a", "b", "a", "b", "a", "b"]


def test_a_hopeless_candidate_is_timed_once() -> None:
    found, order = measured({"a": [0.5, 0.4], "b": [2.0, 0.1]})
    assert found == {"a": 0.4, "b": 2.0}
    assert order.count("b") == 1


def test_each_that_may_win_is_timed_twice_when_time_is_up() -> None:
    found, order = measured({"a": [3.0, 2.0], "b": [3.5, 1.0]})
    assert found == {"a": 2.0, "b": 1.0}
    assert order == ["a", "b", "a", "b"]


def test_of_long_steps_the_first_is_enough() -> None:
    found, order = measured({"a": [9.0, 2.0], "b": [8.0, 1.0]})
    assert found == {"a": 9.0, "b": 8.0}
    assert order == ["a", "b"]
