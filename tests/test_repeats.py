# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from monai_fgssl.bundle import repeat_fine_tuning, repeats, start_name
from monai_fgssl.report import Report
from monai_fgssl.report.conclusion import conclusion


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

    def run(repeat: repeats.Repeat, *_: Any) -> tuple[dict[str, list[Any]], dict[str, Any]]:
        made.append(repeat)
        return {}, {}

    monkeypatch.setattr(repeats, "_run", run)
    settings = {"output_dir": str(tmp_path), "seeds": 2, "pretrained": None, "pretrain_epochs": 1, "compare": True}
    settings |= {"weights": weights, "fine_tuning_seed": 4, "fine_tuning": "lp_ft"}
    repeat_fine_tuning(Report(tmp_path, ["a", "b"], {}), tmp_path, settings)
    folder = start.replace(" ", "_")
    assert [repeat.folder.relative_to(tmp_path).as_posix() for repeat in made] == [
        "seed_2",
        folder,
        f"{folder}/seed_2",
    ]
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
