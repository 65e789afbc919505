# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write tables of the predictions for new images during inference."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from ignite.engine import Events
from monai.engines import Workflow
from monai.engines.utils import IterationEvents
from numpy.typing import NDArray

from monai_fgssl.data.store.stream import ImageStream
from monai_fgssl.engines.hierarchical import step_names
from monai_fgssl.metrics import LogitAdjustment, PredictionSets, decide
from monai_fgssl.metrics.uncertainty import disagreement, predictive_entropy
from monai_fgssl.networks import unwrap
from monai_fgssl.utils.errors import DataError, first_lines, first_names
from monai_fgssl.utils.files import atomic_write, to_json

__all__ = ["ResultWriter", "batch_results", "check_class_names", "describe", "result_columns"]

SEPARATOR = "; "
"""Separator between the classes of a set in ``predictions.csv``."""
MOST_STEPS = 8
"""Upper bound of the number of steps: no backbone has more."""


def describe(
    stage_logits: torch.Tensor,
    orientation_logits: torch.Tensor,
    class_names: Sequence[str],
    temperature: float = 1.0,
    prediction_sets: PredictionSets | None = None,
    adjustment: LogitAdjustment | None = None,
) -> list[dict[str, Any]]:
    """Turn the logits of a batch into a description of each image.

    Args:
        stage_logits: logits of each step, ``(B, K + 1, num_classes)``.
        orientation_logits: logits of each orientation, ``(B, V, num_classes)``, summed over the steps.
        class_names: names of the classes, one for each score.
        temperature: temperature of the calibration, see :func:`~monai_fgssl.metrics.fit_temperature`; it divides the
            summed logits. The logits of single stages are not calibrated.
        prediction_sets: rule that makes sets of possible classes from the probabilities; None: no sets.
        adjustment: rule that decides for a class, see :func:`~monai_fgssl.metrics.decide`; None: the likeliest class.

    Returns:
        One dictionary per image: ``prediction`` (the class that is decided for), ``probabilities`` by class,
        ``entropy``, ``stage_disagreement``, ``orientation_disagreement`` (None without test-time augmentation), all in
        [0, 1], ``prediction_set`` (the possible classes, the likeliest first), ``triage`` (``predict`` if only one
        class is possible, else ``refer``: a person should look), and ``stages`` (probabilities by class for each
        step). Without ``prediction_sets``, ``prediction_set`` and ``triage`` are None.
    """
    probabilities = (stage_logits.sum(1) / temperature).softmax(1)
    decided = decide(probabilities, adjustment)
    sets = _sets_of(stage_logits.double().sum(1) / temperature, class_names, prediction_sets, decided)
    stages = stage_logits.softmax(2)
    between_orientations = disagreement((orientation_logits / temperature).softmax(2)).tolist()
    steps = step_names(stage_logits.shape[1])
    rows = zip(
        decided.tolist(),
        probabilities.tolist(),
        predictive_entropy(probabilities).tolist(),
        disagreement(stages).tolist(),
        between_orientations if orientation_logits.shape[1] > 1 else [None] * len(stages),
        sets,
        stages.tolist(),
        strict=True,
    )
    return [
        {
            "prediction": class_names[chosen],
            "probabilities": dict(zip(class_names, values, strict=True)),
            "entropy": entropy,
            "stage_disagreement": between_stages,
            "orientation_disagreement": turned,
            "prediction_set": possible,
            "triage": None if possible is None else "predict" if len(possible) == 1 else "refer",
            "stages": {
                step: dict(zip(class_names, of_stage, strict=True))
                for step, of_stage in zip(steps, stage_values, strict=True)
            },
        }
        for chosen, values, entropy, between_stages, turned, possible, stage_values in rows
    ]


def _sets_of(
    scaled_logits: torch.Tensor,
    class_names: Sequence[str],
    prediction_sets: PredictionSets | None,
    decided: NDArray[np.int64],
) -> Sequence[list[str] | None]:
    """Possible classes of each image, the likeliest first."""
    if prediction_sets is None:
        return [None] * len(scaled_logits)
    probabilities = scaled_logits.softmax(1).numpy()
    order = np.argsort(-probabilities, axis=1, kind="stable")
    inside = prediction_sets.contains(probabilities, decided)
    return [[class_names[k] for k in ranked if possible[k]] for ranked, possible in zip(order, inside, strict=True)]


def batch_results(
    engine: Workflow,
    class_names: Sequence[str],
    temperature: float = 1.0,
    prediction_sets: PredictionSets | None = None,
    adjustment: LogitAdjustment | None = None,
) -> list[dict[str, Any]]:
    """Describe the batch that an evaluator has just predicted. All writers share the result.

    Args:
        engine: a :class:`~monai_fgssl.engines.HierarchicalEvaluator`.
        class_names: see :func:`describe`.
        temperature: see :func:`describe`.
        prediction_sets: see :func:`describe`.
        adjustment: see :func:`describe`.

    Returns:
        Result of :func:`describe`, kept in ``engine.state.output["results"]``.
    """
    output = engine.state.output
    if "results" not in output:
        logits = output["stage_logits"].cpu(), output["orientation_logits"].cpu()
        output["results"] = describe(*logits, class_names, temperature, prediction_sets, adjustment)
    return output["results"]


def result_columns(class_names: Sequence[str], num_steps: int) -> list[str]:
    """Columns of ``predictions.csv``: those of the ISIC challenge's submission format, then all others."""
    stages = [f"{step}_{name}" for step in step_names(num_steps) for name in class_names]
    return [
        "image",
        *class_names,
        "prediction",
        "entropy",
        "stage_disagreement",
        "orientation_disagreement",
        "prediction_set",
        "triage",
        *stages,
    ]


def check_class_names(class_names: Sequence[str]) -> None:
    """Check that no class has the name of another column of ``predictions.csv``.

    Raises:
        DataError: when a class has such a name; the message names the classes.
    """
    columns = Counter(result_columns(class_names, MOST_STEPS))
    if repeated := [name for name in class_names if columns[name] > 1]:
        raise DataError(
            f"classes have the names of other columns of predictions.csv ({first_names(repeated)}): rename them in "
            "the labels or folders."
        )


def _as_row(name: str, result: dict[str, Any]) -> list[str]:
    numbers = [result[key] for key in ("entropy", "stage_disagreement", "orientation_disagreement")]
    stages = [value for of_stage in result["stages"].values() for value in of_stage.values()]
    possible = result["prediction_set"]
    return [
        name,
        *(f"{value:.7f}" for value in result["probabilities"].values()),
        result["prediction"],
        *("" if value is None else f"{value:.7f}" for value in numbers),
        "" if possible is None else SEPARATOR.join(possible),
        result["triage"] or "",
        *(f"{value:.7f}" for value in stages),
    ]


class ResultWriter:
    """Writes the results of a :class:`~monai_fgssl.engines.HierarchicalEvaluator` batch by batch, in constant memory.

    It writes ``predictions.csv`` and ``predictions.json`` in ``output_dir``; they are never there half-written. If
    images could not be read, or lack another requested result, it writes ``failures.csv`` too.

    Args:
        output_dir: folder of the files.
        class_names: names of the classes, one for each score.
        stream: stream that the evaluator reads from.
        temperature: see :func:`describe`.
        prediction_sets: see :func:`describe`.
        adjustment: see :func:`describe`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        stream: ImageStream,
        temperature: float = 1.0,
        prediction_sets: PredictionSets | None = None,
        adjustment: LogitAdjustment | None = None,
    ) -> None:
        check_class_names(class_names)
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.stream = stream
        self.temperature = temperature
        self.prediction_sets = prediction_sets
        self.adjustment = adjustment
        self.num_images = 0
        self._open = ExitStack()

    def attach(self, engine: Workflow) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        # This event comes before a decollation, which splits the batch.
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Workflow) -> None:
        self.num_images = 0
        self._csv = csv.writer(self._open_file("predictions.csv"))
        self._csv.writerow(result_columns(self.class_names, unwrap(engine.network).num_steps))
        self._json = self._open_file("predictions.json")
        self._json.write("[")

    def _open_file(self, name: str) -> TextIO:
        temporary = self._open.enter_context(atomic_write(self.output_dir / name))
        return self._open.enter_context(open(temporary, "w", newline="", encoding="utf-8"))

    def _add(self, engine: Workflow) -> None:
        rules = self.temperature, self.prediction_sets, self.adjustment
        results = batch_results(engine, self.class_names, *rules)
        for name, result in zip(engine.state.batch["name"], results, strict=True):
            self._csv.writerow(_as_row(name, result))
            self._json.write(",\n" if self.num_images else "\n")
            self._json.write(to_json({"image": name, **result}))
            self.num_images += 1

    def _finish(self, engine: Workflow) -> None:
        self._json.write("\n]\n")
        self._open.close()
        path = self.output_dir / "failures.csv"
        path.unlink(missing_ok=True)
        if failures := [*self.stream.failures, *self.stream.incomplete]:
            with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("image", "reason"), *failures])
        print(f"{self.num_images} images classified: {self.output_dir.resolve() / 'predictions.csv'}")

    def _fail(self, engine: Workflow, error: Exception) -> None:
        # Files of an earlier run stay; half-written files are removed.
        self._open.__exit__(type(error), error, error.__traceback__)
        raise error

    def raise_failures(self) -> None:
        """Report the images that lack a result, after all others have their results.

        Raises:
            DataError: when an image lacks a result. The message has the first five and their reasons.
        """
        unread, incomplete, total = self.stream.failures, self.stream.incomplete, len(self.stream.dataset)
        if unread or incomplete:
            counts = [f"{len(unread)} of {total} images have no result, since they could not be read"] if unread else []
            if incomplete:
                counts.append(f"{len(incomplete)} of {total} images have a prediction, but no report or heat map")
            told = [reason for _, reason in [*unread, *incomplete]]
            raise DataError(
                f"{'; '.join(counts)}. All are in {self.output_dir.resolve() / 'failures.csv'}:{first_lines(told)}"
            )
