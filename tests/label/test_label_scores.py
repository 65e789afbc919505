# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from monai_fgssl.bundle import SettingsError, copy_bundle, save_model
from monai_fgssl.data import read_isic2018
from monai_fgssl.label.model import LabelModel
from monai_fgssl.label.scores import SECONDS_RESERVED, BackgroundScorer, Scores, pick
from monai_fgssl.networks import HierarchicalNet


@pytest.fixture
def trained(tmp_path: Path) -> LabelModel:
    """A model of two classes with random weights."""
    root = copy_bundle("fgssl", tmp_path / "bundle")
    save(root, 0)
    return LabelModel(root, "cpu")


def save(root: Path, seed: int) -> HierarchicalNet:
    torch.manual_seed(seed)
    network = HierarchicalNet("resnet18", num_classes=2, width=8, embedding_dim=8).eval()
    save_model(network, root / "models" / "model.pt", ["a", "b"], 32, temperature=2.0)
    return network


def test_no_model_is_told(tmp_path: Path) -> None:
    model = LabelModel(copy_bundle("fgssl", tmp_path / "bundle"))
    assert model.record is None
    with pytest.raises(SettingsError, match="there is no model yet"):
        model.predict("any.png")


def test_the_newest_model_predicts(trained: LabelModel, lesions: Path) -> None:
    path = read_isic2018(lesions).items[0]["image"]
    first = trained.predict(path)
    network = save(trained.bundle_root, 1)
    with torch.no_grad():
        expected = (network(trained.read(path)) / 2.0).softmax(1)[0].numpy()
    second = trained.predict(path)
    np.testing.assert_allclose(list(second["probabilities"].values()), expected, atol=1e-5)
    assert second != first
    assert trained.draw_heat_maps(path).shape == (256, 4 * 256, 3)


def test_files_that_can_not_be_used_are_told_and_passed_over(trained: LabelModel, lesions: Path) -> None:
    path = read_isic2018(lesions).items[0]["image"]
    before = trained.predict(path)
    assert trained.problem is None
    good = trained.path.read_bytes()
    trained.path.write_bytes(good[:1000])
    assert trained.predict(path) == before
    assert trained.problem is not None
    assert trained.problem.startswith("the model can't be used: model.pt is damaged")
    # A server that starts has no other model.
    fresh = LabelModel(trained.bundle_root, "cpu")
    assert (fresh.record, fresh.num_stages) == (None, 0)
    assert fresh.problem == trained.problem
    with pytest.raises(SettingsError, match="damaged"):
        fresh.predict(path)
    record = trained.path.with_suffix(".json")
    text = record.read_text(encoding="utf-8")
    trained.path.write_bytes(good)
    record.write_text("{", encoding="utf-8")
    assert fresh.record is None
    assert "model.json" in (fresh.problem or "")
    record.write_text(text, encoding="utf-8")
    for model in (trained, fresh):
        assert model.problem is None
        assert model.predict(path) == before


class Exploit:
    """Runs a command where it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("kind", ["bytes", "empty", "code", "other network", "list", "no numbers"])
def test_only_weights_of_this_network_replace_it(kind: str, trained: LabelModel, lesions: Path, tmp_path: Path) -> None:
    path = read_isic2018(lesions).items[0]["image"]
    before, version = trained.predict(path), trained.version
    sent = tmp_path / "sent.pt"
    state = torch.load(trained.path)
    match kind:
        case "bytes" | "empty":
            sent.write_bytes(b"" if kind == "empty" else b"x" * 999)
        case "code":
            torch.save({**state, "x": Exploit(f"touch {tmp_path}/ran")}, sent)
        case "other network":
            torch.save(HierarchicalNet("resnet18", num_classes=3, width=8, embedding_dim=8).state_dict(), sent)
        case "list":
            torch.save(list(state.values()), sent)
        case "no numbers":
            name = next(name for name, value in state.items() if value.is_floating_point())
            torch.save({**state, name: torch.full_like(state[name], float("nan"))}, sent)
    with pytest.raises(SettingsError, match=r"sent\.pt"):
        trained.replace(sent)
    assert not (tmp_path / "ran").exists()
    assert trained.version == version
    assert trained.predict(path) == before
    assert LabelModel(trained.bundle_root, "cpu").predict(path) == before


def test_good_weights_replace_it(trained: LabelModel, lesions: Path, tmp_path: Path) -> None:
    path = read_isic2018(lesions).items[0]["image"]
    first = trained.predict(path)
    other = copy_bundle("fgssl", tmp_path / "other")
    save(other, 1)
    trained.replace(other / "models" / "model.pt")
    assert trained.predict(path) == LabelModel(other, "cpu").predict(path) != first
    with pytest.raises(SettingsError, match="the classes of these weights are not known"):
        LabelModel(copy_bundle("fgssl", tmp_path / "untrained")).replace(trained.path)


@pytest.mark.parametrize("written", ["save_tensors", "to_json", "atomic_write"])
def test_a_disk_that_fails_leaves_the_model(
    written: str, trained: LabelModel, lesions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = read_isic2018(lesions).items[0]["image"]
    before, folder = trained.predict(path), trained.path.parent
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    other = copy_bundle("fgssl", tmp_path / "other")
    save(other, 1)

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"monai_fgssl.bundle.model_file.{written}", fail)
        with pytest.raises(OSError, match=r"No space|disk is full"):
            trained.replace(other / "models" / "model.pt")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == files
    assert trained.predict(path) == before == LabelModel(trained.bundle_root, "cpu").predict(path)


def test_predictions_while_the_model_is_replaced_are_of_one_or_the_other(
    trained: LabelModel, lesions: Path, tmp_path: Path
) -> None:
    path = read_isic2018(lesions).items[0]["image"]
    others = [tmp_path / f"{seed}.pt" for seed in (0, 1)]
    expected = []
    for seed, other in enumerate(others):
        network = save(trained.bundle_root, seed)
        torch.save(network.state_dict(), other)
        expected.append(trained.predict(path))
    assert expected[0] != expected[1]
    ended = Event()

    def predict() -> list[dict[str, Any]]:
        found = []
        while not ended.is_set():
            found.append(trained.predict(path))
        return found

    with ThreadPoolExecutor(3) as threads:
        watching = [threads.submit(predict) for _ in range(3)]
        try:
            for number in range(20):
                trained.replace(others[number % 2])
        finally:
            ended.set()
        found = [result for one in watching for result in one.result()]
    assert all(result in expected for result in found)
    assert all(result in found for result in expected)
    assert trained.problem is None


def test_scores_of_all_images_survive_and_follow_the_model(trained: LabelModel, lesions: Path, tmp_path: Path) -> None:
    files = {item["name"]: item["image"] for item in read_isic2018(lesions).items[:40]}
    (tmp_path / "text.png").write_text("no picture")
    files["text"] = str(tmp_path / "text.png")
    scorer = BackgroundScorer(trained, tmp_path / "scores.pt", files.__getitem__)
    scorer.update([*files, "gone"])
    assert scorer.scores.failed == {"text", "gone"}
    name = next(iter(files))
    network, _ = trained.load()
    with torch.no_grad():
        expected = network.stage_logits(trained.read(files[name]))[0]
    torch.testing.assert_close(scorer.scores.stage_logits[name], expected, atol=1e-4, rtol=1e-4)

    again = Scores.read(tmp_path / "scores.pt", trained.version)
    assert set(again.stage_logits) == set(files) - {"text"}
    assert torch.equal(again.stage_logits[name], scorer.scores.stage_logits[name])
    save(trained.bundle_root, 1)
    assert not Scores.read(tmp_path / "scores.pt", trained.version).stage_logits
    scorer.update(list(files))
    assert not torch.equal(again.stage_logits[name], scorer.scores.stage_logits[name])


def scores_of(prob: dict[str, float]) -> Scores:
    """Two classes, one stage and the concatenation; features on a line."""
    scores = Scores("1")
    logits = torch.tensor([[[p / 2, 0.0], [p / 2, 0.0]] for p in prob.values()])
    scores.add(list(prob), logits, torch.arange(len(prob))[:, None].float())
    return scores


@pytest.mark.parametrize("strategy", ["entropy", "margin", "mix"])
def test_the_most_uncertain_comes_first(strategy: str) -> None:
    scores = scores_of({"sure": 9.0, "unsure": 0.1, "medium": 2.0})
    # For mix both are uncertain enough: the farther from the labeled one counts.
    labeled = ["medium"] if strategy == "mix" else []
    unlabeled = [name for name in ("sure", "unsure", "medium") if name not in labeled]
    chosen = pick(strategy, unlabeled, labeled, scores, {}, 0.0)
    assert chosen == ("sure" if strategy == "mix" else "unsure", strategy)


def test_the_core_set_goes_where_no_label_is() -> None:
    scores = scores_of(dict.fromkeys("abcdef", 1.0))
    assert pick("core_set", list("bcdef"), ["a"], scores, {}, 0.0) == ("f", "core_set")
    assert pick("core_set", list("bcdef"), ["a"], scores, {"f": 0.0}, 1.0)[0] in ("c", "d")


def test_what_was_handed_out_waits() -> None:
    scores = scores_of({"sure": 9.0, "unsure": 0.1})
    given = {"unsure": 10.0}
    assert pick("entropy", ["sure", "unsure"], [], scores, given, 11.0)[0] == "sure"
    assert pick("entropy", ["sure", "unsure"], [], scores, given, 10.0 + SECONDS_RESERVED)[0] == "unsure"
    assert pick("entropy", ["sure", "unsure"], [], scores, {"sure": 9.0, "unsure": 10.0}, 11.0)[0] == "sure"


def test_without_scores_any_image() -> None:
    names = [f"{number}" for number in range(9)]
    found = {pick("entropy", names, [], Scores(), {}, 0.0) for _ in range(99)}
    assert len(found) > 3
    assert {used for _, used in found} == {"random"}


@pytest.mark.parametrize(("strategy", "expected"), [("entropy", "both"), ("margin", "one"), ("disagreement", "apart")])
def test_the_next_image_by_its_findings(strategy: str, expected: str) -> None:
    scores = Scores("1")
    # Logits of two stages and two findings. A softmax over the findings would call each of "sure" and "both" undecided.
    logits = {
        "sure": [[6.0, 6.0], [6.0, 6.0]],
        # Both findings are a little unsure; one finding is a toss-up and the other is certain.
        "both": [[0.9, 0.9], [0.9, 0.9]],
        "one": [[0.0, 9.0], [0.0, 9.0]],
        # The stages are sure of opposite answers about one finding, and their mean is not a toss-up.
        "apart": [[8.0, 9.0], [-5.0, 9.0]],
    }
    scores.add(list(logits), torch.tensor(list(logits.values())), torch.zeros(4, 2))
    assert pick(strategy, list(logits), [], scores, {}, 0.0, several=True) == (expected, strategy)
