# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Calibrate probabilities and sets of possible classes on the validation part."""

from __future__ import annotations

import torch
from monai.networks.utils import eval_mode
from torch import Tensor, nn

from monai_fgssl.data import CachedImages, make_loader
from monai_fgssl.engines.embedding import BATCH_SIZE, embed_images
from monai_fgssl.engines.handlers import PredictionCollector
from monai_fgssl.engines.hierarchical import prepare_images
from monai_fgssl.metrics import (
    DecisionRule,
    FeatureDistances,
    FindingSets,
    PredictionSets,
    decide,
    fit_feature_distances,
    fit_member_weights,
    fit_temperature,
)
from monai_fgssl.networks import EnsembleNet, unwrap
from monai_fgssl.networks.base import StagedNet
from monai_fgssl.utils.distributed import of_first_process
from monai_fgssl.utils.run_log import record, tell

__all__ = [
    "MIN_CALIBRATION_IMAGES",
    "calibrate",
    "calibrate_distances",
    "calibrate_sets",
    "distances_of_features",
    "fit_decision",
    "weigh_members",
]


MIN_CALIBRATION_IMAGES = 30
"""Smallest number of images in the validation part for a calibration."""
MOST_TRAINING_IMAGES = 4096
"""Largest number of training images that distances are fitted to: means and variances need no more."""


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
    task, labels = predictions.task, predictions.labels
    temperature = fit_temperature(predictions.logits, labels)
    before, after = (
        task.calibration_error(task.probabilities(predictions.logits / t), labels) for t in (1.0, temperature)
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
) -> PredictionSets | FindingSets | None:
    """Fit sets of possible classes, or possible answers about findings, to predictions on the validation part.

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
    probabilities = predictions.task.probabilities(predictions.logits.double() / temperature)
    return predictions.task.fit_sets(probabilities, predictions.labels, coverage, by_class, score)


def calibrate_distances(
    network: nn.Module,
    train: CachedImages,
    validation: CachedImages,
    device: str | torch.device,
    share: float | None,
    seed: int = 0,
) -> FeatureDistances | None:
    """Fit distances from the training images, and the limit above which an image is unlike them.

    Args:
        network: network that predicts.
        train: training images, labeled or not; at most :data:`MOST_TRAINING_IMAGES` of them are used.
        validation: images of the validation part.
        device: where to compute.
        share: see :func:`~monai_fgssl.metrics.fit_feature_distances`; None: no distances.
        seed: seed of the choice of training images.

    Returns:
        Rule for new images. None without a share, with fewer than :data:`MIN_CALIBRATION_IMAGES` validation images, or
        for a network of another class than :class:`~monai_fgssl.networks.base.StagedNet`.
    """
    module = unwrap(network)
    if share is None or not _are_enough(len(validation)):
        return None
    if not isinstance(module, StagedNet):
        tell(f"no distances from the training images: {type(module).__name__} has no stages")
        return None
    known = embed_images(module, train.sample(MOST_TRAINING_IMAGES, seed), device)
    held_out = embed_images(module, validation, device)
    return fit_feature_distances(known, held_out, list(module.backbone.channels), share)


def distances_of_features(
    network: StagedNet, train: Tensor, validation: Tensor, share: float | None
) -> FeatureDistances | None:
    """Fit the distances of :func:`calibrate_distances` to known features.

    Args:
        network: network that predicts.
        train: means of all stages of the training images, ``(N, D)``.
        validation: means of all stages of the validation images, ``(M, D)``.
        share: see :func:`calibrate_distances`.
    """
    if share is None or not _are_enough(len(validation)):
        return None
    return fit_feature_distances(train, validation, list(network.backbone.channels), share)


def _are_enough(images: int) -> bool:
    """True if there are enough validation images for distances; otherwise a note is printed."""
    if images < MIN_CALIBRATION_IMAGES:
        tell(
            f"no distances from the training images: they need {MIN_CALIBRATION_IMAGES} validation images, and there "
            f"are {images}"
        )
    return images >= MIN_CALIBRATION_IMAGES


def fit_decision(
    predictions: PredictionCollector, temperature: float, decision: str, train: CachedImages
) -> DecisionRule | None:
    """Fit the rule that decides to predictions on the validation part, and tell what it gains there.

    With fewer than :data:`MIN_CALIBRATION_IMAGES` images the task's default rule decides.

    Args:
        predictions: predictions on the validation part.
        temperature: temperature of the probabilities.
        decision: ``"likeliest"``: the likeliest class, or each finding above its threshold; ``"balanced"``: the class
            with the highest adjusted logit, see :func:`~monai_fgssl.metrics.fit_logit_adjustment`.
        train: labeled training images, whose class shares are the prior.

    Returns:
        The rule; None: the likeliest class is decided for.
    """
    task, labels = predictions.task, predictions.labels
    default = task.default_rule(predictions.logits.shape[1])
    if not task.needs_fit(decision):
        return default
    if len(labels) < MIN_CALIBRATION_IMAGES:
        tell(
            f"decisions are by {task.default_decision}: a rule needs {MIN_CALIBRATION_IMAGES} validation images, and "
            f"there are {len(labels)}"
        )
        return default
    # The same numbers as in all results, whose classes are decided by this rule.
    probabilities = task.probabilities(predictions.logits / temperature)
    rule = task.fit_rule(probabilities, labels, train.labels)
    before, after = (
        task.measure(probabilities, labels, decide(probabilities, one))["macro_f1"] for one in (default, rule)
    )
    tell(f"{rule}: macro F1 on the validation part {after:.3f}, with {task.default_decision} {before:.3f}")
    return rule
