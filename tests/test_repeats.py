# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow

from monai_fgssl.bundle import repeat_fine_tuning, repeats, shipped_bundle, start_name
from monai_fgssl.bundle.joined_model import mean_predictions
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.report import Report
from monai_fgssl.report.conclusion import conclusion
from monai_fgssl.tasks import MULTILABEL, TASKS


@pytest.mark.parametrize(
    ("pretrained", "weights", "name"),
    [
        (3, None, "FG-SSL"),
        ("pretrained.pt", "imagenet", "FG-SSL"),
        (None, "imagenet", "given weights"),
        (0, None, "random weights"),
    ],
)
def test_a_method_has_the_name_of_its_start(pretrained: object, weights: object, name: str) -> None:
    assert start_name(pretrained, weights) == name


@pytest.mark.parametrize(
    ("weights", "start", "fine_tuning"), [(None, "random weights", "full"), ("net.pth", "given weights", None)]
)
def test_the_comparison_starts_from_what_the_pretraining_started_from(
    weights: str | None, start: str, fine_tuning: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[repeats.Repeat] = []

    def run(repeat: repeats.Repeat, *_: Any) -> repeats.Outcome:
        made.append(repeat)
        return repeats.Outcome({}, {}, None)

    joined: list[Path] = []
    monkeypatch.setattr(repeats, "_run", run)
    monkeypatch.setattr(repeats, "join_models", lambda kind, members, *_: joined.extend(members))
    settings = {"output_dir": str(tmp_path), "seeds": 2, "pretrained": None, "pretrain_epochs": 1, "compare": True}
    settings |= {"weights": weights, "fine_tuning_seed": 4, "fine_tuning": "lp_ft", "model_path": "model.pt"}
    repeat_fine_tuning(Report(tmp_path, ["a", "b"], {}), tmp_path, settings)
    folder = start.replace(" ", "_")
    assert [repeat.folder.relative_to(tmp_path).as_posix() for repeat in made] == [
        "seed_2",
        folder,
        f"{folder}/seed_2",
    ]
    # Without the comparison.
    assert joined == [Path("model.pt"), tmp_path / "seed_2" / "model.pt"]
    assert [repeat.title for repeat in made] == [
        "fine-tune, seed 2 of 2",
        f"{start}, seed 1 of 2",
        f"{start}, seed 2 of 2",
    ]
    assert made[0].changes["pretrained"] == str(tmp_path / "pretrained.pt")
    for repeat in made[1:]:
        assert repeat.changes["pretrained"] is None
        # Only random weights have no features that a gentle fine-tuning could keep.
        assert repeat.changes.get("fine_tuning") == fine_tuning


def test_the_conclusion_names_the_start() -> None:
    values = {"macro_f1": {"value": 0.6, "low": 0.5, "high": 0.7}}
    sentence = conclusion(values, values, values, [6], 100, seeds=1, num_test_images=20, start="given weights")
    assert "0.600 against 0.600 from given weights (" in sentence


@pytest.mark.parametrize("task", list(TASKS))
def test_the_mean_over_the_seeds_is_that_of_the_calibrated_probabilities(task: str) -> None:
    labels = torch.tensor([0, 1]) if task != MULTILABEL else torch.tensor([[1, 0], [0, -1]])
    parts = [
        PredictionCollector(
            ["i", "j"], ["i", "j"], [labels], [torch.randn(2, 3, 2)], task=TASKS[task], temperature=temperature
        )
        for temperature in (0.5, 2.0)
    ]
    mean = mean_predictions(parts)
    assert mean is not None
    assert mean.names == ["i", "j"]
    assert torch.equal(mean.labels, labels)
    torch.testing.assert_close(mean.probabilities, (parts[0].probabilities + parts[1].probabilities).double() / 2)
    assert mean_predictions([*parts, None]) is None


def test_a_repeat_has_the_whole_config_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nested ids and config files of one's own count from Python too, and not from a command alone."""
    configs = shipped_bundle("fgssl") / "configs"
    parent = ConfigWorkflow(
        config_file=[str(configs / f"{name}.json") for name in ("train", "paper")],
        logging_file=False,
        **{"train#loss#label_smoothing": 0.25, "max_epochs": 7},
    )

    class Stop(Exception):
        """The config is known."""

    class OnlyConfig(ConfigWorkflow):
        def initialize(self) -> None:
            raise Stop(self.parser)

    monkeypatch.setattr(repeats, "workflows", lambda: iter([{"parser": parent.parser}]))
    monkeypatch.setattr(repeats, "ConfigWorkflow", OnlyConfig)
    repeat = repeats.Repeat(tmp_path / "seed_2", "seed 2", {"fine_tuning_seed": 3}, True)
    with pytest.raises(Stop) as stopped:
        repeats._run(repeat, shipped_bundle("fgssl"), {"amp": False, "linear_probe": False, "max_epochs": 7})
    parser = stopped.value.args[0]
    assert parser["train"]["loss"]["label_smoothing"] == 0.25
    assert parser["train"]["optimizer"]["_target_"] == "torch.optim.SGD"
    assert (parser["max_epochs"], parser["fine_tuning_seed"], parser["seeds"]) == (7, 3, 1)
    # The run goes on with its own config.
    assert parent.parser["output_dir"] != parser["output_dir"]
    assert parent.parser["fine_tuning_seed"] == "@seed"
