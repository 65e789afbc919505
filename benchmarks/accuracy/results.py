# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Finished runs and their measurements: metrics on the test part, intervals and differences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.model_selection import GroupKFold

from monai_fgssl.data import limit_labels
from monai_fgssl.metrics import class_shares, fit_logit_adjustment, fit_member_weights

from .methods import PRETRAININGS, Run
from .protocol import DATA_SETS, read_parts
from .scoring import Interval, difference, interval, measure, resample_weights
from .store import RunTable

__all__ = ["Results", "best_other"]


SMALLEST = 0.5e-4
"""Half of the last digit of stored probabilities."""


@dataclass
class Results:
    """All finished runs and their measurements.

    Attributes:
        data_dir: see :func:`protocol.read_parts`.
        splits: folder of the split files.
        table: the finished runs.
    """

    data_dir: Path
    splits: Path
    table: RunTable
    _truth: dict[tuple[str, str], tuple[list[int], NDArray[np.float64]]] = field(default_factory=dict)
    _scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    _parts: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = field(default_factory=dict)

    @property
    def runs(self) -> dict[str, dict[str, Any]]:
        """Record of each run by name."""
        return self.table.runs

    def truth(self, name: str, split: str) -> tuple[list[int], NDArray[np.float64]]:
        """Labels of the test part, and the resamples of its lesions."""
        if (name, split) not in self._truth:
            items = self._items(name, split)["test"]
            weights = resample_weights([item["group"] for item in items])
            self._truth[name, split] = [item["label"] for item in items], weights
        return self._truth[name, split]

    def scores(self, run: Run) -> dict[str, Any] | None:
        """Scores of one run on the test part; None if the run does not exist.

        They are ``values`` and ``draws`` of each metric, and ``prob``, the probabilities that they are of.
        """
        name = run.name()
        if name not in self.runs:
            return None
        if name not in self._scores:
            self._scores[name] = self._measured(run, self.table.probabilities(name))
        return self._scores[name]

    def _measured(
        self, run: Run, prob: NDArray[np.float64], predicted: NDArray[np.int64] | None = None
    ) -> dict[str, Any]:
        labels, weights = self.truth(run.data_set, run.split)
        classes = DATA_SETS[run.data_set].class_names
        values = {metric: value.item() for metric, value in measure(prob, labels, classes, None, predicted).items()}
        return {"values": values, "draws": measure(prob, labels, classes, weights, predicted), "prob": prob}

    def ensembles(self, run: Run, kind: Literal["logits", "probabilities", "fitted"] = "logits") -> dict[int, Any]:
        """Scores of a fine-tuned network together with the linear probe of the same pre-training, by seed.

        Args:
            run: the fine-tuning.
            kind: ``"logits"`` or ``"probabilities"``: mean of the two; ``"fitted"``: sum of logits with fitted weights,
                as ``--fine_tuning ensemble`` predicts. No validation part is stored, so each half of the lesions is
                predicted with weights that are fitted to the other half.
        """
        found = {}
        for seed in self.seeds(run):
            names = [run.but(seed=seed).name(), run.but(seed=seed, fine_tuning="linear").name()]
            if names[1] not in self.runs:
                continue
            key = f"{' and '.join(names)} {kind}"
            if key not in self._scores:
                # Stored probabilities are rounded, so 0 means less than half of the last digit.
                prob = np.stack([np.maximum(self.table.probabilities(name), SMALLEST) for name in names], axis=1)
                if kind == "fitted":
                    prob = self._cross_fitted(run, np.log(prob))
                else:
                    prob = prob.mean(1) if kind == "probabilities" else np.exp(np.log(prob).mean(1))
                self._scores[key] = self._measured(run, prob / prob.sum(1, keepdims=True))
            found[seed] = self._scores[key]
        return found

    def balanced(self, run: Run, scores: Mapping[int, Any]) -> dict[int, Any]:
        """Scores of the same probabilities with balanced decisions, by seed.

        The class with the highest adjusted logit is predicted, see :class:`~monai_fgssl.metrics.LogitAdjustment`, with
        the class shares of the images that keep their label. No validation part is stored, so each half of the lesions
        is decided with the strength that is fitted to the other half.

        Args:
            run: run with the data set, the split and the budget of the scores.
            scores: result of :meth:`by_seed` or :meth:`ensembles`.
        """
        found = {}
        for seed, score in scores.items():
            if "balanced" not in score:
                items = self._items(run.data_set, run.split)["train"]
                labels = [item["label"] for item in limit_labels(items, float(run.budget), seed)]
                prior = class_shares(labels, len(DATA_SETS[run.data_set].class_names))
                prob = np.maximum(score["prob"], SMALLEST)
                predicted = np.empty(len(prob), dtype=np.int64)
                for rest, half, truth in self._halves(run):
                    predicted[half] = fit_logit_adjustment(prob[rest], truth[rest], prior).predict(prob[half])
                score["balanced"] = self._measured(run, score["prob"], predicted)
            found[seed] = score["balanced"]
        return found

    def _cross_fitted(self, run: Run, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities from logits ``(N, M, num_classes)`` of members, with weights of the other half."""
        prob = np.empty((len(logits), logits.shape[2]))
        for rest, half, labels in self._halves(run):
            weights = fit_member_weights(logits[rest], labels[rest])
            prob[half] = softmax(np.einsum("m,nmc->nc", weights, logits[half]), axis=1)
        return prob

    def _halves(self, run: Run) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
        """Yield for each half of the test lesions: positions of the other half, its own positions, and all labels."""
        items = self._items(run.data_set, run.split)["test"]
        labels = np.array([item["label"] for item in items])
        groups = [item["group"] for item in items]
        for rest, half in GroupKFold(2, shuffle=True, random_state=0).split(labels, groups=groups):
            yield rest, half, labels

    def _items(self, name: str, split: str) -> dict[str, list[dict[str, Any]]]:
        """Items of each part, see :func:`protocol.read_parts`."""
        if (name, split) not in self._parts:
            self._parts[name, split] = read_parts(self.data_dir, name, split, self.splits)
        return self._parts[name, split]

    def seeds(self, run: Run) -> list[int]:
        """Seeds with which the run exists."""
        found = sorted({content["run"]["seed"] for content in self.runs.values()})
        return [seed for seed in found if run.but(seed=seed).name() in self.runs]

    def by_seed(self, run: Run) -> dict[int, dict[str, Any]]:
        """Scores of all seeds."""
        scores = {seed: self.scores(run.but(seed=seed)) for seed in self.seeds(run)}
        return {seed: score for seed, score in scores.items() if score is not None}

    def interval(self, run: Run, metric: str) -> Interval:
        """Mean of a metric over all seeds, with its interval."""
        scores = self.by_seed(run)
        return interval([s["values"][metric] for s in scores.values()], [s["draws"][metric] for s in scores.values()])

    def difference(self, run: Run, reference: Run | None, metric: str) -> Interval | None:
        """Difference run - reference over the seeds that both have."""
        if reference is None:
            return None
        return difference(self.by_seed(run), self.by_seed(reference), metric)

    def validation(self, run: Run, metric: str) -> float:
        """Mean of a metric over seeds on the validation part."""
        contents = [self.runs[run.but(seed=seed).name()] for seed in self.seeds(run)]
        return float(np.mean([content["metrics"]["validation"][metric] for content in contents]))

    def mean(self, run: Run, kind: str) -> float:
        """Mean over seeds of the seconds or images of all phases together."""
        return float(np.mean([sum(self.runs[run.but(seed=seed).name()][kind].values()) for seed in self.seeds(run)]))

    def rank(self, run: Run) -> float:
        """Mean over seeds of the effective rank of the last step's vectors after pre-training; NaN without any."""
        histories = [self.runs[run.but(seed=seed).name()]["history"] for seed in self.seeds(run)]
        series = [history.get("pretrain", {}).get("rank_concat") for history in histories]
        return float(np.mean([values[-1][1] for values in series if values] or [np.nan]))

    @cached_property
    def machines(self) -> list[str]:
        """Machines, versions and commits that the runs were made with."""
        runs = self.runs.values()
        return sorted({f"{run['machine']}, {run['commit']}, torch {run['versions']['torch']}" for run in runs})


def best_other(results: Results, run: Run, fine_tunings: Sequence[str]) -> Run | None:
    """Choose the best of the other pre-trainings on the validation part, without using the test part."""
    metric = DATA_SETS[run.data_set].metrics[0]
    others = [
        run.but(pretraining=pretraining, fine_tuning=fine_tuning)
        for pretraining in PRETRAININGS
        for fine_tuning in fine_tunings
        if pretraining not in ("none", run.pretraining)
    ]
    there = [other for other in others if results.seeds(other)]
    return max(there, key=lambda other: results.validation(other, metric), default=None)
