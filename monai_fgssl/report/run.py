# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write the results of a run for people: tables, predictions, pictures, and the page that shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from ignite import distributed as idist

from monai_fgssl.data import CachedImages, PreparedData
from monai_fgssl.data.layouts.table import PARTS
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.engines.hierarchical import step_names
from monai_fgssl.metrics.classification import (
    bootstrap_difference,
    bootstrap_intervals,
    classification_metrics,
    weighted_metrics,
)
from monai_fgssl.metrics.decision import decide
from monai_fgssl.report.abstention import measure_abstention, plot_risk_coverage, sentence_on_abstention
from monai_fgssl.report.conclusion import conclusion
from monai_fgssl.report.decision import describe_decision, sentence_on_decision
from monai_fgssl.report.figures import plot_comparison, plot_confusion, plot_learning_curves, plot_roc
from monai_fgssl.report.page import write_page
from monai_fgssl.report.predictions import write_predictions
from monai_fgssl.report.provenance import command_line, versions
from monai_fgssl.report.results import check_class_names
from monai_fgssl.report.tables import WIDTH, print_metrics, write_metrics
from monai_fgssl.report.views_figure import plot_views
from monai_fgssl.transforms import RandView
from monai_fgssl.utils.run_log import is_within_a_run, logged_warnings, tell

__all__ = ["Report"]

NUM_SHOWN_IMAGES = 4
PROBE = ", linear probe"
COURSE = "val_macro_f1"
"""Series of a fine-tuning that ``comparison.png`` shows."""
"""End of a method's name if it is a linear classifier on the frozen network of another method."""
PRINTED = ("macro_f1", "macro_auc")
"""Metrics in the printed table, which must fit a screen. The files have all metrics."""


class Report:
    """Results of one run, of one or several methods on the same images. Only the first process writes files.

    Args:
        output_dir: folder of the files.
        class_names: names of the classes.
        settings: settings of the run, recorded in ``metrics.json``.
        data: images of the run, which the report counts; None if they are not known.
        bundle_root: folder of the bundle, with which the report shows how to use the model.

    Attributes:
        results: predictions for the test part by method, one for each seed.

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
    ) -> None:
        check_class_names(class_names)
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.settings = dict(settings)
        self.data = data
        self.bundle_root = Path("fgssl") if bundle_root is None else Path(bundle_root)
        self.results: dict[str, list[PredictionCollector]] = {}
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
            history: series of the fine-tuning by name; :data:`COURSE` is drawn.
        """
        if history.get(COURSE):
            self.courses.setdefault(method, []).append(list(history[COURSE]))

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
        page = self.output_dir / "report.html"
        write_page(page, content | {"inference_config": self.bundle_root / "configs" / "inference.json"})
        tell(f"Report: {page.resolve()}")
        return content

    def _draw(self, method: str, predictions: PredictionCollector) -> None:
        """Draw the pictures of one method's predictions."""
        labels, probabilities = predictions.labels, predictions.probabilities
        title = f"{method}, {len(labels)} test images"
        confusion, roc = self.output_dir / "confusion_matrix.png", self.output_dir / "roc.png"
        plot_confusion(labels, predictions.predicted, self.class_names, confusion, title=title)
        plot_roc(labels, probabilities, self.class_names, roc, title=title)
        plot_risk_coverage(predictions, self.output_dir / "risk_coverage.png", title=title)

    def _draw_comparison(self, method: str, history: Mapping[str, list[tuple[int, float]]]) -> None:
        """Draw the courses of all fine-tunings, if there are those of another method. This run's own comes first."""
        path = self.output_dir / "comparison.png"
        own = [history[COURSE]] if history.get(COURSE) else []
        courses = {method: own + self.courses.get(method, [])} | {
            name: seeds for name, seeds in self.courses.items() if name != method
        }
        courses = {name: seeds for name, seeds in courses.items() if seeds}
        if len(courses) > 1:
            plot_comparison(courses, path)
        else:
            # The page would show the picture of an earlier run in this folder.
            path.unlink(missing_ok=True)

    def _describe_run(self, history: Mapping[str, Mapping[str, list[tuple[int, float]]]]) -> dict[str, Any]:
        """Describe everything that is known without a test part."""
        return {
            "num_test_images": 0,
            "seeds": 1,
            "class_names": self.class_names,
            "abstention": None,
            "decision": None,
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
            name: bootstrap_intervals(values, labels, groups, predicted=decided[name])
            for name, values in scores.items()
        }
        stages = {
            f"{method}, {step} alone": bootstrap_intervals(
                prob, labels, groups, predicted=decide(prob, first.adjustment)
            )
            for step, prob in zip(
                step_names(first.stage_logits.shape[1]), first.stage_logits.softmax(2).unbind(1), strict=True
            )
            # The only step is the prediction itself.
            if first.stage_logits.shape[1] > 1
        }
        differences = {
            f"{name} - {other}": bootstrap_difference(
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
                    classification_metrics(of_seed, labels, classes)
                    for of_seed, classes in zip(values, decided[name], strict=True)
                ]
                for name, values in scores.items()
            },
            "classes": _by_class(first, self.class_names),
            "abstention": measure_abstention(first, self.class_names),
            "decision": describe_decision(first, self.class_names),
        }

    def _conclusions(self, content: Mapping[str, Any]) -> list[str]:
        if self.data is None:
            return []
        counts = np.bincount(self.data.train.labeled().labels, minlength=len(self.class_names)).tolist()
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
        print_metrics(rows, title, differences, PRINTED)
        if differences and seeds == 1:
            tell("Each method was trained once: another seed may change the difference further (--seeds 3).")
        for sentence in content["conclusions"]:
            tell(fill(sentence, WIDTH))
        if content["decision"]:
            tell(fill(sentence_on_decision(content["decision"]), WIDTH))
        if content["abstention"]:
            tell(fill(sentence_on_abstention(content["abstention"]), WIDTH))


def _pairs(methods: Sequence[str]) -> list[tuple[str, str]]:
    """Pair the first method of each kind (fine-tuned or probed) with each other method of that kind."""
    kinds = [[name for name in methods if name.endswith(PROBE) == is_probe] for is_probe in (False, True)]
    return [(first, other) for first, *others in filter(None, kinds) for other in others]


def _by_class(predictions: PredictionCollector, class_names: Sequence[str]) -> dict[str, dict[str, float]]:
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
        counts = np.bincount(images.labels[images.labels >= 0], minlength=len(data.class_names)).tolist()
        described[part] = {
            "images": len(images),
            "groups": len(set(images.groups)),
            "labeled": sum(counts),
            **{f"class {name}": count for name, count in zip(data.class_names, counts, strict=True)},
        }
    return described


def _plain(value: Any) -> Any:
    is_plain = value is None or isinstance(value, (bool, int, float, str, Sequence, Mapping))
    return value if is_plain else str(value)
