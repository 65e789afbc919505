# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""The card of a model has the figures of the report, subgroups included, and nothing that breaks its tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.report import Report
from monai_fgssl.report.model_card import write_model_card
from monai_fgssl.report.subgroups import measure_subgroups

CLASSES = ["a", "b|c", "<i>"]
IMAGES = 150


@pytest.fixture
def card(tmp_path: Path) -> tuple[str, dict]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(IMAGES) % 3
    report = Report(tmp_path, CLASSES, {"backbone": "resnet18", "image_size": 64}, bundle_root=shipped_bundle("fgssl"))
    for _ in range(2):
        logits = torch.randn(IMAGES, 2, 3, generator=generator) + torch.nn.functional.one_hot(labels, 3)[:, None]
        names = [f"image {number}" for number in range(IMAGES)]
        report.add("FG-SSL", PredictionCollector(names, names, [labels], [logits]))
    content = report.write({})
    return (tmp_path / "model_card.md").read_text(), content


def test_figures_are_those_of_the_report(card: tuple[str, dict], tmp_path: Path) -> None:
    text, content = card
    row = content["methods"]["FG-SSL"]["macro_f1"]
    assert f"| macro F1 | {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] |" in text
    assert "On 150 test images" in text
    assert "and 2 seeds" in text
    assert "from the seed of the fine-tuning (2 seeds)" in text
    assert "steps agree with the prediction" in text
    assert "no column of the list was named" in text
    # No names of images or folders.
    assert "image 0" not in text
    assert str(tmp_path) not in text


def test_subgroups_have_their_gap_and_the_small_ones_are_named(card: tuple[str, dict], tmp_path: Path) -> None:
    _, content = card
    rng = np.random.default_rng(0)
    labels = np.arange(IMAGES) % 3
    probabilities = rng.dirichlet(np.ones(3), IMAGES)
    sex = ["F"] * 70 + ["<M>"] * 70 + ["X"] * 10
    names = [str(number) for number in range(IMAGES)]
    found = measure_subgroups({"sex|age": sex}, probabilities, labels, names, probabilities.argmax(1), CLASSES)
    write_model_card(tmp_path / "card.md", content | {"subgroups": found})
    lines = (tmp_path / "card.md").read_text().splitlines()
    value = found["sex|age"]["subgroups"]["F"]["metrics"]["macro_f1"]
    (of_f,) = [line for line in lines if line.startswith("| F |")]
    assert f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" in of_f
    (small,) = [line for line in lines if line.startswith("| X |")]
    assert "fewer than 20" in small
    (gap,) = [line for line in lines if line.startswith("| largest gap |")]
    assert f"{found['sex|age']['gaps']['macro_f1']['value']:.3f}" in gap
    # A name from a list can't become markup, also in sentences.
    assert not [line for line in lines if "<" in line]
    # All rows of a table have as many cells.
    (header,) = [line for line in lines if line.startswith("| sex\\|age |")]
    assert {line.replace("\\|", "").count("|") for line in (header, of_f, small, gap)} == {header.count("|") - 1}


def test_the_card_needs_only_what_metrics_json_has(card: tuple[str, dict], tmp_path: Path) -> None:
    text, _ = card
    write_model_card(tmp_path / "again.md", json.loads((tmp_path / "metrics.json").read_text()))
    assert (tmp_path / "again.md").read_text() == text
