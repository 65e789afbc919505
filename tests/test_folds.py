# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Cross-validation: what is trained, what is left alone, and the report on all folds."""

from __future__ import annotations

import csv
import html
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score, roc_auc_score

from monai_fgssl.bundle import SettingsError, folds, join_folds, save_model, shipped_bundle, train_all_folds
from monai_fgssl.bundle.identity import is_locked, lock_output
from monai_fgssl.bundle.joined_model import join_models
from monai_fgssl.bundle.model_file import load_weights, make_network, read_record
from monai_fgssl.engines.calibration import calibrate_sets
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import LogitAdjustment, Thresholds, fit_finding_sets, fit_prediction_sets, fit_thresholds
from monai_fgssl.networks import EnsembleNet
from monai_fgssl.report import Report
from monai_fgssl.report.stored import join_stored, read_stored
from monai_fgssl.tasks import TASKS
from monai_fgssl.utils.run_log import close_log

BUNDLE = shipped_bundle("fgssl")
CLASSES = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def closed_logs() -> Iterator[None]:
    """The report on all folds opens a log, which a process of its own would keep until its end."""
    yield
    close_log()


def settings_of(output: Path, **changes: Any) -> dict[str, Any]:
    return {
        "fold": "all",
        "num_folds": 3,
        "output_dir": str(output),
        "model_path": "models/model.pt",
        "task": None,
        "max_epochs": 5,
        "grids": (4, 2),
    } | changes


def finish(output: Path, fold: int, **changes: Any) -> PredictionCollector:
    """Write the results of a fold as its run does."""
    generator = torch.Generator().manual_seed(fold)
    labels = torch.arange(40) % 3
    logits = torch.randn(40, 2, 3, generator=generator) + torch.nn.functional.one_hot(labels, 3)[:, None]
    names, groups = [f"{fold} {n}" for n in range(40)], [f"{fold} {n // 2}" for n in range(40)]
    folder = output / f"fold_{fold}"
    settings = settings_of(folder, fold=fold, model_path=str(folder / "model.pt"), **changes)
    report = Report(folder, CLASSES, settings, bundle_root=BUNDLE)
    predictions = PredictionCollector(names, groups, [labels], [logits])
    report.add("FG-SSL", predictions)
    report.write({})
    return predictions


def test_the_report_is_on_the_images_of_all_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [finish(tmp_path, fold) for fold in range(3)]
    content = join_folds(tmp_path, BUNDLE, settings_of(tmp_path))
    labels = np.concatenate([part.labels for part in parts])
    predicted = np.concatenate([part.predicted for part in parts])
    row = content["methods"]["FG-SSL, 3 folds"]
    assert content["num_test_images"] == 120
    assert row["accuracy"]["value"] == pytest.approx(accuracy_score(labels, predicted))
    alone = [f1_score(part.labels, part.predicted, average="macro") for part in parts]
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert [fold["macro_f1"] for fold in written["folds"]] == pytest.approx(alone)
    assert written["fold_chance"]["macro_f1"]["folds"] == pytest.approx(np.std(alone, ddof=1))
    sentence = f"standard deviation {np.std(alone, ddof=1):.3f}. The choice of a fold's test images alone makes"
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert sentence in html.unescape(" ".join((tmp_path / "report.html").read_text().split()))
    assert sentence in (tmp_path / "model_card.md").read_text()
    # No single model belongs to all folds.
    assert "--model_path" not in (tmp_path / "report.html").read_text()
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 121


def test_only_missing_folds_are_trained_and_the_last_one_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(tmp_path, 0)
    commands: list[list[str]] = []

    def run(command: list[str], environment: dict[str, str]) -> int:
        commands.append(command)
        finish(tmp_path, int(command[command.index("--fold", command.index("all")) + 1]))
        return 0

    monkeypatch.setattr(folds, "in_bundle_command", lambda: True)
    monkeypatch.setattr(sys, "argv", ["monai", "run", "--config_file", "train.json", "--fold", "all"])
    monkeypatch.setattr(folds, "_run", run)
    busy = [tmp_path / "fold_1"]
    monkeypatch.setattr(folds, "is_locked", lambda folder: folder in busy)
    with pytest.raises(SystemExit) as end:
        train_all_folds(BUNDLE, settings_of(tmp_path))
    assert end.value.code == 0
    assert len(commands) == 1
    assert commands[0][-6:] == ["--output_dir", *_of(tmp_path / "fold_2"), "--resume", "true"]
    said = capsys.readouterr().out
    assert "fold 0 of 3 is finished" in said
    assert "fold 1 of 3 is being trained by another process" in said
    assert "not finished yet: fold 1" in said
    assert not (tmp_path / "metrics.json").exists()
    busy.clear()
    with pytest.raises(SystemExit):
        train_all_folds(BUNDLE, settings_of(tmp_path))
    assert len(commands) == 2
    assert json.loads((tmp_path / "metrics.json").read_text())["num_test_images"] == 120


def _of(folder: Path) -> list[str]:
    return [str(folder), "--model_path", str(folder / "model.pt")]


def test_processes_of_torchrun_begin_with_different_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []

    def run(command: list[str], environment: dict[str, str]) -> int:
        order.append(int(command[command.index("--fold", command.index("all")) + 1]))
        finish(tmp_path, order[-1])
        return 0

    monkeypatch.setattr(folds, "in_bundle_command", lambda: True)
    monkeypatch.setattr(sys, "argv", ["monai", "run", "--config_file", "train.json", "--fold", "all"])
    monkeypatch.setattr(folds, "_run", run)
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(SystemExit):
        train_all_folds(BUNDLE, settings_of(tmp_path))
    assert order == [1, 2, 0]


def test_a_failed_fold_ends_the_command_with_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "in_bundle_command", lambda: True)
    monkeypatch.setattr(folds, "_run", lambda *_: 3)
    with pytest.raises(SystemExit) as end:
        train_all_folds(BUNDLE, settings_of(tmp_path))
    assert end.value.code == 3


def test_a_fold_that_another_process_takes_in_the_same_second_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both have looked before either has locked the folder; then the run of this process is refused."""
    holder: list[subprocess.Popen[str]] = []
    program = "import sys; from monai_fgssl.bundle import lock_output; lock_output(sys.argv[1]); print(1); input()"

    def run(command: list[str], environment: dict[str, str]) -> int:
        folder = tmp_path / f"fold_{command[command.index('--fold', command.index('all')) + 1]}"
        if folder.name == "fold_1":
            words = [sys.executable, "-u", "-c", program, str(folder)]
            holder.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            assert holder[0].stdout is not None
            assert holder[0].stdout.readline() == "1\n"
            return folds.TAKEN
        finish(tmp_path, int(folder.name[-1]))
        return 0

    monkeypatch.setattr(folds, "in_bundle_command", lambda: True)
    monkeypatch.setattr(sys, "argv", ["monai", "run", "--config_file", "train.json", "--fold", "all"])
    monkeypatch.setattr(folds, "_run", run)
    try:
        with pytest.raises(SystemExit) as end:
            train_all_folds(BUNDLE, settings_of(tmp_path))
    finally:
        holder[0].communicate("\n")
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "fold 1 of 3 was taken by another process" in said
    assert "not finished yet: fold 1" in said
    assert (tmp_path / "fold_2" / "metrics.json").is_file()


def test_folds_with_other_settings_and_other_ways_to_run_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_all_folds(BUNDLE, settings_of(tmp_path, fold=0))
    with pytest.raises(SettingsError, match="from Python, run each fold"):
        train_all_folds(BUNDLE, settings_of(tmp_path))
    monkeypatch.setattr(folds, "in_bundle_command", lambda: True)
    finish(tmp_path, 1, max_epochs=6)
    with pytest.raises(
        SettingsError, match=r"fold_1 has a finished fold with other settings \(max_epochs 6 there, 5 now"
    ):
        train_all_folds(BUNDLE, settings_of(tmp_path))


@pytest.mark.parametrize("name", ["pretrained", "weights"])
def test_a_start_that_a_fold_overwrites_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folds, "in_bundle_command", lambda: True)
    start = str(tmp_path / "fold_1" / ".." / "fold_2" / "model.pt")
    with pytest.raises(SettingsError, match=rf"--{name} .*model.pt is in the folder of a fold"):
        train_all_folds(BUNDLE, settings_of(tmp_path, **{name: start}))


@pytest.mark.parametrize(
    ("device", "visible", "rank", "expected"),
    [
        ("cuda", None, "1", "1"),
        ("cuda", "GPU-a, GPU-b", "1", "GPU-b"),
        ("cuda", "4,7", "2", "4"),
        ("cuda", "3,5", None, "3,5"),
        ("cuda:0", "3,5", "1", "3,5"),
        ("cpu", None, "1", None),
    ],
)
def test_a_fold_of_a_process_of_torchrun_has_its_own_gpu_and_no_group(
    monkeypatch: pytest.MonkeyPatch, device: str, visible: str | None, rank: str | None, expected: str | None
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name, value in (("CUDA_VISIBLE_DEVICES", visible), ("LOCAL_RANK", rank), ("RANK", rank)):
        if value is not None:
            monkeypatch.setenv(name, value)
    for name in ("WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setattr(folds.torch.cuda, "device_count", lambda: 2)
    found = folds._environment_of_a_fold(device)
    assert found.get("CUDA_VISIBLE_DEVICES") == expected
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "TORCHELASTIC_RUN_ID"} & set(found)
    assert {folds.ONE_OF_ALL, "PATH"} <= set(found)


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (["--train#loss#label_smoothing", "0.1"], [], "train#loss#label_smoothing '0.1' there, None now"),
        ([], ["--train::loss::label_smoothing=0.2"], "train#loss#label_smoothing None there, '0.2' now"),
        (["--train#mixup", "1"], ["--train::mixup=1", "--device", "cpu"], ""),
    ],
)
def test_folds_with_other_nested_settings_are_refused(
    before: list[str], now: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "in_bundle_command", lambda: True)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "monai.bundle", "run", *before])
    for fold in range(3):
        finish(tmp_path, fold)
    monkeypatch.setattr(sys, "argv", ["monai.bundle", "run", *now])
    with pytest.raises(SettingsError if told else SystemExit) as error:
        train_all_folds(BUNDLE, settings_of(tmp_path))
    assert told in str(error.value)


def test_folds_with_other_nested_settings_in_a_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "args.json"
    command = ["run", "--args_file", str(file)]
    monkeypatch.setattr(folds, "in_bundle_command", lambda: True)
    monkeypatch.setattr(sys, "argv", ["monai.bundle", *command])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "monai.bundle", *command])
    file.write_text(json.dumps({"train#loss#label_smoothing": 0.1}), encoding="utf-8")
    for fold in range(3):
        folder = tmp_path / f"fold_{fold}"
        # The run of the fold.
        train_all_folds(BUNDLE, settings_of(folder, fold=fold))
        finish(tmp_path, fold)
    # The same file, with another value.
    file.write_text(json.dumps({"train#loss#label_smoothing": 0.2}), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"train#loss#label_smoothing '0.1' there, '0.2' now"):
        train_all_folds(BUNDLE, settings_of(tmp_path))


def test_models_of_seeds_that_an_earlier_command_had_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in range(3):
        finish(tmp_path, fold)
    write_models(tmp_path, [1.0, 1.0, 1.0])
    for name in ("model.pt", "model.json"):
        (tmp_path / "fold_1" / "seed_2").mkdir(exist_ok=True)
        shutil.copy(tmp_path / "fold_0" / name, tmp_path / "fold_1" / "seed_2" / name)
    path = tmp_path / "all.pt"
    join_folds(tmp_path, BUNDLE, settings_of(tmp_path, model_path=str(path)))
    assert read_record(BUNDLE, path)["network_def"]["num_members"] == 3
    path.unlink()
    join_folds(tmp_path, BUNDLE, settings_of(tmp_path, model_path=str(path), seeds=2))
    assert "must have the model.pt of all of its seeds" in " ".join(capsys.readouterr().out.split())
    assert not path.is_file()


def test_a_folder_in_use_is_recognized(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / "none")
    program = f"from monai_fgssl.bundle.identity import is_locked; print(is_locked({str(tmp_path)!r}))"
    lock_output(tmp_path)
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "True"
    ended = f"from monai_fgssl.bundle import lock_output; lock_output({str(tmp_path / 'other')!r})"
    subprocess.run([sys.executable, "-c", ended], check=True)
    assert not is_locked(tmp_path / "other")


def test_folds_of_findings_are_joined(tmp_path: Path) -> None:
    thresholds, parts = Thresholds((0.4, 0.7)), []
    for fold in range(3):
        generator = torch.Generator().manual_seed(fold)
        labels = torch.randint(-1, 2, (40, 2), generator=generator)
        logits = torch.randn(40, 2, 2, generator=generator) + labels[:, None]
        names, groups = [f"{fold} {n}" for n in range(40)], [f"{fold} {n // 2}" for n in range(40)]
        folder = tmp_path / f"fold_{fold}"
        report = Report(
            folder, ["x", "y"], settings_of(folder, fold=fold), bundle_root=BUNDLE, task=TASKS["multilabel"]
        )
        part = PredictionCollector(names, groups, [labels], [logits], task=TASKS["multilabel"], adjustment=thresholds)
        report.add("FG-SSL", part)
        report.write({})
        parts.append(part)
    content = join_folds(tmp_path, BUNDLE, settings_of(tmp_path))
    labels, predicted = (
        np.concatenate([np.asarray(getattr(p, name)) for p in parts]) for name in ("labels", "predicted")
    )
    probabilities = np.concatenate([part.probabilities for part in parts])
    known = labels >= 0
    row = content["methods"]["FG-SSL, 3 folds"]
    assert row["micro_f1"]["value"] == pytest.approx(f1_score(labels[known], predicted[known]))
    assert row["micro_auc"]["value"] == pytest.approx(roc_auc_score(labels[known], probabilities[known]), abs=1e-6)
    aucs = [roc_auc_score(labels[known[:, k], k], probabilities[known[:, k], k]) for k in range(2)]
    assert row["macro_auc"]["value"] == pytest.approx(np.mean(aucs), abs=1e-6)
    assert len(content["folds"]) == 3
    with (tmp_path / "predictions.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    np.testing.assert_allclose([[float(row[name]) for name in "xy"] for row in rows], probabilities, atol=1e-6)


def test_folds_of_grades_are_joined_by_their_own_metrics(tmp_path: Path) -> None:
    parts = []
    for fold in range(3):
        generator = torch.Generator().manual_seed(fold)
        labels = torch.arange(40) % 3
        logits = torch.randn(40, 2, 3, generator=generator) + torch.nn.functional.one_hot(labels, 3)[:, None]
        names = [f"{fold} {n}" for n in range(40)]
        folder = tmp_path / f"fold_{fold}"
        report = Report(folder, CLASSES, settings_of(folder, fold=fold), bundle_root=BUNDLE, task=TASKS["ordinal"])
        parts.append(PredictionCollector(names, names, [labels], [logits], task=TASKS["ordinal"]))
        report.add("FG-SSL", parts[-1])
        report.write({})
    content = join_folds(tmp_path, BUNDLE, settings_of(tmp_path))
    labels, predicted = (np.concatenate([np.asarray(getattr(p, n)) for p in parts]) for n in ("labels", "predicted"))
    row = content["methods"]["FG-SSL, 3 folds"]
    assert row["kappa"]["value"] == pytest.approx(cohen_kappa_score(labels, predicted, weights="quadratic"))
    assert [set(fold) for fold in content["folds"]] == [set(row)] * 3


SMALL = {"backbone": "tiny-cnn", "spatial_dims": 2, "in_channels": 3, "num_classes": 3, "width": 8, "embedding_dim": 6}


def write_models(
    output: Path, temperatures: list[float], class_names: Sequence[str] = CLASSES, **changes: Any
) -> list[EnsembleNet]:
    """Write a model of other weights into the folder of each fold."""
    networks = []
    for fold, temperature in enumerate(temperatures):
        torch.manual_seed(fold)
        network = EnsembleNet(**SMALL | {"num_classes": len(class_names)}).eval()
        # Larger logits than at the start of a training.
        network.member_weights.fill_(5.0)
        path = output / f"fold_{fold}" / "model.pt"
        save_model(network, path, class_names, 32, temperature, **changes)
        networks.append(network)
    return networks


def test_the_models_of_all_folds_become_one_that_predicts_with_their_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in range(3):
        finish(tmp_path, fold)
    temperatures = [0.5, 1.0, 2.0]
    networks = write_models(tmp_path, temperatures, adjustment=LogitAdjustment(0.5, (0.5, 0.25, 0.25)))
    path = tmp_path / "all.safetensors"
    join_folds(tmp_path, BUNDLE, settings_of(tmp_path, model_path=str(path), coverage=0.9))
    assert f"model of all folds, the mean of 3 models: {path}" in capsys.readouterr().out
    assert str(path) in (tmp_path / "report.html").read_text()
    record = read_record(BUNDLE, path)
    network = make_network(BUNDLE, path).eval()
    load_weights(network, path)
    x = torch.rand(5, 3, 32, 32)
    with torch.no_grad():
        expected = [(net(x) / t).softmax(1) for net, t in zip(networks, temperatures, strict=True)]
        torch.testing.assert_close(network(x).softmax(1), torch.stack(expected).mean(0), rtol=0, atol=1e-5)
    assert record["temperature"] == 1
    assert record["logit_adjustment"]["strength"] == 0.5
    # Fitted to the predictions of all images, each by the model that has not seen it.
    joined = join_stored([read_stored(tmp_path / f"fold_{fold}" / "predictions.npz") for fold in range(3)])[0]
    sets = calibrate_sets(joined, 1.0, 0.9, False, "raps")
    assert record["prediction_sets"] == json.loads(json.dumps(sets.to_record()))


def test_members_with_and_without_a_decision_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for fold in range(3):
        finish(tmp_path, fold)
    write_models(tmp_path, [1.0, 1.0, 1.0], adjustment=LogitAdjustment(0.5, (0.5, 0.25, 0.25)))
    save_model(EnsembleNet(**SMALL), tmp_path / "fold_2" / "model.pt", CLASSES, 32)
    path = tmp_path / "all.pt"
    join_folds(tmp_path, BUNDLE, settings_of(tmp_path, model_path=str(path)))
    assert "note: 1 of 3 models decide for the likeliest class" in " ".join(capsys.readouterr().out.split())
    assert read_record(BUNDLE, path)["logit_adjustment"] is None


@pytest.mark.parametrize("images", [10, 40])
def test_thresholds_of_a_joined_model_need_as_many_images_as_those_of_its_members(images: int, tmp_path: Path) -> None:
    write_models(tmp_path, [1.0, 1.0], ["x", "y"], task="multilabel", adjustment=Thresholds((0.5, 0.5)))
    members = [tmp_path / f"fold_{fold}" / "model.pt" for fold in range(2)]
    labels = (torch.rand(images, 2) < 0.5).long()
    names = [str(n) for n in range(images)]
    logits = torch.randn(images, 1, 2) - 3 + labels[:, None]
    predictions = PredictionCollector(names, names, [labels], [logits], task=TASKS["multilabel"])
    path = tmp_path / "all.pt"
    assert join_models("seeds", members, path, BUNDLE, predictions, {"coverage": None})
    assert (read_record(BUNDLE, path)["thresholds"] == [0.5, 0.5]) == (images == 10)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_the_rules_of_the_model_of_all_folds_fit_the_mean_of_the_seeds(tmp_path: Path, task: str) -> None:
    means, labels = [], []
    kind, classes = TASKS[task], CLASSES if task == "multiclass" else ["x", "y"]
    for fold in range(2):
        generator = torch.Generator().manual_seed(fold)
        of_images = torch.randint(0, 2, (80, 2), generator=generator) if kind.independent else torch.arange(80) % 3
        signal = of_images if kind.independent else torch.nn.functional.one_hot(of_images, 3)
        folder, names = tmp_path / f"fold_{fold}", [f"{fold} {n}" for n in range(80)]
        settings = settings_of(folder, fold=fold, seeds=3)
        report = Report(folder, classes, settings, bundle_root=BUNDLE, task=kind)
        of_seeds = [2 * (torch.randn(80, 2, len(classes), generator=generator) + signal[:, None]) for _ in range(3)]
        rule = Thresholds((0.5, 0.5)) if kind.independent else None
        found = [PredictionCollector(names, names, [of_images], [one], task=kind, adjustment=rule) for one in of_seeds]
        for of_seed in found:
            report.add("FG-SSL", of_seed)
        report.write({})
        means.append(torch.stack([of_seed.probabilities.double() for of_seed in found]).mean(0))
        labels.append(of_images)
    write_models(
        tmp_path, [1.0, 1.0], classes, task=task, adjustment=Thresholds((0.5, 0.5)) if kind.independent else None
    )
    for of_seed in ("fold_0/seed_2", "fold_0/seed_3", "fold_1/seed_2", "fold_1/seed_3"):
        (tmp_path / of_seed).mkdir()
        for name in ("model.pt", "model.json"):
            shutil.copy(tmp_path / of_seed / ".." / name, tmp_path / of_seed / name)
    path = tmp_path / "all.pt"
    join_folds(tmp_path, BUNDLE, settings_of(tmp_path, num_folds=2, seeds=3, model_path=str(path), coverage=0.9))
    mean, truth, record = torch.cat(means).numpy(), torch.cat(labels).numpy(), read_record(BUNDLE, path)
    if kind.independent:
        assert record["thresholds"] == pytest.approx(fit_thresholds(mean, truth), abs=1e-6)
        expected = fit_finding_sets(mean, truth, 0.9).to_record()
        for name in ("highest", "lowest"):
            assert record["prediction_sets"][name] == pytest.approx(expected[name], abs=1e-6)
    else:
        expected = fit_prediction_sets(mean, truth, 0.9, False, "raps").to_record()
        assert record["prediction_sets"]["thresholds"] == pytest.approx(expected["thresholds"], abs=1e-6)


def test_models_of_other_settings_are_not_joined_and_the_report_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold in range(3):
        finish(tmp_path, fold)
    write_models(tmp_path, [1.0, 1.0, 1.0])
    save_model(EnsembleNet(**SMALL | {"width": 16}), tmp_path / "fold_2" / "model.pt", CLASSES, 32)
    join_folds(tmp_path, BUNDLE, settings_of(tmp_path, model_path=str(tmp_path / "all.pt")))
    said = " ".join(capsys.readouterr().out.split())
    assert "note: no model of all folds:" in said
    assert "has another network_def than" in said
    assert not (tmp_path / "all.pt").exists()
    assert (tmp_path / "report.html").is_file()
