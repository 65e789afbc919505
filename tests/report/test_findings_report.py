# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""A report on each finding agrees with scikit-learn on the images where the finding is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, roc_auc_score

from monai_fgssl.bundle import shipped_bundle
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import Thresholds
from monai_fgssl.report import Report
from monai_fgssl.tasks import MULTILABEL, TASKS

FINDINGS = ["Mass", "Edema"]
THRESHOLDS = (0.4, 0.7)


def test_each_finding_has_its_metrics_intervals_and_confusion(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([-1, 0, 1], size=(120, 2), p=[0.2, 0.5, 0.3])
    logits = torch.from_numpy(rng.normal(size=(120, 1, 2)) + 1.5 * (labels == 1)[:, None]).float()
    names = [f"i{number}" for number in range(120)]
    predictions = PredictionCollector(
        names, names, [torch.from_numpy(labels)], [logits], task=TASKS[MULTILABEL], adjustment=Thresholds(THRESHOLDS)
    )
    report = Report(tmp_path, FINDINGS, {}, task=TASKS[MULTILABEL], bundle_root=shipped_bundle("fgssl"))
    report.add("FG-SSL", predictions)
    content = report.write({})
    page = (tmp_path / "report.html").read_text()
    probabilities = logits[:, 0].sigmoid().numpy()
    for k, name in enumerate(FINDINGS):
        known = labels[:, k] >= 0
        truth, scores = labels[known, k], probabilities[known, k]
        decided = scores >= THRESHOLDS[k]
        row = content["classes"][name]
        ((tn, fp), (fn, tp)) = confusion_matrix(truth, decided)
        assert row["confusion"] == {
            "true_positive": tp,
            "false_positive": fp,
            "false_negative": fn,
            "true_negative": tn,
        }
        assert row["unknown"] == (~known).sum()
        for metric, value in (
            ("auc", roc_auc_score(truth, scores)),
            ("average_precision", average_precision_score(truth, scores)),
            ("f1", f1_score(truth, decided)),
        ):
            found = row["intervals"][metric]
            assert row[metric] == pytest.approx(value)
            assert found["value"] == pytest.approx(value)
            assert found["low"] < value < found["high"]
            assert f"{value:.3f} [{found['low']:.3f}, {found['high']:.3f}]" in page
    known = labels >= 0
    for metric, value in (
        ("micro_auc", roc_auc_score(labels[known], probabilities[known])),
        ("micro_average_precision", average_precision_score(labels[known], probabilities[known])),
        ("micro_f1", f1_score(labels[known], (probabilities >= THRESHOLDS)[known])),
    ):
        found = json.loads((tmp_path / "metrics.json").read_text())["methods"]["FG-SSL"][metric]
        assert found["value"] == pytest.approx(value)
        assert found["low"] < value < found["high"]
        text = f"{value:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
        assert text in page
        assert text in (tmp_path / "model_card.md").read_text()
