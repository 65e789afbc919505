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
from monai_fgssl.metrics import DecisionRule, FeatureDistances, FindingSets, PredictionSets, decide, reasons_to_refer
from monai_fgssl.metrics.uncertainty import disagreement, predictive_entropy, yes_and_no
from monai_fgssl.networks import unwrap
from monai_fgssl.tasks import MULTICLASS, TASKS, Task
from monai_fgssl.utils.errors import DataError, first_lines, first_names
from monai_fgssl.utils.files import atomic_write, to_json

__all__ = ["ResultWriter", "batch_results", "check_class_names", "describe", "result_columns"]

SEPARATOR = "; "
"""Separator between the classes of a set in ``predictions.csv``."""
NOTHING = "none"
"""Prediction of an image without any finding."""
MOST_STEPS = 8
"""Upper bound of the number of steps: no backbone has more."""


def describe(
    stage_logits: torch.Tensor,
    orientation_logits: torch.Tensor,
    class_names: Sequence[str],
    temperature: float = 1.0,
    prediction_sets: PredictionSets | FindingSets | None = None,
    adjustment: DecisionRule | None = None,
    feature_distances: FeatureDistances | None = None,
    stage_means: torch.Tensor | None = None,
    task: Task = TASKS[MULTICLASS],
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
        feature_distances: rule that tells images that are unlike the training images; None: there is none.
        stage_means: means of all stages, ``(B, D)``, which the distances need.
        task: task of the model.

    Returns:
        One dictionary per image: ``prediction`` (the class that is decided for; of findings all that are, with
        :data:`SEPARATOR` between them, or :data:`NOTHING`), ``findings`` (list of the findings that are decided for;
        None if each image has one class), ``probabilities`` by class,
        ``entropy``, ``stage_disagreement``, ``orientation_disagreement`` (None without test-time augmentation), all in
        [0, 1], ``prediction_set`` (the possible classes, or the findings that may be there, the likeliest first; None
        without the rule), ``undecided_findings`` (those that may be there or not; None without the rule), ``distance``
        (distance from the training images; above 1 the image is unlike them; None without the rule), ``triage``
        (``refer`` if there is a reason that a person should look, else ``predict``), ``reasons``
        (:func:`~monai_fgssl.metrics.reasons_to_refer`), and ``stages`` (probabilities by class for each step). Without
        both rules, ``triage`` and ``reasons`` are None. For findings, entropy and disagreement are means over the
        findings.
    """
    probabilities = task.probabilities(stage_logits.sum(1) / temperature)
    decided = decide(probabilities, adjustment)
    exact = task.probabilities(stage_logits.double().sum(1) / temperature).numpy()
    inside = None if prediction_sets is None else prediction_sets.contains(exact, decided)
    scores = None
    if feature_distances is not None and stage_means is not None:
        scores = feature_distances.scores(stage_means)
    undecided = prediction_sets.undecided(exact, decided) if isinstance(prediction_sets, FindingSets) else None
    reasons = (
        reasons_to_refer(None, scores) if prediction_sets is None else prediction_sets.reasons(exact, decided, scores)
    )
    nothing = [None] * len(stage_logits)
    stages = task.probabilities(stage_logits)
    orientations = task.probabilities(orientation_logits / temperature)
    if task.independent:
        entropy = predictive_entropy(yes_and_no(probabilities)).mean(1).tolist()
        between = [disagreement(yes_and_no(one.mT)).mean(1).tolist() for one in (stages, orientations)]
    else:
        entropy = predictive_entropy(probabilities).tolist()
        between = [disagreement(one).tolist() for one in (stages, orientations)]
    steps = step_names(stage_logits.shape[1])
    rows = zip(
        class_texts(decided, class_names),
        _findings_of(decided, class_names) if task.independent else nothing,
        probabilities.tolist(),
        entropy,
        between[0],
        between[1] if orientation_logits.shape[1] > 1 else nothing,
        nothing if inside is None else _sets_of(exact, inside, class_names),
        nothing if undecided is None else _findings_of(undecided, class_names),
        nothing if scores is None else scores.tolist(),
        nothing if reasons is None else reasons,
        stages.tolist(),
        strict=True,
    )
    return [
        {
            "prediction": chosen,
            "findings": found,
            "probabilities": dict(zip(class_names, values, strict=True)),
            "entropy": of_image,
            "stage_disagreement": of_stages,
            "orientation_disagreement": turned,
            "prediction_set": possible,
            "undecided_findings": open_,
            "distance": score,
            "triage": None if why is None else "refer" if why else "predict",
            "reasons": None if why is None else list(why),
            "stages": {
                step: dict(zip(class_names, of_stage, strict=True))
                for step, of_stage in zip(steps, stage_values, strict=True)
            },
        }
        for chosen, found, values, of_image, of_stages, turned, possible, open_, score, why, stage_values in rows
    ]


def class_texts(decided: NDArray[Any], class_names: Sequence[str]) -> list[str]:
    """Names of what is decided for each image.

    Args:
        decided: classes ``(N,)``; or True for the findings that are there, ``(N, num_classes)``.
        class_names: names of the classes.

    Example:
        >>> class_texts(np.array([1]), ["a", "b"]), class_texts(np.array([[True, True], [False, False]]), ["a", "b"])
        (['b'], ['a; b', 'none'])
    """
    if decided.ndim == 1:
        return [class_names[number] for number in decided.tolist()]
    return [SEPARATOR.join(found) or NOTHING for found in _findings_of(decided, class_names)]


def _findings_of(decided: NDArray[Any], class_names: Sequence[str]) -> list[list[str]]:
    """Names of the findings that are decided for, of each image."""
    return [[name for name, there in zip(class_names, row, strict=True) if there] for row in decided.tolist()]


def _sets_of(
    probabilities: NDArray[np.float64], inside: NDArray[np.bool_], class_names: Sequence[str]
) -> list[list[str]]:
    """Possible classes of each image, the likeliest first."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return [[class_names[k] for k in ranked if possible[k]] for ranked, possible in zip(order, inside, strict=True)]


def batch_results(
    engine: Workflow,
    class_names: Sequence[str],
    temperature: float = 1.0,
    prediction_sets: PredictionSets | FindingSets | None = None,
    adjustment: DecisionRule | None = None,
    feature_distances: FeatureDistances | None = None,
    task: Task = TASKS[MULTICLASS],
) -> list[dict[str, Any]]:
    """Describe the batch that an evaluator has just predicted. All writers share the result.

    Args:
        engine: a :class:`~monai_fgssl.engines.HierarchicalEvaluator`.
        class_names: see :func:`describe`.
        temperature: see :func:`describe`.
        prediction_sets: see :func:`describe`.
        adjustment: see :func:`describe`.
        feature_distances: see :func:`describe`. The evaluator must then give ``stage_means``.
        task: see :func:`describe`.

    Returns:
        Result of :func:`describe`, kept in ``engine.state.output["results"]``.
    """
    output = engine.state.output
    if "results" not in output:
        logits = output["stage_logits"].cpu(), output["orientation_logits"].cpu()
        means = None if feature_distances is None else output["stage_means"].cpu()
        output["results"] = describe(
            *logits, class_names, temperature, prediction_sets, adjustment, feature_distances, means, task
        )
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
        "undecided_findings",
        "distance",
        "triage",
        "reasons",
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
    numbers = [_number(result[key]) for key in ("entropy", "stage_disagreement", "orientation_disagreement")]
    stages = [value for of_stage in result["stages"].values() for value in of_stage.values()]
    possible = result["prediction_set"]
    return [
        name,
        *(f"{value:.7f}" for value in result["probabilities"].values()),
        result["prediction"],
        *numbers,
        SEPARATOR.join(possible or ()),
        SEPARATOR.join(result["undecided_findings"] or ()),
        _number(result["distance"]),
        result["triage"] or "",
        SEPARATOR.join(result["reasons"] or ()),
        *map(_number, stages),
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.7f}"


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
        feature_distances: see :func:`batch_results`.
        task: see :func:`describe`.
    """

    def __init__(
        self,
        output_dir: str | Path,
        class_names: Sequence[str],
        stream: ImageStream,
        temperature: float = 1.0,
        prediction_sets: PredictionSets | FindingSets | None = None,
        adjustment: DecisionRule | None = None,
        feature_distances: FeatureDistances | None = None,
        task: Task = TASKS[MULTICLASS],
    ) -> None:
        check_class_names(class_names)
        self.output_dir = Path(output_dir)
        self.class_names = list(class_names)
        self.stream = stream
        self.temperature = temperature
        self.prediction_sets = prediction_sets
        self.adjustment = adjustment
        self.feature_distances = feature_distances
        self.task = task
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
        rules = self.temperature, self.prediction_sets, self.adjustment, self.feature_distances, self.task
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
