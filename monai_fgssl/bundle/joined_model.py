# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Join the models of several folds or seeds to one model, which is used like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from monai_fgssl.data import ImageGeometry
from monai_fgssl.engines.calibration import MIN_CALIBRATION_IMAGES, calibrate_sets
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.metrics import DecisionRule, LogitAdjustment
from monai_fgssl.networks import MeanEnsembleNet
from monai_fgssl.report.stored import logits_of
from monai_fgssl.tasks import Task, task_named
from monai_fgssl.utils.errors import SettingsError
from monai_fgssl.utils.run_log import tell

from .model_file import (
    GEOMETRY,
    LARGEST,
    MAX_PARAMETERS,
    MEAN_ENSEMBLE,
    NETWORKS,
    decision_rule,
    feature_distances,
    load_weights,
    make_network,
    read_record,
    save_model,
)
from .settings import as_bool

__all__ = ["join_models", "mean_predictions"]


def mean_predictions(of_seeds: Sequence[PredictionCollector | None]) -> PredictionCollector | None:
    """Mean of the calibrated probabilities of several models for the same images, which a model of all seeds predicts.

    Args:
        of_seeds: predictions of each model, with their temperatures.

    Returns:
        Predictions with these probabilities; None if those of a model are missing.
    """
    there = [part for part in of_seeds if part is not None]
    if len(there) < len(of_seeds):
        return None
    first = there[0]
    probabilities = torch.stack([part.probabilities for part in there]).mean(0)
    logits = logits_of(probabilities, first.task)[:, None]
    return PredictionCollector(first.names, first.groups, [first.labels], [logits], task=first.task)


def join_models(
    kind: str,
    members: Sequence[str | Path],
    path: str | Path,
    bundle_root: str | Path,
    predictions: PredictionCollector | None,
    settings: Mapping[str, Any],
) -> bool:
    """Write one model that predicts with the mean of the members' calibrated probabilities.

    Models that can't be joined are told in a note: the results of a long training must not be lost for that.

    Its sets of possible classes, and its thresholds for findings, are fitted to ``predictions``. A balanced decision
    has the mean strength and the mean class shares of the members; if some of them have none, the joined model has none
    either, and a note says so. The distance from the training images is that of the
    first member, whose features it reads.

    Args:
        kind: in the plural, what the members are of, such as ``"folds"``.
        members: files of the models, of :func:`~monai_fgssl.bundle.save_model`.
        path: file to write.
        bundle_root: the bundle's folder.
        predictions: predictions of labeled images by members that have not seen them; None: there are no such images.
        settings: values by the names of the settings: ``coverage``, ``coverage_by_class`` and ``set_score``.

    Returns:
        True if the model was written. False when the members differ in anything but their weights and rules, when their
        network is a class of your own, or when a file is missing or damaged.
    """
    try:
        _join(members, path, bundle_root, predictions, settings)
    except SettingsError as error:
        tell(f"note: no model of all {kind}: {error}")
        return False
    tell(f"model of all {kind}, the mean of {len(members)} models: {path}")
    return True


def _join(
    members: Sequence[str | Path],
    path: str | Path,
    bundle_root: str | Path,
    predictions: PredictionCollector | None,
    settings: Mapping[str, Any],
) -> None:
    files = [Path(member) for member in members]
    records = [read_record(bundle_root, file) for file in files]
    first = records[0]
    for file, record in zip(files, records, strict=True):
        for name in ("network_def", "class_names", "task", *GEOMETRY):
            if record[name] != first[name]:
                raise SettingsError(f"{file} has another {name} than {files[0]}: join models of the same settings.")
    definition = dict(first["network_def"])
    target = definition.pop("_target_")
    if target not in NETWORKS or target == MEAN_ENSEMBLE:
        raise SettingsError(f"{files[0]}: the network is {target}, and only networks of this package can be joined.")
    task = task_named(first["task"])
    with torch.device("meta"):
        size = len(files) * sum(value.numel() for value in NETWORKS[target](**definition).parameters())
    if size > MAX_PARAMETERS or len(files) > LARGEST["num_members"]:
        raise SettingsError(f"{len(files)} members with {size} parameters are too many for one model.")
    network = MeanEnsembleNet(NETWORKS[target].__name__, len(files), task.independent, **definition)
    for number, (file, record) in enumerate(zip(files, records, strict=True)):
        member = make_network(bundle_root, file)
        load_weights(member, file)
        network.members[number].load_state_dict(member.state_dict())
        network.temperatures[number] = record["temperature"]
    sets = None
    if predictions is not None:
        by_class = as_bool("coverage_by_class", settings.get("coverage_by_class", False))
        sets = calibrate_sets(predictions, 1.0, settings.get("coverage"), by_class, settings.get("set_score", "raps"))
    save_model(
        network,
        path,
        first["class_names"],
        ImageGeometry(**{name: first[name] for name in GEOMETRY}, spatial_dims=network.spatial_dims),
        prediction_sets=sets,
        adjustment=_join_rules([decision_rule(record) for record in records], predictions, task),
        task=first["task"],
        distances=feature_distances(first),
    )


def _join_rules(
    rules: Sequence[DecisionRule | None], predictions: PredictionCollector | None, task: Task
) -> DecisionRule | None:
    """Make one rule of the members' rules."""
    if task.independent:
        if predictions is None or len(predictions.labels) < MIN_CALIBRATION_IMAGES:
            # Nor have the members been fitted to so few images.
            return rules[0]
        return task.fit_rule(predictions.probabilities, predictions.labels, predictions.labels)
    balanced = [rule for rule in rules if isinstance(rule, LogitAdjustment)]
    if len(balanced) < len(rules):
        if balanced:
            # A member with too few validation images has no rule of its own.
            tell(
                f"note: {len(rules) - len(balanced)} of {len(rules)} models decide for the likeliest class, and the "
                "others by a balanced decision: the joined model decides for the likeliest class"
            )
        return None
    shares = np.mean([rule.prior for rule in balanced], axis=0)
    return LogitAdjustment(float(np.mean([rule.strength for rule in balanced])), tuple(shares.tolist()))
