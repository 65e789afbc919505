# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Functions that the configs call, each tested alone."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from monai.optimizers import WarmupCosineSchedule

from monai_fgssl.bundle import (
    BUNDLES,
    SettingsError,
    as_path,
    calibrate,
    calibrate_sets,
    check_overrides,
    check_settings,
    copy_bundle,
    decision_rule,
    describe_model,
    fit_batch_size,
    fit_decision,
    frozen_network,
    load_pretrained,
    load_weights,
    lock_output,
    loss_weights,
    make_network,
    network_to_save,
    network_to_train,
    open_log,
    phase_hyperparameters,
    phase_identity,
    prediction_sets,
    read_record,
    renamed,
    save_model,
    shipped_bundle,
    starts_solved,
    with_new_names,
)
from monai_fgssl.bundle.settings_table import SETTINGS, Setting, by_name, markdown_table, positive
from monai_fgssl.data import CachedImages, DataError, PreparedData
from monai_fgssl.engines.calibration import MIN_CALIBRATION_IMAGES
from monai_fgssl.engines.handlers import BatchNormUpdater, PredictionCollector
from monai_fgssl.losses import CrossCorrelationLoss
from monai_fgssl.metrics import (
    LogitAdjustment,
    PredictionSets,
    Thresholds,
    finding_calibration_error,
    fit_logit_adjustment,
    fit_prediction_sets,
    fit_thresholds,
)
from monai_fgssl.networks import EnsembleNet, HierarchicalNet, PlainNet, PooledNet, make_backbone
from monai_fgssl.tasks import MULTILABEL, TASKS
from monai_fgssl.transforms import RandView
from monai_fgssl.utils.run_log import close_log


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


def test_enough_images_are_calibrated(tmp_path: Path) -> None:
    open_log(tmp_path, {})
    assert calibrate(predictions(MIN_CALIBRATION_IMAGES)) > 2
    close_log()
    assert "with temperature" in (tmp_path / "run.log").read_text(encoding="utf-8")


def test_a_handful_of_images_calibrates_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate(predictions(MIN_CALIBRATION_IMAGES - 1)) == 1.0
    assert "not calibrated: that needs 30 validation images, and there are 29" in capsys.readouterr().out


def test_sets_are_fitted_to_calibrated_probabilities() -> None:
    found = calibrate_sets(predictions(MIN_CALIBRATION_IMAGES), 2.0, 0.8, False, "threshold")
    assert found is not None
    collected = predictions(MIN_CALIBRATION_IMAGES)
    probabilities = (collected.logits.double() / 2).softmax(1)
    assert found == fit_prediction_sets(probabilities, collected.labels, 0.8, score="threshold")


def test_without_a_coverage_or_with_a_handful_of_images_there_are_no_sets(capsys: pytest.CaptureFixture[str]) -> None:
    assert calibrate_sets(predictions(MIN_CALIBRATION_IMAGES), 1.0, None, False, "raps") is None
    assert calibrate_sets(predictions(MIN_CALIBRATION_IMAGES - 1), 1.0, 0.9, False, "raps") is None
    assert "they need 30 validation images, and there are 29" in capsys.readouterr().out


def test_a_model_keeps_its_sets(tmp_path: Path) -> None:
    path, sets = tmp_path / "model.pt", PredictionSets(0.9, (0.5, None), "threshold")
    network = HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4)
    for file in (path, path.with_suffix(".safetensors")):
        save_model(network, file, ["a", "b"], 32, prediction_sets=sets)
        assert prediction_sets(read_record(shipped_bundle("fgssl"), file)) == sets
    save_model(network, path, ["a", "b"], 32)
    assert prediction_sets(read_record(shipped_bundle("fgssl"), path)) is None


def unequal(count: int) -> PredictionCollector:
    """Of three classes the first is frequent; the evidence alone names every class, probabilities always the first."""
    labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 2]).repeat(count // 10 + 1)[:count]
    shares = torch.tensor([0.7, 0.2, 0.1])
    logits = shares.log() + 0.9 * torch.nn.functional.one_hot(labels, 3)
    names = [str(i) for i in range(count)]
    return PredictionCollector(names, names, [labels], [logits[:, None]])


def test_balanced_decisions_are_fitted_to_calibrated_probabilities(capsys: pytest.CaptureFixture[str]) -> None:
    collected, train = unequal(60), labeled(*[0] * 7, 1, 1, 2)
    assert fit_decision(collected, 2.0, "likeliest", train) is None
    rule = fit_decision(collected, 2.0, "balanced", train)
    probabilities = (collected.logits / 2).softmax(1)
    assert rule == fit_logit_adjustment(probabilities, collected.labels, (0.7, 0.2, 0.1))
    assert rule is not None
    assert rule.strength > 0
    assert f"strength {rule.strength:g}: macro F1 on the validation part 1.000" in capsys.readouterr().out
    collected.temperature, collected.adjustment = 2.0, rule
    assert collected.predicted.tolist() == collected.labels.tolist()


def test_a_handful_of_images_balances_no_decisions(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit_decision(unequal(MIN_CALIBRATION_IMAGES - 1), 1.0, "balanced", labeled(0, 1, 2)) is None
    told = capsys.readouterr().out
    assert "decisions are by the likeliest classes: a rule needs 30 validation images, and there are 29" in told


def findings(count: int) -> PredictionCollector:
    """Of two findings the second is there wherever its probability is above 0.2, and nobody knows it of one image."""
    logits = torch.linspace(-4, 4, count)[:, None].repeat(1, 2)
    labels = torch.stack([(logits[:, 0] > 0), (logits[:, 1].sigmoid() > 0.2)], dim=1).long()
    labels[0, 1] = -1
    names = [str(i) for i in range(count)]
    return PredictionCollector(names, names, [labels], [logits[:, None]], task=TASKS[MULTILABEL])


def test_thresholds_are_fitted_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    collected = findings(60)
    rule = fit_decision(collected, 1.0, "likeliest", labeled(0))
    assert rule == Thresholds(fit_thresholds(collected.probabilities, collected.labels))
    assert "macro F1 on the validation part 1.000, with thresholds of 0.5 0.929" in capsys.readouterr().out
    assert fit_decision(findings(MIN_CALIBRATION_IMAGES - 1), 1.0, "likeliest", labeled(0)) == Thresholds((0.5, 0.5))
    assert "decisions are by thresholds of 0.5" in capsys.readouterr().out


def test_findings_are_calibrated(tmp_path: Path) -> None:
    open_log(tmp_path, {})
    collected = findings(60)
    temperature = calibrate(collected)
    close_log()
    before, after = (
        np.mean([finding_calibration_error(p[:, k], collected.labels[:, k]) for k in (0, 1)])
        for p in (collected.logits.sigmoid(), (collected.logits / temperature).sigmoid())
    )
    told = f"calibration error {before:.3f}, with temperature {temperature:.2f} {after:.3f}"
    assert told in (tmp_path / "run.log").read_text(encoding="utf-8")


def test_a_model_keeps_its_decision_and_a_model_of_former_times_has_none(tmp_path: Path) -> None:
    path, rule, root = tmp_path / "model.pt", LogitAdjustment(0.5, (0.75, 0.25)), shipped_bundle("fgssl")
    network = HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4)
    for file in (path, path.with_suffix(".safetensors")):
        save_model(network, file, ["a", "b"], 32, adjustment=rule)
        assert decision_rule(read_record(root, file)) == rule
    assert "decision=balanced, strength=0.5" in describe_model(root, path).parameters
    record = json.loads(path.with_suffix(".json").read_text())
    del record["logit_adjustment"]
    path.with_suffix(".json").write_text(json.dumps(record))
    assert decision_rule(read_record(root, path)) is None


def labeled(*labels: int) -> CachedImages:
    names = [str(i) for i in range(len(labels))]
    return CachedImages(torch.zeros(len(labels), 3, 2, 2, dtype=torch.uint8), torch.tensor(labels), names, names)


def test_weights_of_the_loss_are_one_for_each_class_of_the_network() -> None:
    images = labeled(0, 0, 0, 0, 2, -1)
    weights = {name: loss_weights(name, images.labels, 4, "cpu") for name in ("weights", "sqrt_weights")}
    for name, ratio in {"weights": 4, "sqrt_weights": 2}.items():
        values = weights[name]
        assert values is not None
        assert values[2] / values[0] == pytest.approx(ratio)
        loss = torch.nn.CrossEntropyLoss(weight=values)
        assert loss(torch.zeros(2, 4), torch.tensor([0, 2])).item() == pytest.approx(float(torch.tensor(4.0).log()))


@pytest.mark.parametrize("balance", [None, "sampling"])
def test_no_weights_of_the_loss(balance: str | None) -> None:
    assert loss_weights(balance, labeled(0, 1).labels, 2, "cpu") is None
    assert loss_weights("weights", labeled(-1).labels, 1, "cpu") is None


def test_a_model_elsewhere_has_its_own_classes(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    own, other = root / "models" / "model.pt", tmp_path / "other" / "model.pt"
    for path, names in ((own, ["a", "b"]), (other, ["c", "d", "e"])):
        save_model(HierarchicalNet("resnet18", num_classes=len(names), width=8, embedding_dim=4), path, names, 32)
    assert read_record(root)["class_names"] == read_record(root, own)["class_names"] == ["a", "b"]
    for path in (other, other.with_suffix(".onnx")):
        assert read_record(root, path)["class_names"] == ["c", "d", "e"]
        assert make_network(root, path).definition()["num_classes"] == 3
    # A checkpoint alone, of the bundle's own network.
    assert read_record(root, tmp_path / "checkpoint.pt")["class_names"] == ["a", "b"]


def test_settings_by_their_former_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert renamed("features", None, 128) == 128
    assert capsys.readouterr().out == ""
    assert renamed("features", 64, 128) == 64
    assert "--features is now called --embedding_dim" in capsys.readouterr().out
    assert renamed("heads_first", 0, 0.5) == 0
    assert with_new_names({"features": 4, "width": 8}) == {"embedding_dim": 4, "width": 8}
    assert with_new_names({"features": 4, "embedding_dim": 5}) == {"embedding_dim": 5}


def test_a_former_name_is_refused_beside_the_new_one_and_where_it_does_nothing() -> None:
    root = shipped_bundle("fgssl")
    check_overrides(root, ["features", "heads_first"])
    with pytest.raises(SettingsError, match="--features is the former name of --embedding_dim"):
        check_overrides(root, ["features", "width", "embedding_dim"])
    with pytest.raises(SettingsError, match="Did you mean --batch_norm_dataloader"):
        check_overrides(root, ["calibration_dataloader#batch_size"])


def test_a_model_of_an_earlier_release_loads(tmp_path: Path) -> None:
    root = copy_bundle("fgssl", tmp_path / "bundle")
    path = root / "models" / "model.pt"
    network = HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4)
    save_model(network, path, ["a", "b"], 32)
    text = path.with_suffix(".json").read_text()
    assert text.count('"embedding_dim"') == 1
    path.with_suffix(".json").write_text(text.replace('"embedding_dim"', '"features"'))
    assert "features" in json.loads(path.with_suffix(".json").read_text())["network_def"]
    again = make_network(root)
    load_weights(again, path)
    assert again.definition() == network.definition()
    assert read_record(root)["network_def"]["embedding_dim"] == 4


def test_networks_with_other_classifiers_take_each_others_backbone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    blocks = HierarchicalNet("resnet18", width=8, embedding_dim=4, mean=0.2)
    pooled = PooledNet("resnet18", num_classes=3)
    torch.save(blocks.state_dict(), tmp_path / "blocks.pt")
    torch.save(pooled.state_dict(), tmp_path / "pooled.pt")
    for start, path in ((PooledNet("resnet18", num_classes=2), "blocks.pt"), (blocks, "pooled.pt")):
        before = {name: value.clone() for name, value in start.state_dict().items()}
        load_pretrained(start, tmp_path / path)
        loaded = torch.load(tmp_path / path, weights_only=True)
        for name, value in start.state_dict().items():
            is_shared = name.startswith("backbone.") or name in ("mean", "std")
            assert torch.equal(value, loaded[name] if is_shared else before[name]), name
        assert f"{path} belongs to a network with other classifiers" in capsys.readouterr().out
    # Two probes: the classifier too, if there are as many classes.
    again = PooledNet("resnet18", num_classes=3)
    load_pretrained(again, tmp_path / "pooled.pt")
    assert torch.equal(again.classifier.weight, pooled.classifier.weight)
    with pytest.raises(SettingsError, match="belongs to another network"):
        load_pretrained(PooledNet("resnet34"), tmp_path / "blocks.pt")


def test_only_a_full_fine_tuning_trains_the_network_of_the_pretraining() -> None:
    network = HierarchicalNet("resnet18", width=8, embedding_dim=4)
    assert network_to_train(network, "full", 3) is network
    for kind in ("probe", "lp_ft"):
        pooled = network_to_train(network, kind, 3)
        assert isinstance(pooled, PooledNet)
        assert pooled.backbone.stem is network.backbone.stem
        # A trained model that is evaluated is what it is.
        assert network_to_train(pooled, kind, 5) is pooled


class OwnNet(HierarchicalNet):
    """Network class of a user."""


def test_only_a_network_that_a_record_can_describe_becomes_an_ensemble(capsys: pytest.CaptureFixture[str]) -> None:
    network = HierarchicalNet("resnet18", width=8, embedding_dim=4)
    ensemble = network_to_save(network, "ensemble")
    assert isinstance(ensemble, EnsembleNet)
    assert ensemble.blocks is network.blocks
    assert starts_solved(ensemble, "ensemble")
    assert network_to_save(ensemble, "ensemble") is ensemble
    assert network_to_save(network, "full") is network
    assert not starts_solved(network, "full")
    assert capsys.readouterr().out == ""
    own = OwnNet("resnet18", width=8, embedding_dim=4)
    unnamed = HierarchicalNet(make_backbone("resnet18", 2, 3), width=8, embedding_dim=4)
    for other in (own, unnamed, PlainNet("resnet18")):
        assert network_to_save(other, "ensemble") is other
        assert "the model gets no probe" in capsys.readouterr().out
        assert not starts_solved(other, "ensemble")
    pooled = PooledNet("resnet18")
    assert network_to_save(pooled, "ensemble") is pooled
    assert starts_solved(pooled, "lp_ft")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_target_": "os.system", "command": "touch ran"}, "network is 'os.system', not one of"),
        ({"_target_": "torch.nn.Linear"}, "network is 'torch.nn.Linear', not one of"),
        ({"_target_": ["os.system"]}, "names no network"),
        ({"_target_": "my_parts.Net", "command": "$__import__('os').system('touch ran')"}, "which is not an argument"),
        ({"backbone": "$__import__('os').system('touch ran') or 'resnet18'"}, "which is not an argument of a network"),
        ({"backbone": {"_target_": "os.system", "command": "touch ran"}}, "which is not an argument of a network"),
        ({"weights": "/etc/passwd"}, "which is not an argument of a network"),
        ({"width": "8"}, "which is not an argument of a network"),
        ({"stages": [0, "$1"]}, "which is not an argument of a network"),
    ],
)
def test_a_model_runs_no_code(
    changes: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    save_model(HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4), path, ["a", "b"], 32)
    assert make_network(shipped_bundle("fgssl"), path).definition()["width"] == 8
    record = json.loads(path.with_suffix(".json").read_text())
    record["network_def"] |= changes
    path.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(SettingsError, match=message):
        make_network(shipped_bundle("fgssl"), path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet19"}, "resnet19"),
        ({"stem": "imaggenet"}, "imaggenet"),
        ({"stages": [1, 10**30, 3]}, "stages must be"),
        ({"width": 0}, "width"),
        ({"width": 2**15}, "parameters, but at most"),
        ({"width": 10**9}, ""),
        ({"embedding_dim": 10**30}, ""),
        ({"num_classes": -1}, ""),
    ],
)
def test_a_record_that_makes_no_network_is_one_line(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_model(HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4), path, ["a", "b"], 32)
    record = json.loads(path.with_suffix(".json").read_text())
    record["network_def"] |= changes
    path.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(SettingsError, match=rf"model\.(pt|json): .*{message}") as told:
        make_network(shipped_bundle("fgssl"), path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "holds no record"),
        ("[" * 100_000, "is damaged"),
        ('{"class_names": ["a"], "image_size": 32}', "has no network_def"),
        (r'{"class_names": ["\ud800"], "image_size": 32, "network_def": {}}', "is damaged .*not valid Unicode"),
    ],
)
def test_a_damaged_record_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(SettingsError, match=f"model.json: {message}"):
        read_record(shipped_bundle("fgssl"), tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_size", "32; rm -rf"),
        ("image_size", [32]),
        ("image_size", True),
        ("spacing", "$1"),
        ("spacing", -1.0),
        ("window", "$1"),
        ("window", ["a", "b"]),
        ("temperature", "1"),
        ("temperature", float("nan")),
        ("prediction_sets", "$1"),
        ("prediction_sets", PredictionSets(0.9, (0.5,) * 3).to_record()),
        ("logit_adjustment", "$1"),
        ("logit_adjustment", LogitAdjustment(1.0, (0.5, 0.25, 0.25)).to_record()),
        ("logit_adjustment", {"strength": -1.0, "prior": [0.5, 0.5]}),
        ("class_names", "ab"),
        ("class_names", [1, 2]),
    ],
)
def test_values_of_a_record_are_checked(name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    save_model(HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4), path, ["a", "b"], 32)
    record = json.loads(path.with_suffix(".json").read_text()) | {name: value}
    path.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(SettingsError, match=r"model\.json: "):
        read_record(shipped_bundle("fgssl"), path)


def data_of(labels: list[int], value: int = 0, names: str = "abcd") -> PreparedData:
    store = torch.full((len(labels), 3, 2, 2), value, dtype=torch.uint8)
    images = CachedImages(store, torch.tensor(labels), list(names), list(names))
    return PreparedData(("x", "y"), images, images, images)


RUN_SETTINGS: dict[str, object] = {setting.name: 1 for setting in SETTINGS}


@pytest.mark.parametrize(
    ("settings", "data", "views", "changed"),
    [
        ({}, data_of([0, 1, 0, 1], value=1), [], {"pretrain", "train"}),
        ({}, data_of([0, 1, 0, 1], names="abce"), [], {"pretrain", "train"}),
        ({}, data_of([0, 1, 1, 1]), [], {"train"}),
        ({}, data_of([0, 1, 0, 1]), [RandView(blur_prob=0.5)], {"pretrain", "train"}),
        ({"image_size": 2}, data_of([0, 1, 0, 1]), [], {"pretrain", "train"}),
        ({"puzzles": True}, data_of([0, 1, 0, 1]), [], {"train"}),
        ({"pretrain_epochs": 2}, data_of([0, 1, 0, 1]), [], {"train"}),
        ({"learning_rate": 0.5, "output_dir": "elsewhere"}, data_of([0, 1, 0, 1]), [], set()),
    ],
)
def test_a_phase_is_told_from_others(
    settings: dict[str, object], data: PreparedData, views: list[RandView], changed: set[str]
) -> None:
    def differs(phase: str) -> bool:
        first = phase_identity(phase, RUN_SETTINGS, data_of([0, 1, 0, 1]), [RandView()][: len(views)])
        return first != phase_identity(phase, RUN_SETTINGS | settings, data, views)

    assert {phase for phase in ("pretrain", "train") if differs(phase)} == changed


@pytest.mark.parametrize("setting", ["weights", "pretrained"])
def test_weights_that_were_replaced_are_others(setting: str, tmp_path: Path) -> None:
    """Either phase may start from them. The file keeps its name. Weights that were written again are the same."""
    file, data = tmp_path / "weights.pt", data_of([0, 1, 0, 1])

    def write(value: float) -> dict[str, dict[str, str]]:
        torch.save({"state_dict": {"conv.weight": torch.full((2, 2), value)}, "time": time.time()}, file)
        return {phase: phase_identity(phase, {setting: str(file)}, data, []) for phase in ("pretrain", "train")}

    first, again, other = write(1.0), write(1.0), write(2.0)
    assert again == first
    assert {phase for phase in first if other[phase] != first[phase]} == {"pretrain", "train"}


def test_a_changed_part_of_a_phase_is_another_hyperparameter() -> None:
    """A nested id of the command may change what no setting names."""
    weight = torch.tensor([1.0, 2.0])

    def told(loss: object, **optimizer: Any) -> dict[str, str]:
        adam = torch.optim.AdamW([{"params": [torch.zeros(2, requires_grad=True)], "lr": 0.5}], **optimizer)
        schedule = WarmupCosineSchedule(adam, 1, 10)
        return phase_hyperparameters("train", RUN_SETTINGS, loss=loss, optimizer=adam, lr_scheduler=schedule)

    first = told(torch.nn.CrossEntropyLoss(weight))
    assert first == told(torch.nn.CrossEntropyLoss(weight.clone()), lr=0.1, weight_decay=0.1)
    for other in (
        torch.nn.CrossEntropyLoss(weight, label_smoothing=0.1),
        torch.nn.CrossEntropyLoss(2 * weight),
        torch.nn.MultiMarginLoss(),
        torch.nn.functional.cross_entropy,
    ):
        changed = told(other)
        assert {name for name in first if first[name] != changed[name]} == {"train#loss"}
    changed = told(torch.nn.CrossEntropyLoss(weight), betas=(0.8, 0.999))
    assert {name for name in first if first[name] != changed[name]} == {"train#optimizer"}
    losses = [
        phase_hyperparameters("pretrain", RUN_SETTINGS, loss=CrossCorrelationLoss(eps=eps)) for eps in (1e-5, 1e-4)
    ]
    assert [one["pretrain#loss"] for one in losses] == [
        f"CrossCorrelationLoss(eps={eps}, redundancy_weight=0.005)" for eps in ("1e-05", "0.0001")
    ]


@pytest.mark.parametrize("other", [{"weights": "imagenet"}, {"pretrained": "pretrained.pt"}])
def test_a_model_and_other_weights_choose_two_networks(other: dict[str, str], tmp_path: Path) -> None:
    (name,) = other
    with pytest.raises(SettingsError, match=f"--model_path and --{name} choose the network"):
        frozen_network(tmp_path, tmp_path / "model.pt", "cpu", **other)


def test_one_run_for_each_output_folder(tmp_path: Path) -> None:
    run = [
        *(sys.executable, "-c"),
        "import sys, time; from monai_fgssl.bundle import lock_output; lock_output(sys.argv[1])"
        "; print('mine', flush=True); time.sleep(300)",
        str(tmp_path),
    ]
    with subprocess.Popen(run, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(SettingsError, match=rf"another run uses .*process {other.pid}, since"):
            lock_output(tmp_path)
        other.kill()
    lock_output(tmp_path)
    # The comparison with random weights asks again, in this process.
    lock_output(tmp_path)


@pytest.mark.parametrize("name", BUNDLES)
def test_handlers_are_referred_to_by_name(name: str) -> None:
    """Whoever inserts a handler must not make a reference mean another one."""
    folder = shipped_bundle(name) / "configs"
    for file in folder.glob("*.json"):
        assert not re.search(r"handlers#\d", file.read_text(encoding="utf-8")), file
    config = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    for phase in ("pretrain", "train", "validate"):
        named = [entry["handler"] for entry in config[phase]["handlers"] if "named_handler" in entry["_target_"]]
        assert named
        for reference in named:
            of_phase, handler = reference.removeprefix("@").split("#")
            assert of_phase == phase
            assert "_target_" in config[phase][handler]


def test_a_network_of_ones_own_is_built_when_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_parts.py").write_text("from torch import nn\nclass Net(nn.Linear):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "model.pt"
    save_model(HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=4), path, ["a", "b"], 32)
    record = json.loads(path.with_suffix(".json").read_text())
    record["network_def"] = {"_target_": "own_parts.Net", "in_features": 3, "out_features": 2}
    path.with_suffix(".json").write_text(json.dumps(record))
    root = shipped_bundle("fgssl")
    with pytest.raises(SettingsError, match="--trusted_networks"):
        make_network(root, path)
    assert "own_parts" not in sys.modules
    assert make_network(root, path, "own_parts.Net").weight.shape == (2, 3)
    assert make_network(root, path, ["own_parts.Net"]).weight.shape == (2, 3)


def test_a_new_setting_needs_one_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One row of the table gives the check, the text, the place in a checkpoint and the right of the Label app."""
    row = Setting("new_setting", "run", "a number", check=positive, identity=("train",))
    monkeypatch.setattr("monai_fgssl.bundle.settings.SETTINGS", (*SETTINGS, row))
    monkeypatch.setattr("monai_fgssl.bundle.identity.SETTINGS", (*SETTINGS, row))
    monkeypatch.setattr("monai_fgssl.bundle.settings_table.SETTINGS", (*SETTINGS, row))
    root = copy_bundle("fgssl", tmp_path / "bundle")
    config = root / "configs" / "train.json"
    # Its use.
    content = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**content, "new_setting": 7}), encoding="utf-8")
    assert "| `new_setting` | 7 | a number |" in markdown_table(root)
    valid = dict.fromkeys(RUN_SETTINGS) | {"spatial_dims": 2, "image_size": 8, "grids": [2], "new_setting": 1}
    valid |= {setting.name: 2 for setting in SETTINGS if setting.check and setting.name != "balance"}
    valid |= {"freeze_backbone": 0, "fine_tuning": "probe", "stage_lr_decay": 1, "label_fraction": 0.5}
    valid |= {"pretrain_stage_lr_decay": 1, "ema_decay": 0.9, "pretrain_ema_decay": None}
    valid |= {"labels_per_class": None, "weights": None, "drop_path": 0.1, "grids": [2]}
    valid |= {
        "coverage": 0.9,
        "set_score": "raps",
        "decision": "balanced",
        "subgroup_columns": None,
        "refer_unlike": 0.1,
    }
    valid |= {"split_from": None}
    valid |= {"task": "multiclass", "fractions": {"train": 0.7, "validation": 0.1, "test": 0.2}}
    check_settings(str(root), valid)
    for fold in (3, "all"):
        with pytest.raises(SettingsError, match=f"--fold {fold} needs --num_folds"):
            check_settings(str(root), valid | {"fold": fold, "num_folds": None})
    with pytest.raises(SettingsError, match="--split_from and --num_folds both say how the images are split"):
        check_settings(str(root), valid | {"split_from": "split.json", "num_folds": 5})
    with pytest.raises(SettingsError, match="--spacing is for volumes"):
        check_settings(str(root), valid | {"spacing": [1, 1]})
    # Without puzzles no grid has to fit the image.
    uneven = valid | {"grids": [3], "puzzles": False}
    check_settings(str(root), uneven | {"pretrain_epochs": 0})
    for cutting in ({"pretrain_epochs": 1}, {"pretrain_epochs": 0, "puzzles": "true", "fine_tuning": "full"}):
        with pytest.raises(SettingsError, match="3 does not divide --image_size 2"):
            check_settings(str(root), uneven | cutting)
    with pytest.raises(SettingsError, match="--new_setting must be a positive number, got 0"):
        check_settings(str(root), valid | {"new_setting": 0})
    data = data_of([0, 1, 0, 1])
    assert phase_identity("train", valid, data, [])["new_setting"] == "1"
    assert "new_setting" not in phase_identity("pretrain", valid, data, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("max_epochs", value) for value in (0, -1, "5", True, float("nan"), float("inf"))],
        *[("batch_size", value) for value in (1, 0, None)],
        *[("freeze_backbone", value) for value in (1, -0.1, "0.5")],
        *[("freeze_stages", value) for value in (-1, 0.5, "2", None)],
        *[("ema_decay", value) for value in (0, 1, "0.9")],
        *[("pretrain_warmup_epochs", value) for value in (-1, "1", None)],
        *[("mixup", value) for value in (-1, None)],
        *[("stage_lr_decay", value) for value in (0, 1.01, "0.5", None)],
        *[("label_fraction", value) for value in (0, 2, "0.5")],
        *[("coverage", value) for value in (0, 1, "0.9", True)],
        *[("labels_per_class", value) for value in (0, 2.5, "6", True)],
        *[("seeds", value) for value in (0, 1.5, None)],
        *[("num_folds", value) for value in (1, 2.5, "5")],
        *[("spatial_dims", value) for value in (4, 2.0, "2")],
        *[("stages", value) for value in ("x", 1.5, [], [0.5])],
        *[("weights", value) for value in (3, "")],
        *[("probe_interval", value) for value in (0, 1.5, "1")],
        *[("val_interval", value) for value in (0, 1.5, "1")],
        *[(name, value) for name in ("seed", "fine_tuning_seed") for value in (-1, 1.5, "0")],
        *[
            ("fractions", value)
            for value in (
                [0.7, 0.1, 0.2],
                "0.7",
                {"train": 0.8, "test": 0.2},
                {"train": 0.7, "validation": 0.1, "test": 0.1},
                {"train": 0.9, "validation": 0.1, "test": 0},
                {"train": "0.7", "validation": 0.1, "test": 0.2},
            )
        ],
        ("balance", "equal"),
        ("fine_tuning", "linear"),
        ("set_score", "aps"),
        ("decision", "fair"),
    ],
)
def test_checks_of_single_settings(name: str, value: object) -> None:
    check = by_name()[name].check
    assert check is not None
    with pytest.raises(SettingsError, match=f"--{name} must be"):
        check(name, value)


def test_what_checks_of_single_settings_allow() -> None:
    allowed = {
        "fractions": [
            {"train": 0.7, "validation": 0.1, "test": 0.2},
            {"test": 1 / 3, "train": 1 / 3, "validation": 1 / 3},
        ],
        "num_folds": [None, 5],
        "stages": [3, [0, 2]],
        "weights": [None, "imagenet"],
        "seed": [0, 2024],
    }
    for name, values in allowed.items():
        check = by_name()[name].check
        assert check is not None
        for value in values:
            check(name, value)


def test_a_batch_is_as_large_as_the_images_allow(capsys: pytest.CaptureFixture[str]) -> None:
    images = data_of([0, 1] * 5, names="abcdefghij").train
    assert fit_batch_size("batch_size", 4, images) == 4
    assert fit_batch_size("batch_size", 10, images) == 10
    assert capsys.readouterr().out == ""
    assert fit_batch_size("batch_size", 32, images) == 10
    assert capsys.readouterr().out == "note: --batch_size 32 is larger than the number of images: each batch has 10\n"
    with pytest.raises(DataError, match=r"there are 1 images to learn from, but 1 process\(es\) need at least 2"):
        fit_batch_size("batch_size", 32, data_of([0], names="a").train)


def test_all_parts_are_built_before_the_first_phase() -> None:
    config = json.loads((shipped_bundle("fgssl") / "configs" / "train.json").read_text())
    steps = [re.match(r"\$@?([\w.#]+)", line)[1] for line in config["run"]]
    position = steps.index("fgssl.build_first")
    # Checks may come before, the lock and the log, and nothing that takes time.
    first = [step for step in steps[:position] if not step.startswith("fgssl.check_")]
    assert first == ["fgssl.lock_output", "fgssl.open_log"]
    built = re.fullmatch(r"\$fgssl\.build_first\((.*)\)", config["run"][position])
    assert built is not None
    assert {"@report", "@pretrain#trainer", "@train#trainer", "@test#dataloader"} <= set(built[1].split(", "))


def test_a_final_model_has_the_norm_statistics_of_more_images_than_a_validation() -> None:
    config = json.loads((shipped_bundle("fgssl") / "configs" / "train.json").read_text())
    batch = config["batch_norm_dataloader"]["batch_size"]
    (of_validation,) = [one for one in config["validate"]["handlers"] if one["_target_"].endswith("BatchNormUpdater")]
    final = config["train"]["batch_norms"]
    most = inspect.signature(BatchNormUpdater).parameters["num_batches"].default
    assert (batch * of_validation["num_batches"], batch * final.get("num_batches", most)) == (256, 1024)
    assert f"sample({batch * most}, " in config["batch_norm_dataloader"]["dataset"]
    steps = [re.match(r"\$@?([\w.#]+)", line)[1] for line in config["run"]]
    # After the weights are final, and before anything is fitted to what they predict.
    places = [steps.index(name) for name in ("validate#weights_saver.load", "train#batch_norms.update")]
    assert places == [places[0], places[0] + 1]
    assert places[1] < min(map(steps.index, ("fgssl.weigh_members", "calibrate#evaluator.run", "fgssl.save_model")))


def test_folders_may_be_called_like_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert as_path("output_dir", None) is None
    assert as_path("output_dir", "a/b") == "a/b"
    assert as_path("output_dir", 2024) == "2024"
    typed = ["--output_dir", "2024_05", "--dataset_dir=0", "--cache_dir", "[a,b]"]
    monkeypatch.setattr(sys, "argv", ["/lib/monai/bundle/__main__.py", "run", *typed])
    # As Python Fire reads them.
    assert as_path("output_dir", 202405) == "2024_05"
    assert as_path("dataset_dir", 0) == "0"
    assert as_path("cache_dir", ["a", "b"]) == "[a,b]"


def test_shares_of_parts_are_refused_beside_a_split(monkeypatch: pytest.MonkeyPatch) -> None:
    root = shipped_bundle("fgssl")
    command = ["/lib/monai/bundle/__main__.py", "run", "--config_file", str(root / "train.json")]
    # What a command changes in its process.
    monkeypatch.setattr("monai_fgssl.bundle.settings.stop_quietly", lambda: None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", [*command, "--split_from", "split.json", "--fractions", "{'train': 1}"])
    with pytest.raises(SettingsError, match="--split_from and --fractions both say how the images are split"):
        check_settings(str(root), {"split_from": "split.json"})


@pytest.mark.parametrize("name", ["train.json", "inference.json"])
def test_configs_use_paths_as_they_were_typed(name: str) -> None:
    folder = shipped_bundle("fgssl") / "configs"
    paths = json.loads((folder / name).read_text(encoding="utf-8"))["paths"]
    assert paths == {path: f"$fgssl.as_path('{path}', @{path})" for path in paths}
    for file in folder.glob("*.json"):
        rest = file.read_text(encoding="utf-8").replace("$fgssl.as_path(", "")
        used = set(re.findall(rf"(?<!', )@({'|'.join(paths)})\b(?!#)", rest))
        assert not used, file
