# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Measure a classifier on subgroups of the test images, such as those of each sex, and the largest gap between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monai_fgssl.data.layouts.class_names import in_order
from monai_fgssl.tasks import MULTICLASS, TASKS, Task
from monai_fgssl.utils.errors import first_names
from monai_fgssl.utils.words import readable

__all__ = ["MIN_SUBGROUP", "measure_subgroups", "sentences_on_subgroups"]

MIN_SUBGROUP = 20
"""Smallest number of lesions or patients of a subgroup that is scored."""
PER_IMAGE = ("accuracy", "mean_absolute_error", "micro_f1", "micro_auc", "micro_average_precision")
"""Metrics that are no means over classes, so that subgroups with other classes can be compared."""
SMALLER_IS_BETTER = ("mean_absolute_error",)


def measure_subgroups(
    columns: Mapping[str, Sequence[str]],
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: Sequence[str],
    predicted: ArrayLike,
    class_names: Sequence[str],
    task: Task = TASKS[MULTICLASS],
) -> dict[str, dict[str, Any]]:
    """Measure a classifier on each subgroup of each column, with intervals.

    Args:
        columns: subgroup of each of the ``N`` images by column; empty where not known.
        probabilities: predictions ``(N, num_classes)``, or ``(S, N, num_classes)`` for S seeds.
        labels: true classes, ``(N,)``, or findings, ``(N, num_classes)``.
        groups: lesion or patient of each image, ``N`` names; they are drawn as a whole.
        predicted: predicted classes, in the shape of ``probabilities`` without its last axis; or findings, in its
            shape.
        class_names: names of the classes.
        task: task, which has the metrics.

    Returns:
        For each column:

        - ``subgroups``: for each subgroup ``images``, ``groups`` (number of lesions or patients), ``missing_classes``
          (classes of the test part without an image in it; of findings those that are not both there and absent in it)
          and ``metrics``, the result of :meth:`~monai_fgssl.tasks.Task.intervals`; None if it has fewer than
          :data:`MIN_SUBGROUP` lesions or patients;
        - ``unknown``: number of images without a value;
        - ``gaps``: for each metric the difference between the best and the worst subgroup, with ``value``, ``low``,
          ``high``, and their names, ``best`` and ``worst``. Subgroups without an image of some class are left out,
          except for :data:`PER_IMAGE`: a mean over other classes is not comparable. None with fewer than two subgroups.
    """
    scores, truth, decided = np.asarray(probabilities), np.asarray(labels), np.asarray(predicted)
    of_image = np.asarray(groups)
    return {
        column: _measure_column(np.array(values), scores, truth, of_image, decided, class_names, task)
        for column, values in columns.items()
    }


def _measure_column(
    names: NDArray[np.str_],
    scores: NDArray[Any],
    truth: NDArray[Any],
    groups: NDArray[np.str_],
    decided: NDArray[Any],
    class_names: Sequence[str],
    task: Task,
) -> dict[str, Any]:
    subgroups: dict[str, dict[str, Any]] = {}
    for name in in_order(names.tolist()):
        inside = names == name
        num_groups = len(set(groups[inside].tolist()))
        subgroups[name] = {
            "images": int(inside.sum()),
            "groups": num_groups,
            "missing_classes": [class_names[k] for k in task.missing(truth, inside)],
            "metrics": None
            if num_groups < MIN_SUBGROUP
            else task.intervals(
                scores[..., inside, :],
                truth[inside],
                groups[inside].tolist(),
                decided[..., inside, :] if task.independent else decided[..., inside],
            ),
        }
    gaps: dict[str, Any] = {}
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for metric in task.metrics:
        values = {
            name: row["metrics"][metric]["value"]
            for name, row in subgroups.items()
            if row["metrics"] is not None and (metric in PER_IMAGE or not row["missing_classes"])
        }
        # Of a subgroup without any finding, some metrics are not known.
        values = {name: value for name, value in values.items() if not np.isnan(value)}
        if len(values) < 2:
            gaps[metric] = None
            continue
        # Two different names, even if all values are equal.
        worst, *_, best = sorted(values, key=lambda name: values[name], reverse=metric in SMALLER_IS_BETTER)
        if (best, worst) not in found:
            found[best, worst] = task.gap(scores, truth, names == best, names == worst, groups.tolist(), decided)
        gaps[metric] = found[best, worst][metric] | {"best": best, "worst": worst}
    return {"subgroups": subgroups, "unknown": int((names == "").sum()), "gaps": gaps}


def sentences_on_subgroups(found: Mapping[str, Mapping[str, Any]], key_metric: str = "macro_f1") -> list[str]:
    """Put the result of :func:`measure_subgroups` into words, one sentence or two for each column.

    Args:
        found: result of :func:`measure_subgroups`.
        key_metric: metric of the sentences; the first of :data:`PER_IMAGE` where it can't be compared.
    """
    sentences = []
    for column, row in found.items():
        metric = key_metric if row["gaps"][key_metric] else next(name for name in PER_IMAGE if name in row["gaps"])
        gap = row["gaps"][metric]
        if gap is None:
            text = f"By {column}: fewer than two subgroups are large enough to be compared."
        else:
            of = {name: row["subgroups"][gap[name]]["metrics"][metric]["value"] for name in ("best", "worst")}
            text = (
                f"By {column}: the largest gap in {readable(metric)} is {gap['value']:.3f} "
                f"[{gap['low']:.3f}, {gap['high']:.3f}], {gap['best']} {of['best']:.3f} and {gap['worst']} "
                f"{of['worst']:.3f}."
            )
        small = [f"{name} {one['groups']}" for name, one in row["subgroups"].items() if one["metrics"] is None]
        if small:
            text += f" Not scored, fewer than {MIN_SUBGROUP} lesions or patients: {first_names(small)}."
        if row["unknown"]:
            text += f" Of {row['unknown']} images it is not known."
        sentences.append(text)
    return sentences
