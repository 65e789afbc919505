# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""TensorBoard shows the values of the training. The tests read them back from real event files."""

from __future__ import annotations

import json
import math
import sys
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from matplotlib.figure import Figure
from monai.bundle import ConfigWorkflow
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.report import FinetuneTracker, RunTracker
from monai_fgssl.tasks import TASKS

BUNDLE = Path(__file__).parents[2] / "bundles" / "fgssl"
SMALL = {
    "image_size": 32,
    "width": 8,
    "embedding_dim": 8,
    "pretrain_epochs": 2,
    "max_epochs": 2,
    "batch_size": 16,
    "pretrain_batch_size": 32,
    "device": "cpu",
    "amp": False,
    "compare": False,
}


def train(lesions: Path, output: Path, tracking: dict[str, Any] | None) -> ConfigWorkflow:
    workflow = ConfigWorkflow(
        config_file=str(BUNDLE / "configs" / "train.json"),
        logging_file=False,
        tracking=tracking,
        bundle_root=str(BUNDLE),
        dataset_dir=str(lesions),
        output_dir=str(output),
        model_path=str(output / "model.pt"),
        **SMALL,
    )
    workflow.initialize()
    workflow.run()
    return workflow


@pytest.fixture(scope="module")
def tracked(lesions: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ConfigWorkflow]:
    """A run of the bundle, with every iteration tracked."""
    output = tmp_path_factory.mktemp("tracked")
    tracking = json.loads((BUNDLE / "configs" / "tensorboard.json").read_text(encoding="utf-8"))
    for phase in ("pretrainer", "trainer"):
        tracking["configs"][phase] |= {"interval": 1}
    return output, train(lesions, output, tracking)


def read_events(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    return events.Reload()


def series(events: EventAccumulator, tag: str) -> dict[int, float]:
    found = [(event.step, event.value) for event in events.Scalars(tag)]
    assert len(dict(found)) == len(found), "a step was written twice"
    return dict(found)


@pytest.mark.parametrize(("phase", "name"), [("pretrain", "pretrain"), ("train", "finetune")])
def test_every_metric_of_every_epoch_is_shown(
    tracked: tuple[Path, ConfigWorkflow], lesions: Path, phase: str, name: str
) -> None:
    output, workflow = tracked
    trainer = workflow.parser.get_parsed_content(f"{phase}#trainer")
    events = read_events(output / "tracking" / name)
    length = trainer.state.epoch_length
    expected = {
        metric: {epoch * length: value for epoch, value in values} for metric, values in trainer.state.history.items()
    }
    shown = {
        tag.removeprefix("epoch/"): series(events, tag) for tag in events.Tags()["scalars"] if tag.startswith("epoch/")
    }
    assert shown.keys() == expected.keys()
    assert {"loss_stage1", "loss_concat", "weight_growth"} <= shown.keys()
    assert ("knn_accuracy" if phase == "pretrain" else "val_macro_f1") in shown
    for metric, values in expected.items():
        assert shown[metric] == pytest.approx(values, rel=1e-6), metric
    # The mean of what an epoch's iterations show is what the epoch shows.
    losses = series(events, "iteration/loss_stage1")
    # Alternating pre-training comes to stage 1 every fourth batch.
    assert list(losses) == list(range(1, 2 * length + 1, 4 if phase == "pretrain" else 1))
    second = [loss for step, loss in losses.items() if step > length]
    assert np.mean(second) == pytest.approx(shown["loss_stage1"][2 * length], rel=1e-5)


def test_features_before_pretraining_are_shown(tracked: tuple[Path, ConfigWorkflow]) -> None:
    events = read_events(tracked[0] / "tracking" / "pretrain")
    assert 0 in series(events, "epoch/knn_accuracy")
    assert 0 in series(events, "epoch/rank_concat")
    assert 0 not in series(events, "epoch/loss_concat")


def test_learning_rates_are_those_of_their_iteration(tracked: tuple[Path, ConfigWorkflow]) -> None:
    output, workflow = tracked
    length = workflow.parser.get_parsed_content("train#trainer").state.epoch_length
    highest = workflow.parser.get_parsed_content("learning_rate")
    rates = series(read_events(output / "tracking" / "finetune"), "iteration/learning_rate_0")
    # A linear warm-up of one epoch, then half a cosine; the first iteration has step 0.
    expected = {
        step + 1: highest
        * (step / length if step < length else 0.5 * (1 + math.cos(math.pi * (step - length) / length)))
        for step in range(2 * length)
    }
    assert rates == pytest.approx(expected, abs=1e-9)


def test_figures_are_shown(tracked: tuple[Path, ConfigWorkflow]) -> None:
    output, workflow = tracked
    total = {
        phase: 2 * workflow.parser.get_parsed_content(f"{phase}#trainer").state.epoch_length
        for phase in ("pretrain", "train")
    }
    for name, expected in (
        ("pretrain", {"views": [0], "correlations": [0, total["pretrain"]]}),
        ("finetune", {"confusion": [total["train"]]}),
    ):
        events = read_events(output / "tracking" / name)
        assert {tag: [image.step for image in events.Images(tag)] for tag in events.Tags()["images"]} == expected
        for tag in expected:
            pictures = [np.asarray(Image.open(BytesIO(image.encoded_image_string))) for image in events.Images(tag)]
            assert all(min(picture.shape[:2]) > 150 and picture[..., :3].std() > 5 for picture in pictures)
            assert len({picture.tobytes() for picture in pictures}) == len(pictures)
        (settings,) = events.Tensors("settings/text_summary")
        assert b"| image_size | 32 |" in settings.tensor_proto.string_val[0]


def test_tracking_changes_nothing(tracked: tuple[Path, ConfigWorkflow], lesions: Path, tmp_path: Path) -> None:
    train(lesions, tmp_path, None)
    plain = torch.load(tmp_path / "model.pt", weights_only=True)
    with_tracking = torch.load(tracked[0] / "model.pt", weights_only=True)
    assert [key for key in plain if not torch.equal(plain[key], with_tracking[key])] == []
    assert not (tmp_path / "tracking").exists()


def reraise(engine: Engine, error: BaseException) -> None:
    raise error


def run_tiny(tracker: RunTracker, value: float, start: int, epochs: int, rank: int = 0) -> None:
    """An engine with epochs of 2 iterations that goes on after iteration `start`; its loss is always the same."""
    engine = Engine(lambda _engine, _batch: {"loss": torch.tensor(value), "image": None})
    engine.optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    engine.state.rank = rank

    @engine.on(Events.STARTED)
    def resume(engine: Engine) -> None:
        engine.state.iteration, engine.state.epoch = start, start // 2

    @engine.on(Events.EPOCH_COMPLETED)
    def measure(engine: Engine) -> None:
        engine.state.metrics["mean"] = value

    tracker.attach(engine)
    engine.add_event_handler(Events.EXCEPTION_RAISED, reraise)
    engine.run([0, 1], max_epochs=epochs)


def test_a_training_that_goes_on_hides_what_is_repeated(tmp_path: Path) -> None:
    run_tiny(RunTracker("phase", tmp_path, interval=1), 1.0, 0, 3)
    # Its last checkpoint was after iteration 4.
    run_tiny(RunTracker("phase", tmp_path, interval=1), 2.0, 4, 4)
    events = read_events(tmp_path / "phase")
    assert series(events, "iteration/loss") == {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 2, 7: 2, 8: 2}
    assert series(events, "epoch/mean") == {2: 1, 4: 1, 6: 2, 8: 2}
    # And one that starts anew has all for itself.
    run_tiny(RunTracker("phase", tmp_path, interval=1), 3.0, 0, 1)
    assert series(read_events(tmp_path / "phase"), "iteration/loss") == {1: 3, 2: 3}


def test_losses_are_written_at_an_interval_and_by_the_first_process_only(tmp_path: Path) -> None:
    run_tiny(RunTracker("phase", tmp_path / "first", interval=3), 1.0, 0, 4)
    assert list(series(read_events(tmp_path / "first" / "phase"), "iteration/loss")) == [3, 6]
    run_tiny(RunTracker("phase", tmp_path / "second"), 1.0, 0, 1, rank=1)
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize(("tool", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")])
def test_a_missing_tool_is_named(tool: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "monai-fgssl\[tracking\]"'):
        run_tiny(RunTracker("phase", tmp_path, tool), 1.0, 0, 1)


def test_an_unknown_tool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mlflow"):
        RunTracker("phase", tmp_path, "paper")


class FakeMlflow:
    """The part of MLflow's client that is used, in memory; checked by hand against MLflow 3.17."""

    runs: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, uri: str) -> None:
        assert uri.startswith("sqlite:////")

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        assert name == "monai-fgssl"
        return SimpleNamespace(experiment_id="1") if self.runs else None

    def create_experiment(self, name: str, artifact_location: str | None) -> str:
        assert str(artifact_location).startswith("file:///")
        return "1"

    def search_runs(self, ids: list[str], filter_string: str, max_results: int) -> list[SimpleNamespace]:
        name = filter_string.removeprefix("attributes.run_name = ").strip("'")
        # The newest comes first.
        found = [number for number, run in reversed(list(enumerate(self.runs))) if run["name"] == name]
        return [SimpleNamespace(info=SimpleNamespace(run_id=number)) for number in found[:max_results]]

    def create_run(self, experiment_id: str, run_name: str) -> SimpleNamespace:
        self.runs.append({"name": run_name, "params": {}, "metrics": [], "files": [], "ended": False})
        return SimpleNamespace(info=SimpleNamespace(run_id=len(self.runs) - 1))

    def log_batch(self, run_id: int, params: list[SimpleNamespace]) -> None:
        assert 0 < len(params) <= 100
        for param in params:
            assert param.key not in self.runs[run_id]["params"], "MLflow refuses to change a parameter"
            assert len(param.value) <= 6000
            self.runs[run_id]["params"][param.key] = param.value

    def log_metric(self, run_id: int, key: str, value: float, step: int) -> None:
        self.runs[run_id]["metrics"].append((key, value, step))

    def log_figure(self, run_id: int, figure: Figure, artifact_file: str) -> None:
        self.runs[run_id]["files"].append(artifact_file)

    def log_text(self, run_id: int, text: str, artifact_file: str) -> None:
        self.runs[run_id]["files"].append(artifact_file)

    def set_terminated(self, run_id: int) -> None:
        self.runs[run_id]["ended"] = True


class Drawing(RunTracker):
    """A tracker with a figure."""

    def figures(self, engine: Engine) -> dict[str, Figure]:
        return {"picture": Figure()}


def test_mlflow_gets_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entities = SimpleNamespace(Param=lambda key, value: SimpleNamespace(key=key, value=value))
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=FakeMlflow, entities=entities))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    monkeypatch.setattr(FakeMlflow, "runs", [])
    run_tiny(Drawing("other", tmp_path, "mlflow"), 9.0, 0, 1)
    settings = {"width": 8, "grids": [4, 2, 1], "text": "x" * 7000, **{f"setting{i}": i for i in range(150)}}
    run_tiny(Drawing("phase", tmp_path, "mlflow", settings, interval=2), 1.0, 0, 2)
    run_tiny(Drawing("phase", tmp_path, "mlflow", settings | {"width": 9}, interval=2), 2.0, 4, 3)
    assert [(run["name"], run["ended"]) for run in FakeMlflow.runs] == [("other", True), ("phase", True)]
    run = FakeMlflow.runs[1]
    expected = {name: str(value)[:6000] for name, value in settings.items()}
    assert run["params"] == expected
    assert FakeMlflow.runs[0]["params"] == {}
    assert run["metrics"] == [
        ("iteration/learning_rate_0", 0.1, 2),
        ("iteration/loss", 1.0, 2),
        ("epoch/mean", 1.0, 2),
        ("iteration/learning_rate_0", 0.1, 4),
        ("iteration/loss", 1.0, 4),
        ("epoch/mean", 1.0, 4),
        ("iteration/learning_rate_0", 0.1, 6),
        ("iteration/loss", 2.0, 6),
        ("epoch/mean", 2.0, 6),
    ]
    assert run["files"] == [
        "settings.md",
        "picture_000000.png",
        "picture_000004.png",
        "settings.md",
        "picture_000006.png",
    ]


def test_several_findings_have_no_confusion_matrix(tmp_path: Path) -> None:
    engine: Any = Engine(lambda _engine, _batch: None)
    tracker = FinetuneTracker(engine, ["a", "b"], name="phase", folder=tmp_path)
    logits = torch.tensor([[[2.0, -1.0]], [[-1.0, 2.0]]])
    tracker.predictions = PredictionCollector(["x", "y"], ["g", "h"], [torch.tensor([0, 1])], [logits])
    assert set(tracker.figures(engine)) == {"confusion"}
    labels = torch.tensor([[1, 0], [0, -1]])
    tracker.predictions = PredictionCollector(["x", "y"], ["g", "h"], [labels], [logits], task=TASKS["multilabel"])
    assert tracker.figures(engine) == {}
