# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The accuracy benchmark: its protocol, its metrics, and tiny runs from end to end."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.nets import ResNet
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    recall_score,
    roc_auc_score,
)
from sklearn.model_selection import GroupKFold

from benchmarks.accuracy import (
    answers,
    collect,
    methods,
    model_card,
    protocol,
    recipes,
    report,
    scoring,
    short,
    show,
    store,
    training,
)
from benchmarks.accuracy import run as harness
from benchmarks.accuracy.claims import claim
from benchmarks.accuracy.fine_tunings import LogitAdjustedLoss
from benchmarks.accuracy.methods import HEADS_FIRST, Run
from benchmarks.accuracy.questions import QUESTIONS, SCALES
from benchmarks.accuracy.results import Results
from monai_fgssl.data import CachedImages, DataError
from monai_fgssl.engines import PreTrainer
from monai_fgssl.metrics import expected_calibration_error
from monai_fgssl.networks import StagedBackbone

ROOT = Path(__file__).parents[1]
CLASSES = protocol.DATA_SETS["aptos2019"].class_names
TINY = ["image_size=32", "width=8", "embedding_dim=8", "pretrain_epochs=1", "max_epochs=1"]
TINY += ["pretrain_batch_size=16", "batch_size=16"]
SETTINGS = tuple(sorted((name, value) for name, value in (word.split("=") for word in TINY)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A data set in the layout of APTOS 2019 with 5 unequal classes, a darker copy of every fourth image; its split."""
    root = tmp_path_factory.mktemp("accuracy")
    images = root / "data" / "aptos2019" / "train_images"
    images.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for label, count in enumerate((40, 16, 24, 12, 12)):
        for number in range(count):
            # Coarse noise: every image has a structure of its own; classes differ in color.
            noise = np.kron(rng.integers(40, 160, (16, 16, 3)), np.ones((4, 4, 1)))
            noise[..., label % 3] += 15 * label
            names = [f"class{label}_{number:02d}"] + ([f"copy{label}_{number:02d}"] if number % 4 == 0 else [])
            for name, factor in zip(names, (1, 0.8), strict=False):
                Image.fromarray((factor * noise).clip(0, 255).astype(np.uint8)).save(images / f"{name}.png")
                rows.append((name, label))
    with (images.parent / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id_code", "diagnosis"), *rows])
    protocol.make_split(root / "data", "aptos2019", root / "splits")
    return {"data": root / "data", "splits": root / "splits", "work": root / "work", "root": root}


@pytest.fixture(scope="module")
def parts(folders: dict[str, Path]) -> dict[str, list[dict[str, Any]]]:
    return protocol.read_parts(folders["data"], "aptos2019", folder=folders["splits"])


@pytest.fixture(autouse=True)
def narrow_resnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """An eighth of the channels: nothing here depends on them but the time."""

    def build(name: str, spatial_dims: int, in_channels: int, small: bool) -> Any:
        channels = [8, 16, 32, 64]
        net = ResNet("basic", [1, 1, 1, 1], channels, spatial_dims, in_channels, feed_forward=False)
        stem = torch.nn.Sequential(net.conv1, net.bn1, net.act, net.maxpool)
        stages = [net.layer1, net.layer2, net.layer3, net.layer4]
        return net, lambda: StagedBackbone(stem, stages, channels, (4, 8, 16, 32))

    monkeypatch.setattr("monai_fgssl.networks.backbones.make.build_resnet", build)


def make_place(folders: dict[str, Path], work: str = "work") -> training.Place:
    return training.Place(folders["data"], folders["root"] / work, splits=folders["splits"])


def test_copies_stay_in_one_part_of_the_grouped_split_only(
    folders: dict[str, Path], parts: dict[str, list[dict[str, Any]]]
) -> None:
    part_of = {item["name"]: part for part, items in parts.items() for item in items}
    copies = [name for name in part_of if name.startswith("copy")]
    assert len(part_of) == 130
    assert len(copies) == 26
    assert all(part_of[name] == part_of[name.replace("copy", "class")] for name in copies)
    assert all({item["label"] for item in items} == set(range(5)) for items in parts.values())
    by_chance = protocol.read_parts(folders["data"], "aptos2019", "random", folders["splits"])
    part_of = {item["name"]: part for part, items in by_chance.items() for item in items}
    assert any(part_of[name] != part_of[name.replace("copy", "class")] for name in copies)


@pytest.mark.parametrize("name", ["isic2018", "isic2017", "aptos2019"])
def test_fixed_splits_tear_no_pair_of_duplicates_apart(name: str) -> None:
    content = json.loads(protocol.split_file(name, "grouped").read_text())
    parts = {part: content[part] for part in ("train", "validation", "test")}
    names = [image for images in parts.values() for image in images]
    assert len(set(names)) == len(names) > 2000
    part_of = {image: part for part, images in parts.items() for image in images}
    with (protocol.SPLITS / f"{name}_duplicates.csv").open(newline="") as file:
        pairs = [(row["first"], row["second"]) for row in csv.DictReader(file)]
    both = [(a, b) for a, b in pairs if a in part_of and b in part_of]
    assert all(part_of[a] == part_of[b] for a, b in both)


def test_budgets_are_nested_and_stratified(folders: dict[str, Path]) -> None:
    place = make_place(folders)
    data = protocol.load_data(str(place.data_dir), "aptos2019", "grouped", 32, str(place.work_dir), place.splits)
    total = np.bincount(data.train.labels)
    inner: set[str] = set()
    for share in protocol.BUDGETS:
        chosen = protocol.label_budget(data.train, share, seed=3)
        assert inner <= set(chosen.names)
        inner = set(chosen.names)
        counts = np.bincount(chosen.labels, minlength=5)
        assert (counts >= 1).all()
        # Whole groups of at most two images.
        surplus = counts - np.maximum(1, np.round(share * total))
        assert ((surplus == 0) | (surplus == 1)).all()
        for i, name in enumerate(chosen.names):
            assert name[:6] in (f"class{chosen.labels[i]}", f"copy{chosen.labels[i]}_")
    assert inner == set(data.train.names)
    assert set(protocol.label_budget(data.train, 0.25, 4).names) != set(
        protocol.label_budget(data.train, 0.25, 3).names
    )


def test_an_epoch_over_few_labels_shows_each_equally_often(folders: dict[str, Path]) -> None:
    place = make_place(folders)
    data = protocol.load_data(str(place.data_dir), "aptos2019", "grouped", 32, str(place.work_dir), place.splits)
    few = protocol.label_budget(data.train, 0.1, seed=0)
    many = protocol.repeated(few, 50)
    counts = np.unique(many.names, return_counts=True)[1]
    assert len(many) == 50
    assert counts.max() - counts.min() <= 1
    position = few.names.index(many.names[7])
    assert torch.equal(many[7]["image"], few[position]["image"])


@pytest.fixture(scope="module")
def predictions() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities with ties, and labels."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(5), (40, 20, 10, 6, 4))
    prob = rng.dirichlet(np.ones(5), len(labels)) + 0.5 * np.eye(5)[labels] * rng.random((len(labels), 1))
    prob = np.round(prob / prob.sum(1, keepdims=True), 2)
    return prob, labels


def sklearn_metrics(prob: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    used = weight > 0
    prob, labels, weight = prob[used], labels[used], weight[used]
    predicted = prob.argmax(1)
    seen = np.unique([*labels, *predicted])
    aucs = [roc_auc_score(labels == k, prob[:, k], sample_weight=weight) for k in range(5)]
    return {
        "accuracy": accuracy_score(labels, predicted, sample_weight=weight),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted, sample_weight=weight),
        "macro_f1": f1_score(labels, predicted, labels=seen, average="macro", sample_weight=weight),
        "kappa": cohen_kappa_score(labels, predicted, weights="quadratic", sample_weight=weight),
        "macro_auc": np.mean(aucs),
        "mean_auc": np.mean(aucs[:-1]),
        "recall_Mild": recall_score(labels, predicted, labels=[1], average="macro", sample_weight=weight),
        "auc_Severe": aucs[3],
    }


def test_metrics_are_those_of_sklearn(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    prob, labels = predictions
    weights = np.random.default_rng(2).integers(0, 4, (20, len(labels))).astype(float)
    found = scoring.measure(prob, labels, CLASSES, weights)
    for row, weight in enumerate(weights):
        for name, value in sklearn_metrics(prob, labels, weight).items():
            assert found[name][row] == pytest.approx(value, abs=1e-12), name
    once = scoring.measure(prob, labels, CLASSES)
    assert once["calibration_error"].item() == pytest.approx(expected_calibration_error(prob, labels))


def test_classes_that_a_sample_lacks_are_left_out(predictions: tuple[np.ndarray, np.ndarray]) -> None:
    prob, labels = predictions
    weight = (labels != 3).astype(float)[None]
    found = scoring.measure(prob, labels, CLASSES, weight)
    kept = labels != 3
    recalls = [(prob[labels == k].argmax(1) == k).mean() for k in (0, 1, 2, 4)]
    assert found["balanced_accuracy"].item() == pytest.approx(np.mean(recalls))
    assert np.isnan(found["auc_Severe"].item())
    aucs = [roc_auc_score(labels[kept] == k, prob[kept, k]) for k in (0, 1, 2, 4)]
    assert found["macro_auc"].item() == pytest.approx(np.mean(aucs))


def test_intervals_hold_the_chance_of_images_and_of_seeds() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(0, 1, 20000)
    alone = scoring.interval([0.0], [draws])
    assert alone["low"] == pytest.approx(np.quantile(draws, 0.025))
    assert alone["high"] == pytest.approx(np.quantile(draws, 0.975))
    assert alone["p"] > 0.9
    # Seeds far apart, images without chance: the mean of 3 draws out of 3 seeds.
    seeds = scoring.interval([0, 3, 6], [np.zeros(20000), np.full(20000, 3), np.full(20000, 6)])
    assert seeds["value"] == 3
    assert (seeds["low"], seeds["high"]) == (0, 6)
    first = {s: {"values": {"m": 2.0 + s}, "draws": {"m": draws + 2 + s}} for s in (0, 1)}
    second = {s: {"values": {"m": 1.0 + s}, "draws": {"m": draws + 1 + s}} for s in (0, 1, 2)}
    paired = scoring.difference(first, second, "m")
    assert paired is not None
    assert paired == pytest.approx({"value": 1, "low": 1, "high": 1, "p": 0})
    assert scoring.difference(first, {5: second[0]}, "m") is None


def test_a_run_is_named_by_what_decides_it() -> None:
    run = Run("isic2018", settings=SETTINGS)
    names = {
        run.name(),
        run.but(seed=1).name(),
        run.but(budget=0.1).name(),
        run.but(transfer="backbone").name(),
        run.but(split="random").name(),
        run.but(select_on="test").name(),
        run.but(pretrain_on="isic2017").name(),
        run.but({"width": 64}).name(),
        run.but({"distorted_view#blur_prob": 0.9}).name(),
        run.but({"train#loss#label_smoothing": 0.1}).name(),
        run.but({"pretrain#trainer#schedule": "joint"}).name(),
        run.but({"augmentation": {"_target_": "monai_fgssl.transforms.RandView"}}).name(),
        run.but({"pretrain#loss": {"_target_": "monai.losses.BarlowTwinsLoss"}}).name(),
    }
    assert len(names) == 13
    shared = run.pretrained_name()
    assert run.but({"max_epochs": 99, "train#loss#label_smoothing": 0.1}, budget=0.1).pretrained_name() == shared
    assert run.but({"width": 64}).pretrained_name() != shared
    assert run.but({"distorted_view#blur_prob": 0.2}).name() == run.name()
    barlow_twins = run.but(pretraining="barlow_twins", fine_tuning="plain")
    assert barlow_twins.but({"width": 64, "grids": [8, 4, 2], "redundancy_weight": 0.005}).name() == barlow_twins.name()
    assert barlow_twins.but({"redundancy_weight": 0.01}).name() != barlow_twins.name()
    # Seeds of fine-tuning may share a pre-training.
    after = run.but(seed=1, pretrain_seed=0)
    assert after.pretrained_name() == shared
    assert after.name() not in {*names, run.but(seed=1).name()}
    assert "--seeds 1 --pretrain_seed 0" in after.command()
    assert run.but(pretrain_seed=0).name() == run.name()
    random = run.but(pretraining="none")
    assert random.but(pretrain_seed=3).name() == random.name()
    assert random.but({"pretrain_epochs": 50}).name() == random.name()


def test_each_seed_has_its_own_pretraining_only_where_the_question_says_so() -> None:
    names = {key: set() for key in ("a", "m")}
    for key, found in names.items():
        for run in QUESTIONS[key].runs(["aptos2019"], [0, 1, 2]):
            if (run.pretraining, run.fine_tuning) == ("fgssl", "linear"):
                found.add(run.pretrained_name())
    assert len(names["a"]) == 1
    assert len(names["m"]) == 3
    # That of the first seed is the same, and its runs are not made twice.
    assert names["a"] < names["m"]


def test_what_is_beyond_chance_is_said_in_words() -> None:
    gains = {
        "better, plain": {"value": 0.05, "low": 0.01, "high": 0.09, "p": 0.01},
        "worse, plain": {"value": -0.03, "low": -0.05, "high": -0.01, "p": 0.01},
        "equal, plain": {"value": 0.01, "low": -0.01, "high": 0.03, "p": 0.3},
    }
    (text,) = answers.verdict(gains)
    assert text.startswith("2 of 3 differences are beyond chance")
    assert "better, plain (+0.050); worse, plain (-0.030)." in text
    assert answers.verdict({}) == []


def test_sentences_take_their_verdict_from_the_interval() -> None:
    gains = {
        "A": {"value": 0.05, "low": 0.01, "high": 0.09, "p": 0.01},
        "B": {"value": 0.01, "low": -0.01, "high": 0.03, "p": 0.3},
        "C": {"value": -0.03, "low": -0.05, "high": -0.01, "p": 0.01},
        "D": {"value": 0.06, "low": 0.02, "high": 0.1, "p": 0.01},
        "not run": None,
    }
    assert short.spoken(gains, "better than", "worse than", "equal to") == (
        "better than A (+0.050 [+0.010, +0.090]) and D (+0.060 [+0.020, +0.100]); "
        "worse than C (-0.030 [-0.050, -0.010]); equal to B (+0.010 [-0.010, +0.030])"
    )
    assert short.spoken({"not run": None}, "better than", "worse than", "equal to") == ""


def test_unknown_settings_are_refused(folders: dict[str, Path]) -> None:
    words = ["--data_dir", str(folders["data"]), "--dry_run", "--work_dir", str(folders["work"])]
    with pytest.raises(SystemExit, match="unknown setting --widht"):
        harness.main([*words, "--set", "widht=3"])
    with pytest.raises(SystemExit, match="--set seed: the benchmark itself sets that"):
        harness.main([*words, "--set", "seed=3"])
    with pytest.raises(SystemExit, match="write name=value"):
        harness.main([*words, "--set", "width"])


def test_a_stopped_pretraining_goes_on_to_the_same_result(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run("aptos2019", settings=SETTINGS).but({"pretrain_epochs": 2})
    whole = training.pretrain(run, make_place(folders, "whole"))
    assert whole is not None
    step_loss, calls = PreTrainer.step_loss, 0

    def terminate_in_the_second_epoch(self: PreTrainer, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        # 5 batches an epoch, one step each.
        if calls == 8:
            signal.raise_signal(signal.SIGTERM)
        return step_loss(self, *args)

    place = make_place(folders, "stopped")
    with monkeypatch.context() as patch:
        patch.setattr(PreTrainer, "step_loss", terminate_in_the_second_epoch)
        with pytest.raises(SystemExit):
            training.pretrain(run, place)
    assert not list((place.work_dir / "pretrained").glob("*.pt"))
    resumed = training.pretrain(run, place)
    assert resumed is not None
    assert resumed["images"] == whole["images"] == 2 * 5 * 16
    for name, value in whole["network"].items():
        assert torch.equal(resumed["network"][name], value), name
    assert resumed["history"]["loss_concat"] == whole["history"]["loss_concat"]
    assert resumed["history"]["weight_growth"] == whole["history"]["weight_growth"]


def test_what_another_process_works_at_is_left_to_it(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (Run("aptos2019", "none", name, settings=SETTINGS) for name in ("knn", "linear"))
    place = make_place(folders)
    made: list[str] = []
    monkeypatch.setattr(harness, "finish", lambda run, pretrained, place: run.fine_tuning)

    def record(run: Run, result: str, device: str) -> dict[str, Any]:
        made.append(result)
        scores = dict.fromkeys(protocol.DATA_SETS["aptos2019"].metrics, 0.5)
        return {"name": run.name(), "metrics": {"validation": scores}}

    monkeypatch.setattr(harness, "record", record)
    with claim(place.work_dir / "claims" / first.name()) as mine:
        assert mine
        assert not harness.make(first, place, tmp_path)
        with claim(place.work_dir / "claims" / first.name()) as again:
            assert not again
    with claim(place.work_dir / "claims" / second.pretrained_name()):
        assert not harness.make(second, place, tmp_path)
    assert made == []
    with monkeypatch.context() as patch:
        # While it waits, the other process finishes.
        stack = ExitStack()
        stack.enter_context(claim(place.work_dir / "claims" / second.name()))
        patch.setattr(harness.time, "sleep", lambda seconds: stack.close())
        harness.work_off([first, second], place, tmp_path)
    assert made == ["knn", "linear"]


def make_content(name: str, **entries: Any) -> dict[str, Any]:
    """Content of the file of a run of two images."""
    fields = {"data_set": "aptos2019", "pretraining": "none", "fine_tuning": "knn", "seed": 0, "budget": 0.1}
    fields |= {"transfer": "all", "pretrain_on": "", "split": "grouped", "select_on": "validation"}
    return {
        "name": name,
        "run": fields | {"pretrain_seed": None, "settings": {"distorted_view#crop_scale": [0.4, 1.0]}},
        "settings": {"pretrain": None, "fine-tune": {"backbone": "resnet18"}},
        "commit": "123456789012",
        "date": "2026-11-29",
        "machine": "processor, 1 thread(s)",
        "versions": {"torch": "2.13.0", "monai": "1.6.1"},
        "seconds": {"fine-tune": 0.1},
        "images": {"fine-tune": 0},
        "details": {"labels": 206},
        "temperature": 1.5,
        "metrics": {"validation": {"auc_No DR": None}, "test": {"accuracy": 0.5}},
        "history": {"fine-tune": {"loss": [[1, 0.25], [2, None]]}},
        "test_prob_times_10000": [[2500, 7500], [9999, 0]],
    } | entries


# The csv module of Python 3.10 does not read NUL.
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@settings(max_examples=50, deadline=None)
@given(text=texts, number=st.floats(allow_nan=False, allow_infinity=False), name=texts)
def test_a_row_of_the_table_is_what_was_put_in(
    tmp_path_factory: pytest.TempPathFactory, text: str, number: float, name: str
) -> None:
    folder = tmp_path_factory.mktemp("table")
    content = make_content(
        "run",
        machine=text,
        temperature=number,
        metrics={"validation": {name: number}, "test": {f"{name}.{text}": None}},
    )
    store.write_run(content, folder)
    assert store.collect([folder / "run.json"], folder) == (["run"], [])
    table = store.load_table(folder)
    assert (table.probabilities("run") * 1e4).tolist() == content.pop("test_prob_times_10000")
    assert table.runs == {"run": content}


def test_new_runs_are_folded_into_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--runs_dir", str(tmp_path / "new"), "--table_dir", str(tmp_path)]
    with pytest.raises(SystemExit, match="no files of runs in"):
        collect.main(words)
    store.write_run(make_content("first"), tmp_path / "new")
    collect.main(words)
    files = [tmp_path / "runs.csv.xz", tmp_path / "predictions.npz"]
    before = [file.read_bytes() for file in files]
    # Once more: nothing changes. What can't be folded in is named, and what is beside it is not lost.
    collect.main(words)
    assert [file.read_bytes() for file in files] == before
    store.write_run(make_content("first", temperature=2.0), tmp_path / "new")
    (tmp_path / "new" / "half.json").write_text('{"name": "half"')
    bad: dict[str, dict[str, Any]] = {"shape": {"history": None}, "type": {"date": 3}, "unknown": {"notes": "x"}}
    bad |= {"sum": {"test_prob_times_10000": [[2500, 7600]]}, "text": {"test_prob_times_10000": "none"}}
    for name, entries in bad.items():
        store.write_run(make_content(name, **entries), tmp_path / "new")
    shutil.copyfile(tmp_path / "new" / "first.json", tmp_path / "new" / "renamed.json")
    lacking = make_content("lacking")
    del lacking["seconds"]
    store.write_run(lacking, tmp_path / "new")
    old = make_content("second", command="python benchmarks/accuracy/run.py")
    old["run"]["settings"]["features"] = 512
    old["settings"]["fine-tune"]["backbone"] = {"_target_": "imagenet.efficientnet_lite0", "pretrained": True}
    store.write_run(old, tmp_path / "new")
    with pytest.raises(SystemExit) as stop:
        collect.main(words)
    told = str(stop.value).splitlines()
    assert "1 new runs, 9 that can't be folded in" in capsys.readouterr().out
    assert [Path(line.split()[1].rstrip(":")).name for line in told] == [
        *(f"{name}.json" for name in sorted(["first", "half", "lacking", "renamed", *bad]))
    ]
    table = store.load_table(tmp_path)
    assert table.runs.keys() == {"first", "second"}
    assert table.runs["first"]["temperature"] == 1.5
    # A run of before is kept with the names of today.
    assert table.runs["second"]["run"]["settings"]["embedding_dim"] == 512
    backbone = table.runs["second"]["settings"]["fine-tune"]["backbone"]
    assert backbone["_target_"] == "benchmarks.accuracy.imagenet.efficientnet_lite0"
    # Git stores what is new only: all before it has the same bytes.
    assert files[1].read_bytes().startswith(before[1][: before[1].index(b"PK\x01\x02")])
    with claim(tmp_path / store.LOCK), pytest.raises(SystemExit, match="another process is folding runs"):
        collect.main(words)
    with pytest.raises(DataError, match="no probabilities of run third"):
        table.probabilities("third")
    with pytest.raises(SystemExit, match=r"no run of the 2 in .* is named third"):
        show.main(["third", "--table_dir", str(tmp_path)])


def test_probabilities_without_a_row_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_run(make_content("first"), tmp_path)
    store.collect([tmp_path / "first.json"], tmp_path)
    store.write_run(make_content("second"), tmp_path)
    with monkeypatch.context() as patch:
        # As if the process were killed between the two files.
        patch.setattr(store, "_write_rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.collect([tmp_path / "second.json"], tmp_path)
    assert store.load_table(tmp_path).runs.keys() == {"first"}
    store.write_run(make_content("second", test_prob_times_10000=[[0, 10000]]), tmp_path)
    assert store.collect([tmp_path / "second.json"], tmp_path) == (["second"], [])
    table = store.load_table(tmp_path)
    assert table.probabilities("second").tolist() == [[0, 1]]
    assert table.probabilities("first").tolist() == [[0.25, 0.75], [0.9999, 0]]


def test_commands_of_the_table_make_the_runs_that_they_stand_beside() -> None:
    runs = store.load_table(store.TABLE).runs
    assert len(runs) > 1000
    planned = {
        run.name()
        for scale in SCALES
        for question in QUESTIONS.values()
        for run in question.runs(protocol.DATA_SETS, range(5), scale, former=True)
    }
    assert len(planned & runs.keys()) > 0.9 * len(runs)
    made = {name: Run.of(content["run"]) for name, content in runs.items()}
    # Of the others, defaults have changed since.
    same = [name for name, run in made.items() if run.name() == name]
    assert len(same) > 0.9 * len(runs)
    for name in same:
        words = shlex.split(made[name].command())
        assert words[:4] == ["python", "-m", "benchmarks.accuracy", "run"]
        assert [run.name() for run in harness.wanted_runs(harness.make_parser().parse_args(words[4:]))] == [name]


@pytest.mark.slow
def test_processes_share_the_runs(folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = ["--data_dir", str(folders["data"]), "--splits_dir", str(folders["splits"]), "--data_sets", "aptos2019"]
    words += ["--work_dir", str(tmp_path / "work"), "--runs_dir", str(tmp_path / "runs"), "--set", "image_size=32"]
    words += ["--pretrainings", "none", "--fine_tunings", "linear", "knn", "--seeds", "0", "1"]
    assert harness.share(words, 2, 1) == 0
    assert len(list((tmp_path / "runs").glob("*.json"))) == 4
    with pytest.raises(SystemExit) as stop:
        harness.main([*words[:-1], "1", "--pretrain_on", "isic2018", "--pretrainings", "fgssl", "--processes", "2"])
    assert stop.value.code == 1


@pytest.mark.slow
def test_who_stops_the_first_process_stops_all(folders: dict[str, Path], tmp_path: Path) -> None:
    words = ["--data_dir", str(folders["data"]), "--splits_dir", str(folders["splits"]), "--data_sets", "aptos2019"]
    words += ["--work_dir", str(tmp_path / "work"), "--runs_dir", str(tmp_path / "runs"), "--table_dir", str(tmp_path)]
    words += ["--set", "image_size=32", "max_epochs=100000", "--processes", "2", "--threads", "1"]
    words += ["--pretrainings", "none", "--fine_tunings", "plain", "--seeds", "0", "1"]
    process = psutil.Popen([sys.executable, "-m", "benchmarks.accuracy", "run", *words], cwd=ROOT)
    children: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 120
        # Both train when both have claimed a run.
        while len(list(tmp_path.glob("work/fine_tuned/*"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        children = process.children()
        assert len(children) == 2
        process.terminate()
        assert process.wait(60) != 0
        assert not psutil.wait_procs(children, 10)[1]
    finally:
        for left in (process, *children):
            with suppress(psutil.NoSuchProcess):
                left.kill()
    assert not list((tmp_path / "runs").glob("*.json"))


def test_transfer_of_all_weights_or_of_the_backbone() -> None:
    network = methods.configure(methods.FINE_TUNINGS["progressive"], {"width": 8, "embedding_dim": 8})
    network["class_names"] = ["a", "b"]
    target = network.get_parsed_content("network_def")
    state = {name: torch.full_like(value, 2) for name, value in target.state_dict().items()}
    before = {name: value.clone() for name, value in target.state_dict().items()}
    training.transfer_weights(target, state, "backbone")
    for name, value in target.state_dict().items():
        assert torch.equal(value, state[name] if name.startswith("backbone.") else before[name]), name
    training.transfer_weights(target, state, "all")
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name] if "classifier" in name else state[name]), name


@pytest.mark.slow
def test_tiny_runs_of_every_kind_and_their_report(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As if these were the bundle's defaults, so that the runs belong to question (a).
    monkeypatch.setitem(SCALES, "small", {name: json.loads(value) for name, value in SETTINGS})
    words = ["--data_dir", str(folders["data"]), "--splits_dir", str(folders["splits"]), "--data_sets", "aptos2019"]
    words += ["--work_dir", str(folders["work"]), "--runs_dir", str(tmp_path / "runs"), "--table_dir", str(tmp_path)]
    own = [*words, "--set", *TINY, "--budgets", "0.1", "--seeds", "0"]
    every = ["progressive", "plain", "linear", "knn"]
    harness.main([*own, "--pretrainings", "fgssl", "--fine_tunings", *every])
    second = [*own, "--pretrainings", "fgssl", "--fine_tunings", "linear", "--seeds", "1", "--pretrain_seed", "0"]
    harness.main(second)
    harness.main([*own, "--pretrainings", "none", "barlow_twins", "--fine_tunings", "plain", "--seeds", "0", "1"])
    harness.main([*own, "--pretrainings", "jigsaw", "hierarchy", "--fine_tunings", "linear", "--budgets", "0.25"])
    files = {file: file.read_bytes() for file in (tmp_path / "runs").glob("*.json")}
    assert len(files) == 4 + 1 + 4 + 2
    assert len(list((folders["work"] / "pretrained").glob("*_fgssl_*.pt"))) == 1

    run = Run("aptos2019", "fgssl", "plain", budget=0.1, settings=SETTINGS)
    content = json.loads((tmp_path / "runs" / f"{run.name()}.json").read_text())
    items = protocol.read_parts(folders["data"], "aptos2019", folder=folders["splits"])["test"]
    prob = np.array(content["test_prob_times_10000"])
    assert prob.shape == (len(items), 5)
    assert np.abs(prob.sum(1) - 10000).max() <= 3
    again = scoring.measure(prob / 1e4, [item["label"] for item in items], CLASSES)
    for name, value in again.items():
        kept = content["metrics"]["test"][name]
        assert kept is None or kept == pytest.approx(value.item(), rel=1e-3), name
        assert (kept is None) == bool(np.isnan(value.item())), name
    assert content["images"] == {"fine-tune": 16, "pretrain": 80}
    assert content["run"]["settings"]["width"] == 8
    assert max(len(data) for data in files.values()) < 60_000

    # Nothing is made twice, also when a question asks for it; without lightly its methods are left out and named.
    monkeypatch.setattr(harness, "is_there", lambda module: False)
    capsys.readouterr()
    harness.main([*words, "--question", "a", "--seeds", "0", "--dry_run"])
    told = capsys.readouterr().out
    assert "8 runs (simsiam, vicreg) are left out: lightly.loss" in told
    assert "29 runs, 14 of them there or left out, 15 to make" in told
    harness.main([*own, "--pretrainings", "fgssl", "--fine_tunings", *every])
    assert {file: file.read_bytes() for file in (tmp_path / "runs").glob("*.json")} == files

    collect.main(["--runs_dir", str(tmp_path / "runs"), "--table_dir", str(tmp_path)])
    assert "11 files: 11 new runs, 0 that" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "runs")
    harness.main([*own, "--pretrainings", "fgssl", "--fine_tunings", *every])
    assert not (tmp_path / "runs").exists()
    show.main([run.name().replace("_s0_", "_s*_"), "--table_dir", str(tmp_path)])
    assert json.loads(capsys.readouterr().out.split("0 to make\n")[1])["command"] == run.command()

    report.main(
        ["--data_dir", str(folders["data"]), "--splits_dir", str(folders["splits"]), "--output_dir", str(tmp_path)]
    )
    first = (tmp_path / "README.md").read_text()
    assert all((tmp_path / name).is_file() for name in re.findall(r"\]\((answers/\w+\.md)\)", first))
    assert len(set(re.findall(r"\]\((answers/[a-z]_\w+\.md)\)", first))) == len(QUESTIONS)
    assert "### (a) [Does FG-SSL beat each baseline?](answers/a_baselines.md)" in first
    assert "differences are beyond chance" in first
    page, second, goals = (
        (tmp_path / "answers" / f"{name}.md").read_text() for name in ("a_baselines", "b_label_budgets", "goals")
    )
    assert page.startswith("# (a) Does FG-SSL beat each baseline?\n")
    assert f"`{run.name().replace('_s0_', '_s*_')}` (0)" in page
    assert "--question b --data_sets" in second
    assert "--question b --scale large --data_sets" in second
    assert "differences are beyond chance" in page
    # FG-SSL minus plain supervised training, from the same seed.
    labels = [item["label"] for item in items]
    table = store.load_table(tmp_path)
    f1 = {}
    for name in ("fgssl", "none"):
        other = Run(
            "aptos2019", name, "progressive" if name == "fgssl" else "plain", budget=0.1, settings=SETTINGS
        ).name()
        prob = table.probabilities(other)
        f1[name] = f1_score(
            labels, prob.argmax(1), average="macro", zero_division=0, labels=np.unique([*labels, *prob.argmax(1)])
        )
    start = "| APTOS 2019 | FG-SSL, hierarchical fine-tuning, 10 % of the labels "
    start += "| random weights, plain fine-tuning, 10 % of the labels | macro F1"
    row = next(line for line in goals.splitlines() if line.startswith(start))
    assert f"| {f1['fgssl'] - f1['none']:+.3f} [" in row
    # The quarter of the labels belongs to no question: it is listed, on the validation part.
    left = Run("aptos2019", "hierarchy", "linear", budget=0.25, settings=SETTINGS).name()
    assert f"| `{left}` |" in (tmp_path / "answers" / "other_runs.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| random weights | plain fine-tuning"))
    names = [Run("aptos2019", "none", "plain", seed, 0.1, settings=SETTINGS).name() for seed in (0, 1)]
    mean = np.mean([table.runs[name]["metrics"]["test"]["macro_f1"] for name in names])
    assert f"| {mean:.3f} [" in row
    assert (tmp_path / "plots" / "a_aptos2019_small.png").stat().st_size > 1000

    card_words = ["--data_dir", str(folders["data"]), "--splits_dir", str(folders["splits"])]
    card_words += ["--output_dir", str(tmp_path), "--data_set", "aptos2019", "--budget", "0.1", "--set", *TINY]
    model_card.main([*card_words, "--pretraining", "none", "--fine_tuning", "plain"])
    card = (tmp_path / "model_card_aptos2019.md").read_text()
    assert f"| macro F1 | {mean:.3f} [" in card
    assert all(f"`{name}`: `python -m benchmarks.accuracy run" in card for name in names)
    assert "not a medical device" in card
    assert str(folders["data"]) not in card
    for k, name in enumerate(CLASSES):
        assert f"| {name} | {labels.count(k)} |" in card
    with pytest.raises(SystemExit, match="no run of this model"):
        model_card.main([*card_words, "--pretraining", "vicreg"])


def test_subgroups_are_those_of_the_official_table(tmp_path: Path) -> None:
    (tmp_path / "isic2018").mkdir()
    (tmp_path / "isic2018" / "ISIC2018_Task3_Training_LesionGroupings.csv").write_text(
        "image,lesion_id,diagnosis_confirm_type\na,1,histo\nb,2,follow_up\nc,3,histo\nunused,4,consensus\n"
    )
    items = [{"name": name} for name in "abcd"]
    found = model_card.subgroups(tmp_path, "isic2018", items)
    assert {name: inside.tolist() for name, inside in found.items()} == {
        "diagnosis confirmed by histopathology": [True, False, True, False],
        "diagnosis confirmed by follow-up": [False, True, False, False],
    }
    assert model_card.subgroups(tmp_path, "aptos2019", items) == {}


def test_figures_of_a_subgroup_are_those_of_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels, prob = rng.integers(0, 7, 60), rng.dirichlet(np.ones(7), 60).round(4)
    inside = np.arange(60) < 40
    run = Run("isic2018", "none", "plain")
    table = store.RunTable(tmp_path, {run.name(): {"run": {"seed": 0}}})
    monkeypatch.setattr(table, "probabilities", lambda name: {run.name(): prob}[name])
    results = Results(tmp_path, tmp_path, table)
    results._truth["isic2018", "grouped"] = labels.tolist(), scoring.resample_weights([str(i) for i in range(60)])
    monkeypatch.setattr(model_card, "subgroups", lambda *_: {"first": inside})
    lines = model_card.by_subgroup(results, run, [], tmp_path)
    row = next(line for line in lines if line.startswith("| first | 40 |"))
    expected = (
        accuracy_score(labels[inside], prob[inside].argmax(1)),
        balanced_accuracy_score(labels[inside], prob[inside].argmax(1)),
        roc_auc_score(labels[inside], prob[inside] / prob[inside].sum(1, keepdims=True), multi_class="ovr"),
    )
    for cell, value in zip(row.split(" | ")[2:5], expected, strict=True):
        assert float(cell.split()[0]) == pytest.approx(value, abs=2e-3)


def test_an_ensemble_combines_the_predictions_of_a_fine_tuning_and_of_its_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, 700)
    knows, guesses = (
        softmax(share * np.eye(7)[labels] + rng.normal(0, 1, (700, 7)), axis=1).round(4) for share in (2, 0)
    )
    run = Run("isic2018", "none", "plain")
    stored = {run.name(): knows, run.but(fine_tuning="linear").name(): guesses}
    # The probe of the other seed does not exist.
    stored[run.but(seed=1).name()] = knows
    table = store.RunTable(tmp_path, {name: {"run": {"seed": int("_s1_" in name)}} for name in stored})
    monkeypatch.setattr(table, "probabilities", stored.__getitem__)
    results = Results(tmp_path, tmp_path, table)
    groups = [str(i) for i in range(700)]
    results._truth["isic2018", "grouped"] = labels.tolist(), scoring.resample_weights(groups)
    items = [{"label": label, "group": group} for label, group in zip(labels, groups, strict=True)]
    results._parts["isic2018", "grouped"] = {"test": items}

    def auc(prob: np.ndarray) -> float:
        return roc_auc_score(labels, prob / prob.sum(1, keepdims=True), multi_class="ovr")

    kinds = ("logits", "probabilities", "fitted")
    found = {kind: results.ensembles(run, kind) for kind in kinds}
    assert all(list(scores) == [0] for scores in found.values())
    values = {kind: scores[0]["values"]["macro_auc"] for kind, scores in found.items()}
    small = 0.5e-4
    assert values["logits"] == pytest.approx(auc(np.sqrt(knows.clip(small) * guesses.clip(small))), abs=1e-3)
    assert values["probabilities"] == pytest.approx(auc(knows + guesses), abs=1e-3)
    # Fitted weights leave a member out that only guesses.
    assert values["fitted"] == pytest.approx(auc(knows), abs=5e-3)
    assert values["fitted"] > values["logits"] + 0.01


def test_balanced_decisions_of_each_half_are_fitted_on_the_other_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.6, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])
    labels = rng.choice(7, 600, p=shares)
    prob = softmax(2 * np.eye(7)[labels] + np.log(shares) + rng.normal(0, 1, (600, 7)), axis=1).round(4)
    run = Run("isic2018", "none", "plain")
    table = store.RunTable(tmp_path, {run.name(): {"run": {"seed": 0}}})
    monkeypatch.setattr(table, "probabilities", {run.name(): prob}.__getitem__)
    results = Results(tmp_path, tmp_path, table)
    # Two images of each lesion.
    groups = [str(i // 2) for i in range(600)]
    items = [{"label": int(label), "group": group} for label, group in zip(labels, groups, strict=True)]
    results._parts["isic2018", "grouped"] = {"train": items, "test": items}
    scores = results.by_seed(run)
    balanced = results.balanced(run, scores)[0]
    prior = np.bincount(labels) / 600
    adjusted = [np.log(prob.clip(0.5e-4)) - strength * np.log(prior) for strength in np.arange(0, 1.75, 0.25)]
    decided, taken = np.full(600, -1), []
    for rest, half in GroupKFold(2, shuffle=True, random_state=0).split(labels, groups=groups):
        assert not {groups[i] for i in rest} & {groups[i] for i in half}
        f1 = [f1_score(labels[rest], logits[rest].argmax(1), average="macro") for logits in adjusted]
        taken.append(int(np.argmax(f1)))
        decided[half] = adjusted[taken[-1]][half].argmax(1)
    assert min(taken) > 0
    assert balanced["values"]["macro_f1"] == pytest.approx(f1_score(labels, decided, average="macro"))
    assert balanced["values"]["macro_f1"] > scores[0]["values"]["macro_f1"]
    assert balanced["values"]["macro_auc"] == scores[0]["values"]["macro_auc"]


def test_runs_with_a_part_of_former_times_are_shown_and_never_planned(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = store.load_table(store.TABLE).runs
    former = {name for name, content in table.items() if HEADS_FIRST in content["run"]["settings"].values()}
    assert len(former) == 12
    question = QUESTIONS["n"]
    assert former <= {run.name() for run in question.runs(protocol.DATA_SETS, range(3), "small", former=True)}
    planned = {run.name() for scale in SCALES for run in question.runs(protocol.DATA_SETS, range(3), scale)}
    assert not former & planned
    name = min(former)
    show.main([name])
    told = capsys.readouterr().out
    assert f"{HEADS_FIRST} was removed since: the command makes this run at commit" in told
    # Of another seed, which nobody has made.
    words = shlex.split(Run.of(table[name]["run"]).but(seed=9).command())[4:]
    words[words.index("DIR")] = str(folders["data"])
    words += ["--work_dir", str(tmp_path / "work"), "--runs_dir", str(tmp_path / "runs"), "--dry_run"]
    with pytest.raises(SystemExit, match="HeadsFirst is no longer part of the benchmark: use the setting freeze_b"):
        harness.main(words)


def test_logits_are_adjusted_to_the_shares_of_the_classes() -> None:
    labels = torch.tensor([0, 0, 0, 2])
    names = [str(i) for i in range(4)]
    images = CachedImages(torch.zeros(4, 3, 2, 2, dtype=torch.uint8), labels, names, names)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    # Counts 3, 0, 1 and one more each.
    weighted = logits.double().exp() * torch.tensor([4.0, 1.0, 2.0]).double()
    prob = weighted / weighted.sum(1, keepdim=True)
    expected = -prob[range(4), labels].log().mean()
    torch.testing.assert_close(LogitAdjustedLoss(images, 3, "cpu")(logits, labels), expected.float())


def test_distillation_is_the_cross_entropy_with_the_targets_of_the_positions() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.rand(5, 3, generator=generator).double()
    targets /= targets.sum(1, keepdim=True)
    logits, positions = torch.randn(4, 3, generator=generator).double(), torch.tensor([4, 0, 0, 2])
    prob = (logits.exp() / logits.exp().sum(1, keepdim=True)).numpy()
    expected = -np.mean([(targets[p].numpy() * np.log(row)).sum() for p, row in zip(positions, prob, strict=True)])
    assert float(recipes.DistillationLoss(targets)(logits, positions)) == pytest.approx(expected)


def test_recipes_from_trainings_to_the_page(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VALIDATION_CSV", "DIFFERENCES_CSV", "TEST_CSV", "PAGE"):
        monkeypatch.setattr(recipes, name, tmp_path / name)
    monkeypatch.setattr(recipes, "RESAMPLES", 200)
    sizes = {"image_size": 32, "width": 8, "embedding_dim": 8, "max_epochs": 2, "pretrain_epochs": 3, "batch_size": 16}
    changes = tuple(sizes.items())
    trainings = ["probe", "full", "lp_ft", "pooled", "distilled", "distilled_pooled"]

    def make_task(start: str) -> recipes.Task:
        places = folders["data"], tmp_path, changes, folders["splits"]
        return recipes.Task("aptos2019", start, 0, 0.5, *places)

    # The "pre-trained" network is one with random weights: here only the way is tested.
    with pytest.raises(FileNotFoundError, match="aptos2019_fgssl_s0"):
        make_task("fgssl").weights()
    parser = methods.configure(methods.FINE_TUNINGS["progressive"], sizes | {"embedding_dim": 8})
    parser["data"] = make_task("fgssl").data(32)
    parser["device"] = "cpu"
    (tmp_path / "pretrained").mkdir()
    state = {"network": parser.get_parsed_content("network").state_dict(), "history": {"loss": [(1, 2.0), (3, 1.0)]}}
    torch.save(state, tmp_path / "pretrained" / "aptos2019_fgssl_s0_0.pt")
    tasks = [make_task("fgssl"), make_task("none_plain")]
    recipes.run(tasks, trainings)
    with recipes.VALIDATION_CSV.open(newline="") as file:
        rows = list(csv.DictReader(file))
    outcomes = {name for name in recipes.OUTCOMES if "low" not in name and "long" not in name}
    # Random weights have no features that could be averaged with.
    lacking = {"fgssl": set(), "none_plain": {"full_and_probe_backbone", "full_ema_and_probe_backbone"}}
    assert sorted((row["start"], row["outcome"]) for row in rows) == sorted(
        (task.start, name) for task in tasks for name in outcomes - lacking[task.start]
    )
    truth = make_task("fgssl").data(32).validation.labels.numpy()
    for row in rows:
        prob = make_task(row["start"]).predicted(row["outcome"], "validation")
        of_classes = [roc_auc_score(truth == label, prob[:, label]) for label in np.unique(truth)]
        assert float(row["macro_auc"]) == pytest.approx(np.mean(of_classes), abs=1e-4)
        assert float(row["macro_f1"]) == pytest.approx(f1_score(truth, prob.argmax(1), average="macro"), abs=1e-4)
    # The share 1 is among those to choose from: a mixture is never worse on the validation part.
    auc = {(row["start"], row["outcome"]): float(row["macro_auc"]) for row in rows}
    assert all(auc[task.start, "lp_ft_mix"] >= auc[task.start, "lp_ft"] for task in tasks)
    before = recipes.VALIDATION_CSV.read_bytes()
    recipes.run(tasks, trainings)
    assert recipes.VALIDATION_CSV.read_bytes() == before
    recipes.compare(tasks, "lp_ft")
    recipes.compare_with_plain(tasks)
    with recipes.DIFFERENCES_CSV.open(newline="") as file:
        differences = {(row["winner"], row["metric"]): row for row in csv.DictReader(file)}
    assert sorted({winner for winner, _ in differences}) == sorted(outcomes)
    for winner in outcomes:
        expected = auc["fgssl", winner] - auc["none_plain", "full"]
        assert float(differences[winner, "macro_auc"]["difference"]) == pytest.approx(expected, abs=2e-4)
    tables = "".join(
        f"<!-- {name} -->\nold\n<!-- end of {name} -->\n" for name in ("validation", "differences", "test")
    )
    recipes.PAGE.write_text(f"a\n{tables}")
    recipes.write_page()
    page = recipes.PAGE.read_text()
    assert "old" not in page
    assert f"{auc['fgssl', 'lp_ft']:.3f} / " in page
    # Two metrics each: on the test part against two other recipes of FG-SSL and three of plain training, and on the
    # validation part against plain training.
    assert page.count("| aptos2019 | lp_ft |") == 12
