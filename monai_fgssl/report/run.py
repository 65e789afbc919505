# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write the results of a run for people: tables, predictions, pictures, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from numpy.typing import NDArray
from torch import Tensor

from monai_fgssl.data import CachedImages, PreparedData
from monai_fgssl.data.layouts.table import PARTS
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.engines.hierarchical import step_names
from monai_fgssl.metrics import DecisionRule, Thresholds, finding_calibration_error, multilabel_metrics
from monai_fgssl.metrics.classification import weighted_metrics
from monai_fgssl.metrics.decision import decide
from monai_fgssl.report.abstention import measure_abstention, plot_risk_coverage, sentence_on_abstention
from monai_fgssl.report.agreement import measure_agreement, plot_agreement, sentence_on_agreement
from monai_fgssl.report.chance import measure_chance, sentence_on_chance, sentence_on_folds, sentence_on_joined
from monai_fgssl.report.conclusion import conclusion
from monai_fgssl.report.decision import describe_decision, sentence_on_decision
from monai_fgssl.report.figures import plot_comparison, plot_confusion, plot_learning_curves, plot_roc
from monai_fgssl.report.model_card import write_model_card
from monai_fgssl.report.page import write_page
from monai_fgssl.report.predictions import write_predictions
from monai_fgssl.report.provenance import command_line, versions
from monai_fgssl.report.results import check_class_names
from monai_fgssl.report.stored import write_stored
from monai_fgssl.report.subgroups import measure_subgroups, sentences_on_subgroups
from monai_fgssl.report.tables import WIDTH, print_metrics, write_metrics
from monai_fgssl.report.views_figure import plot_views
from monai_fgssl.tasks import MULTICLASS, TASKS, Task
from monai_fgssl.transforms import RandView
from monai_fgssl.utils.run_log import is_within_a_run, logged_warnings, tell
from monai_fgssl.utils.words import readable

__all__ = ["Report"]

NUM_SHOWN_IMAGES = 4
PROBE = ", linear probe"
"""End of a method's name if it is a linear classifier on the frozen network of another method."""


class Report:
    """Results of one run, of one or several methods on the same images. Only the first process writes files.

    Args:
        output_dir: folder of the files.
        class_names: names of the classes.
        settings: settings of the run, recorded in ``metrics.json``.
        data: images of the run, which the report counts; None if they are not known.
        bundle_root: folder of the bundle, with which the report shows how to use the model.
        test_images: images of the test part; the report scores their subgroups. None: no subgroups.
        task: task of the run, whose metrics the report has.

    Attributes:
        results: predictions for the test part by method, one for each seed.
        folds: metrics of each fold, see :func:`~monai_fgssl.report.chance.measure_folds`; empty: there are no folds.
        fold_chance: what they vary with.
        joined: file of one model of all seeds of the first method, and its rule that decides; None: there is none.

    Raises:
        DataError: when a class has the name of another column of ``predictions.csv``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        settings: Mapping[str, Any],
        data: PreparedData | None = None,
        bundle_root: str | Path | None = None,
        test_images: CachedImages | None = None,
        task: Task = TASKS[MULTICLASS],
    ) -> None:
        check_class_names(class_names)
        self.subgroups = {} if test_images is None else test_images.subgroups
        self._test_names = [] if test_images is None else test_images.names
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.settings = dict(settings)
        self.data = data
        self.task = task
        self.bundle_root = Path("fgssl") if bundle_root is None else Path(bundle_root)
        self.results: dict[str, list[PredictionCollector]] = {}
        self.folds: list[dict[str, float]] = []
        self.fold_chance: dict[str, dict[str, float]] = {}
        self.joined: tuple[Path, DecisionRule | None] | None = None
        self.courses: dict[str, list[list[tuple[int, float]]]] = {}

    @idist.one_rank_only()
    def write_views(
        self,
        images: CachedImages,
        grids: Sequence[int | Sequence[int]],
        regularized: RandView,
        distorted: RandView,
    ) -> None:
        """Draw the views of pre-training for a few images: ``views.png``.

        Args:
            images: images, of which the first few are shown.
            grids: grids of the puzzles, fine to coarse.
            regularized: view that the puzzles are cut from.
            distorted: view that the puzzles are compared with.
        """
        if is_within_a_run():
            return
        shown = images[range(min(NUM_SHOWN_IMAGES, len(images)))]["image"]
        self.output_dir.mkdir(parents=True, exist_ok=True)
        plot_views(shown, grids, regularized, distorted, shown.ndim - 2, path=self.output_dir / "views.png")

    def add(self, method: str, predictions: PredictionCollector) -> None:
        """Add the test predictions of a method. Another call for the same method adds a further seed.

        Pictures and CSV show the first seed of the first method. Methods whose names end with ``", linear probe"`` come
        after all others.
        """
        self.results.setdefault(method, []).append(predictions)

    def add_course(self, method: str, history: Mapping[str, list[tuple[int, float]]]) -> None:
        """Add the course of one more fine-tuning of a method, for ``comparison.png``.

        Args:
            method: name of the method.
            history: series of the fine-tuning by name; the task's key metric on the validation part is drawn.
        """
        if history.get(self._course):
            self.courses.setdefault(method, []).append(list(history[self._course]))

    @property
    def _course(self) -> str:
        """Series of a fine-tuning that ``comparison.png`` shows."""
        return f"val_{self.task.key_metric}"

    @idist.one_rank_only()
    def write(self, history: Mapping[str, Mapping[str, list[tuple[int, float]]]]) -> dict[str, Any]:
        """Print the table and write all files. Without a test part, only the training's course and settings are shown.

        Args:
            history: series of every phase, as in :class:`~monai_fgssl.engines.handlers.EpochHistory`.

        Returns:
            Content of ``metrics.json``.
        """
        # False sorts before True, and the sort is stable.
        results = {name: self.results[name] for name in sorted(self.results, key=lambda name: name.endswith(PROBE))}
        content = self._describe_run(history) | self._measure(results)
        content["conclusions"] = self._conclusions(content)
        if results:
            first = next(iter(results.values()))[0]
            # Without the rule the likeliest class is the prediction, and the file has the form of the ISIC challenge.
            decided = None if first.adjustment is None else first.predicted
            path = self.output_dir / "predictions.csv"
            write_predictions(path, first.names, first.probabilities, self.class_names, decided)
        write_metrics(self.output_dir / "metrics.json", content)
        if results and not is_within_a_run():
            method, of_seeds = next(iter(results.items()))
            write_stored(self.output_dir / "predictions.npz", method, self.class_names, of_seeds)
        if is_within_a_run():
            # This run is part of another run, which shows the results of both.
            return content
        # Pictures come last: if one fails, all figures are already written.
        if results:
            self._print(content)
            self._draw(next(iter(results)), first)
        self._draw_comparison(next(iter(results), ""), history.get("fine-tune", {}))
        if content["history"]:
            plot_learning_curves(content["history"], self.output_dir / "learning_curves.png")
        if results:
            write_model_card(self.output_dir / "model_card.md", content)
        page = self.output_dir / "report.html"
        write_page(page, content | {"inference_config": self.bundle_root / "configs" / "inference.json"})
        tell(f"Report: {page.resolve()}")
        return content

    def _draw(self, method: str, predictions: PredictionCollector) -> None:
        """Draw the pictures of one method's predictions."""
        labels, probabilities = predictions.labels, predictions.probabilities
        title = f"{method}, {len(labels)} test images"
        confusion, roc = self.output_dir / "confusion_matrix.png", self.output_dir / "roc.png"
        risk, agreement = self.output_dir / "risk_coverage.png", self.output_dir / "agreement.png"
        # The page would show the pictures of an earlier run in this folder.
        for picture in (confusion, risk, agreement):
            picture.unlink(missing_ok=True)
        if not self.task.independent:
            plot_confusion(labels, predictions.predicted, self.class_names, confusion, title=title)
        plot_roc(labels, probabilities, self.class_names, roc, title=title)
        plot_risk_coverage(predictions, risk, title=title)
        if found := measure_agreement(predictions):
            plot_agreement(found, agreement, title=title)

    def _draw_comparison(self, method: str, history: Mapping[str, list[tuple[int, float]]]) -> None:
        """Draw the courses of all fine-tunings, if there are those of another method. This run's own comes first."""
        path = self.output_dir / "comparison.png"
        own = [history[self._course]] if history.get(self._course) else []
        courses = {method: own + self.courses.get(method, [])} | {
            name: seeds for name, seeds in self.courses.items() if name != method
        }
        courses = {name: seeds for name, seeds in courses.items() if seeds}
        if len(courses) > 1:
            plot_comparison(courses, path, readable(self.task.key_metric))
        else:
            # The page would show the picture of an earlier run in this folder.
            path.unlink(missing_ok=True)

    def _describe_run(self, history: Mapping[str, Mapping[str, list[tuple[int, float]]]]) -> dict[str, Any]:
        """Describe everything that is known without a test part."""
        return {
            "num_test_images": 0,
            "seeds": 1,
            "class_names": self.class_names,
            "task": self.task.name,
            "abstention": None,
            "agreement": None,
            "chance": {},
            "joined": None,
            "folds": self.folds,
            "fold_chance": self.fold_chance,
            "decision": None,
            "subgroups": {},
            **{name: {} for name in ("methods", "stages", "differences", "by_seed", "classes")},
            "data": None if self.data is None else _describe(self.data),
            # Some values are objects whose text is the value, such as a precision that is chosen during the run.
            "settings": {name: _plain(value) for name, value in self.settings.items()},
            "command": command_line(),
            "versions": versions(),
            "warnings": logged_warnings(),
            "history": {phase: dict(series) for phase, series in history.items() if series},
        }

    def _measure(self, results: Mapping[str, list[PredictionCollector]]) -> dict[str, Any]:
        """Figures of the test part; empty if there is no test part."""
        if not results:
            return {}
        method, (first, *_) = next(iter(results.items()))
        labels, groups = first.labels, first.groups
        scores = {name: np.stack([r.probabilities for r in of_seeds]) for name, of_seeds in results.items()}
        decided = {name: np.stack([r.predicted for r in of_seeds]) for name, of_seeds in results.items()}
        rows = {
            name: self.task.intervals(values, labels, groups, predicted=decided[name])
            for name, values in scores.items()
        }
        of_steps = self.task.probabilities(first.stage_logits).unbind(1)
        stages = {
            f"{method}, {step} alone": self.task.intervals(
                prob, labels, groups, predicted=decide(prob, first.adjustment)
            )
            for step, prob in zip(step_names(first.stage_logits.shape[1]), of_steps, strict=True)
            # The only step is the prediction itself.
            if first.stage_logits.shape[1] > 1
        }
        differences = {
            f"{name} - {other}": self.task.difference(
                scores[name], scores[other], labels, groups, predicted_a=decided[name], predicted_b=decided[other]
            )
            for name, other in _pairs(list(results))
        }
        return {
            "num_test_images": len(labels),
            "seeds": len(scores[method]),
            "methods": rows,
            "stages": stages,
            "differences": differences,
            "by_seed": {
                name: [
                    self.task.measure(of_seed, labels, classes)
                    for of_seed, classes in zip(values, decided[name], strict=True)
                ]
                for name, values in scores.items()
            },
            "chance": measure_chance(self.task, scores[method], labels, groups, decided[method]),
            "joined": self._measure_joined(scores[method], labels, groups),
            "classes": (_by_finding if self.task.independent else _by_class)(first, self.class_names),
            "abstention": measure_abstention(first, self.class_names),
            "agreement": measure_agreement(first),
            "decision": describe_decision(first, self.class_names),
            "subgroups": measure_subgroups(
                self._columns_of(first.names),
                scores[method],
                labels,
                groups,
                decided[method],
                self.class_names,
                self.task,
            ),
        }

    def _measure_joined(self, scores: NDArray[Any], labels: Tensor, groups: Sequence[str]) -> dict[str, Any] | None:
        """Metrics of the one model of all seeds, which predicts with the mean of their probabilities."""
        if self.joined is None:
            return None
        file, rule = self.joined
        mean = torch.from_numpy(scores).double().mean(0)
        metrics = self.task.intervals(mean, labels, groups, predicted=decide(mean, rule))
        return {"file": file.name, "metrics": metrics}

    def _columns_of(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Values of the columns of subgroups, in the order of the predictions."""
        place = {name: number for number, name in enumerate(self._test_names)}
        return {column: [values[place[name]] for name in names] for column, values in self.subgroups.items()}

    def _conclusions(self, content: Mapping[str, Any]) -> list[str]:
        if self.data is None:
            return []
        counts = _count(self.data.train.labels, len(self.class_names))
        recipe = self.settings.get("fine_tuning", "full")
        return [
            conclusion(
                content["methods"][name],
                content["methods"][other],
                content["differences"][f"{name} - {other}"],
                counts,
                len(self.data.train) if self.settings.get("pretrain_epochs") else None,
                content["seeds"],
                content["num_test_images"],
                frozen=name.endswith(PROBE),
                start=other.removesuffix(PROBE),
                epochs=None if recipe == "probe" else self.settings.get("max_epochs"),
                recipe=recipe,
                metric=self.task.key_metric,
            )
            for name, other in _pairs(list(content["methods"]))
        ]

    def _print(self, content: Mapping[str, Any]) -> None:
        seeds, groups = content["seeds"], "lesions" if content["seeds"] == 1 else "lesions and seeds"
        means = "" if seeds == 1 else f"means of {seeds} seeds, "
        title = f"{content['num_test_images']} test images, {means}95 % intervals over {groups}"
        rows = content["methods"] if len(content["methods"]) > 1 else content["methods"] | content["stages"]
        # With at most two methods of each kind, there is one difference of each kind, and a short name is enough.
        differences = content["differences"]
        if len(differences) <= len({name.endswith(PROBE) for name in differences}):
            short = {f"difference{PROBE if name.endswith(PROBE) else ''}": row for name, row in differences.items()}
            differences = short
        print_metrics(rows, title, differences, self.task.tiles[:2])
        if differences and seeds == 1:
            tell("Each method was trained once: another seed may change the difference further (--seeds 3).")
        for sentence in content["conclusions"]:
            tell(fill(sentence, WIDTH))
        if content["folds"]:
            found = sentence_on_folds(content["folds"], content["fold_chance"], self.task.key_metric)
            tell(fill(found, WIDTH))
        if content["chance"]:
            tell(fill(sentence_on_chance(content["chance"], self.task.key_metric, seeds), WIDTH))
        if content["joined"]:
            tell(fill(sentence_on_joined(content, self.task.key_metric), WIDTH))
        if content["decision"]:
            tell(fill(sentence_on_decision(content["decision"]), WIDTH))
        if content["abstention"]:
            tell(fill(sentence_on_abstention(content["abstention"]), WIDTH))
        if content["agreement"]:
            tell(fill(sentence_on_agreement(content["agreement"]), WIDTH))
        for sentence in sentences_on_subgroups(content["subgroups"], self.task.key_metric):
            tell(fill(sentence, WIDTH))


def _pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Pair the first method of each kind (fine-tuned or probed) with each other method of that kind."""
    kinds = [[name for name in methods if name.endswith(PROBE) == is_probe] for is_probe in (False, True)]
    return [(first, other) for first, *others in filter(None, kinds) for other in others]


def _count(labels: Tensor, num_classes: int) -> list[int]:
    """Count the images of each class."""
    if labels.ndim == 2:
        return (labels == 1).sum(0).tolist()
    return np.bincount(labels[labels >= 0], minlength=num_classes).tolist()


def _by_finding(predictions: PredictionCollector, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Measure each finding.

    Returns:
        ``images`` that have the finding, ``unknown`` images; ``recall``, ``precision``, ``auc``, ``average_precision``
        and ``f1``; ``intervals`` of the last three; ``confusion``: numbers of true and false positives and negatives;
        ``threshold`` and ``calibration_error``.
    """
    labels, probabilities = predictions.labels.numpy(), predictions.probabilities.double().numpy()
    values = multilabel_metrics(probabilities, labels, predictions.predicted)
    thresholds = (
        predictions.adjustment.values if isinstance(predictions.adjustment, Thresholds) else (0.5,) * labels.shape[1]
    )
    return {
        name: {
            "images": int((labels[:, k] == 1).sum()),
            "unknown": int((labels[:, k] < 0).sum()),
            **{metric: values[metric][k] for metric in ("recall", "precision", "auc", "average_precision", "f1")},
            "intervals": _intervals_of_finding(predictions, k),
            "confusion": {
                f"{'true' if answer == decided else 'false'}_{'positive' if decided else 'negative'}": int(
                    ((labels[:, k] == answer) & (predictions.predicted[:, k] == decided)).sum()
                )
                for answer in (1, 0)
                for decided in (True, False)
            },
            "threshold": thresholds[k],
            "calibration_error": finding_calibration_error(probabilities[:, k], labels[:, k]),
        }
        for k, name in enumerate(class_names)
    }


def _intervals_of_finding(predictions: PredictionCollector, finding: int) -> dict[str, dict[str, float]]:
    """Intervals of one finding: those of the means over a single finding."""
    column = slice(finding, finding + 1)
    rows = predictions.task.intervals(
        predictions.probabilities[:, column].double().numpy(),
        predictions.labels[:, column].numpy(),
        predictions.groups,
        predicted=predictions.predicted[:, column],
    )
    return {name: rows[f"macro_{name}"] for name in ("auc", "average_precision", "f1")}


def _by_class(predictions: PredictionCollector, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Images, recall, precision and AUC of each class."""
    labels, predicted = predictions.labels.numpy(), predictions.predicted
    values = weighted_metrics(predictions.probabilities, labels, np.ones((1, len(labels))), predicted)
    return {
        name: {
            "images": int((labels == k).sum()),
            "recall": values["recall"][0, k],
            "precision": float((labels[predicted == k] == k).mean()) if (predicted == k).any() else float("nan"),
            "auc": values["auc"][0, k],
        }
        for k, name in enumerate(class_names)
    }


def _describe(data: PreparedData) -> dict[str, dict[str, int]]:
    """Count for each part: images, lesions or patients, labeled images, and images of each class."""
    described = {}
    for part in PARTS:
        images = getattr(data, part)
        counts = _count(images.labels, len(data.class_names))
        described[part] = {
            "images": len(images),
            "groups": len(set(images.groups)),
            "labeled": len(images.labeled()),
            **{f"class {name}": count for name, count in zip(data.class_names, counts, strict=True)},
        }
    return described


def _plain(value: Any) -> Any:
    is_plain = value is None or isinstance(value, (bool, int, float, str, Sequence, Mapping))
    return value if is_plain else str(value)
