# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The handlers on small engines whose results are known."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from monai_fgssl.engines import HierarchicalEvaluator
from monai_fgssl.engines.handlers import (
    BatchNormUpdater,
    EpochHistory,
    FeatureMonitor,
    PhaseProgress,
    WeightAverager,
    WeightMonitor,
)
from monai_fgssl.metrics import effective_rank
from monai_fgssl.networks import HierarchicalNet, PlainNet
from monai_fgssl.utils.run_log import close_log, open_log


class TinyNet(nn.Module):
    """Two steps' vectors of an image: its mean color, normalized; the second step's are constant on demand."""

    def __init__(self, collapsed: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.linear = nn.Linear(3, 3, bias=False)
        self.collapsed = collapsed

    def stage_vectors(self, images: Tensor) -> Tensor:
        first = self.norm(images.flatten(2).mean(2))
        return torch.stack([first, torch.ones_like(first) if self.collapsed else self.linear(first)], 1)


def make_batches(seed: int = 0) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (4, 32), generator=generator)
    noise = torch.rand(4, 32, 3, 8, 8, generator=generator)
    images = 0.5 * noise + 0.5 * nn.functional.one_hot(labels, 3)[..., None, None]
    return [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]


def make_engine(update: Any = lambda _engine, _batch: {"image": [0] * 4, "loss": torch.tensor(1.0)}) -> Engine:
    engine = Engine(update)
    engine.state.rank = 0
    return engine


def test_updated_norms_evaluate_as_the_whole_set_in_training_mode() -> None:
    network = TinyNet()
    network.norm.running_mean.fill_(5.0)
    batches = make_batches()
    engine = make_engine()
    BatchNormUpdater(network, batches, "cpu").attach(engine)
    engine.run([0], max_epochs=1)
    means = torch.stack([batch["image"].flatten(2).mean(2) for batch in batches])
    torch.testing.assert_close(network.norm.running_mean, means.mean((0, 1)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(network.norm.running_var, means.var(1).mean(0), rtol=1e-4, atol=1e-7)
    assert network.norm.momentum == 0.1
    assert network.training


class CountedBatches:
    """Batches that count how often one is taken."""

    def __init__(self, count: int) -> None:
        self.batches = [{"image": torch.rand(4, 3, 8, 8)} for _ in range(count)]
        self.taken = 0

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for batch in self.batches:
            self.taken += 1
            yield batch


@pytest.mark.parametrize(
    ("interval", "between", "taken"),
    [(1, None, [4] * 6), (1, 2, [2, 2, 2, 2, 2, 4]), (2, 1, [1, 0, 1, 0, 1, 4]), (9, None, [4, 0, 0, 0, 0, 4])],
)
def test_norms_are_updated_when_something_is_going_to_use_them(
    interval: int, between: int | None, taken: list[int]
) -> None:
    engine, batches, found = make_engine(), CountedBatches(5), []
    updater = BatchNormUpdater(TinyNet(), batches, "cpu", num_batches=4, between=between, interval=interval)
    updater.attach(engine)

    def count() -> None:
        found.append(batches.taken)
        batches.taken = 0

    engine.add_event_handler(Events.STARTED, count)
    engine.add_event_handler(Events.EPOCH_COMPLETED, count)
    engine.run([0], max_epochs=5)
    assert found == taken


def test_an_evaluation_begins_with_updated_norms() -> None:
    torch.manual_seed(0)
    network = HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4)
    batches = [{"image": torch.rand(6, 3, 32, 32)}]
    updater = BatchNormUpdater(network, batches, "cpu")
    evaluator = HierarchicalEvaluator("cpu", batches, network, decollate=False, val_handlers=[updater])
    evaluator.run()
    found = evaluator.state.output["pred"]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    updater.update()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(found, network.eval()(batches[0]["image"]))


def test_norms_of_a_projector_are_updated_too_and_the_mode_is_kept() -> None:
    torch.manual_seed(0)
    network = PlainNet("resnet18", num_classes=2, embedding_dim=4).eval()
    images = torch.rand(6, 3, 32, 32)
    BatchNormUpdater(network, [{"image": images}], "cpu").update()
    assert not any(module.training for module in network.modules())
    inputs: list[Tensor] = []
    network.projector[1].register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    norm = network.projector[1]
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    network.train().vectors_at_step(images, 1)
    torch.testing.assert_close(mean, inputs[0].mean(0), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(variance, inputs[0].var(0), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("size", "counts"), [(1, False), (2, False), (3, True)])
def test_a_few_last_images_do_not_count_as_much_as_a_batch(size: int, counts: bool) -> None:
    """129 images in batches of 128 leave one image, from which batch norm of vectors can't compute."""
    images = torch.rand(6 + size, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    found = []
    for batches in ([images[:6], images[6:]], [images[:6], images[6:]] if counts else [images[:6]]):
        torch.manual_seed(0)
        network = PlainNet("resnet18", num_classes=2, embedding_dim=4)
        BatchNormUpdater(network, [{"image": batch} for batch in batches], "cpu").update()
        found.append(network.projector[1].running_mean)
    torch.testing.assert_close(*found)
    torch.manual_seed(0)
    network = PlainNet("resnet18", num_classes=2, embedding_dim=4)
    BatchNormUpdater(network, [{"image": images[:6]}], "cpu").update()
    assert torch.equal(found[0], network.projector[1].running_mean) == (not counts)


@pytest.mark.parametrize("collapsed", [False, True])
def test_features_are_measured_and_collapse_is_reported_once(
    collapsed: bool, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    network = TinyNet(collapsed)
    train, val = make_batches(0), make_batches(1)
    BatchNormUpdater(network, train, "cpu").update()
    engine = make_engine()
    FeatureMonitor(network, train, val, "cpu", interval=2, min_rank=1.5).attach(engine)
    measured: list[bool] = []
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: measured.append("knn_accuracy" in e.state.metrics))
    with caplog.at_level(logging.WARNING):
        engine.run([0], max_epochs=3)
    metrics = engine.state.metrics
    assert metrics["knn_accuracy"] == 1.0
    assert "before pre-training: kNN accuracy 1," in capsys.readouterr().out
    assert measured == [False, True, True]
    network.eval()
    with torch.no_grad():
        vectors = torch.cat([network.stage_vectors(batch["image"]) for batch in val])
    assert metrics["rank_stage1"] == pytest.approx(effective_rank(vectors[:, 0]))
    assert metrics["rank_concat"] == pytest.approx(effective_rank(vectors[:, 1]))
    warnings = [record.message for record in caplog.records if "collapsing" in record.message]
    assert len(warnings) == int(collapsed)
    assert all("concat" in message and "epoch 0" in message for message in warnings)


def test_the_rank_of_few_images_is_no_collapse(caplog: pytest.LogCaptureFixture) -> None:
    few = [{name: value[:4] for name, value in batch.items()} for batch in make_batches(1)[:1]]
    engine = make_engine()
    # Of 4 images no rank is above 3.
    FeatureMonitor(TinyNet(), None, few, "cpu", min_rank=3.0).attach(engine)
    with caplog.at_level(logging.WARNING):
        engine.run([0], max_epochs=1)
    assert 0 < engine.state.metrics["rank_stage1"] < 3
    assert not caplog.records


def test_without_labels_collapse_is_watched_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    network = TinyNet()
    images = [{"image": batch["image"]} for batch in make_batches(1)]
    engine = make_engine()
    FeatureMonitor(network, None, images, "cpu", min_rank=1.5).attach(engine)
    engine.run([0], max_epochs=1)
    network.eval()
    with torch.no_grad():
        vectors = torch.cat([network.stage_vectors(batch["image"]) for batch in images])
    assert engine.state.metrics["rank_stage1"] == pytest.approx(effective_rank(vectors[:, 0]))
    assert not any(name.startswith("knn_") for name in engine.state.metrics)
    assert "before pre-training: rank concat" in capsys.readouterr().out


def test_weights_growth_and_update_ratio() -> None:
    network = nn.Linear(4, 4)
    nn.init.eye_(network.weight)

    def double(_engine: Engine, _batch: int) -> None:
        with torch.no_grad():
            network.weight *= 2

    engine = make_engine(double)
    WeightMonitor(network).attach(engine)
    engine.run([0, 1], max_epochs=2)
    assert engine.state.metrics == pytest.approx({"weight_growth": 16, "weight_growth_max": 16, "update_ratio": 1})


def test_the_average_of_the_weights_is_that_of_the_formula_and_is_there_between_epochs() -> None:
    network = nn.Linear(1, 1, bias=False)

    def climb(engine: Engine, _batch: int) -> None:
        with torch.no_grad():
            network.weight.fill_(engine.state.iteration**2)

    engine = make_engine(climb)
    at_end: list[float] = []
    in_next: list[float] = []
    WeightAverager(network, 0.3).attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: at_end.append(network.weight.item()))
    engine.add_event_handler(Events.EPOCH_STARTED, lambda _: in_next.append(network.weight.item()))
    start = network.weight.item()
    engine.run(range(3), max_epochs=2)
    average, expected = 1.0, []
    for iteration in range(2, 7):
        decay = min(0.3, iteration / (9 + iteration))
        average = decay * average + (1 - decay) * iteration**2
        expected.append(average)
    assert at_end == pytest.approx([expected[1], expected[4]], rel=1e-5)
    assert in_next == [start, 9.0]
    assert network.weight.item() == pytest.approx(expected[4], rel=1e-5)


def test_nothing_is_averaged_without_a_decay() -> None:
    network, engine = nn.Linear(1, 1), make_engine()
    averager = WeightAverager(network, None)
    averager.attach(engine)
    assert averager.state_dict() == {}
    assert not engine.has_event_handler(averager._update)


def test_history_keeps_the_start_and_the_evaluator_where_it_measured() -> None:
    evaluator = make_engine()
    history = EpochHistory(evaluator)
    engine = make_engine()

    @engine.on(Events.STARTED)
    def measure(engine: Engine) -> None:
        engine.state.metrics["knn_accuracy"] = 0.3

    @engine.on(Events.EPOCH_COMPLETED)
    def write(engine: Engine) -> None:
        engine.state.metrics.pop("knn_accuracy", None)
        engine.state.metrics["loss"] = 1 / engine.state.epoch
        if engine.state.epoch % 2 == 0:
            # As MONAI's ValidationHandler(interval=2) runs it.
            evaluator.state.epoch = engine.state.epoch
            evaluator.state.metrics["accuracy"] = 0.1 * engine.state.epoch

    history.attach(engine)
    engine.run([0], max_epochs=3)
    assert engine.state.history == {
        "knn_accuracy": [(0, 0.3)],
        "loss": [(1, 1.0), (2, 0.5), (3, 1 / 3)],
        "val_accuracy": [(2, 0.2)],
    }


@pytest.mark.parametrize(("seconds", "epochs"), [(0.0, [1, 2, 3]), (3600.0, [3])])
def test_progress_prints_lines_in_time_and_the_last_and_only_on_rank_0(
    seconds: float, epochs: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in (0, 1):
        engine = make_engine()
        engine.state.rank = rank
        PhaseProgress("pre-train", ["loss", "missing"], seconds=seconds).attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, lambda e: e.state.metrics.update(loss=2.5, other=1.0))
        engine.run([0, 1], max_epochs=3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [f"pre-train {epoch}/3" for epoch in epochs]
    assert all(line.split(": ")[1].startswith("loss 2.5, ") for line in lines)
    assert re.search(r" images/s, took \d+:\d\d$", lines[-1])
    assert all(re.search(r" images/s, left \d+:\d\d$", line) for line in lines[:-1])


def test_the_log_has_every_epoch_with_every_metric(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    open_log(tmp_path / "run.log", {"seed": 0})
    engine = make_engine()
    PhaseProgress("pre-train", ["loss"]).attach(engine)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda e: e.state.metrics.update(loss=2.5, other=1.0))
    engine.run([0, 1], max_epochs=5)
    close_log()
    kept = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert re.findall(r"pre-train (\d)/5: loss 2.5, other 1, ", kept) == list("12345")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_progress_lets_errors_through() -> None:
    def fail(_engine: Engine, _batch: int) -> None:
        raise RuntimeError("out of memory")

    engine = make_engine(fail)
    PhaseProgress("pre-train").attach(engine)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.run([0])
