# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Decide which images a person should look at, and say why."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["SEVERAL_CLASSES", "UNDECIDED_FINDING", "UNLIKE_TRAINING", "is_unlike", "reasons_to_refer"]

SEVERAL_CLASSES = "several classes are possible"
"""Reason: the set of possible classes has more than one class."""
UNDECIDED_FINDING = "a finding is undecided"
"""Reason: a finding may be there or not."""
UNLIKE_TRAINING = "unlike the training images"
"""Reason: the image is too far from the training images."""


def is_unlike(scores: ArrayLike) -> NDArray[np.bool_]:
    """True for each image that is unlike the training images; see :func:`reasons_to_refer` for ``scores``.

    A score that is not a number does not pass for a small one.
    """
    return ~(np.asarray(scores) <= 1)


def reasons_to_refer(
    inside: ArrayLike | None, scores: ArrayLike | None, undecided: ArrayLike | None = None
) -> list[tuple[str, ...]] | None:
    """Reasons why a person should look at each image.

    Args:
        inside: True for each class in the set of possible classes, of which an image has one, ``(N, num_classes)``;
            None: there are no sets.
        scores: scores of :meth:`~monai_fgssl.metrics.FeatureDistances.scores`, ``(N,)``; None: there are none.
        undecided: True for each finding of which both answers are possible, ``(N, num_classes)``; None: there is no
            such rule.

    Returns:
        For each image some of :data:`SEVERAL_CLASSES`, :data:`UNDECIDED_FINDING` and :data:`UNLIKE_TRAINING`; no
        reason: the model's prediction may be used. None if nothing is known.
    """
    found = []
    if inside is not None:
        found.append((SEVERAL_CLASSES, np.asarray(inside).sum(1) > 1))
    if undecided is not None:
        found.append((UNDECIDED_FINDING, np.asarray(undecided).any(1)))
    if scores is not None:
        found.append((UNLIKE_TRAINING, is_unlike(scores)))
    if not found:
        return None
    return [tuple(text for text, is_true in found if is_true[i]) for i in range(len(found[0][1]))]
