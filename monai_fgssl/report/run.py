# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Results of a run for people: tables, predictions and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite import distributed as idist

from monai_fgssl.data import CachedImages
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.engines.hierarchical import step_names
from monai_fgssl.metrics.classification import bootstrap_difference, bootstrap_intervals
from monai_fgssl.report.figures import plot_confusion, plot_learning_curves, plot_roc
from monai_fgssl.report.predictions import write_predictions
from monai_fgssl.report.results import check_class_names
from monai_fgssl.report.tables import print_metrics, write_metrics
from monai_fgssl.report.views_figure import plot_views
from monai_fgssl.transforms import RandView

__all__ = ["Report"]

NUM_SHOWN_IMAGES = 4


class Report:
    """Results of one run, of one or several methods on the same images. Only the first process writes files.

    Args:
        output_dir: folder of the files.
        class_names: names of the classes.
        settings: of the run, recorded in ``metrics.json``.

    Raises:
        DataError: when a class has the name of another column of ``predictions.csv``.
    """

    def __init__(self, output_dir: str | Path, class_names: Sequence[str], settings: Mapping[str, Any]) -> None:
        check_class_names(class_names)
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.settings = dict(settings)
        self.results: dict[str, PredictionCollector] = {}

    @idist.one_rank_only()
    def write_views(
        self,
        images: CachedImages,
        grids: Sequence[int | Sequence[int]],
        regularized: RandView,
        distorted: RandView,
    ) -> None:
        """Draw the views and puzzles of a few images: ``views.png``.

        Args:
            images: the first ones are shown.
            grids: of the puzzles, fine to coarse.
            regularized: view that the puzzles are cut from.
            distorted: view that they are compared with.
        """
        shown = images[range(min(NUM_SHOWN_IMAGES, len(images)))]["image"]
        self.output_dir.mkdir(parents=True, exist_ok=True)
        plot_views(shown, grids, regularized, distorted, shown.ndim - 2, path=self.output_dir / "views.png")

    def add(self, method: str, predictions: PredictionCollector) -> None:
        """Add the test predictions of a method. Pictures and CSV show the first method."""
        self.results[method] = predictions

    @idist.one_rank_only()
    def write(self, history: Mapping[str, Mapping[str, list[tuple[int, float]]]]) -> dict[str, Any]:
        """Print the table and write all files.

        Args:
            history: series of every phase, as in :class:`~monai_fgssl.engines.handlers.EpochHistory`.

        Returns:
            Content of ``metrics.json``.
        """
        (method, first), *others = self.results.items()
        rows = {name: bootstrap_intervals(r.probabilities, r.labels, r.groups) for name, r in self.results.items()}
        # One step alone is the method itself.
        num_steps = first.stage_logits.shape[1]
        stages = {
            f"{method}, {step} alone": bootstrap_intervals(logits.softmax(1), first.labels, first.groups)
            for step, logits in zip(step_names(num_steps), first.stage_logits.unbind(1), strict=True)
            if num_steps > 1
        }
        differences = {
            f"{method} - {name}": bootstrap_difference(
                first.probabilities, other.probabilities, first.labels, first.groups
            )
            for name, other in others
        }
        labels, probabilities = first.labels, first.probabilities
        write_predictions(self.output_dir / "predictions.csv", first.names, probabilities, self.class_names)
        curves = {phase: dict(series) for phase, series in history.items() if series}
        content = {
            "num_test_images": len(labels),
            "class_names": self.class_names,
            "methods": rows,
            "stages": stages,
            "differences": differences,
            # Some values are objects whose text is the value, such as a precision that is chosen while the run goes on.
            "settings": {name: _plain(value) for name, value in self.settings.items()},
            "history": curves,
        }
        write_metrics(self.output_dir / "metrics.json", content)
        print_metrics(rows | stages, title=f"{len(labels)} test images, 95 % intervals by bootstrap over lesions")
        if differences:
            print_metrics(
                differences,
                title="Difference on the same images, of these two trainings: another seed may move it further",
            )
        # Pictures come last, so that an error in one costs no number.
        plot_confusion(labels, probabilities.argmax(1), self.class_names, self.output_dir / "confusion_matrix.png")
        plot_roc(labels, probabilities, self.class_names, self.output_dir / "roc.png")
        if curves:
            plot_learning_curves(curves, self.output_dir / "learning_curves.png")
        print(f"Files: {self.output_dir.resolve()}")
        return content


def _plain(value: Any) -> Any:
    is_plain = value is None or isinstance(value, (bool, int, float, str, Sequence, Mapping))
    return value if is_plain else str(value)
