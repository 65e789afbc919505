# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Further fine-tunings of a run: with other seeds, and without its pre-training."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ignite import distributed as idist
from monai.bundle import ConfigWorkflow

from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.report import Report
from monai_fgssl.report.run import PROBE
from monai_fgssl.utils.run_log import within_a_run

from .joined_model import join_models, mean_predictions
from .locate import config_path, workflows
from .model_file import decision_rule, read_record
from .settings import as_bool

__all__ = ["RANDOM_WEIGHTS", "phase_title", "repeat_fine_tuning", "start_name"]

RANDOM_WEIGHTS = "random weights"
"""Name of the method that starts from no weights at all."""

SEEDS = "seeds.pt"
"""File of the model of all seeds in the output folder."""

PREPARES_DATA = "monai_fgssl.data.prepare_data"
"""Component whose images further fine-tunings use again. One of a user's own reads them each time."""

FROM_RANDOM_WEIGHTS = {
    "pretrained": None,
    # Random weights have no features worth keeping, so the comparison trains the whole network.
    "fine_tuning": "full",
    "stage_lr_decay": 1.0,
    "freeze_backbone": 0,
    "backbone_rate": 1.0,
    "freeze_stages": 0,
    "lora_rank": None,
}
"""Settings that a run from random weights changes."""


@dataclass(frozen=True)
class Repeat:
    """One more fine-tuning.

    Attributes:
        folder: folder below the output folder of the run.
        title: title of its progress bar.
        changes: settings that differ from the run's, with their values.
        is_of_the_run: True if only the seed differs; False for a comparison without the pre-training.
    """

    folder: Path
    title: str
    changes: Mapping[str, Any]
    is_of_the_run: bool


def start_name(pretrained: object, weights: object) -> str:
    """Name of the start of a fine-tuning, which the report uses as the name of the method.

    Args:
        pretrained: true if this run or an earlier one has pre-trained the network.
        weights: setting ``weights`` of the run; None: no weights from elsewhere.

    Example:
        >>> start_name(40, None), start_name(0, "imagenet"), start_name(0, None)
        ('FG-SSL', 'given weights', 'random weights')
    """
    if pretrained:
        return "FG-SSL"
    return RANDOM_WEIGHTS if weights is None else "given weights"


def phase_title(phase: str, seeds: int, number: int = 0) -> str:
    """Title of a fine-tuning for its progress.

    Args:
        phase: the title without seeds.
        seeds: number of fine-tunings of this kind.
        number: number of this fine-tuning, from 0.

    Example:
        >>> phase_title("fine-tune", 1), phase_title("fine-tune", 3, 1)
        ('fine-tune', 'fine-tune, seed 2 of 3')
    """
    return phase if seeds == 1 else f"{phase}, seed {number + 1} of {seeds}"


def seed_folder(number: int) -> str:
    """Folder of a further seed below that of its run.

    Args:
        number: number of the fine-tuning, from 1; 0 is the run itself.
    """
    return f"seed_{number + 1}"


@dataclass(frozen=True)
class Outcome:
    """Results of a fine-tuning.

    Attributes:
        results: predictions of the test part by method.
        history: series of the training.
        validation: calibrated predictions of the validation part; None: there is none.
    """

    results: Mapping[str, list[PredictionCollector]]
    history: Mapping[str, list[tuple[int, float]]]
    validation: PredictionCollector | None


def repeat_fine_tuning(
    report: Report,
    bundle_root: str | Path,
    settings: Mapping[str, Any],
    validation: PredictionCollector | None = None,
    temperature: float = 1.0,
) -> None:
    """Fine-tune again with the other seeds, and with every seed without the pre-training. Nothing else changes.

    A fine-tuning without the pre-training runs the same config from random weights, or from the given weights if the
    run has them. Each fine-tuning has a folder of its own below the output folder: ``seed_<number>``,
    ``random_weights`` or ``given_weights``, and ``random_weights/seed_<number>``. When all are done, their checkpoints
    are removed. The models of all seeds become one model, ``seeds.pt`` in the output folder, see
    :func:`~monai_fgssl.bundle.joined_model.join_models`.

    Args:
        report: report that gets the predictions.
        bundle_root: the folder of the bundle.
        settings: values of the run's top-level ids. All other content of the run's config is passed on too: nested ids,
            config files of your own, and what Python has set.
        validation: predictions of the validation part by the run's own model; None: there is none.
        temperature: temperature of the run's own model.
    """
    repeats = list(_repeats(settings))
    members, parts = [Path(settings["model_path"])], [_calibrated(validation, temperature)]
    for repeat in repeats:
        outcome = _run(repeat, bundle_root, settings)
        for method, predictions in outcome.results.items():
            for of_seed in predictions:
                report.add(method, of_seed)
            if not method.endswith(PROBE):
                report.add_course(method, outcome.history)
        if repeat.is_of_the_run:
            members.append(repeat.folder / "model.pt")
            parts.append(outcome.validation)
    # Of folds, the models of all seeds of all folds are joined at the end.
    if len(members) > 1 and settings.get("num_folds") is None:
        path = Path(settings["output_dir"]) / SEEDS
        if join_models("seeds", members, path, bundle_root, mean_predictions(parts), settings):
            report.joined = path, decision_rule(read_record(bundle_root, path))
    if idist.get_rank() == 0:
        for repeat in repeats:
            shutil.rmtree(repeat.folder / "checkpoints", ignore_errors=True)
            (repeat.folder / "best.pt").unlink(missing_ok=True)


def _repeats(settings: Mapping[str, Any]) -> Iterator[Repeat]:
    output, seeds = Path(settings["output_dir"]), int(settings["seeds"])
    pretrained = settings["pretrained"]
    if settings["pretrain_epochs"]:
        pretrained = str(output / "pretrained.pt")
    kinds: list[tuple[str, Path, dict[str, Any]]] = [("fine-tune", output, {"pretrained": pretrained})]
    if pretrained is not None and as_bool("compare", settings["compare"]):
        start = start_name(None, settings["weights"])
        # Given weights have features worth keeping, so the fine-tuning does not change.
        changes = FROM_RANDOM_WEIGHTS if start == RANDOM_WEIGHTS else {"pretrained": None}
        # Nobody predicts new images with the model of the comparison.
        kinds.append((start, output / start.replace(" ", "_"), changes | {"refer_unlike": None}))
    for title, folder, changes in kinds:
        for number in range(seeds):
            if folder == output and number == 0:
                # This is the run itself.
                continue
            seed = {"fine_tuning_seed": int(settings["fine_tuning_seed"]) + number}
            of_seed = folder / seed_folder(number) if number else folder
            yield Repeat(of_seed, phase_title(title, seeds, number), changes | seed, folder == output)


def _calibrated(predictions: PredictionCollector | None, temperature: float) -> PredictionCollector | None:
    """Predictions with their temperature; None if there are no images."""
    return replace(predictions, temperature=temperature) if predictions is not None and predictions.names else None


def _run(repeat: Repeat, bundle_root: str | Path, settings: Mapping[str, Any]) -> Outcome:
    """Run one more fine-tuning."""
    parser = next(workflows())["parser"]
    of_the_run = parser.config
    changes = {
        **repeat.changes,
        "pretrain_epochs": 0,
        # If the run has timed the precisions, its choice is used again.
        "amp": str(settings["amp"]),
        "seeds": 1,
        "compare": False,
        "linear_probe": settings["linear_probe"],
        "output_dir": str(repeat.folder),
        "model_path": str(repeat.folder / "model.pt"),
        "train#title": repeat.title,
    }
    if parser.get("data#_target_") == PREPARES_DATA:
        # The same images: to read them again may take longer than a fine-tuning with few labels.
        changes["data#loaded"] = parser.get_parsed_content("data")
    with within_a_run():
        workflow = ConfigWorkflow(config_file=str(config_path(bundle_root, "train")), logging_file=False)
        workflow.parser.set(deepcopy(of_the_run))
        workflow.parser.update({**settings, **changes})
        workflow.initialize()
        workflow.run()
    parsed = workflow.parser.get_parsed_content
    validation = _calibrated(parsed("calibrate#predictions"), float(parsed("calibrate#temperature")))
    return Outcome(parsed("report").results, parsed("train#trainer").state.history, validation)
