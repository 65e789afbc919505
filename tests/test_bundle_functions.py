# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Functions that the configs call, by themselves."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents

from monai_fgssl.bundle import MIN_CALIBRATION_IMAGES, calibrate
from monai_fgssl.engines.handlers import PredictionCollector


def predictions(count: int) -> PredictionCollector:
    """Sure of themselves, and wrong once in four."""
    labels = torch.arange(count) % 2
    logits = 10 * torch.nn.functional.one_hot(torch.where(torch.arange(count) % 4 == 3, 1 - labels, labels), 2).float()
    collector = PredictionCollector()

    def evaluate(engine: Engine, batch: dict[str, list[str]]) -> dict[str, torch.Tensor]:
        engine.state.output = {"label": labels, "stage_logits": logits[:, None]}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        return engine.state.output

    engine = Engine(evaluate)
    engine.register_events(*IterationEvents)
    collector.attach(engine)  # type: ignore[arg-type]
    names = [str(i) for i in range(count)]
    engine.run([{"name": names, "group": names}])
    return collector


def test_enough_images_are_calibrated(capsys: pytest.CaptureFixture[str]) -> None:
    others = predictions(8)
    temperature = calibrate(predictions(MIN_CALIBRATION_IMAGES), others)
    assert temperature > 2
    assert others.temperature == temperature
    assert "with temperature" in capsys.readouterr().out


def test_a_handful_of_images_calibrates_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    others = predictions(8)
    assert calibrate(predictions(MIN_CALIBRATION_IMAGES - 1), others) == 1.0
    assert others.temperature == 1.0
    assert "not calibrated: that takes 30 validation images, there are 29" in capsys.readouterr().out
