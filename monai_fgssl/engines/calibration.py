# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Calibrate probabilities and sets of possible classes on the validation part."""

from __future__ import annotations

import torch
from monai.networks.utils import eval_mode
from torch import nn

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines.embedding import BATCH_SIZE
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.engines.hierarchical import prepare_images
from monai_fgssl.metrics import (
    LogitAdjustment,
    PredictionSets,
    class_shares,
    classification_metrics,
    expected_calibration_error,
    fit_logit_adjustment,
    fit_member_weights,
    fit_prediction_sets,
    fit_temperature,
)
from monai_fgssl.networks import EnsembleNet, unwrap
from monai_fgssl.utils.distributed import of_first_process
from monai_fgssl.utils.run_log import record, tell

__all__ = ["MIN_CALIBRATION_IMAGES", "calibrate", "calibrate_sets", "fit_decision", "weigh_members"]


MIN_CALIBRATION_IMAGES = 30
"""Smallest number of images in the validation part for a calibration."""


def calibrate(predictions: PredictionCollector) -> float:
    """Fit a temperature to predictions on the validation part, and write it to the log.

    With fewer than :data:`MIN_CALIBRATION_IMAGES` images the temperature is 1. A handful of images that are all right
    or all wrong would turn every probability into a certainty or a guess.

    Returns:
        Temperature.
    """
    if len(predictions.labels) < MIN_CALIBRATION_IMAGES:
        tell(
            f"probabilities are not calibrated: that needs {MIN_CALIBRATION_IMAGES} validation images, and there are "
            f"{len(predictions.labels)}"
        )
        return 1.0
    temperature = fit_temperature(predictions.logits, predictions.labels)
    before, after = (
        expected_calibration_error((predictions.logits / t).softmax(1), predictions.labels) for t in (1.0, temperature)
    )
    record(f"calibration error {before:.3f}, with temperature {temperature:.2f} {after:.3f}")
    return temperature


@torch.no_grad()
def weigh_members(network: nn.Module, images: CachedImages, device: str | torch.device) -> None:
    """Set the weights of the members of an ensemble to those that make the labels of the validation part most likely.

    A member that is overconfident or weak then counts less. With fewer than :data:`MIN_CALIBRATION_IMAGES` images both
    count equally.

    Args:
        network: an :class:`~monai_fgssl.networks.EnsembleNet`, whose ``member_weights`` are set. Other networks have no
            members, and nothing happens.
        images: labeled images of the validation part.
        device: where to compute.
    """
    module = unwrap(network)
    if not isinstance(module, EnsembleNet):
        return
    weights = torch.full((2,), 0.5)
    if len(images) >= MIN_CALIBRATION_IMAGES:
        with eval_mode(module):
            loader = make_loader(images, BATCH_SIZE)
            logits = [module.member_logits(prepare_images(batch, torch.device(device))[0]).cpu() for batch in loader]
        weights = torch.from_numpy(fit_member_weights(torch.cat(logits), images.labels)).float()
    tuned, probe = weights.tolist()
    tell(f"weights of the ensemble's logits: fine-tuned network {tuned:.2f}, probe of the frozen network {probe:.2f}")
    module.member_weights.copy_(of_first_process(weights.to(module.member_weights)))


def calibrate_sets(
    predictions: PredictionCollector, temperature: float, coverage: float | None, by_class: bool, score: str
) -> PredictionSets | None:
    """Fit sets of possible classes to predictions on the validation part.

    The best epoch and the temperature were chosen on the same validation part, so the coverage there looks slightly too
    good. The report has the coverage on the test part.

    Args:
        predictions: predictions on the validation part.
        temperature: temperature of the probabilities.
        coverage: see :func:`~monai_fgssl.metrics.fit_prediction_sets`; None: no sets.
        by_class: see :func:`~monai_fgssl.metrics.fit_prediction_sets`.
        score: see :func:`~monai_fgssl.metrics.fit_prediction_sets`.

    Returns:
        Rule that makes the sets; None without a coverage, or with fewer than :data:`MIN_CALIBRATION_IMAGES` images.
    """
    if coverage is None:
        return None
    if len(predictions.labels) < MIN_CALIBRATION_IMAGES:
        tell(
            f"no sets of possible classes: they need {MIN_CALIBRATION_IMAGES} validation images, and there are "
            f"{len(predictions.labels)}"
        )
        return None
    probabilities = (predictions.logits.double() / temperature).softmax(1)
    return fit_prediction_sets(probabilities, predictions.labels, coverage, by_class, score)


def fit_decision(
    predictions: PredictionCollector, temperature: float, decision: str, train: CachedImages
) -> LogitAdjustment | None:
    """Fit the rule that decides for a class to predictions on the validation part, and tell its strength.

    With fewer than :data:`MIN_CALIBRATION_IMAGES` images the likeliest class is decided for.

    Args:
        predictions: predictions on the validation part.
        temperature: temperature of the probabilities.
        decision: ``"likeliest"``: the likeliest class; ``"balanced"``: the class with the highest adjusted logit, see
            :func:`~monai_fgssl.metrics.fit_logit_adjustment`.
        train: labeled training images, whose class shares are the prior.

    Returns:
        The rule; None: the likeliest class is decided for.
    """
    if decision == "likeliest":
        return None
    labels = predictions.labels
    if len(labels) < MIN_CALIBRATION_IMAGES:
        tell(
            f"decisions are not balanced, the likeliest class is predicted: that needs {MIN_CALIBRATION_IMAGES} "
            f"validation images, and there are {len(labels)}"
        )
        return None
    # The same numbers as in all results, whose classes are decided by this rule.
    probabilities = (predictions.logits / temperature).softmax(1)
    rule = fit_logit_adjustment(probabilities, labels, class_shares(train.labels, probabilities.shape[1]))
    before, after = (
        classification_metrics(probabilities, labels, predicted)["macro_f1"]
        for predicted in (None, rule.predict(probabilities))
    )
    tell(
        f"balanced decisions: strength {rule.strength:g}, macro F1 on the validation part {after:.3f}, with the "
        f"likeliest classes {before:.3f}"
    )
    return rule
