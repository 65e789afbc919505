# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Write sentences about a comparison, by rules on its intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monai_fgssl.utils.words import readable

__all__ = ["conclusion", "labels_in_words"]

Intervals = Mapping[str, Mapping[str, float]]
FULL = "the whole network fine-tuned"
RECIPES = {
    "full": FULL,
    "ensemble": "the fine-tuned network with a probe",
    "lp_ft": "the network fine-tuned from its probe",
    "probe": "linear classifiers of the frozen network",
}
"""Words for the values of the setting ``fine_tuning``."""


def labels_in_words(counts: Sequence[int]) -> str:
    """Put the number of training labels into words.

    Args:
        counts: labeled training images of each class.

    Example:
        >>> labels_in_words([6, 6, 7]), labels_in_words([6, 6]), labels_in_words([3, 900])
        ('6 to 7 labels per class', '6 labels per class', '903 labels (3 to 900 per class)')
    """
    fewest, most = min(counts), max(counts)
    if fewest == most:
        return f"{most:,} label{'' if most == 1 else 's'} per class"
    if most <= fewest + 1:
        return f"{fewest:,} to {most:,} labels per class"
    return f"{sum(counts):,} labels ({fewest:,} to {most:,} per class)"


def conclusion(
    ours: Intervals,
    other: Intervals,
    difference: Intervals,
    label_counts: Sequence[int],
    num_unlabeled: int | None,
    seeds: int,
    num_test_images: int,
    frozen: bool = False,
    start: str = "random weights",
    epochs: int | None = None,
    recipe: str = "full",
    metric: str = "macro_f1",
) -> str:
    """Put into one sentence what pre-training changes.

    Args:
        ours: metrics of the network with pre-training.
        other: results of the same network without the pre-training.
        difference: ours - other.
        label_counts: labeled training images of each class.
        num_unlabeled: number of images that pre-training saw; None if that is not known.
        seeds: number of fine-tunings of each method.
        num_test_images: number of test images.
        frozen: True if linear classifiers of the frozen features are compared, False for fine-tuned networks.
        start: name of what the network without pre-training starts from.
        epochs: epochs of the fine-tuning, which the sentence names if networks are fine-tuned: after a long one random
            weights may have caught up. None: not known.
        recipe: setting ``fine_tuning`` of the network with pre-training. A network from random weights is always
            fine-tuned as a whole.
        metric: metric that is compared; the higher, the better.
    """
    gain, metric_name = difference[metric], readable(metric)
    amount = f"{abs(gain['value']):.3f}"
    if gain["low"] > 0:
        verdict = f"raises {metric_name} by {amount} [{gain['low']:.3f}, {gain['high']:.3f}]"
    elif gain["high"] < 0:
        verdict = f"lowers {metric_name} by {amount} [{-gain['high']:.3f}, {-gain['low']:.3f}]"
    else:
        chance = f"{gain['value']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"
        verdict = f"makes no difference beyond chance in {metric_name} ({chance})"
    images = "" if num_unlabeled is None else f" on {num_unlabeled:,} images without their labels"
    what = "a linear classifier of the frozen network" if frozen else RECIPES[recipe]
    if not frozen and recipe != "full" and start == "random weights":
        what += f", against {FULL}"
    repeated = "" if seeds == 1 else f", {seeds} seeds"
    duration = "" if frozen or epochs is None else f" and {epochs:,} epoch{'' if epochs == 1 else 's'} of fine-tuning"
    values = f"{ours[metric]['value']:.3f} against {other[metric]['value']:.3f} from {start}"
    return (
        f"With {labels_in_words(label_counts)}{duration}, pre-training{images} {verdict}: "
        f"{values} ({what}{repeated}, {num_test_images:,} test images)."
    )
