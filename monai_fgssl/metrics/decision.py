# Copyright (c) monai-fgssl contributors
# SPDX-License-Identifier: Apache-2.0
"""Decide for a class: the likeliest class, or one that gives rare classes the chance that macro F1 asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .classification import classification_metrics

__all__ = [
    "DECISIONS",
    "STRENGTHS",
    "DecisionRule",
    "LogitAdjustment",
    "Thresholds",
    "class_shares",
    "decide",
    "fit_logit_adjustment",
]

DECISIONS = ("likeliest", "balanced")
"""Names of the ways to decide for a class: the likeliest one, or that of a :class:`LogitAdjustment`."""
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
"""Strengths that :func:`fit_logit_adjustment` tries."""


@dataclass(frozen=True)
class LogitAdjustment:
    r"""Rule that decides for the class with the highest :math:`\log p_c - \tau \log \pi_c`.

    Only the decision changes, not the probabilities ``p``. With a strength of 0 the likeliest class is chosen. With a
    strength of 1 and probabilities that are right, the mean recall of the classes is the highest possible.

    Attributes:
        strength: :math:`\tau`, 0 or more.
        prior: share of each class among the labeled training images, :math:`\pi`. A class without an image is treated
            like the most frequent one, so that it is never preferred.

    Example:
        >>> rule = LogitAdjustment(1.0, (0.9, 0.1))
        >>> rule.predict([[0.95, 0.05], [0.8, 0.2]])
        array([0, 1])

    Source:
        Menon et al., "Long-Tail Learning via Logit Adjustment", ICLR 2021, eq. 9 (post-hoc):
        https://arxiv.org/abs/2007.07314
    """

    strength: float
    prior: tuple[float, ...]

    def predict(self, probabilities: ArrayLike) -> NDArray[np.int64]:
        """Decide for a class of each image.

        Args:
            probabilities: predictions ``(N, num_classes)``, calibrated like those that the rule was fitted to.

        Returns:
            Classes ``(N,)``. Of equal classes the first is chosen.
        """
        shares = np.asarray(self.prior, dtype=np.float64)
        with np.errstate(divide="ignore"):
            logarithms = np.log(np.asarray(probabilities, dtype=np.float64))
        return (logarithms - self.strength * np.log(np.where(shares > 0, shares, shares.max()))).argmax(1)

    def __str__(self) -> str:
        """Words for a log."""
        return f"balanced decisions, strength {self.strength:g}"

    def to_record(self) -> dict[str, Any]:
        """Return plain values for a JSON file; :meth:`from_record` reads them."""
        return asdict(self) | {"prior": list(self.prior)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any], num_classes: int) -> LogitAdjustment:
        """Make the rule from the result of :meth:`to_record`.

        Raises:
            ValueError: when the record is anything else, or is for another number of classes; the message names the
                fault.
        """
        if not isinstance(record, Mapping) or set(record) != set(cls.__dataclass_fields__):
            raise ValueError(f"logit_adjustment must have {', '.join(cls.__dataclass_fields__)}")
        strength, prior = record["strength"], record["prior"]
        if not _is_number(strength):
            raise ValueError("logit_adjustment has a strength that is not a number of 0 or more")
        if not isinstance(prior, list) or len(prior) != num_classes:
            raise ValueError(f"logit_adjustment needs a prior of {num_classes} shares, one for each class")
        if not all(_is_number(share) for share in prior) or not math.isclose(sum(prior), 1, abs_tol=1e-6):
            raise ValueError("logit_adjustment has a prior that is not shares with the sum 1")
        return cls(float(strength), tuple(prior))


@dataclass(frozen=True)
class Thresholds:
    """Rule that predicts each finding whose probability is at least its threshold.

    Attributes:
        values: threshold of each finding, in [0, 1].

    Example:
        >>> Thresholds((0.5, 0.2)).predict([[0.6, 0.1], [0.4, 0.2]])
        array([[ True, False],
               [False,  True]])
    """

    values: tuple[float, ...]

    def predict(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """True for the findings that are predicted, in the shape of ``probabilities``, ``(N, num_classes)``."""
        return np.asarray(probabilities, dtype=np.float64) >= np.asarray(self.values)

    def __str__(self) -> str:
        """Words for a log."""
        return f"thresholds from {min(self.values):.2f} to {max(self.values):.2f}"

    def to_record(self) -> list[float]:
        """Return plain values for a JSON file; :meth:`from_record` reads them."""
        return list(self.values)

    @classmethod
    def from_record(cls, record: Any, num_classes: int) -> Thresholds:
        """Make the rule from the result of :meth:`to_record`.

        Raises:
            ValueError: when the record is anything else, or is for another number of findings.
        """
        if not isinstance(record, list) or not all(_is_number(value) and value <= 1 for value in record):
            raise ValueError("thresholds must be numbers from 0 to 1")
        if len(record) != num_classes:
            raise ValueError(f"thresholds must be {num_classes} numbers, one for each class")
        return cls(tuple(map(float, record)))


DecisionRule = LogitAdjustment | Thresholds
"""Rule that turns probabilities into what is predicted: one class for each image, or its findings."""


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def decide(probabilities: ArrayLike, adjustment: DecisionRule | None = None) -> NDArray[Any]:
    """Decide for a class of each image. All results that name a predicted class take it from here.

    Args:
        probabilities: predictions ``(N, num_classes)``.
        adjustment: rule of the decision; None: the likeliest class.

    Returns:
        Classes ``(N,)``; or, by :class:`Thresholds`, True for the findings that are predicted, ``(N, num_classes)``.
    """
    return np.asarray(probabilities).argmax(1) if adjustment is None else adjustment.predict(probabilities)


def class_shares(labels: ArrayLike, num_classes: int) -> tuple[float, ...]:
    """Share of each class among labeled images; -1 (not known) is ignored.

    Raises:
        ValueError: when no image has a label.
    """
    values = np.asarray(labels)
    counts = np.bincount(values[values >= 0], minlength=num_classes)
    if not counts.sum():
        raise ValueError("shares of classes need labeled images, and there are none.")
    return tuple((counts / counts.sum()).tolist())


def fit_logit_adjustment(
    probabilities: ArrayLike, labels: ArrayLike, prior: Sequence[float], strengths: Sequence[float] = STRENGTHS
) -> LogitAdjustment:
    """Choose the strength with the highest macro F1 on labeled validation images; the smallest of equal ones.

    Args:
        probabilities: predictions of images that were not trained on, ``(N, num_classes)``.
        labels: true classes, ``(N,)``, integers from 0.
        prior: share of each class among the labeled training images, see :func:`class_shares`.
        strengths: strengths to try. With 0 among them the macro F1 on these images is no lower than that of the
            likeliest classes.

    Raises:
        ValueError: when the shapes do not fit, there are no samples or a probability is NaN.
    """
    if np.isnan(np.asarray(probabilities)).any():
        raise ValueError("a logit adjustment can't be fitted to probabilities that are NaN.")
    rules = [LogitAdjustment(strength, tuple(prior)) for strength in sorted(strengths)]
    values = [classification_metrics(probabilities, labels, rule.predict(probabilities))["macro_f1"] for rule in rules]
    return rules[int(np.argmax(values))]
